"""Run the kernel's checkpatch.pl on the module. It comes from Debian's kernel source package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.paths import ROOT, cache_dir
from tools.setup.steps import step
from tools.vm.errors import VmError
from tools.vm.kernels import download, replacing

SOURCE = "linux-source-6.12"
_FILES = ("checkpatch.pl", "spelling.txt", "const_structs.checkpatch")

#: No tree: there is no kernel tree around kmod/. bpf/ is BCC's dialect of C, so not checked.
OPTIONS = ("--no-tree", "--terse", "--quiet", "--show-types", "--max-line-length=100")


def script() -> Path:
    """checkpatch.pl in the cache folder, fetched and unpacked the first time (140 MB)."""
    folder = cache_dir() / "checkpatch" / SOURCE
    if not folder.exists():
        with step(f"taking checkpatch.pl from {SOURCE}"), replacing(folder) as scratch:
            deb = download(SOURCE)
            unpacked = scratch / "result"
            unpacked.mkdir()
            members = [f"{SOURCE}/scripts/{name}" for name in _FILES]
            inner = f"./usr/src/{SOURCE}.tar.xz"
            pipeline = (
                f"dpkg-deb --fsys-tarfile '{deb}' | tar -xO '{inner}' "
                f"| tar -xJ --strip-components=2 -C '{unpacked}' {' '.join(members)}"
            )
            if subprocess.run(["bash", "-c", pipeline], check=False).returncode:
                raise VmError(f"cannot take {', '.join(_FILES)} from {deb}")
            deb.unlink()
    return folder / _FILES[0]


def main() -> int:
    """Check kmod/ and tests/kmod/; the exit status."""
    folders = (ROOT / "kmod", ROOT / "tests" / "kmod")
    found = [path for folder in folders for path in sorted(folder.rglob("*.[ch]"))]
    files = [str(path.relative_to(ROOT)) for path in found]
    if not files:
        print("checkpatch: error: no files to check", file=sys.stderr)
        return 1
    command = ["perl", str(script()), *OPTIONS, "-f", *files]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except VmError as error:
        print(f"checkpatch: error: {error}", file=sys.stderr)
        sys.exit(1)
