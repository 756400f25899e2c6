"""Progress from the guest to the host: one JSON object a line on the guest's stdout."""

from __future__ import annotations

import json

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


def report(step: str, done: int | None = None, total: int | None = None) -> None:
    """Say in the guest what is being done, and how far it is."""
    print(json.dumps({"step": step, "done": done, "total": total}), flush=True)


class Steps:
    """Shows the steps of the demo as they come, on stderr; bars where a total is known."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<42}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=self._console,
            transient=False,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._step = ""

    def __enter__(self) -> Steps:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._progress.stop()

    def begin(self, step: str, total: int | None = None) -> None:
        """A new step; the one before is done."""
        self.end()
        self._step = step
        self._task = self._progress.add_task(step, total=total)
        if self._progress.disable:
            self._console.print(step, highlight=False)

    def advance(self, done: int, total: int) -> None:
        """How far the current step is."""
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total)

    def end(self) -> None:
        """The current step is done."""
        if self._task is not None:
            self._progress.update(self._task, total=1, completed=1)
            self._progress.stop_task(self._task)
        self._task = None
        self._step = ""

    def on_guest_line(self, line: str) -> bool:
        """Take a line of :func:`report`; False when it is none."""
        try:
            said = json.loads(line)
            step, done, total = said["step"], said["done"], said["total"]
        except (ValueError, KeyError, TypeError):
            return False
        if step != self._step:
            self.begin(step, total)
        if done is not None and total:
            self.advance(done, total)
        return True
