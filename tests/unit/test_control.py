"""Control over netlink: messages through pyroute2's own encoder and decoder, and error texts."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from livedump import abi, control, refusals
from livedump.control import Control, Status
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
            if isinstance(answer, BaseException):
                raise answer
            yield answer

    def close(self) -> None:
        self.closed = True


class ScriptedSocket(FakeSocket):
    """One answer for each request, the last one again and again."""

    def nlm_request(self, request: Any, msg_type: int, msg_flags: int) -> Iterator[Any]:
        everything = self.answers
        self.answers = everything[:1]
        yield from super().nlm_request(request, msg_type, msg_flags)
        self.answers = everything[1:] or everything

    def commands(self) -> list[abi.Cmd]:
        """What was asked, in order."""
        return [abi.Cmd(asked["cmd"]) for asked in self.asked]


class FakeClock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr(control, "time", clock)
    return clock


def state(state: abi.State, **attrs: object) -> Any:
    """An answer of the module."""
    return message(abi.Cmd.STATUS, STATE=int(state), **attrs)


def prepared(step: abi.Step) -> Any:
    return state(abi.State.PREPARED, STEP=int(step))


def refusal(reason: abi.Refusal, words: str) -> Any:
    return state(abi.State.IDLE, REFUSAL=int(reason), ERROR=words)


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
    """Not refused, and yet not there: a hold time that was over at once, for instance."""
    for answer, words in (
        (state(abi.State.IDLE), "took no snapshot, its state is idle"),
        (state(abi.State.RELEASING), "its state is releasing"),
    ):
        with Control(lambda: FakeSocket(answer)) as connection:
            with pytest.raises(ControlError, match=words):
                connection.snapshot(3)


@pytest.mark.parametrize("reason", list(abi.Refusal)[1:])
def test_refused(reason: abi.Refusal) -> None:
    """Every refusal of the ABI: the module's words, our remedy, and nothing else is asked."""
    sock = ScriptedSocket(refusal(reason, "the module's words"))
    name = reason.name.lower()
    with Control(lambda: sock) as connection:
        with pytest.raises(ControlError, match="take snapshot: the module's words") as caught:
            connection.snapshot(3)
    assert caught.value.refusal == caught.value.to_dict()["refusal"] == name
    assert caught.value.remedy == refusals.REMEDIES[name].rstrip(".")
    assert sock.commands() == [abi.Cmd.SNAPSHOT]


def test_every_refusal_has_its_remedy() -> None:
    """And no other has one; only who cancelled knows what to do next."""
    names = {reason.name.lower() for reason in abi.Refusal} - {"none"}
    assert set(refusals.REMEDIES) == names
    assert [name for name in refusals.REMEDIES if not refusals.remedy(name)] == ["cancelled"]
    assert "dmesg" in refusals.remedy("one of a later version")


def test_the_module_is_asked_until_it_holds(clock: FakeClock) -> None:
    steps = [step for step in abi.Step if step is not abi.Step.NONE]
    sock = ScriptedSocket(*map(prepared, steps), holding(stop_ns=9))
    seen: list[str] = []
    with Control(lambda: sock) as connection:
        status = connection.snapshot(3, progress=lambda now: seen.append(now.step))
    assert status.state == "holding" and status.report["stop_ns"] == 9
    assert seen == ["reserve", "hooks", "survey", "plan", "stop"]
    assert sock.commands() == [abi.Cmd.SNAPSHOT, *[abi.Cmd.STATUS] * 5]
    assert 0 < clock.now < 1


def test_a_failure_while_it_is_prepared(clock: FakeClock) -> None:
    failed = refusal(abi.Refusal.CHANGING, "the kernel was changing its mappings")
    sock = ScriptedSocket(prepared(abi.Step.RESERVE), prepared(abi.Step.PLAN), failed)
    with Control(lambda: sock) as connection:
        with pytest.raises(ControlError, match="changing its mappings. Modules, BPF") as caught:
            connection.snapshot(3)
    assert caught.value.refusal == "changing" and caught.value.errno == 0
    assert abi.Cmd.RELEASE not in sock.commands()


