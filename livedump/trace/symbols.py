"""Names for kernel addresses, from /proc/kallsyms."""

from __future__ import annotations

import re
from bisect import bisect_right
from pathlib import Path

#: An address, its type, its name, its module. Symbols of data end those of code before them.
_LINE = re.compile(rb"^([0-9a-f]+) ([a-zA-Z]) ([!-~]+)(?:\t\[([!-Z^-~]+)\])?$", re.MULTILINE)

#: A module's name, size and address in /proc/modules.
_MODULE = re.compile(rb"^(\S+) (\d+) \S+ \S+ \S+ 0x([0-9a-f]+)", re.MULTILINE)

_CODE = b"tTwW"

#: Where the kernel's own code ends, and what it needs at boot only.
_ENDS = (b"_etext", b"_einittext")

UNKNOWN = "[unknown]"

#: Code made at run time (a BPF program, a trampoline) has a name and an address, but no size: it
#: ends at the next symbol, and is no longer than this.
MADE_BYTES = 1 << 16

#: What the kernel enters by when it interrupts a function: the frame below has the very address,
#: not that behind a call.
_ENTRIES = ("asm_exc_", "asm_sysvec_", "asm_common_interrupt", "asm_spurious_interrupt")


class Symbols:
    """Kernel functions by address. Read it while the modules whose code was seen are still loaded.

    :param kallsyms: the symbol table, in the kernel's own format
    :param modules: where they are, likewise
    """

    def __init__(
        self, kallsyms: Path = Path("/proc/kallsyms"), modules: Path = Path("/proc/modules")
    ) -> None:
        try:
            text = kallsyms.read_bytes()
        except OSError:
            text = b""
        # Of several at one address the last one is taken: code's, if there is any.
        self._rows = sorted(
            (int(address, 16), kind in _CODE and name not in _ENDS, name, module)
            for address, kind, name, module in _LINE.findall(text)
        )
        self._starts = [row[0] for row in self._rows]
        self._module_ends = _module_ends(modules)

    @property
    def hidden(self) -> bool:
        """True when the kernel shows no addresses (kernel.kptr_restrict, or not root)."""
        return not self._starts or not self._starts[-1]

    def name(self, address: int) -> str:
        """``"function"`` or ``"function [module]"``; :data:`UNKNOWN` where there is none."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._end(index) or not self._starts[index]:
            return UNKNOWN
        _, is_code, name, module = self._rows[index]
        if not is_code:
            return UNKNOWN
        return f"{name.decode()} [{module.decode()}]" if module else name.decode()

    def _end(self, index: int) -> int:
        """Where the symbol ends at the latest."""
        start, _, _, module = self._rows[index]
        made = start + MADE_BYTES
        end = self._starts[index + 1] if index + 1 < len(self._starts) else made
        return min(end, self._module_ends.get(module, made)) if module else end

    def fold(self, addresses: tuple[int, ...]) -> str:
        """A stack as one string, root first, frames joined by ``;``.

        :param addresses: innermost first, as the kernel gives them: where each function was when it
            was interrupted, or the address behind its call
        """
        frames: list[str] = []
        for address in addresses:
            exact = not frames or frames[-1].startswith(_ENTRIES)
            frames.append(self.name(address if exact else address - 1).replace(";", ":"))
        return ";".join(reversed(frames))


def _module_ends(modules: Path) -> dict[bytes, int]:
    """Where each module ends."""
    try:
        text = modules.read_bytes()
    except OSError:
        return {}
    return {name: int(start, 16) + int(size) for name, size, start in _MODULE.findall(text)}
