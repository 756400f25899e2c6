"""build/venv: the system's Python with bcc from Debian, everything else from PyPI."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys

from tools.paths import BUILD, PYTHON, ROOT, VENV
from tools.setup.steps import SetupError, step

SYSTEM_PYTHON = "/usr/bin/python3"  # the one that Debian's python3-bpfcc belongs to
_STAMP = VENV / ".livedump-stamp"


def _wanted() -> str:
    digest = hashlib.sha256(str(ROOT).encode())
    for name in ("setup.cfg", "pyproject.toml"):
        digest.update((ROOT / name).read_bytes())
    digest.update(os.path.realpath(SYSTEM_PYTHON).encode())
    return digest.hexdigest()


def ensure() -> None:
    """Make the venv and install the project in it, unless that is how it is already."""
    wanted = _wanted()
    if PYTHON.exists() and _STAMP.exists() and _STAMP.read_text() == wanted:
        return
    with step("making build/venv"):
        _STAMP.unlink(missing_ok=True)
        BUILD.mkdir(exist_ok=True)
        if not _works():
            shutil.rmtree(VENV, ignore_errors=True)
            _run([SYSTEM_PYTHON, "-m", "venv", "--system-site-packages", str(VENV)])
        pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "-q", "install"]
        _run([*pip, "setuptools>=64", "wheel"])
        _run([*pip, "--no-build-isolation", "-e", f"{ROOT}[dev]"])
        _STAMP.write_text(wanted)


def _works() -> bool:
    if not PYTHON.exists():
        return False
    check = [str(PYTHON), "-c", "import pip, sys; print(sys.prefix)"]
    result = subprocess.run(check, capture_output=True, text=True, check=False)
    return result.returncode == 0 and result.stdout.strip() == str(VENV)


def _run(command: list[str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        env=environment,
        check=False,
    )
    if result.returncode:
        raise SetupError(f"{' '.join(command)} failed: see above")