def test_interrupted_while_it_is_prepared(clock: FakeClock) -> None:
    """What was asked for is not left behind."""

    def interrupt(_status: Status) -> None:
        raise KeyboardInterrupt

    sock = ScriptedSocket(prepared(abi.Step.RESERVE))
    with Control(lambda: sock) as connection, pytest.raises(KeyboardInterrupt):
        connection.snapshot(3, progress=interrupt)
    assert sock.commands() == [abi.Cmd.SNAPSHOT, abi.Cmd.RELEASE]


def test_interrupted_in_the_middle_of_an_answer(clock: FakeClock) -> None:
    """That connection is not used again: the answer may still come."""
    used = ScriptedSocket(prepared(abi.Step.RESERVE), KeyboardInterrupt())
    fresh = ScriptedSocket(holding())
    sockets = [used, fresh]
    with Control(lambda: sockets.pop(0)) as connection, pytest.raises(KeyboardInterrupt):
        connection.snapshot(3)
    assert used.commands() == [abi.Cmd.SNAPSHOT, abi.Cmd.STATUS]
    assert fresh.commands() == [abi.Cmd.RELEASE] and fresh.closed


def test_an_interruption_is_not_hidden_by_what_cancelling_meets(clock: FakeClock) -> None:
    def interrupt(_status: Status) -> None:
        raise KeyboardInterrupt

    gone = NetlinkError(errno.ENOENT, "no snapshot is held")
    sock = ScriptedSocket(prepared(abi.Step.STOP), gone)
    with Control(lambda: sock) as connection, pytest.raises(KeyboardInterrupt):
        connection.snapshot(3, progress=interrupt)


def test_release_is_asked_until_it_is_over(clock: FakeClock) -> None:
    over = state(abi.State.IDLE, REASON=1, REPORT=report_bytes(release_ns=4))
    sock = ScriptedSocket(holding(), state(abi.State.RELEASING), over)
    with Control(lambda: sock) as connection:
        final = connection.release()
    assert (final.state, final.reason) == ("idle", "request") and final.report["release_ns"] == 4
    assert sock.commands() == [abi.Cmd.RELEASE, abi.Cmd.STATUS, abi.Cmd.STATUS]


def test_counts_are_waited_for(clock: FakeClock) -> None:
    sock = ScriptedSocket(holding(pages_counted=0), holding(pages_counted=9), holding())
    with Control(lambda: sock) as connection:
        status = connection.snapshot(3)
    assert status.counted and len(sock.asked) == 3


def test_counts_are_not_waited_for_for_ever(clock: FakeClock) -> None:
    with Control(lambda: ScriptedSocket(holding(pages_counted=9))) as connection:
        status = connection.snapshot(3)
    assert status.state == "holding" and not status.counted
    assert 1 < clock.now < 10


def test_counts_of_a_snapshot_that_ends(clock: FakeClock) -> None:
    sock = ScriptedSocket(holding(pages_counted=9), state(abi.State.RELEASING))
    with Control(lambda: sock) as connection:
        assert connection.snapshot(3).state == "releasing"


def test_what_a_status_says_beside_the_report() -> None:
    answer = message(abi.Cmd.STATUS, STATE=1, STEP=3, MACHINE=11, DEFAULT_POOL=1 << 34)
    with Control(lambda: FakeSocket(answer)) as connection:
        status = connection.status()
    assert (status.state, status.step, status.machine) == ("prepared", "survey", "kvm_guest")
    assert status.default_pool == 1 << 34 and status.refusal == "none"


def test_unknown_strategy() -> None:
    with Control(lambda: FakeSocket()) as connection:
        with pytest.raises(ControlError, match="no strategy 'eagre'.*lazy, eager"):
            connection.snapshot(3, strategy="eagre")


@pytest.mark.parametrize(
    ("code", "words", "text"),
    [
        (errno.EPERM, "Operation not permitted", "not permitted. Run as root"),
        (errno.EBADF, "the owner is not an image", "not an image. The owner must be an open file"),
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
