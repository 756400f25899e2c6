"""What happens to the machine from outside: pause at the instant, dump, go on, dump again.

Guest and host talk by lines on the guest's stdout (:class:`Event`) and by files in a folder that
both see, which the host makes (:func:`answer`).
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qemu.qmp.legacy import QEMUMonitorProtocol

from tools.oracle.read.devices import ask_queues
from tools.oracle.take.gdb import Gdb, GdbError

#: Lines of the guest's begin with this.
MARK = "oracle: "
#: The guest waits for these files.
GO, MEASURED = "go", "measured"
#: QEMU's dumps, in the run's folder.
INSTANT, AFTER = "instant.core", "after.core"
#: The virtqueues as QEMU has them at the instant.
QUEUES = "virtio.json"

#: Beside these the machine has its own limit (run.py); a busy host needs time.
_ARMED_S, _STOP_S, _DRAIN_S, _DUMP_S = 600.0, 600.0, 600.0, 300.0


@dataclass(frozen=True)
class Event:
    """What the guest says: ``armed`` (with the address to stop at), then ``drained``."""

    name: str
    address: int = 0

    def line(self) -> str:
        """As the guest prints it."""
        return MARK + json.dumps({"name": self.name, "address": self.address})


def parse_event(line: str) -> Event | None:
    """An event, or None for any other line."""
    if not line.startswith(MARK):
        return None
    said: dict[str, Any] = json.loads(line.removeprefix(MARK))
    return Event(said["name"], said["address"])


@dataclass(frozen=True)
class Sockets:
    """Where QEMU listens. The folder's path must be short: sockets have 107 characters."""

    folder: Path

    @property
    def qmp(self) -> Path:
        """QEMU's monitor."""
        return self.folder / "qmp"

    @property
    def gdb(self) -> Path:
        """The gdb stub."""
        return self.folder / "gdb"

    def qemu_args(self) -> tuple[str, ...]:
        """Options that make QEMU listen."""
        options = "server=on,wait=off"
        return (
            *("-chardev", f"socket,id=oracleqmp,path={self.qmp},{options}"),
            *("-mon", "chardev=oracleqmp,mode=control"),
            *("-chardev", f"socket,id=oraclegdb,path={self.gdb},{options}"),
            *("-gdb", "chardev:oraclegdb"),
        )


@dataclass
class Timing:
    """Seconds, on the host's clock."""

    dump_s: float = 0.0
    drain_s: float = 0.0


@dataclass
class Capture:
    """Runs beside the machine, in a thread of its own."""

    folder: Path
    sockets: Sockets
    timing: Timing = field(default_factory=Timing)
    error: Exception | None = None
    armed: bool = False  # the guest got as far as that
    done: bool = False
    _events: queue.Queue[Event] = field(default_factory=queue.Queue)

    def on_line(self, line: str) -> bool:
        """Take a line of the guest's stdout; False when it is none of ours."""
        event = parse_event(line)
        if event:
            self._events.put(event)
        return event is not None

    def start(self) -> threading.Thread:
        """Start the thread; it ends by itself."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        try:
            self._steps()
            self.done = True
        except Exception as error:  # of a thread: kept for whoever started it
            self.error = error
            with contextlib.suppress(Exception):
                self._command("quit")

    def _steps(self) -> None:
        event = self._wait("armed", _ARMED_S)
        self.armed = True
        self._at_instant(event.address)
        self._after_drain()

    def _wait(self, name: str, timeout_s: float) -> Event:
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            raise GdbError(f"the guest did not say {name!r} within {timeout_s:.0f} s") from None
        if event.name != name:
            raise GdbError(f"the guest said {event.name!r}, not {name!r}")
        return event

    def _at_instant(self, address: int) -> None:
        with Gdb(self.sockets.gdb, _STOP_S) as gdb:
            gdb.set_breakpoint(address)
            gdb.resume()
            answer(self.folder, GO)
            gdb.wait_for_stop()
            if gdb.program_counter() != address:
                raise GdbError(f"stopped at {gdb.program_counter():#x}, not at {address:#x}")
            self.timing.dump_s = self._dump(INSTANT)
            self._list_queues()
            gdb.clear_breakpoint(address)
            gdb.detach()

    def _after_drain(self) -> None:
        begun = time.monotonic()
        self._wait("drained", _DRAIN_S)
        self.timing.drain_s = time.monotonic() - begun
        self._command("stop")
        self._dump(AFTER)
        self._command("cont")
        answer(self.folder, MEASURED)

    def _dump(self, name: str) -> float:
        begun = time.monotonic()
        protocol = f"file:{self.folder / name}"
        self._command("dump-guest-memory", paging=False, protocol=protocol)
        return time.monotonic() - begun

    def _list_queues(self) -> None:
        (self.folder / QUEUES).write_text(json.dumps(ask_queues(self._command)))

    def _command(self, name: str, **arguments: object) -> Any:
        monitor = QEMUMonitorProtocol(str(self.sockets.qmp))
        monitor.settimeout(_DUMP_S)
        monitor.connect()
        try:
            return monitor.cmd(name, **arguments)
        finally:
            monitor.close()


def answer(folder: Path, name: str) -> None:
    """Tell the guest to go on."""
    (folder / name).touch()


def await_answer(folder: Path, name: str, timeout_s: float) -> None:
    """In the guest: wait until the host has answered.

    :raises TimeoutError: it did not
    """
    deadline = time.monotonic() + timeout_s
    while not (folder / name).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the host did not answer {name!r}")
        time.sleep(0.02)
