"""The generators and the loop that runs them side by side."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tools.guest.load import network

Steps = Iterator[None]


def processes() -> Steps:
    """Start /bin/true and wait for it."""
    while True:
        pid = os.posix_spawn("/bin/true", ["true"], {})
        os.waitpid(pid, 0)
        yield


def forks() -> Steps:
    """Fork a child that writes a megabyte of its own."""
    while True:
        pid = os.fork()
        if not pid:
            block = bytearray(1 << 20)
            block[::4096] = b"\x01" * len(block[::4096])
            os._exit(0)
        os.waitpid(pid, 0)
        yield


def files() -> Steps:
    """Write, read and remove a file of 256 KiB."""
    data = os.urandom(256 << 10)
    with tempfile.TemporaryDirectory(prefix="livedump-load-") as folder:
        for number in range(1 << 62):
            path = Path(folder) / str(number % 32)
            path.write_bytes(data)
            assert path.read_bytes() == data
            if number % 2:
                path.unlink()
            yield


GENERATORS: dict[str, Callable[[], Steps]] = {
    "processes": processes,
    "forks": forks,
    "files": files,
    "network": network.exchange,
}


class _Stop:
    """Set by SIGTERM and SIGINT. A flag, no exception: one that is raised inside a fork hook or a
    finalizer would be swallowed. Made before the generators are forked, which inherit it: a signal
    that comes as early as can be lets each make its step."""

    def __init__(self) -> None:
        self.now = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._set)

    def _set(self, _signal: int, _frame: object) -> None:
        self.now = True


def _repeat(name: str, pause_s: float, result: int, stop: _Stop) -> None:
    """Run one generator until SIGTERM; write how many steps it made to *result*."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for our parent
    steps = 0
    for _ in GENERATORS[name]():
        steps += 1
        if stop.now:
            break
        time.sleep(pause_s)
    os.write(result, f"{name} {steps}\n".encode())


def _child(function: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        function()
        status = 0
    finally:
        os._exit(status)


def run(seconds: float | None, pause_s: float, ready: Callable[[], None]) -> dict[str, int]:
    """Run all generators side by side.

    :param seconds: for so long; None = until SIGTERM or SIGINT
    :param pause_s: between two steps of a generator
    :param ready: called once everything runs
    :returns: steps made, by generator
    :raises RuntimeError: a generator failed
    """
    reader, writer = os.pipe()
    children: list[int] = []
    with network.namespace(), network.server():
        stop = _Stop()
        try:
            for name in GENERATORS:
                children.append(_child(partial(_repeat, name, pause_s, writer, stop)))
            ready()
            _wait(stop, seconds)
        finally:
            failed = _end(children)
    os.close(writer)
    with os.fdopen(reader) as results:
        steps = {name: int(count) for name, count in (line.split() for line in results)}
    if failed or set(steps) != set(GENERATORS):
        raise RuntimeError(f"a generator failed; steps of the others: {json.dumps(steps)}")
    return steps


def _wait(stop: _Stop, seconds: float | None) -> None:
    deadline = time.monotonic() + seconds if seconds is not None else None
    while not stop.now and (deadline is None or time.monotonic() < deadline):
        time.sleep(0.1)


def _end(children: list[int]) -> int:
    """Stop the generators; how many of them failed."""
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    return sum(os.waitpid(pid, 0)[1] != 0 for pid in children)
