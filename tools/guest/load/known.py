"""Loads whose number of faults is known: ``python -m tools.guest.load.known PAGES``.

Each prepares memory, touches every page of it once, and says where it was and how often the kernel
had to be asked. Large pages and reading around are kept out, so the numbers are exact. Root only:
one of them makes a network.
"""

from __future__ import annotations

import json
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import click

from tools.guest.load import network
from tools.guest.load.requests import address

#: All memory stays, so that no two loads have the same addresses.
_KEPT: list[mmap.mmap] = []


@dataclass(frozen=True)
class Span:
    """Memory of a process, and the faults that touching it took.

    :ivar kind: of its faults: ``user`` from user mode, ``uaccess`` from within a system call
    :ivar faults: in [start, end)
    :ivar minor: of the whole process, by getrusage(); None while it lives
    """

    load: str
    pid: int
    start: int
    end: int
    faults: int
    kind: str = "user"
    minor: int | None = None
    major: int | None = None


def pgfault() -> dict[str, int]:
    """The kernel's own count of page faults on user memory, of all processes, and when."""
    counts = os.open("/proc/vmstat", os.O_RDONLY)
    found = os.read(counts, 1 << 16)
    now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)  # before we fault any more
    os.close(counts)
    lines = found.decode().splitlines()
    return {"monotonic_ns": now_ns, "count": int(dict(map(str.split, lines))["pgfault"])}


def private(pages: int) -> mmap.mmap:
    """Private memory of small pages, not touched yet."""
    memory = mmap.mmap(-1, pages * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    _KEPT.append(memory)
    return memory


def touch(memory: mmap.mmap, value: int) -> None:
    """Write to every page."""
    for offset in range(0, len(memory), mmap.PAGESIZE):
        memory[offset] = value


def span(load: str, memory: mmap.mmap, faults: int, kind: str = "user") -> Span:
    """Of this process."""
    start = address(memory)
    return Span(load, os.getpid(), start, start + len(memory), faults, kind)


def anonymous(pages: int) -> Iterator[Span]:
    """First touches of private memory."""
    memory = private(pages)
    touch(memory, 1)
    yield span("anonymous", memory, pages)


def private_file(pages: int) -> Iterator[Span]:
    """First writes to a private mapping of a file: each copies its page."""
    with tempfile.TemporaryFile() as file:
        file.write(bytes(pages * mmap.PAGESIZE))
        file.flush()
        memory = mmap.mmap(file.fileno(), pages * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE)
        _KEPT.append(memory)
        touch(memory, 1)
    yield span("private_file", memory, pages)


def shared(pages: int) -> Iterator[Span]:
    """Memory that two processes share: each has to map every page once."""
    memory = mmap.mmap(-1, pages * mmap.PAGESIZE, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    _KEPT.append(memory)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    yield _in_child(lambda: touch(memory, 1), span("shared", memory, pages))
    touch(memory, 2)
    yield span("shared", memory, pages)


def forked(pages: int) -> Iterator[Span]:
    """A child writes to what it has from its parent: each write copies a page."""
    memory = private(pages)
    touch(memory, 1)
    for _ in range(3):
        yield _in_child(lambda: touch(memory, 2), span("forked", memory, pages))


def received(pages: int) -> Iterator[Span]:
    """What comes through a network is copied to where nobody has been: the kernel touches it. Who
    sends it has no part in that memory."""
    memory = private(pages)
    here = span("received", memory, pages, "uaccess")
    with network.namespace(), network.server() as pid:
        network.receive(memory)
        yield replace(here, load="sent", pid=pid, faults=0)
    yield here


def churned(pages: int) -> Iterator[Span]:
    """Kernel objects made and freed, as many as pages: slabs are no user memory."""
    memory = private(pages)

    def pipes() -> None:
        for _ in range(pages):
            for end in os.pipe():
                os.close(end)

    yield _in_child(pipes, span("churned", memory, 0))


def _in_child(work: Callable[[], None], here: Span) -> Span:
    """Do it in a child, which ends; its span, with all its faults."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    _pid, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"{here.load}: the child failed ({status})")
    return replace(here, pid=pid, minor=usage.ru_minflt, major=usage.ru_majflt)


LOADS = (anonymous, private_file, shared, forked, received, churned)


@click.command()
@click.argument("pages", type=click.IntRange(1))
def main(pages: int) -> None:
    """Run each load with PAGES pages; prints what each came to, and the kernel's count, as JSON."""
    before = pgfault()
    spans = [asdict(found) for load in LOADS for found in load(pages)]
    print(json.dumps({"spans": spans, "pgfault": [before, pgfault()]}))


if __name__ == "__main__":
    main()
