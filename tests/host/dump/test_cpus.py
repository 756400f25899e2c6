"""The dump of a machine with one CPU of four offline: each of the others shows what it ran.

tests/vm/test_offline.py leaves it in build/test/RELEASE/vmcore-offline.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from livedump.dump import Image, open_image
from livedump.dump.drgn import open_program
from livedump.dump.opened import find_vmlinux
from tests.host.dump.test_open import ARTEFACTS, RELEASES

ONLINE = [0, 2, 3]


@pytest.fixture(scope="module", params=RELEASES)
def path(request: pytest.FixtureRequest) -> Path:
    """The dump of one kernel release."""
    found = ARTEFACTS / str(request.param) / "vmcore-offline"
    assert found.is_file(), f"no {found}: run tests/vm first (make test)"
    return found


@pytest.fixture(scope="module")
def program(path: Path) -> Any:
    """What drgn makes of it."""
    return open_program(path, find_vmlinux(path.parent.name))


@pytest.fixture(scope="module")
def image(path: Path) -> Iterator[Image]:
    """The dump, through our own parser."""
    with open_image(path) as found:
        yield found


def test_cpus_that_are_offline_are_left_out(image: Image, program: Any) -> None:
    from drgn.helpers.linux.cpumask import for_each_online_cpu

    assert image.cpus == len(ONLINE)
    assert list(for_each_online_cpu(program)) == ONLINE


@pytest.mark.parametrize("cpu", ONLINE)
def test_each_cpu_shows_what_it_ran(program: Any, cpu: int) -> None:
    """The stopper thread, in the stop: registers of one CPU are not taken for another's."""
    from drgn.helpers.linux.sched import cpu_curr

    task = cpu_curr(program, cpu)
    assert task.comm.string_() == f"migration/{cpu}".encode()
    frames = [frame.name for frame in program.stack_trace(task)]
    assert "multi_cpu_stop" in frames, frames
