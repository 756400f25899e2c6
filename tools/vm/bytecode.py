"""Bytecode for the guest: compiled here, where that is quick, and read there through a cache."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

from tools.paths import BUILD, PYTHON, ROOT, VENV

PYCACHE = BUILD / "pycache"

_STAMP = PYCACHE / ".livedump-stamp"
_VENV_STAMP = VENV / ".livedump-stamp"
_OURS = ("livedump", "tools", "tests")


def ensure() -> None:
    """Compile what a guest may import: the project each time, the libraries when they changed."""
    PYCACHE.mkdir(parents=True, exist_ok=True)
    _compile([ROOT / name for name in _OURS])
    wanted = _VENV_STAMP.read_text() if _VENV_STAMP.exists() else ""
    if not _STAMP.exists() or _STAMP.read_text() != wanted:
        _compile(
            [
                Path(sysconfig.get_path("stdlib")),
                Path("/usr/lib/python3/dist-packages"),
                Path(sysconfig.get_path("purelib")),
            ]
        )
        _STAMP.write_text(wanted)


def _compile(folders: list[Path]) -> None:
    """Files that do not compile (templates, tests of syntax errors) are no concern of ours."""
    command = [str(PYTHON), "-m", "compileall", "-q", "-j2", *map(str, folders)]
    subprocess.run(
        command,
        env={**os.environ, "PYTHONPYCACHEPREFIX": str(PYCACHE)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
