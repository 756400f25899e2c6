"""Reading a BPF hash map at once, with a kernel that is not real; tests/guest has a real one."""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Callable
from typing import Any

import pytest

from livedump import syscalls
from livedump.trace.probe import hashmap
from livedump.trace.probe.hashmap import HashMap


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
        assert number == syscalls.BPF and size == 56
        raw = attr._obj
        begin, end, keys, values, count, fd, *flags = hashmap._ATTR.unpack(raw.raw)
        assert fd == 3 and flags == [0, 0]
        if self.fails:
            raise OSError(self.fails, "as asked")
        if command == 27:
            done, over = self._delete(
                struct.unpack(f"<{count}I", ctypes.string_at(keys, 4 * count))
            )
        else:
            first = ctypes.c_uint64.from_address(begin).value if begin else 0
            found = list(self.entries.items())[first:][: min(self.portion, count)]
            done, over = len(found), first + len(found) == len(self.entries)
            ctypes.memmove(keys, struct.pack(f"<{done}I", *dict(found)), 4 * done)
            ctypes.memmove(values, struct.pack(f"<{done}Q", *dict(found).values()), 8 * done)
            ctypes.c_uint64.from_address(end).value = first + done
        raw[hashmap._COUNT] = done.to_bytes(4, "little")
        if over:
            raise OSError(errno.ENOENT, "no more")
        return 0

    def _delete(self, keys: tuple[int, ...]) -> tuple[int, bool]:
        """How many, up to one that is not there; and whether there was one."""
        for done, key in enumerate(keys):
            if self.entries.pop(key, None) is None:
                return done, True
        return len(keys), False


#: Makes the map of a kernel, for so many entries.
Opened = Callable[[FakeKernel], HashMap]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """The map of a kernel."""

    def open_(kernel: FakeKernel) -> HashMap:
        monkeypatch.setattr(hashmap, "syscall", kernel)
        return HashMap(3, 4, 8, 8)

    return open_


def read(map_: HashMap) -> dict[int, int]:
    """What is in it."""
    keys, values = map_.read()
    return dict(zip(keys.cast("I"), values.cast("Q"), strict=True))


@pytest.mark.parametrize("portion", [1, 2, 5, 8])
def test_all_of_it_is_read_however_the_kernel_divides_it(opened: Opened, portion: int) -> None:
    entries = {7 * n: n << 40 for n in range(5)}
    map_ = opened(FakeKernel(entries, portion=portion))
    assert read(map_) == read(map_) == entries


def test_full_and_empty(opened: Opened) -> None:
    assert len(read(opened(FakeKernel({n: n for n in range(8)})))) == 8
    assert read(opened(FakeKernel({}))) == {}


def test_deleting(opened: Opened) -> None:
    """The kernel stops at what is not there; the rest is deleted all the same."""
    kernel = FakeKernel({n: n + 1 for n in range(5)})
    map_ = opened(kernel)
    map_.delete(struct.pack("<5I", 9, 1, 7, 8, 4))
    assert read(map_) == {0: 1, 2: 3, 3: 4}
    kernel.fails = errno.EINVAL
    map_.delete(b"")  # nothing to be asked


def test_a_refusal_is_told(opened: Opened) -> None:
    map_ = opened(FakeKernel({1: 1}, fails=errno.EPERM))
    with pytest.raises(PermissionError, match="LOOKUP"):
        map_.read()
    with pytest.raises(PermissionError, match="DELETE"):
        map_.delete(struct.pack("<I", 1))
