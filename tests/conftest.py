"""Shared by all tests: the folder by which guest tests hand files to the host, and loads."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.guest import witness
from tools.guest.program import Load

ROOT = Path(__file__).resolve().parent.parent
IN_GUEST = os.environ.get("LIVEDUMP_VM") == "1"


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """In the guest build/test/RELEASE, which the host sees; on the host build/test."""
    base = ROOT / "build" / "test"
    folder = base / platform.release() if IN_GUEST else base
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def load() -> Iterator[Load]:
    """Processes, files, forks and network, running while the test runs."""
    with Load() as running:
        yield running


@pytest.fixture
def writers() -> Iterator[None]:
    """The witness's writers, running while the test runs."""
    with witness.writing():
        yield
