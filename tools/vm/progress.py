"""Show on stderr that a long step is alive. Standard library only: set-up uses it too."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

#: How often: a line that is rewritten on a terminal, lines of a log elsewhere.
TERMINAL_SECONDS, LOG_SECONDS = 0.5, 10.0


@contextlib.contextmanager
def progress(title: str, state: Callable[[], str]) -> Iterator[None]:
    """Announce `title`, show `state()` again and again while the block runs, then the seconds."""
    terminal = sys.stderr.isatty()
    started = time.monotonic()
    ended = threading.Event()

    def show() -> None:
        while not ended.wait(TERMINAL_SECONDS if terminal else LOG_SECONDS):
            said = f"{title}: {_since(started)}, {state()}"
            _say(f"\r\033[K{said[:100]}" if terminal else f"{said}\n")

    _say(f"{title} ..." + ("" if terminal else "\n"))
    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _say(("\r\033[K" if terminal else "") + f"{title}: {_since(started)}\n")


def size(path: Path, total_bytes: int | None = None) -> Callable[[], str]:
    """A state: the size of a file, or of the files in a folder, as far as it is there."""
    whole = f" of {total_bytes / 1e6:.0f}" if total_bytes else ""

    def state() -> str:
        files = [path] if path.is_file() else list(path.glob("*"))
        found = 0
        for file in files:
            with contextlib.suppress(FileNotFoundError):  # renamed since
                found += file.stat().st_size
        return f"{found / 1e6:.0f}{whole} MB"

    return state


def _since(started: float) -> str:
    return f"{time.monotonic() - started:.0f} s"


def _say(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)
