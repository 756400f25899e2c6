"""Set everything up; quick when there is nothing to do."""

from __future__ import annotations

import os
import sys
import time

from tools.paths import BUILD
from tools.setup import apt, promtool, venv
from tools.setup.steps import SetupError, step
from tools.vm import VmError, kernels
from tools.vm.kernels import Kernel
from tools.vm.machines import FULL, HEADERS_META, SERIES


def main() -> int:
    """Do it; the exit status."""
    try:
        if os.geteuid() != 0:
            require_packages()
        apt.install(apt.wanted())
        _ensure_lists()
        for series in _to_have():
            _ensure_kernel(series)
        venv.ensure()
        promtool.ensure()
    except (SetupError, VmError) as error:
        print(f"setup: error: {error}", file=sys.stderr)
        return 1
    return 0


def require_packages() -> None:
    """Raise SetupError that names every missing package, the kernels' headers among them.

    For those who are not root: one command for the administrator, not one after the other.
    """
    apt.require([*apt.wanted(), *(_headers_to_have(series) for series in _to_have())])


def _to_have() -> list[str]:
    """The series that are tested in full, and of the others those that apt has: a user need not
    have backports. Without lists nobody can tell: the next run has them."""
    if not apt.have_lists():
        return [FULL]
    there = kernels.known(SERIES)
    for series in SERIES:
        if series not in there and series != FULL:
            print(
                f"setup: no kernel of series {series} in apt's lists, go on without: its tests "
                f"need {HEADERS_META[series]}",
                file=sys.stderr,
            )
    return [series for series in SERIES if series in there or series == FULL]


def _headers_to_have(series: str) -> str:
    """The headers package that the rest of set-up will ask for."""
    try:
        newest = kernels.resolve(series, latest=True)
        if not apt.missing([newest.headers_package]):
            return newest.headers_package
        return kernels.resolve(series).headers_package  # one that is ready will do
    except VmError:
        return HEADERS_META[series]


def _ensure_lists() -> None:
    """Fetch apt's lists if a kernel series is in none of them: an image may come with a part only.

    All series before the first download, so that no kernel is chosen from half the lists. Once a
    day: one that is not there may be one that no archive of this machine has.
    """
    if os.geteuid() != 0 or kernels.known(SERIES) == list(SERIES):
        return
    asked = BUILD / "apt-lists-fetched"
    if not asked.exists() or asked.stat().st_mtime < time.time() - 24 * 3600:
        apt.update()
        BUILD.mkdir(exist_ok=True)
        asked.touch()


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


if __name__ == "__main__":
    sys.exit(main())
