"""Races, in the guest, with the module's test build and NMIs from outside: `make test-race`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from livedump.control import Control
from tools.guest import modules, witness
from tools.guest.program import Load

#: delay_us of kmod/test.c: copied, published, read, demote.
PARAMETERS = Path("/sys/module/livedump/parameters")


@pytest.fixture(scope="session", autouse=True)
def loaded() -> Iterator[None]:
    """The test build, the witness and the module that provokes races."""
    assert os.environ.get("LIVEDUMP_VM"), "these tests run in a VM only: make test-race"
    wanted = Path(os.environ["LIVEDUMP_NMI"])  # of tools/vm/nmi.py
    with Load():
        pass  # the kernel loads a module for it, whose constants become read-only
    with modules.modules(modules.WITNESS, "livedump_race"):
        wanted.touch()
        try:
            yield
        finally:
            wanted.unlink(missing_ok=True)
            time.sleep(0.5)  # the last one may be on its way


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Every test leaves the machine idle and the direct map as it found it."""
    before = witness.direct_map()
    yield
    set_delays()
    with Control() as control:
        assert control.status().state == "idle"
    after = witness.direct_map()
    assert witness.tags(after) == 0
    assert witness.changes(before, after) == []


def set_delays(copied: int = 0, published: int = 0, read: int = 0, demote: int = 0) -> None:
    """Busy waits in us at the points of the save protocol."""
    (PARAMETERS / "delay_us").write_text(f"{copied},{published},{read},{demote}")
