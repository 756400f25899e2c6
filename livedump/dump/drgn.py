"""Open an image with drgn."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from livedump.dump.opened import OpenResult, judge
from livedump.errors import OpenError


def open_program(image: str | os.PathLike[str], vmlinux: str | os.PathLike[str]) -> Any:
    """A drgn.Program of *image* with the symbols of *vmlinux*.

    :raises OpenError: drgn is missing, or cannot open the image, or *vmlinux* is of another kernel
    """
    step = "open with drgn"
    try:
        import drgn
    except ImportError as error:
        raise OpenError("drgn is not installed", step=step, remedy="pip install drgn") from error
    program = drgn.Program()
    try:
        program.set_core_dump(os.fspath(image))
        program.load_debug_info([os.fspath(vmlinux)])
        # A file that is of another kernel, or no kernel at all, it only warns about.
        program.type("struct page")
    except _errors() as error:
        raise OpenError(
            f"drgn did not open {os.fspath(image)}: {error}",
            step=step,
            remedy=f"Is {os.fspath(vmlinux)} of the same kernel?",
        ) from error
    return program


def _errors() -> tuple[type[Exception], ...]:
    """What drgn raises about an image; its own errors have no common base."""
    import drgn

    own = (getattr(drgn, name) for name in dir(drgn) if name.endswith("Error"))
    return (OSError, ValueError, LookupError, *own)


def open_with_drgn(
    image: str | os.PathLike[str], vmlinux: str | os.PathLike[str], *, pid: int = 1
) -> OpenResult:
    """Let drgn read release, tasks and the backtrace of task *pid*.

    :raises OpenError: drgn is missing, cannot open the image, or meets memory that makes no sense
    """
    begun = time.monotonic()
    program = open_program(image, Path(vmlinux))
    from drgn.helpers.linux.pid import for_each_task

    try:
        release = program["UTS_RELEASE"].string_().decode()
        tasks = [
            (int(task.pid), task.comm.string_().decode("utf-8", "replace"))
            for task in for_each_task(program)
        ]
        trace = str(program.stack_trace(pid))
    except _errors() as error:
        raise OpenError(f"drgn: {error}", step="read with drgn") from error
    return judge("drgn", release, tasks, trace, pid, time.monotonic() - begun)
