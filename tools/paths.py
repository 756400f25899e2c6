"""Where things are: the checkout, build/ and the cache folder. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
VENV = BUILD / "venv"
PYTHON = VENV / "bin" / "python"


def cache_dir() -> Path:
    """The project's folder below $XDG_CACHE_HOME (default ~/.cache); downloads live there."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "livedump"
