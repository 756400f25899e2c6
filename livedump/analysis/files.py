"""Writing what was asked for: whole or not at all, and never over a recording."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from livedump.errors import LivedumpError
from livedump.recording import store


class ExportError(LivedumpError):
    """An export could not be written."""


def write_file(file: Path, content: str | bytes | Iterable[bytes], *, step: str) -> None:
    """Write *content* to *file*.

    :param content: or its parts, made while they are written
    :raises ExportError: it cannot be written, or is a recording's own; see :func:`opened`
    """
    data = content.encode() if isinstance(content, str) else content
    with opened(file, step=step) as out:
        for part in [data] if isinstance(data, bytes) else data:
            out.write(part)


@contextmanager
def opened(file: Path, *, step: str) -> Iterator[BinaryIO]:
    """A file to write.

    A regular one appears whole or not at all, where a symbolic link points to; a new one is for
    its owner only, as recordings are. What is something else (a pipe, a device) is written to.

    :raises ExportError: it cannot be written, or lies in a recording
    """
    try:
        refuse_recording(file.parent, file, step=step)
        target = Path(os.path.realpath(file))
        refuse_recording(target.parent, file, step=step)
        with _straight(file) or _replacing(target) as out:
            yield out
    except BrokenPipeError:
        raise  # nobody reads on: as of standard output
    except OSError as error:
        raise ExportError(f"{file}: {error.strerror or error}", step=step) from error


def refuse_recording(folder: Path, file: Path, *, step: str) -> None:
    """Raise when *folder* is a recording, whole or not.

    :raises ExportError: it is
    """
    if store.looks_like_one(folder):
        raise ExportError(
            f"{file} would be written into the recording {folder}",
            step=step,
            remedy="Choose another place",
        )


def _straight(file: Path) -> BinaryIO | None:
    """What is there and cannot be replaced; None: it can, or nothing is there."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    with suppress(OSError):
        # /dev/stdout: a second file description would overwrite what the first one writes.
        if os.path.samestat(found, os.fstat(1)):
            sys.stdout.flush()
            return os.fdopen(os.dup(1), "wb")
    return None if stat.S_ISREG(found.st_mode) else open(os.open(file, os.O_WRONLY), "wb")


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    fd, name = tempfile.mkstemp(prefix=".livedump-", suffix=".partial", dir=target.parent)
    try:
        with os.fdopen(fd, "wb") as out:
            with suppress(FileNotFoundError):
                os.fchmod(fd, stat.S_IMODE(target.stat().st_mode))
            yield out
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
