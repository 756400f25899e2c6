"""Control of the module over generic netlink (pyroute2).

The kernel's own words come first: its extended acknowledgement names the cause, and STATUS keeps
the last one. The family's messages are defined in ``kmod/uapi/livedump.h``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Protocol

from livedump import abi, refusals
from livedump.errors import ControlError, LivedumpError, NotLoadedError

_NLM_F_REQUEST = 0x1
_NLM_F_DUMP = 0x300
_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_MESSAGE_BYTES = 65536

#: What can be asked for.
STRATEGIES = ("lazy", "eager")
DEFAULT_STRATEGY = STRATEGIES[0]

#: For what netlink itself refuses; what the module refuses has a reason, see
#: :mod:`livedump.refusals`.
REMEDIES: Mapping[int, str] = {
    errno.EPERM: "Run as root with CAP_SYS_ADMIN and CAP_NET_ADMIN in the initial namespaces",
    errno.EACCES: "Run as root with CAP_SYS_ADMIN and CAP_NET_ADMIN in the initial namespaces",
    errno.EBADF: "The owner must be an open file of " + abi.IMAGE_PATH,
    errno.ENOENT: "Take one with 'livedump snapshot'",
    errno.EINVAL: "Module and client may be of different versions: reload the module",
}

#: How often the module is asked how far it is, and how long its counts are waited for.
_POLL_S = 0.02
_COUNTING_S = 2.0


@dataclass(frozen=True)
class Status:
    """What the module says of itself and of the snapshot it holds or held last.

    ``step`` is what the worker does while ``state`` is ``prepared``; ``refusal`` and ``error`` are
    the last refusal and the module's words for it; ``machine`` is why this machine would be refused
    now, ``none`` if it would not; ``default_pool`` is in bytes.

    ``report`` has every field of struct livedump_report (see :func:`livedump.abi.report_to_dict`);
    all zeros before the first snapshot.
    """

    state: str
    strategy: str = "none"
    flags: int = 0
    owner_pid: int = 0
    error: str = ""
    reason: str = "none"
    step: str = "none"
    refusal: str = "none"
    machine: str = "none"
    default_pool: int = 0
    report: abi.ReportDict = field(default_factory=abi.empty_report)

    @property
    def counted(self) -> bool:
        """Classes of pages have been counted, which goes on after the stop."""
        return bool(self.report["pages_counted"] >= self.report["pages_ram"])

    @property
    def persistent(self) -> bool:
        """The snapshot outlives the process that took it."""
        return bool(self.flags & abi.F_PERSIST)

    @property
    def verdict(self) -> str:
        """``pending``, ``complete``, ``lost`` or ``unproven``."""
        return enum_name(abi.Verdict, self.report["verdict"])

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for ``--json``."""
        return {**asdict(self), "persistent": self.persistent, "verdict": self.verdict}


@dataclass(frozen=True)
class Event:
    """A multicast message: ``snapshot``, ``pool_low``, ``lost``, ``release`` or ``failed``.

    ``overrun``: the socket's buffer was full, and events are missing here.
    """

    event: str
    state: str = ""
    reason: str = "none"
    report: abi.ReportDict | None = None


class Controller(Protocol):
    """What sessions and commands need of :class:`Control`; tests hand in fakes."""

    def __enter__(self) -> Controller: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def status(self) -> Status: ...

    def snapshot(
        self,
        owner_fd: int,
        strategy: str = DEFAULT_STRATEGY,
        pool_bytes: int = 0,
        flags: int = 0,
        max_hold_ms: int = 0,
        progress: Callable[[Status], None] | None = None,
    ) -> Status: ...

    def release(self) -> Status: ...

    def lost(self) -> list[int]: ...


def enum_name(kind: type[Any], value: int) -> str:
    """The lower-case name of *value* in an enum of :mod:`livedump.abi`, or its number."""
    try:
        return str(kind(value).name).lower()
    except ValueError:
        return str(value)


def strategy_value(name: str) -> abi.Strategy:
    """``"lazy"`` -> ``Strategy.LAZY``.

    :raises ControlError: there is no such strategy
    """
    if name in STRATEGIES:
        return abi.Strategy[name.upper()]
    remedy = f"Choose from: {', '.join(STRATEGIES)}"
    raise ControlError(f"there is no strategy {name!r}", step="take snapshot", remedy=remedy)


def message_class() -> type[Any]:
    """The pyroute2 message of our family: command, version, attributes of enum livedump_attr."""
    from pyroute2.netlink import genlmsg

    types = {
        abi.Attr.POOL_BYTES: "uint64",
        abi.Attr.REPORT: "cdata",
        abi.Attr.ERROR: "asciiz",
        abi.Attr.LOST_PFN: "uint64",
        abi.Attr.DEFAULT_POOL: "uint64",
        abi.Attr.UNSPEC: "none",
        abi.Attr.PAD: "none",
    }

    class livedumpmsg(genlmsg):  # type: ignore[misc]  # pyroute2 has no types
        nla_map = tuple((attr.name, types.get(attr, "uint32")) for attr in abi.Attr)

    return livedumpmsg


