"""Stacks in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from livedump.recording.rows import Place
from livedump.trace.symbols import UNKNOWN, Symbols

STACK_LOST = "[stack lost]"


#: What has no name may have got one since, as BPF programs do that are loaded meanwhile: the
#: kernel's list is read again, but no more often than after so many seconds.
AGAIN_S = 5.0


class Names(Mapping[Place, str]):
    """Stacks in words, each named once: when it is first seen, with the code of that moment."""

    def __init__(self, symbols: Callable[[], Symbols] = Symbols) -> None:
        self._make = symbols
        self._symbols = symbols()
        self._modules = modules()
        self._read_at = time.monotonic()
        self._found: dict[Place, str] = {}

    @property
    def symbols(self) -> Symbols:
        """Of the kernel and the modules that are loaded now."""
        if (now := modules()) != self._modules:
            self._modules = now
            self._read_again()
        return self._symbols

    def _read_again(self) -> None:
        self._symbols, self._read_at = self._make(), time.monotonic()

    def function(self, address: int) -> str:
        """Of the kernel, at this address."""
        return self.symbols.name(address)

    def __getitem__(self, place: Place) -> str:
        if place not in self._found:
            text = fold(place, self.symbols)
            if UNKNOWN in text and time.monotonic() - self._read_at >= AGAIN_S:
                self._read_again()
                text = fold(place, self._symbols)
            self._found[place] = text
        return self._found[place]

    def __iter__(self) -> Iterator[Place]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def modules() -> str:
    """Which modules are loaded, and where."""
    try:
        return Path("/proc/modules").read_text()
    except OSError:
        return ""


def fold(place: Place, symbols: Symbols) -> str:
    """A stack as one string, root first: user space's part, then the kernel's."""
    addresses, user = place
    kernel = symbols.fold(addresses) if addresses else STACK_LOST
    return ";".join([*(name.replace(";", ":") for name in reversed(user)), kernel])
