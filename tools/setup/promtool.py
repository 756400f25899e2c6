"""promtool, which reads what Prometheus reads, without the daemon that comes with it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tools.paths import cache_dir
from tools.setup.steps import SetupError, step
from tools.vm.errors import VmError
from tools.vm.kernels import download, replacing

PACKAGE, MEMBER = "prometheus", "./usr/bin/promtool"


def program() -> Path:
    """Where it is once it is fetched: in the cache folder."""
    return cache_dir() / "promtool" / "promtool"


def ensure() -> None:
    """Take it out of Debian's package (19 MB), unless it is there.

    :raises SetupError: it cannot be had
    """
    if program().exists():
        return
    with step(f"taking promtool from {PACKAGE}"):
        try:
            _fetch()
        except VmError as error:
            raise SetupError(str(error)) from error


def _fetch() -> None:
    deb = download(PACKAGE)
    with replacing(program()) as scratch:
        result = scratch / "result"
        pipeline = f"dpkg-deb --fsys-tarfile '{deb}' | tar -xO '{MEMBER}' > '{result}'"
        done = subprocess.run(["bash", "-o", "pipefail", "-c", pipeline], check=False)
        if done.returncode:
            raise VmError(f"cannot take {MEMBER} from {deb}")
        result.chmod(0o755)
    deb.unlink()
