"""Write the snapshot that is held to a file or block device.

The data goes past the page cache where the target allows it: the cache would be filled with pages
that the kernel has to take and zero first, and each of them costs a copy in the snapshot's own
pool. A file is named ``*.partial`` until its note holds the final receipt and everything is on the
disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from livedump import abi, lockdown
from livedump.dump.image import Layout, parse_layout, read_fully
from livedump.errors import DumpError, LivedumpError, NotLoadedError
from livedump.receipt import final_verdict, verdict_name
from livedump.units import format_bytes

BUFFER_BYTES = 1 << 20
_BLOCK_BYTES = 4096
_SYNC_EVERY_BYTES = 64 << 20

Progress = Callable[[int, int], None]
ReadReport = Callable[[], abi.ReportDict]


@dataclass(frozen=True)
class DumpResult:
    """A dump that was written to its end.

    :ivar verdict: ``"complete"``, ``"lost"`` or ``"unproven"``
    :ivar report: the final receipt, as in the dump's note
    :ivar direct: the page cache was bypassed to the end
    """

    path: str
    written_bytes: int
    seconds: float
    direct: bool
    verdict: str
    report: abi.ReportDict

    @property
    def complete(self) -> bool:
        """Every covered page is in the dump as it was at the instant."""
        return self.verdict == "complete"

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for ``--json``."""
        return {
            "path": self.path,
            "written_bytes": self.written_bytes,
            "seconds": round(self.seconds, 3),
            "direct": self.direct,
            "verdict": self.verdict,
            "complete": self.complete,
            "report": self.report,
        }


@dataclass
class _Target:
    """An open output: ``final`` is its name when done, None when it is written as it is."""

    fd: int
    name: str
    direct: bool
    owned: bool
    partial: str | None = None
    final: str | None = None


def write(
    target: str | os.PathLike[str] | int,
    *,
    status: ReadReport,
    source: str | int = abi.IMAGE_PATH,
    progress: Progress | None = None,
    force: bool = False,
    direct: bool = True,
) -> DumpResult:
    """Write the snapshot to *target* and decide its verdict.

    :param target: a path, or an open descriptor that is written from offset 0 as it is. A regular
        file is created 0600 as ``PATH.partial`` and renamed at the end; a device is written in
        place.
    :param status: returns the module's current report; called before the first and after the last
        page
    :param source: the image, or an open descriptor of it
    :param progress: called with (bytes done, bytes in all)
    :param force: replace an existing file
    :param direct: bypass the page cache if the target can
    :raises DumpError: nothing was written under the final name; the partial file is gone
    """
    begun = time.monotonic()
    held = _held(status, "check snapshot")
    with _open_source(source) as source_fd:
        layout = _read_layout(source_fd)
        if layout.report.instant_monotonic_ns != held["instant_monotonic_ns"]:
            raise DumpError("the image is of another snapshot than the status", step="read image")
        out = _open_target(target, layout.end, force=force, direct=direct)
        try:
            _copy(source_fd, out, layout.end, progress or (lambda done, total: None))
            final = _final_report(status, held)
            _finish(out, layout, final)
        except BaseException:
            _discard(out)
            raise
    return DumpResult(
        path=out.final or out.name,
        written_bytes=layout.end,
        seconds=time.monotonic() - begun,
        direct=out.direct,
        verdict=abi.Verdict(final["verdict"]).name.lower(),
        report=final,
    )


def amend(path: str | os.PathLike[str], report: abi.ReportDict) -> None:
    """Put a later receipt into the note of a dump, and sync it: release checks once more.

    :param path: a file or block device that :func:`write` wrote; a character device keeps nothing
        and is left alone
    :param report: of the same snapshot, its verdict decided
    :raises DumpError: the note may still hold the earlier receipt
    """
    name = os.fspath(path)
    try:
        kind = os.stat(name).st_mode
        if not stat.S_ISCHR(kind):
            _amend(name, os.O_EXCL if stat.S_ISBLK(kind) else 0, report)
    except (OSError, LivedumpError) as error:
        cause = error.cause if isinstance(error, LivedumpError) else error.strerror
        verdict = verdict_name(report)
        raise DumpError(
            f"{name}: {cause}",
            step="amend dump",
            remedy=f"Do not trust the verdict in its note: after release it is {verdict!r}",
        ) from error


def _amend(name: str, flags: int, report: abi.ReportDict) -> None:
    fd = os.open(name, os.O_RDWR | os.O_CLOEXEC | flags)
    try:
        layout = _read_layout(fd)
        if layout.report.instant_monotonic_ns != report["instant_monotonic_ns"]:
            raise DumpError("it is of another snapshot than the report", step="amend dump")
        _put_report(fd, layout, report)
    finally:
        os.close(fd)


