"""A BPF hash map read at once: bpf(2), without an object for each entry."""

from __future__ import annotations

import ctypes
import errno
import struct

from livedump import syscalls
from livedump.syscalls import syscall

#: Commands of bpf(2).
_LOOKUP_BATCH, _DELETE_BATCH = 24, 27

#: Of union bpf_attr, the part for batches: in_batch, out_batch, keys, values, count, map_fd,
#: elem_flags, flags.
_ATTR = struct.Struct("<QQQQIIQQ")
_COUNT = slice(32, 36)


class HashMap:
    """Reads all of a map into the same memory each time: to clear room for the largest number of
    entries is half of what reading a few costs.

    :param fd: the map's; nobody but us deletes from it
    :param entries: the largest number of them
    """

    def __init__(self, fd: int, key_bytes: int, value_bytes: int, entries: int) -> None:
        self._fd = fd
        self._key_bytes, self._value_bytes = key_bytes, value_bytes
        self._entries = entries
        self._keys = (ctypes.c_char * (key_bytes * entries))()
        self._values = (ctypes.c_char * (value_bytes * entries))()
        self._place = ctypes.c_uint64()

    def read(self) -> tuple[memoryview, memoryview]:
        """Keys and values, one behind the other; valid until the next time.

        :raises OSError: the kernel refuses
        """
        found, over = 0, False
        while not over and found < self._entries:
            count, over = self._next(found)
            found += count
        keys, values = memoryview(self._keys), memoryview(self._values)
        return (
            keys[: found * self._key_bytes].cast("B"),
            values[: found * self._value_bytes].cast("B"),
        )

    def delete(self, keys: bytes) -> None:
        """Remove these entries, or those of them that are in the map.

        :raises OSError: the kernel refuses; some may be gone
        """
        buffer = ctypes.create_string_buffer(keys, len(keys))
        count, done = len(keys) // self._key_bytes, 0
        while done < count:
            address = ctypes.addressof(buffer) + done * self._key_bytes
            deleted, error = self._batch(_DELETE_BATCH, 0, 0, address, 0, count - done)
            # The kernel stops at a key that is not there.
            done += deleted + bool(error)
            if error not in (0, errno.ENOENT):
                raise OSError(error, "BPF_MAP_DELETE_BATCH")

    def _next(self, found: int) -> tuple[int, bool]:
        """Some entries more, behind those found: how many, and whether they were the last ones."""
        place = ctypes.addressof(self._place)
        count, error = self._batch(
            _LOOKUP_BATCH,
            place if found else 0,
            place,
            ctypes.addressof(self._keys) + found * self._key_bytes,
            ctypes.addressof(self._values) + found * self._value_bytes,
            self._entries - found,
        )
        if error not in (0, errno.ENOENT):
            raise OSError(error, "BPF_MAP_LOOKUP_BATCH")
        return count, bool(error) or not count

    def _batch(
        self, command: int, begin: int, end: int, keys: int, values: int, count: int
    ) -> tuple[int, int]:
        """Entries that were read or deleted, and errno, 0 without an error. ENOENT: the map's end,
        or the key behind these is not there. After other errors the number may be any."""
        attr = ctypes.create_string_buffer(
            _ATTR.pack(begin, end, keys, values, count, self._fd, 0, 0), _ATTR.size
        )
        error = 0
        try:
            syscall(syscalls.BPF, command, ctypes.byref(attr), _ATTR.size)
        except OSError as failed:
            error = failed.errno or errno.EIO
        return int.from_bytes(attr.raw[_COUNT], "little"), error
