"""Names for kernel addresses, from /proc/kallsyms."""

from __future__ import annotations

import re
from bisect import bisect_right
from pathlib import Path

_LINE = re.compile(rb"^([0-9a-f]+) [tTwW] (\S+)(?:\t\[([^\]]+)\])?$", re.MULTILINE)

UNKNOWN = "[unknown]"


class Symbols:
    """Kernel functions by address. Read it while the modules whose code was seen are still loaded.

    :param kallsyms: the symbol table, in the kernel's own format
    """

    def __init__(self, kallsyms: Path = Path("/proc/kallsyms")) -> None:
        try:
            text = kallsyms.read_bytes()
        except OSError:
            text = b""
        found = sorted(
            (int(address, 16), name, module) for address, name, module in _LINE.findall(text)
        )
        found = [entry for entry in found if entry[0]]
        self._addresses = [entry[0] for entry in found]
        self._names = [(entry[1].decode(), entry[2].decode()) for entry in found]

    @property
    def hidden(self) -> bool:
        """True when the kernel shows no addresses (kernel.kptr_restrict, or not root)."""
        return not self._addresses

    def name(self, address: int) -> str:
        """``"function"`` or ``"function [module]"``; :data:`UNKNOWN` below all functions."""
        index = bisect_right(self._addresses, address) - 1
        if index < 0:
            return UNKNOWN
        name, module = self._names[index]
        return f"{name} [{module}]" if module else name

    def fold(self, addresses: tuple[int, ...]) -> str:
        """A stack as one string, root first, frames joined by ``;``.

        :param addresses: innermost first, as the kernel gives them; all but the first are
            return addresses
        """
        frames = [
            self.name(address if index == 0 else address - 1).replace(";", ":")
            for index, address in enumerate(addresses)
        ]
        return ";".join(reversed(frames))