def _held(status: ReadReport, step: str) -> abi.ReportDict:
    report = status()
    if report["state"] != abi.State.HOLDING:
        raise DumpError(
            "no snapshot is held", step=step, remedy="Take one with 'livedump snapshot'"
        )
    return report


def _final_report(status: ReadReport, held: abi.ReportDict) -> abi.ReportDict:
    """The report to keep, read after the last page, with its verdict decided."""
    report = status()
    same = report["instant_monotonic_ns"] == held["instant_monotonic_ns"]
    if report["state"] != abi.State.HOLDING or not same:
        raise DumpError(
            "the snapshot was released while it was being dumped",
            step="check snapshot",
            remedy="See 'livedump status' for the reason; a longer --max-hold may help",
        )
    return {**report, "verdict": int(final_verdict(report))}


@contextlib.contextmanager
def _open_source(source: str | int) -> Iterator[int]:
    if isinstance(source, int):
        yield source
        return
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotLoadedError(
            "the module is not loaded",
            step=f"open {source}",
            remedy="Run: livedump load",
            errno=errno.ENOENT,
        ) from error
    except OSError as error:
        raise DumpError(
            str(error.strerror),
            step=f"open {source}",
            remedy=lockdown.IMAGE_REMEDY,
        ) from error
    try:
        yield fd
    finally:
        os.close(fd)


def _read_layout(fd: int) -> Layout:
    try:
        return parse_layout(lambda offset, size: read_fully(fd, offset, size))
    except OSError as error:
        raise DumpError(str(error.strerror), step="read image") from error


def _open_target(
    target: str | os.PathLike[str] | int, total: int, *, force: bool, direct: bool
) -> _Target:
    if isinstance(target, int):
        return _Target(fd=target, name=f"fd {target}", direct=False, owned=False)
    name = os.fspath(target)
    try:
        kind = os.stat(name).st_mode
    except FileNotFoundError:
        kind = 0
    except OSError as error:
        raise DumpError(f"{name}: {error.strerror}", step="open output") from error
    if stat.S_ISBLK(kind) or stat.S_ISCHR(kind):
        return _open_device(name, total, block=stat.S_ISBLK(kind), direct=direct)
    if kind and not stat.S_ISREG(kind):
        raise DumpError(
            f"{name} is neither a regular file nor a device",
            step="open output",
            remedy="Give a file name or a block device",
        )
    if kind and not force:
        raise DumpError(
            f"{name} exists", step="open output", remedy="Give another name, or --force"
        )
    return _open_file(name, total, force=force, direct=direct)


def _open_device(name: str, total: int, *, block: bool, direct: bool) -> _Target:
    # O_EXCL on a block device: fails while it is mounted or otherwise in use.
    flags = os.O_WRONLY | os.O_CLOEXEC | (os.O_EXCL if block else 0)
    try:
        fd, is_direct = _open_direct(name, flags, direct and block)
    except OSError as error:
        raise DumpError(
            f"{name}: {error.strerror}",
            step="open output",
            remedy="Is the device mounted or in use?" if error.errno == errno.EBUSY else "",
        ) from error
    out = _Target(fd=fd, name=name, direct=is_direct, owned=True)
    if block:
        size = os.lseek(fd, 0, os.SEEK_END)
        if size < total:
            os.close(fd)
            raise _no_room(name, total, size)
    return out


def _open_file(name: str, total: int, *, force: bool, direct: bool) -> _Target:
    partial = f"{name}.partial"
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if force else os.O_EXCL)
    flags |= os.O_NOFOLLOW
    try:
        fd, is_direct = _open_direct(partial, flags, direct)
    except FileExistsError as error:
        raise DumpError(
            f"{partial} exists, from a dump that is running or was killed",
            step="open output",
            remedy="Remove it, or give --force to replace it",
        ) from error
    except OSError as error:
        raise DumpError(f"{partial}: {error.strerror}", step="open output") from error
    out = _Target(fd=fd, name=partial, direct=is_direct, owned=True, partial=partial, final=name)
    try:
        os.fchmod(fd, 0o600)
        room = os.fstatvfs(fd)
        free = room.f_bavail * room.f_frsize
        if room.f_blocks and free < total:
            raise _no_room(name, total, free)
    except BaseException:
        _discard(out)
        raise
    return out


def _open_direct(name: str, flags: int, direct: bool) -> tuple[int, bool]:
    """Open, with O_DIRECT if wanted and possible; a file system may refuse it with EINVAL."""
    if direct:
        try:
            return os.open(name, flags | os.O_DIRECT, 0o600), True
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            if flags & os.O_EXCL and flags & os.O_CREAT:
                # Linux creates the file before it refuses O_DIRECT.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
    return os.open(name, flags, 0o600), False


