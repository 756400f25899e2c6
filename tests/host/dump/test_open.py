"""Stock crash and drgn open the dumps that the guest tests wrote, and see what the witness saw.

The guest tests leave in build/test/RELEASE/: ``vmcore`` and ``tasks.json``, the list of
``[pid, comm]`` that the witness module wrote down inside the stop. Missing files are failures:
a test that skips itself proves nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from livedump import abi
from livedump.dump import Image, open_image
from livedump.dump.crash import open_with_crash
from livedump.dump.drgn import open_with_drgn
from livedump.dump.opened import OpenResult, find_vmlinux
from tools.vm.kernels import resolve
from tools.vm.machines import FULL

ROOT = Path(__file__).parents[3]
ARTEFACTS = Path(os.environ.get("LIVEDUMP_TEST_ARTEFACTS") or ROOT / "build/test")

#: The kernel on which guest tests run in full; there is debug information for it.
RELEASES = [resolve(FULL).release]


@pytest.fixture(scope="module", params=RELEASES)
def folder(request: pytest.FixtureRequest) -> Path:
    """The artefacts of one kernel release."""
    path = ARTEFACTS / str(request.param)
    missing = [name for name in ("vmcore", "tasks.json") if not (path / name).is_file()]
    assert not missing, f"no {', '.join(missing)} in {path}: run the guest tests first (make test)"
    return path


@pytest.fixture(scope="module")
def image(folder: Path) -> Iterator[Image]:
    """The dump, through our own parser."""
    with open_image(folder / "vmcore") as found:
        yield found


@pytest.fixture(scope="module", params=["crash", "drgn"])
def opened(request: pytest.FixtureRequest, folder: Path) -> OpenResult:
    """What a stock tool sees in the dump."""
    vmlinux = find_vmlinux(folder.name)
    if request.param == "crash":
        return open_with_crash(folder / "vmcore", vmlinux)
    return open_with_drgn(folder / "vmcore", vmlinux)


def test_the_dump_is_complete(image: Image, folder: Path) -> None:
    assert image.verdict is abi.Verdict.COMPLETE
    assert image.release == folder.name
    assert image.report["pages_lost"] == 0
    assert image.cpus >= 1


def test_it_opens(opened: OpenResult) -> None:
    assert opened.ok, opened.problems


def test_release(opened: OpenResult, folder: Path) -> None:
    assert opened.release == folder.name


def test_tasks_are_those_of_the_instant(opened: OpenResult, folder: Path) -> None:
    witness = [
        (int(pid), str(comm)) for pid, comm in json.loads((folder / "tasks.json").read_text())
    ]
    expected = sorted(task for task in witness if task[0] != 0)
    assert expected, "the witness saw no tasks"
    assert opened.tasks == expected


def test_backtrace(opened: OpenResult) -> None:
    assert opened.frames >= 3, opened.backtrace
    assert "schedule" in opened.backtrace
