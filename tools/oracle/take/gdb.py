"""A client of QEMU's gdb stub, for one hardware breakpoint: just enough of the protocol."""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType

_HARDWARE_BREAKPOINT = "1"
_RIP_AT = 16 * 8  # the 16 general registers come first


class GdbError(Exception):
    """The stub said no, or something that we do not understand."""


def frame(payload: str) -> bytes:
    """``$PAYLOAD#SUM``"""
    body = payload.encode("ascii")
    return b"$" + body + b"#%02x" % (sum(body) % 256)


def unframe(data: bytes) -> tuple[str, bytes] | None:
    """The first packet in *data* and the rest; None while it is not whole.

    :raises GdbError: its sum is wrong
    """
    start = data.find(b"$")
    end = data.find(b"#", start)
    if start < 0 or end < 0 or len(data) < end + 3:
        return None
    body = data[start + 1 : end]
    if int(data[end + 1 : end + 3], 16) != sum(body) % 256:
        raise GdbError(f"bad checksum of {body!r}")
    return body.decode("ascii", "replace"), data[end + 3 :]


class Gdb:
    """A connection; the machine is paused as soon as it exists.

    :param timeout_s: for every reply, the stop included
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        self._socket.connect(str(path))
        self._rest = b""

    def __enter__(self) -> Gdb:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def set_breakpoint(self, address: int) -> None:
        """A hardware breakpoint: nothing in the guest's memory changes."""
        self._expect_ok(f"Z{_HARDWARE_BREAKPOINT},{address:x},1")

    def clear_breakpoint(self, address: int) -> None:
        """Remove it."""
        self._expect_ok(f"z{_HARDWARE_BREAKPOINT},{address:x},1")

    def resume(self) -> None:
        """Let the machine run; does not wait."""
        self._send("c")

    def wait_for_stop(self) -> str:
        """Wait until the machine stops; the stub's reply, e.g. ``T05thread:01;``.

        :raises GdbError: it ended instead
        """
        reply = self._receive()
        if reply[:1] not in ("T", "S"):
            raise GdbError(f"the machine did not stop: {reply!r}")
        return reply

    def program_counter(self) -> int:
        """RIP of the CPU that stopped."""
        registers = bytes.fromhex(self._ask("g").replace("x", "0"))
        return int.from_bytes(registers[_RIP_AT : _RIP_AT + 8], "little")

    def detach(self) -> None:
        """Remove all breakpoints and let the machine run."""
        self._expect_ok("D")

    def _expect_ok(self, payload: str) -> None:
        reply = self._ask(payload)
        if reply != "OK":
            raise GdbError(f"{payload}: {reply!r}")

    def _ask(self, payload: str) -> str:
        """The reply to a request; that the machine stopped when we connected is no reply."""
        self._send(payload)
        while (reply := self._receive()).startswith("T"):
            pass
        return reply

    def _send(self, payload: str) -> None:
        self._socket.sendall(frame(payload))

    def _receive(self) -> str:
        while not (found := unframe(self._rest)):
            more = self._socket.recv(1 << 16)
            if not more:
                raise GdbError("QEMU closed the connection")
            self._rest += more
        payload, self._rest = found
        self._socket.sendall(b"+")
        return payload
