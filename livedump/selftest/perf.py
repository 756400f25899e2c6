"""Make NMIs: a cycle counter on each CPU that overflows many times a second.

By perf_event_open(2) itself, since perf(1) is seldom installed. Nothing reads the samples and there
is no buffer: the interrupts are all we want.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livedump import syscalls
from livedump.syscalls import syscall

_TYPE_HARDWARE = 0
_CPU_CYCLES = 0
_DISABLED, _FREQ = 1 << 0, 1 << 10
_FLAG_CLOEXEC = 8
_ENABLE, _DISABLE = 0x2400, 0x2401
_ATTR_BYTES = 112  # PERF_ATTR_SIZE_VER5

_WANTED_HZ = 9973
_MAX_RATE = Path("/proc/sys/kernel/perf_event_max_sample_rate")


class Unavailable(Exception):
    """This machine has no such counter, or does not let us use it."""


def attributes(frequency_hz: int) -> bytes:
    """struct perf_event_attr of a cycle counter, off at first."""
    head = struct.pack(
        "<IIQQQQQ",
        _TYPE_HARDWARE,
        _ATTR_BYTES,
        _CPU_CYCLES,
        frequency_hz,
        0,
        0,
        _DISABLED | _FREQ,
    )
    return head.ljust(_ATTR_BYTES, b"\0")


def _open(attr: bytes, cpu: int) -> int:
    try:
        return syscall(syscalls.PERF_EVENT_OPEN, attr, -1, cpu, -1, _FLAG_CLOEXEC)
    except OSError as error:
        raise Unavailable(f"perf_event_open: {error.strerror}") from error


class CycleSampler:
    """Counters on all CPUs. Off until :meth:`running`; a context manager.

    :raises Unavailable: on entry
    """

    def __init__(self) -> None:
        self._fds: list[int] = []

    def __enter__(self) -> CycleSampler:
        try:
            limit = int(_MAX_RATE.read_text())
        except (OSError, ValueError):
            limit = _WANTED_HZ
        attr = attributes(max(1, min(_WANTED_HZ, limit)))
        try:
            for cpu in sorted(os.sched_getaffinity(0)):
                self._fds.append(_open(attr, cpu))
        except Unavailable:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the counters back."""
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count, and interrupt, inside the block."""
        for fd in self._fds:
            fcntl.ioctl(fd, _ENABLE, 0)
        try:
            yield
        finally:
            for fd in self._fds:
                fcntl.ioctl(fd, _DISABLE, 0)
