"""Saying what set-up does, and how it fails."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator


class SetupError(Exception):
    """Set-up cannot go on; the message says what to do."""


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a step that takes a while, and say how long it took."""
    print(f"setup: {title} ...", file=sys.stderr, flush=True)
    started = time.monotonic()
    yield
    print(
        f"setup: done in {time.monotonic() - started:.0f} s",
        file=sys.stderr,
        flush=True,
    )
