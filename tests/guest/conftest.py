"""Guest tests: one boot for all of them, see `make test-guest`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from livedump.control import Control
from livedump.session import Session
from tools.guest import modules, witness


@pytest.fixture(scope="session", autouse=True)
def loaded() -> Iterator[None]:
    """livedump and its witness, loaded once; both must unload at the end."""
    assert os.environ.get("LIVEDUMP_VM"), "these tests run in a VM only: make test-guest"
    with modules.modules(modules.WITNESS):
        arm()
        yield


def arm() -> None:
    """The first snapshot makes the kernel patch hot functions. While other CPUs are busy in them,
    QEMU may go on executing what was there meanwhile: see
    docs/decisions/009-stale-code-in-qemu.md."""
    with Session(pool_bytes=256 << 20):
        pass


@pytest.fixture(autouse=True)
def nothing_held() -> Iterator[None]:
    """Every test leaves the machine as it found it: idle, no tag in the direct map."""
    yield
    with Control() as control:
        status = control.status()
        if status.state != "idle":
            control.release()
    assert status.state == "idle", "the test left a snapshot behind"
    assert witness.tags(witness.direct_map()) == 0


@pytest.fixture(params=["lazy", "eager"])
def strategy(request: pytest.FixtureRequest) -> str:
    """What must hold for each way to protect memory."""
    return str(request.param)
