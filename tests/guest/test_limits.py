"""Requests that cannot be met, pools that do not last, clients that may not."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from livedump import abi
from livedump.control import Control
from livedump.dump import open_image
from livedump.errors import ControlError, LivedumpError
from livedump.session import Session
from tools.guest import witness
from tools.guest.program import Load

LIVEDUMP = ["livedump"]


def refused(refusal: str, pattern: str, **options: int) -> None:
    """The request fails with the kernel's own words, and nothing is held."""
    with pytest.raises(ControlError, match=pattern) as caught:
        Session(**options).__enter__()  # type: ignore[arg-type]
    assert caught.value.refusal == refusal
    with Control() as control:
        status = control.status()
    assert (status.state, status.refusal) == ("idle", refusal)
    assert witness.tags(witness.direct_map()) == 0


def test_pool_larger_than_memory_is_refused() -> None:
    refused("pool_too_large", "does not fit", pool_bytes=1 << 40)


def test_pool_too_small_for_the_stop_is_refused(load: Load) -> None:
    for _ in range(5):
        refused("pool_too_small", "not even hold", pool_bytes=1 << 20)


def test_pool_that_wraps_around_is_refused() -> None:
    refused("pool_too_large", "does not fit", pool_bytes=(1 << 64) - 1)


def test_owner_must_be_an_image_file() -> None:
    with Control() as control, open("/dev/null", "rb") as other:
        with pytest.raises(ControlError, match="/proc/livedump"):
            control.snapshot(other.fileno())
        with pytest.raises(ControlError):
            control.snapshot(12345)


def test_release_without_snapshot_is_an_error() -> None:
    with Control() as control, pytest.raises(ControlError, match="no snapshot"):
        control.release()


def test_reading_without_snapshot_is_an_error() -> None:
    with pytest.raises(LivedumpError):
        open_image(abi.IMAGE_PATH)


@contextlib.contextmanager
def on_cpu(cpu: int) -> Iterator[None]:
    """This process runs there alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def test_lost_pages_are_named_and_read_as_zeros() -> None:
    pages = [page for row in witness.pages_by_row().values() for page in row]
    witness.poke_all(7)
    with Session(pool_bytes=256 << 20) as session:
        in_the_stop = session.status().report["pages_saved_stop"]
    with Session(pool_bytes=(in_the_stop + 256) * witness.PAGE) as session:
        with on_cpu(1):
            witness.control("poke 0 0 8")  # it has pages of the pool in hand from here on
        with on_cpu(0), Control() as control, tempfile.TemporaryFile(dir="/dev/shm") as file:
            file.write(bytes(8 << 20))
            report = control.status().report
            assert report["pool_used"] == report["pool_pages"], "the other CPU kept some"
            witness.poke_all(8)
            lost = control.lost()
            status = control.status()
        with open_image(abi.IMAGE_PATH) as image:
            ours = [page for page in pages if page.pfn in set(lost)]
            assert ours, "the pool lasted: the test proves nothing"
            assert all(image.read(page.paddr, 4096) == bytes(4096) for page in ours)
    assert len(lost) == len(set(lost))
    assert status.report["pages_lost"] >= len(lost) > 0
    with Control() as control:
        assert control.status().report["verdict"] == abi.Verdict.LOST


@pytest.mark.parametrize("what", ["open", "netlink"])
def test_other_users_are_refused(what: str) -> None:
    code = {
        "open": "open('/proc/livedump', 'rb')",
        "netlink": "with Control() as control: control.status()",
    }[what]
    # Everything is imported before: the checkout may lie where others cannot read.
    imports = "import os, pyroute2.netlink.generic\nfrom livedump.control import Control"
    result = subprocess.run(
        [sys.executable, "-c", f"{imports}\nos.setuid(65534)\n{code}"],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": "/"},
    )
    assert result.returncode != 0
    said = result.stderr.splitlines()[-1]
    assert "Errno 13]" in said if what == "open" else "Operation not permitted" in said, said


def test_events_tell_of_snapshot_and_release() -> None:
    with Control() as listener:
        events = listener.events(10)
        with Control() as control:
            with Session(pool_bytes=256 << 20):
                taken = next(events)
                with open_image(abi.IMAGE_PATH) as image:
                    assert image.cpus
            released = next(events)
            assert control.status().state == "idle"
    assert (taken.event, taken.state) == ("snapshot", "holding")
    # Who waits for it need not wait until the classes of pages are counted, too.
    assert taken.report and taken.report["pages_counted"] == 0
    assert (released.event, released.reason) == ("release", "request")
