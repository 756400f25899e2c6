"""Control over netlink: messages through pyroute2's own encoder and decoder, and error texts."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from livedump import abi, control
from livedump.control import Control, Event, Status
from livedump.errors import AbiError, ControlError, NotLoadedError
from tests.unit import images


def message(cmd: abi.Cmd, **attrs: object) -> Any:
    """A message as the kernel would send it, decoded."""
    kind = control.message_class()
    raw = kind()
    raw["cmd"] = int(cmd)
    raw["version"] = abi.GENL_VERSION
    raw["attrs"] = list(attrs.items())
    raw.encode()
    decoded = kind(raw.data)
    decoded.decode()
    return decoded


def report_bytes(**values: int) -> bytes:
    return bytes(abi.report_from_dict(images.report(**values)))


class FakeSocket:
    """A bound pyroute2 socket that answers with what it was given."""

    prid = 30
    mcast_groups = {"events": 1}

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []
        self.flags: list[int] = []
        self.closed = False

    def nlm_request(self, request: Any, msg_type: int, msg_flags: int) -> Iterator[Any]:
        assert msg_type == self.prid
        request.encode()
        copy = control.message_class()(request.data)
        copy.decode()
        self.asked.append(copy)
        self.flags.append(msg_flags)
        for answer in self.answers:
            if isinstance(answer, Exception):
                raise answer
            yield answer

    def close(self) -> None:
        self.closed = True


def holding(**values: int) -> Any:
    return message(
        abi.Cmd.STATUS,
        STATE=2,
        STRATEGY=2,
        FLAGS=1,
        OWNER_PID=0,
        REPORT=report_bytes(**values),
        REASON=0,
    )


def test_status() -> None:
    sock = FakeSocket(holding(stop_ns=5))
    with Control(lambda: sock) as connection:
        status = connection.status()
    assert (status.state, status.strategy, status.persistent) == ("holding", "lazy", True)
    assert status.report["stop_ns"] == 5 and status.verdict == "pending"
    assert status.to_dict()["report"]["leaves_before"] == [512, 511, 1]
    assert sock.asked[0]["cmd"] == abi.Cmd.STATUS and sock.closed


def test_idle_status_without_a_report_is_all_zeros() -> None:
    sock = FakeSocket(message(abi.Cmd.STATUS, STATE=0, ERROR="no memory", REASON=5))
    with Control(lambda: sock) as connection:
        status = connection.status()
    assert status == Status(state="idle", error="no memory", reason="failed")
    assert status.report == abi.empty_report()


def test_snapshot_sends_everything() -> None:
    sock = FakeSocket(holding())
    with Control(lambda: sock) as connection:
        connection.snapshot(7, pool_bytes=1 << 33, flags=abi.F_PERSIST, max_hold_ms=600_000)
    asked = sock.asked[0]
    assert asked["cmd"] == abi.Cmd.SNAPSHOT and asked["version"] == abi.GENL_VERSION
    assert dict(asked["attrs"]) == {
        "OWNER_FD": 7,
        "STRATEGY": int(abi.Strategy.LAZY),
        "FLAGS": 1,
        "POOL_BYTES": 1 << 33,
        "MAX_HOLD_MS": 600_000,
    }
    assert sock.flags == [1]  # no NLM_F_ACK: its message would be read as an event


def test_snapshot_that_did_not_happen_is_an_error() -> None:
    sock = FakeSocket(message(abi.Cmd.STATUS, STATE=0, ERROR="the pool is too small"))
    with Control(lambda: sock) as connection:
        with pytest.raises(ControlError, match="take snapshot: the pool is too small. See the"):
            connection.snapshot(3)


def test_unknown_strategy() -> None:
    with Control(lambda: FakeSocket()) as connection:
        with pytest.raises(ControlError, match="no strategy 'eagre'.*default, eager, lazy"):
            connection.snapshot(3, strategy="eagre")


@pytest.mark.parametrize(
    ("code", "words", "text"),
    [
        (
            errno.EBUSY,
            "a snapshot is held by process 12",
            "held by process 12. See 'livedump status'",
        ),
        (errno.EPERM, "Operation not permitted", "not permitted. Run as root"),
        (errno.ENOMEM, "pool of 512 MiB", "pool of 512 MiB. Free some memory"),
        (errno.EOPNOTSUPP, "guest memory is encrypted", "encrypted. This machine is refused"),
        (errno.EXDEV, "odd", "take snapshot: odd.$"),
    ],
)
def test_the_kernels_own_words(code: int, words: str, text: str) -> None:
    sock = FakeSocket(NetlinkError(code, words))
    with Control(lambda: sock) as connection:
        with pytest.raises(ControlError, match=text) as caught:
            connection.snapshot(3)
    assert caught.value.errno == code and caught.value.step == "take snapshot"


def test_lost_pages_come_in_order() -> None:
    pages = [message(abi.Cmd.LOST, LOST_PFN=pfn) for pfn in (9, 1 << 40, 3)]
    sock = FakeSocket(*pages)
    with Control(lambda: sock) as connection:
        assert connection.lost() == [3, 9, 1 << 40]
    assert sock.flags == [0x301]


def test_no_answer_and_odd_answers() -> None:
    with Control(lambda: FakeSocket()) as connection:
        with pytest.raises(ControlError, match="no answer"):
            connection.status()
    with Control(lambda: FakeSocket(message(abi.Cmd.STATUS))) as connection:
        with pytest.raises(ControlError, match="no state"):
            connection.status()
    with Control(lambda: FakeSocket(message(abi.Cmd.STATUS, STATE=0, REPORT=b"x" * 16))) as other:
        with pytest.raises(AbiError):
            other.status()
    with pytest.raises(ControlError, match="closed"):
        Control(lambda: FakeSocket()).status()


def test_event() -> None:
    raw = message(abi.Cmd.EVENT, EVENT=3, STATE=0, REASON=3, REPORT=report_bytes(release_ns=4))
    event = control.event_from_message(raw)
    assert (event.event, event.state, event.reason) == ("release", "idle", "timeout")
    assert event.report is not None and event.report["release_ns"] == 4
    assert not event.overrun and Event("overrun").overrun


def test_events_of_one_datagram_and_the_timeout() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagram = b""
    for kind in (abi.Event.SNAPSHOT, abi.Event.POOL_LOW):
        raw = control.message_class()()
        raw["cmd"] = int(abi.Cmd.EVENT)
        raw["attrs"] = [("EVENT", int(kind)), ("STATE", 2)]
        raw.encode()
        datagram += bytes(raw.data)
    with theirs:
        theirs.send(datagram)
        theirs.send(b"short")
        found = list(control._events(ours, 0.05))
    assert [event.event for event in found] == ["snapshot", "pool_low"]


def test_unknown_numbers_stay_numbers() -> None:
    assert control.enum_name(abi.State, 99) == "99"


def test_family_missing() -> None:
    """Asks the real kernel for a family that it does not have."""
    names = abi.GENL_NAME
    try:
        abi.GENL_NAME = "livedump-absent"[:15]
        with pytest.raises(NotLoadedError, match="not loaded. Run: livedump load") as caught:
            Control().__enter__()
    finally:
        abi.GENL_NAME = names
    assert caught.value.errno == errno.ENOENT