def _no_room(name: str, total: int, room: int) -> DumpError:
    return DumpError(
        f"{name} has room for {format_bytes(room)}, the dump needs {format_bytes(total)}",
        step="open output",
        remedy="Free some space or give another place",
    )


def _copy(source_fd: int, out: _Target, total: int, progress: Progress) -> None:
    """Copy the image in order, through one page-aligned buffer that is touched beforehand."""
    # Not closed by hand: an error's traceback keeps views of it alive.
    view = memoryview(mmap.mmap(-1, BUFFER_BYTES))
    for offset in range(0, BUFFER_BYTES, mmap.PAGESIZE):
        view[offset] = 1
    done = 0
    synced = 0
    progress(0, total)
    while done < total:
        count = min(BUFFER_BYTES, total - done)
        _fill(source_fd, view[:count], done, total)
        _drain(out, view, count, done)
        done += count
        if not out.direct and done - synced >= _SYNC_EVERY_BYTES:
            _drop_cache(out, synced, done)
            synced = done
        progress(done, total)


def _fill(fd: int, view: memoryview, offset: int, total: int) -> None:
    got = 0
    while got < len(view):
        try:
            count = os.preadv(fd, [view[got:]], offset + got)
        except OSError as error:
            raise DumpError(
                f"byte {offset + got:,} of {total:,}: {error.strerror}",
                step="read image",
                remedy="See 'livedump status' and the kernel log",
            ) from error
        if count == 0:
            raise DumpError(
                f"the image ends at byte {offset + got:,} of {total:,}",
                step="read image",
                remedy="The snapshot may have been released: see 'livedump status'",
            )
        got += count


def _drain(out: _Target, view: memoryview, count: int, offset: int) -> None:
    put = 0
    while put < count:
        # The tail may be no whole block: go through the cache for it.
        if out.direct and (count - put) % _BLOCK_BYTES:
            _leave_direct(out)
        try:
            put += os.pwritev(out.fd, [view[put:count]], offset + put)
        except OSError as error:
            if out.direct and error.errno == errno.EINVAL:
                _leave_direct(out)
                continue
            raise _write_error(out, error) from error


def _write_error(out: _Target, error: OSError) -> DumpError:
    remedy = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "Free some space or give another place"
    elif error.errno == errno.EFBIG:
        remedy = "Give a place whose files may be larger (FAT: 4 GiB), or raise 'ulimit -f'"
    name = out.final or out.name
    return DumpError(f"{name}: {error.strerror}", step="write dump", remedy=remedy)


def _leave_direct(out: _Target) -> None:
    flags = fcntl.fcntl(out.fd, fcntl.F_GETFL)
    fcntl.fcntl(out.fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
    out.direct = False


def _drop_cache(out: _Target, begin: int, end: int) -> None:
    """Write back and forget what was written: give the pages back to the system."""
    try:
        # The kernel reports a failed writeback once: the sync at the end would not see it again.
        _sync(out.fd, os.fdatasync)
    except OSError as error:
        raise _write_error(out, error) from error
    with contextlib.suppress(OSError):
        os.posix_fadvise(out.fd, begin, end - begin, os.POSIX_FADV_DONTNEED)


def _finish(out: _Target, layout: Layout, final: abi.ReportDict) -> None:
    """Put the final receipt into the note, sync, and give the file its name."""
    was_direct = out.direct
    try:
        if was_direct:
            _leave_direct(out)
        _sync(out.fd)
        _put_report(out.fd, layout, final)
        out.direct = was_direct
        if out.partial is not None and out.final is not None:
            os.replace(out.partial, out.final)
            _sync_directory(os.path.dirname(out.final) or ".")
        if out.owned:
            os.close(out.fd)
    except OSError as error:
        raise _write_error(out, error) from error


def _put_report(fd: int, layout: Layout, report: abi.ReportDict) -> None:
    note = bytes(abi.report_from_dict(report))
    if os.pwrite(fd, note, layout.report_offset) != len(note):
        raise OSError(errno.EIO, "short write")
    _sync(fd)


def _sync(fd: int, how: Callable[[int], None] | None = None) -> None:
    try:
        (how or os.fsync)(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):  # a character device, a pipe
            raise


def _sync_directory(name: str) -> None:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync(fd)
    finally:
        os.close(fd)


def _discard(out: _Target) -> None:
    """Close a dump that failed, and remove its partial file."""
    with contextlib.suppress(OSError):
        if out.owned:
            os.close(out.fd)
    if out.partial is not None:
        with contextlib.suppress(OSError):
            os.unlink(out.partial)
