"""Reading a BPF hash map at once, with a kernel that is not real; tests/guest has a real one."""

from __future__ import annotations

import ctypes
import errno
import struct
from typing import Any

import pytest

from livedump.trace import hashmap
from livedump.trace.hashmap import HashMap


class FakeKernel:
    """bpf(2) on a map of u32 -> u64, a few entries at a time.

    :param portion: so many
    :param fails: errno of every call
    """

    def __init__(self, entries: dict[int, int], *, portion: int = 2, fails: int = 0) -> None:
        self.entries = entries
        self.portion = portion
        self.fails = fails

    def __call__(self, number: int, command: int, attr: Any, size: int) -> int:
        """As the kernel does it: the place to go on from is its own affair."""
        assert number == 321 and size == 56
        raw = attr._obj
        begin, end, keys, values, count, fd, *flags = hashmap._ATTR.unpack(raw.raw)
        assert fd == 3 and flags == [0, 0]
        if self.fails:
            return self._error(self.fails)
        if command == 27:
            for key in struct.unpack(f"<{count}I", ctypes.string_at(keys, 4 * count)):
                del self.entries[key]
            return 0
        first = ctypes.c_uint64.from_address(begin).value if begin else 0
        found = list(self.entries.items())[first:][: min(self.portion, count)]
        ctypes.memmove(keys, b"".join(struct.pack("<I", key) for key, _ in found), 4 * len(found))
        ctypes.memmove(
            values, struct.pack(f"<{len(found)}Q", *dict(found).values()), 8 * len(found)
        )
        ctypes.c_uint64.from_address(end).value = first + len(found)
        raw[hashmap._COUNT] = len(found).to_bytes(4, "little")
        return self._error(errno.ENOENT) if first + len(found) == len(self.entries) else 0

    @staticmethod
    def _error(number: int) -> int:
        ctypes.set_errno(number)
        return -1


def opened(kernel: FakeKernel, entries: int = 8) -> HashMap:
    """The map."""
    found = HashMap(3, 4, 8, entries)
    found._bpf = kernel  # type: ignore[assignment]
    return found


def read(map_: HashMap) -> dict[int, int]:
    """What is in it."""
    keys, values = map_.read()
    return dict(zip(keys.cast("I"), values.cast("Q"), strict=True))


@pytest.mark.parametrize("portion", [1, 2, 5, 8])
def test_all_of_it_is_read_however_the_kernel_divides_it(portion: int) -> None:
    entries = {7 * n: n << 40 for n in range(5)}
    map_ = opened(FakeKernel(entries, portion=portion))
    assert read(map_) == read(map_) == entries


def test_full_and_empty() -> None:
    assert len(read(opened(FakeKernel({n: n for n in range(8)})))) == 8
    assert read(opened(FakeKernel({}))) == {}


def test_deleting() -> None:
    kernel = FakeKernel({n: n for n in range(5)})
    map_ = opened(kernel)
    map_.delete(struct.pack("<II", 1, 4))
    assert read(map_) == {0: 0, 2: 2, 3: 3}
    kernel.fails = errno.EINVAL
    map_.delete(b"")  # nothing to be asked


def test_a_refusal_is_told() -> None:
    map_ = opened(FakeKernel({1: 1}, fails=errno.EPERM))
    with pytest.raises(PermissionError):
        map_.read()
    with pytest.raises(PermissionError):
        map_.delete(struct.pack("<I", 1))
