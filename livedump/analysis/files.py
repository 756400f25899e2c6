"""Writing what was asked for: whole or not at all."""

from __future__ import annotations

from pathlib import Path

from livedump.errors import LivedumpError


class ExportError(LivedumpError):
    """An export could not be written."""


def write_file(file: Path, content: str | bytes, *, step: str) -> None:
    """Write *content* to *file*, which appears whole or not at all.

    :raises ExportError: it cannot be written
    """
    partial = file.with_name(f".{file.name}.partial")
    data = content.encode() if isinstance(content, str) else content
    try:
        partial.write_bytes(data)
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ExportError(f"{file}: {error.strerror}", step=step) from error