def status_from_message(message: Any) -> Status:
    """Decode the answer to STATUS, SNAPSHOT and RELEASE.

    :raises ControlError: the answer has no state
    :raises AbiError: its report is of another ABI
    """
    state = message.get_attr("STATE")
    if state is None:
        raise ControlError(
            "the module's answer has no state",
            step="read status",
            remedy="Install module and client from the same livedump version",
        )
    data = message.get_attr("REPORT")
    report = abi.report_to_dict(abi.report_from_bytes(bytes(data))) if data else abi.empty_report()
    return Status(
        state=enum_name(abi.State, state),
        strategy=enum_name(abi.Strategy, message.get_attr("STRATEGY") or 0),
        flags=message.get_attr("FLAGS") or 0,
        owner_pid=message.get_attr("OWNER_PID") or 0,
        error=message.get_attr("ERROR") or "",
        reason=enum_name(abi.Reason, message.get_attr("REASON") or 0),
        step=enum_name(abi.Step, message.get_attr("STEP") or 0),
        refusal=enum_name(abi.Refusal, message.get_attr("REFUSAL") or 0),
        machine=enum_name(abi.Refusal, message.get_attr("MACHINE") or 0),
        default_pool=message.get_attr("DEFAULT_POOL") or 0,
        report=report,
    )


def refused(status: Status) -> ControlError:
    """The error that says why there is no snapshot, and what to do."""
    return ControlError(
        status.error or f"the module took no snapshot, its state is {status.state}",
        step="take snapshot",
        remedy=refusals.remedy(status.refusal),
        refusal=status.refusal,
    )


def event_from_message(message: Any) -> Event:
    """Decode a multicast message."""
    data = message.get_attr("REPORT")
    return Event(
        event=enum_name(abi.Event, message.get_attr("EVENT") or 0),
        state=enum_name(abi.State, message.get_attr("STATE") or 0),
        reason=enum_name(abi.Reason, message.get_attr("REASON") or 0),
        report=abi.report_to_dict(abi.report_from_bytes(bytes(data))) if data else None,
    )


def open_family() -> Any:
    """A pyroute2 socket bound to our family.

    :raises NotLoadedError: the kernel does not know the family
    :raises ControlError: netlink cannot be used at all
    """
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.generic import AsyncGenericNetlinkSocket, GenericNetlinkSocket

    class QuietAsync(AsyncGenericNetlinkSocket):  # type: ignore[misc]
        module_err_level = "debug"  # the error that we raise says it all

    class Quiet(GenericNetlinkSocket):  # type: ignore[misc]
        async_class = QuietAsync

    step = "reach module"
    try:
        sock = Quiet(ext_ack=True)
    except OSError as error:
        raise ControlError(
            f"no netlink socket: {error.strerror}", step=step, errno=error.errno or 0
        ) from error
    try:
        sock.bind(abi.GENL_NAME, message_class())
    except NetlinkError as error:
        sock.close()
        if error.code == errno.ENOENT:
            raise NotLoadedError(
                "the module is not loaded",
                step=step,
                remedy="Run: livedump load",
                errno=error.code,
            ) from None
        raise ControlError(str(error.args[-1]), step=step, errno=error.code) from error
    except BaseException:
        sock.close()
        raise
    return sock


