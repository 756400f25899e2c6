"""Shared by all tests: the folder through which guest tests hand files to host tests."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IN_GUEST = os.environ.get("LIVEDUMP_VM") == "1"


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """In the guest build/test/RELEASE, which the host sees; on the host build/test."""
    base = ROOT / "build" / "test"
    folder = base / platform.release() if IN_GUEST else base
    folder.mkdir(parents=True, exist_ok=True)
    return folder
