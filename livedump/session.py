"""A session: the owner of a snapshot, which is an open file of /proc/livedump.

::

    with Session() as session:
        result = session.dump("/dev/vdb")

However the process ends, closing the file releases the snapshot, unless it was taken to persist.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from types import TracebackType

from livedump import abi, lockdown
from livedump.control import DEFAULT_STRATEGY, Control, Controller, Status
from livedump.dump import DumpResult, amend, write
from livedump.errors import ControlError, LivedumpError, NotLoadedError, SessionError

Progress = Callable[[int, int], None]


def open_image_file(path: str = abi.IMAGE_PATH) -> int:
    """Open the module's image file; a read-only, close-on-exec descriptor.

    :raises NotLoadedError: there is no such file
    :raises SessionError: it cannot be opened
    """
    step = f"open {path}"
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotLoadedError(
            "the module is not loaded", step=step, remedy="Run: livedump load", errno=errno.ENOENT
        ) from error
    except OSError as error:
        remedy = lockdown.IMAGE_REMEDY
        if error.errno == errno.EBUSY:
            remedy = "Another snapshot is held: see 'livedump status'"
        raise SessionError(str(error.strerror), step=step, remedy=remedy) from error


class Session:
    """Takes a snapshot on entry and releases it on exit.

    :param strategy: how memory is protected, ``"lazy"`` or ``"eager"``
    :param pool_bytes: for copies of pages, 0 = the module's default
    :param max_hold_ms: the module releases by itself after so long, 0 = never
    :param persist: leave the snapshot behind on a clean exit; an error still releases it
    :param preparing: called with the status while the module prepares, some times a second
    :param controller: makes the connection, for tests
    """

    def __init__(
        self,
        *,
        strategy: str = DEFAULT_STRATEGY,
        pool_bytes: int = 0,
        max_hold_ms: int = 0,
        persist: bool = False,
        preparing: Callable[[Status], None] | None = None,
        controller: Callable[[], Controller] = Control,
        image_path: str = abi.IMAGE_PATH,
    ) -> None:
        self._strategy = strategy
        self._pool_bytes = pool_bytes
        self._max_hold_ms = max_hold_ms
        self._persist = persist
        self._preparing = preparing
        self._controller = controller
        self._image_path = image_path
        self._fd = -1
        self._instant_before = 0
        #: The status right after the stop, with the downtime receipt.
        self.taken: Status | None = None

    @property
    def fd(self) -> int:
        """The owner file, readable as the image.

        :raises SessionError: the session is not (or no longer) open
        """
        if self._fd < 0:
            raise SessionError("the session is not open", step="use session")
        return self._fd

    def __enter__(self) -> Session:
        with self._controller() as control:
            self._fd = open_image_file(self._image_path)
            try:
                if self._persist:
                    self._instant_before = _instant(control.status())
                self.taken = control.snapshot(
                    self._fd,
                    strategy=self._strategy,
                    pool_bytes=self._pool_bytes,
                    flags=abi.F_PERSIST if self._persist else 0,
                    max_hold_ms=self._max_hold_ms,
                    progress=self._preparing,
                )
            except BaseException as error:
                self._abandon(refused=_is_refusal(error))
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd < 0:
            return
        if error is not None:
            self._abandon()
        elif self._persist:
            self._close()
        else:
            self.release()

    def status(self) -> Status:
        """The module's status now."""
        with self._controller() as control:
            return control.status()

    def dump(
        self,
        target: str | os.PathLike[str] | int,
        *,
        progress: Progress | None = None,
        **options: bool,
    ) -> DumpResult:
        """Write the image to *target*; see :func:`livedump.dump.write`."""
        return write(
            target,
            source=self.fd,
            status=lambda: self.status().report,
            progress=progress,
            **options,
        )

    def dump_and_release(
        self,
        target: str | os.PathLike[str] | int,
        *,
        progress: Progress | None = None,
        **options: bool,
    ) -> tuple[DumpResult, Status]:
        """:meth:`dump`, then :meth:`release`, which checks once more that nothing has escaped: what
        it finds goes into the dump's note, too.

        :returns: the result as dumped, and the status after release, whose verdict is the last word
        """
        result = self.dump(target, progress=progress, **options)
        final = self.release()
        if final.report != result.report:
            amend(result.path, final.report)
        return result, final

    def release(self) -> Status:
        """Release now; returns the final status. The owner file is closed in any case."""
        try:
            with self._controller() as control:
                return control.release()
        finally:
            self._close()

    def _abandon(self, *, refused: bool = False) -> None:
        """Leave nothing behind, without hiding the error that brought us here.

        Closing the owner file is enough, but for a persistent snapshot. That one needs the
        request, and only if it is ours, which may still be prepared: what the module refused is
        not, and a request that never arrived leaves the instant as it was.
        """
        try:
            if self._persist and not refused:
                with self._controller() as control:  # the old connection may have been interrupted
                    status = control.status()
                    taken = _instant(status) != self._instant_before
                    if status.state == "prepared" or (status.state == "holding" and taken):
                        control.release()
        except LivedumpError:
            pass
        finally:
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _is_refusal(error: BaseException) -> bool:
    return isinstance(error, ControlError) and error.refusal != "none"


def _instant(status: Status) -> int:
    return int(status.report["instant_monotonic_ns"])