class Control:
    """A connection to the module; a context manager.

    :param opener: returns a bound pyroute2 socket, for tests
    :raises NotLoadedError: on entry, when the module is not loaded
    """

    def __init__(self, opener: Callable[[], Any] = open_family) -> None:
        self._opener = opener
        self._socket: Any = None

    def __enter__(self) -> Control:
        self._socket = self._opener()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a snapshot that is held is not touched."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def status(self) -> Status:
        """State, owner, last error and report of the snapshot that is held or was held last."""
        return self._ask(abi.Cmd.STATUS, "read status")

    def snapshot(
        self,
        owner_fd: int,
        strategy: str = DEFAULT_STRATEGY,
        pool_bytes: int = 0,
        flags: int = 0,
        max_hold_ms: int = 0,
        progress: Callable[[Status], None] | None = None,
    ) -> Status:
        """Take a snapshot; returns once the stop is over and state is ``holding``.

        :param owner_fd: this process's open file of /proc/livedump; its last close releases the
            snapshot unless *flags* has ``abi.F_PERSIST``
        :param strategy: one of :data:`STRATEGIES`, see kmod/stop/strategy.h
        :param pool_bytes: for copies of pages, 0 = the module's default
        :param max_hold_ms: release by itself after so long, 0 = never
        :param progress: called with the status while the module prepares, some times a second
        :raises ControlError: the module refused or failed, with its reason; nothing is held then
        """
        attrs = [
            ("OWNER_FD", owner_fd),
            ("STRATEGY", int(strategy_value(strategy))),
            ("FLAGS", flags),
            ("POOL_BYTES", pool_bytes),
            ("MAX_HOLD_MS", max_hold_ms),
        ]
        status = self._ask(abi.Cmd.SNAPSHOT, "take snapshot", attrs)
        if status.refusal != "none":
            raise refused(status)
        try:
            while status.state == "prepared":
                if progress:
                    progress(status)
                time.sleep(_POLL_S)
                status = self.status()
        except BaseException:
            self._cancel()
            raise
        if status.state != "holding":
            raise refused(status)
        return self._counted(status)

    def _counted(self, status: Status) -> Status:
        """Wait a little for the counts of page classes; a large machine takes longer."""
        deadline = time.monotonic() + _COUNTING_S
        while status.state == "holding" and not status.counted and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            status = self.status()
        return status

    def _cancel(self) -> None:
        """Over a connection of its own: ours may have been interrupted in the middle of an answer.

        Whatever that meets does not hide what brought us here; the owner's file is closed next.
        """
        with contextlib.suppress(LivedumpError, OSError), Control(self._opener) as other:
            other._ask(abi.Cmd.RELEASE, "cancel snapshot")

    def release(self) -> Status:
        """Release the snapshot, or end its preparation; returns the final report, with its verdict.

        :raises ControlError: nothing is held
        """
        status = self._ask(abi.Cmd.RELEASE, "release snapshot")
        while status.state != "idle":
            time.sleep(_POLL_S)
            status = self.status()
        return status

    def lost(self) -> list[int]:
        """Page frame numbers of the pages that the snapshot lost, ascending."""
        messages = self._request(abi.Cmd.LOST, "list lost pages", [], _NLM_F_REQUEST | _NLM_F_DUMP)
        return sorted(
            int(value)
            for message in messages
            for name, value in message["attrs"]
            if name == "LOST_PFN"
        )

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """Yield events as they arrive, until *timeout* seconds pass without one (None: for ever).

        The subscription starts when this is called, not at the first ``next()``.

        :raises ControlError: the group cannot be joined
        """
        listener = self._listen()
        return _events(listener, timeout)

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)  # NETLINK_GENERIC
        try:
            listener.bind((0, 0))
            listener.setsockopt(
                _SOL_NETLINK,
                _NETLINK_ADD_MEMBERSHIP,
                self._socket.mcast_groups[abi.GENL_GROUP],
            )
        except (OSError, KeyError) as error:
            listener.close()
            raise ControlError(
                f"cannot join group {abi.GENL_GROUP!r}: {error}",
                step="subscribe to events",
                remedy="Run as root; reload the module if its version differs",
            ) from error
        return listener

    def _ask(self, cmd: abi.Cmd, step: str, attrs: list[tuple[str, int]] | None = None) -> Status:
        messages = self._request(cmd, step, attrs or [], _NLM_F_REQUEST)
        if not messages:
            raise ControlError("the module gave no answer", step=step)
        return status_from_message(messages[0])

    def _request(
        self, cmd: abi.Cmd, step: str, attrs: list[tuple[str, int]], flags: int
    ) -> list[Any]:
        from pyroute2.netlink.exceptions import NetlinkError

        if self._socket is None:
            raise ControlError("the connection is closed", step=step)
        message = message_class()()
        message["cmd"] = int(cmd)
        message["version"] = abi.GENL_VERSION
        message["attrs"] = list(attrs)
        try:
            return list(
                self._socket.nlm_request(message, msg_type=self._socket.prid, msg_flags=flags)
            )
        except NetlinkError as error:
            words = str(error.args[-1] or os.strerror(error.code))
            raise ControlError(
                words, step=step, remedy=REMEDIES.get(error.code, ""), errno=error.code
            ) from error
        except OSError as error:
            words = error.strerror or str(error)
            code = error.errno or 0
            raise ControlError(
                words, step=step, remedy=REMEDIES.get(code, ""), errno=code
            ) from error


def _events(listener: socket.socket, timeout: float | None) -> Iterator[Event]:
    parse = message_class()
    with listener:
        while True:
            if not select.select([listener], [], [], timeout)[0]:
                return
            try:
                data = listener.recv(_MESSAGE_BYTES)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise ControlError(str(error.strerror), step="read events") from error
                yield Event(event="overrun")
                continue
            for offset in _offsets(data):
                message = parse(data, offset=offset)
                message.decode()
                if message["cmd"] == abi.Cmd.EVENT:
                    yield event_from_message(message)


def _offsets(data: bytes) -> Iterator[int]:
    """Where each netlink message of a datagram begins."""
    offset = 0
    while offset + 16 <= len(data):
        length = int.from_bytes(data[offset : offset + 4], "little")
        if length < 16 or offset + length > len(data):
            return
        yield offset
        offset += (length + 3) & ~3
