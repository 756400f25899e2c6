"""Cgroups (version 2) by their number, as BPF programs have it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from livedump.text import storable

#: How the kernel writes blanks in the list of mounts.
_OCTAL = re.compile(rb"\\([0-7]{3})")


def _byte(octal: re.Match[bytes]) -> bytes:
    return bytes([int(octal[1], 8) & 0xFF])


class Cgroups:
    """What each number stands for: ``/system.slice/nginx.service``, as /proc/PID/cgroup has it.

    A cgroup that is gone before it is asked for has no name; what was found once stays known.

    :param mounts: where the kernel says what is mounted
    """

    def __init__(self, mounts: Path = Path("/proc/self/mounts")) -> None:
        fields = (line.split(b" ") for line in mounts.read_bytes().splitlines())
        roots = (mount for _, mount, kind, *_ in fields if kind == b"cgroup2")
        found = next(roots, None)
        self._root = None if found is None else os.fsdecode(_OCTAL.sub(_byte, found))
        self._found: dict[int, str] = {}

    def names(self, numbers: Iterable[int]) -> dict[int, str]:
        """The name of each, empty where there is none. Looks through all of them at most once."""
        wanted = set(numbers)
        if self._root is not None and wanted - self._found.keys():
            self._look(self._root)
            for number in wanted:
                self._found.setdefault(number, "")  # gone: not to be looked for again
        return {number: self._found.get(number, "") for number in wanted}

    def _look(self, root: str) -> None:
        """A cgroup's number is that of its folder's inode."""
        for folder, _, _ in os.walk(root):
            try:
                number = os.stat(folder).st_ino
            except OSError:
                continue  # gone meanwhile
            name = f"/{os.path.relpath(folder, root)}".removesuffix("/.") or "/"
            self._found[number] = storable(name)
