"""What devices may write to: virtqueues, as QEMU itself has them, and their buffers at the instant.

A device writes past every page table, so livedump does not see it (docs/limits.md). This names the
exact bytes that the guest had handed to a device at the instant, or hands to one later (where pages
are not zeroed when they are allocated), and no others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

ReadMemory = Callable[[int, int], bytes]
#: QMP: command, arguments -> what it returns.
Ask = Callable[..., Any]

_DESC = struct.Struct("<QIHH")  # address, length, flags, next
_NEXT, _WRITE, _INDIRECT = 1, 2, 4
_IDX_AT, _RING_AT = 2, 4
_USED_ELEM, _AVAIL_ELEM = 8, 2


@dataclass(frozen=True)
class Queue:
    """A virtqueue: physical addresses of its three parts, and how many entries they have."""

    device: str
    number: int
    size: int
    desc: int
    avail: int
    used: int

    @property
    def name(self) -> str:
        """``virtio-9p queue 0``"""
        return f"{self.device} queue {self.number}"


@dataclass(frozen=True)
class Bytes:
    """Physical memory [start, end), and why it may differ."""

    start: int
    end: int
    why: str


def ask_queues(ask: Ask) -> list[dict[str, Any]]:
    """Every virtqueue that is in use, as plain values, from QEMU's monitor."""
    found = []
    for device in ask("x-query-virtio"):
        path = device["path"]
        count = ask("x-query-virtio-status", path=path)["num-vqs"]
        for number in range(count):
            status = ask("x-query-virtio-queue-status", path=path, queue=number)
            if status["vring-desc"]:
                found.append(
                    {
                        "device": device["name"],
                        "number": number,
                        "size": status["vring-num"],
                        "desc": status["vring-desc"],
                        "avail": status["vring-avail"],
                        "used": status["vring-used"],
                    }
                )
    return found


def writable(queue: Queue, read: ReadMemory) -> Iterator[Bytes]:
    """What the device may write: the used ring, and the buffers that were outstanding."""
    end = queue.used + _RING_AT + _USED_ELEM * queue.size + 2
    yield Bytes(queue.used, end, f"device DMA: used ring of {queue.name}")
    for head in outstanding(queue, read):
        for start, size in buffers(queue, head, read):
            yield Bytes(start, start + size, f"device DMA: buffer of {queue.name}")


def given_later(buffers: Sequence[Sequence[int]]) -> list[Bytes]:
    """(address, size) of buffers that a device was given after the instant."""
    why = "device DMA: buffer given after the instant"
    return [Bytes(start, start + size, why) for start, size in buffers]


def outstanding(queue: Queue, read: ReadMemory) -> list[int]:
    """Heads of the chains that the device has been given and has not returned."""
    given, returned = (
        int.from_bytes(read(ring + _IDX_AT, 2), "little") for ring in (queue.avail, queue.used)
    )
    count = (given - returned) % (1 << 16)
    places = [(returned + index) % queue.size for index in range(min(count, queue.size))]
    ring = queue.avail + _RING_AT
    return [int.from_bytes(read(ring + _AVAIL_ELEM * place, 2), "little") for place in places]


def buffers(queue: Queue, head: int, read: ReadMemory) -> Iterator[tuple[int, int]]:
    """(address, size) of the chain's buffers that the device may write."""
    table, index = queue.desc, head
    for _ in range(2 * queue.size):
        address, size, flags, following = _DESC.unpack(read(table + index * _DESC.size, _DESC.size))
        if flags & _INDIRECT:
            yield from _indirect(address, size, read)
        elif flags & _WRITE:
            yield address, size
        if not flags & _NEXT:
            return
        index = following


def _indirect(table: int, size: int, read: ReadMemory) -> Iterator[tuple[int, int]]:
    for at in range(table, table + size, _DESC.size):
        address, length, flags, _ = _DESC.unpack(read(at, _DESC.size))
        if flags & _WRITE:
            yield address, length
