"""`make deb`: livedump-dkms and livedump as Debian packages of this release, checked by lintian.

The packaging is tools/package/debian; what it is made of is the checkout as git has it. The
libraries that Debian lacks (pyarrow, DuckDB, a recent drgn) come as wheels into a venv of the
package's own, so livedump's is for the release and the architecture that it was built on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from email.utils import formatdate
from pathlib import Path

from tools.package import assets
from tools.package.install import NAME, VERSION, dkms_conf
from tools.paths import BUILD, ROOT
from tools.setup import apt
from tools.setup.steps import SetupError, step, watched

PACKAGING = ROOT / "tools" / "package" / "debian"
DEBS = BUILD / "deb"
TREE = DEBS / f"{NAME}-{VERSION}"
NEEDED = (
    *("build-essential", "debhelper", "dh-dkms", "python3-venv", "python3-bpfcc"),
    *("lintian", "git"),
)
_MAINTAINER = "The livedump developers <livedump@packages.debian.org>"


def build() -> list[Path]:
    """The packages, in build/deb."""
    npm = apt.absent_programs() if assets.lacking(assets.load_manifest()) else []
    apt.install([*NEEDED, *npm])
    assets.ensure()
    shutil.rmtree(DEBS, ignore_errors=True)
    _tree()
    with step(f"building {NAME} and {NAME}-dkms {VERSION}"):
        command = ["dpkg-buildpackage", "--build=binary", "--no-sign", "--rules-file=debian/rules"]
        # Our make's flags would be taken for goals of debian/rules, and bytecode go elsewhere.
        flags = re.compile(r"MAKE|MFLAGS|PYTHON")
        kept = {name: text for name, text in os.environ.items() if not flags.match(name)}
        environment = {**kept, "DEB_BUILD_OPTIONS": "nocheck terse", "LC_ALL": "C.UTF-8"}
        if said := watched("deb: building", command, environment, cwd=TREE):
            raise SetupError(f"dpkg-buildpackage failed:\n{said}")
    return sorted(DEBS.glob("*.deb"))


def _tree() -> None:
    """What git has, with the report's JavaScript and the packaging."""
    git = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    listed = subprocess.run(git, cwd=ROOT, check=False, capture_output=True, text=True)
    if listed.returncode:
        raise SetupError(f"packages are made of a git checkout: {listed.stderr.strip()}")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)
    shutil.copytree(assets.TARGET, TREE / "build" / "assets")
    debian = TREE / "debian"
    shutil.copytree(PACKAGING, debian)
    _fill(debian / "control", MAINTAINER=_MAINTAINER)
    (debian / "changelog").write_text(
        f"{NAME} ({VERSION}) unstable; urgency=medium\n\n  * Built from the checkout.\n\n"
        f" -- {_MAINTAINER}  {formatdate()}\n",
        encoding="utf-8",
    )
    (debian / f"{NAME}-dkms.dkms").write_text(dkms_conf(), encoding="ascii")


def _fill(path: Path, **values: str) -> None:
    """Put the values where their names stand between at signs."""
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"@(\w+)@", lambda match: values[match[1]], text), encoding="utf-8")


def lint(packages: list[Path]) -> None:
    """lintian: its errors fail."""
    command = [
        "lintian",
        "--allow-root",
        "--fail-on",
        "error",
        "--tag-display-limit",
        "0",
        *map(str, packages),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    print(result.stdout, end="")
    if result.returncode:
        raise SetupError(f"lintian: errors{result.stderr and ': ' + result.stderr}")


def main() -> int:
    """The exit status."""
    try:
        packages = build()
        lint(packages)
    except SetupError as error:
        print(f"deb: error: {error}", file=sys.stderr)
        return 1
    for package in packages:
        print(f"{package}  {package.stat().st_size >> 20} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
