"""Set everything up; quick when there is nothing to do."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

from tools.paths import PYTHON, ROOT
from tools.setup import apt, venv
from tools.setup.steps import SetupError, step
from tools.vm import VmError, kernels
from tools.vm.config import SERIES
from tools.vm.kernels import Kernel


def main() -> int:
    """Do it; the exit status."""
    try:
        apt.install(apt.wanted())
        for series in SERIES:
            _ensure_kernel(series)
        venv.ensure()
        _ensure_assets()
    except (SetupError, VmError) as error:
        print(f"setup: error: {error}", file=sys.stderr)
        return 1
    return 0


def _ensure_kernel(series: str) -> None:
    """The newest kernel of a series and its headers; offline, the newest that is there."""
    try:
        kernel = _install_kernel(series)
    except (SetupError, VmError) as error:
        kernel = kernels.resolve(series)
        if not (kernel.image.exists() and kernel.headers.exists()):
            raise
        print(f"setup: staying with {kernel.release}: {error}", file=sys.stderr)


def _install_kernel(series: str) -> Kernel:
    if not apt.have_lists():
        apt.update()
    kernel = kernels.resolve(series, latest=True)
    if not kernels.is_fetched(kernel):
        with step(f"fetching Linux {kernel.release}"):
            try:
                kernels.fetch(kernel)
            except VmError:  # old ABIs leave the archive; so lists go out of date
                apt.update()
                kernel = kernels.fetch(kernels.resolve(series, latest=True))
    apt.install([kernel.headers_package])
    return kernel


def _ensure_assets() -> None:
    """What the HTML report needs from npm, if that part of the project is there."""
    if importlib.util.find_spec("tools.setup.assets") is None:
        return
    if subprocess.run([PYTHON, "-m", "tools.setup.assets"], cwd=ROOT, check=False).returncode:
        raise SetupError("fetching the report's assets failed: see above")


if __name__ == "__main__":
    sys.exit(main())
