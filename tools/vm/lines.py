"""What a guest prints, line by line."""

from __future__ import annotations

import io
from collections.abc import Callable


class LineSink(io.RawIOBase):
    """A writable that cuts what it gets into lines and hands each to a function."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        super().__init__()
        self._on_line = on_line
        self._rest = b""

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: object) -> int:
        """Take bytes of any length."""
        chunk = bytes(data)  # type: ignore[call-overload]
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._on_line(line.decode(errors="replace"))
        return len(chunk)
