"""Standard output on a full disk, closed, or a pipe that nobody reads to its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit import samples

MAIN = (sys.executable, "-c", "from livedump.cli.trace.main import main; main()")

COMMANDS = {
    "report": ("report", "rec"),
    "perfetto": ("export", "rec", "--format", "perfetto"),
    "query --csv": ("query", "--csv", "SELECT * FROM slices", "rec"),
    "to standard output": ("export", "rec", "--format", "perfetto", "-o", "/dev/stdout"),
    "short": ("query", "--csv", "SELECT 1", "rec"),
    "umlaut": ("query", "--csv", "SELECT 'ü'", "rec"),
    "diff": ("diff", "rec", "rec"),
    "an error": ("report", "nothing", "--json"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sample as ``rec``."""
    return samples.write(tmp_path_factory.mktemp("output") / "rec").parent


def run(
    place: Path, name: str, stdout: int | None, **more: str
) -> subprocess.CompletedProcess[str]:
    """A command; *stdout* None: it starts with none; *more* is in its environment."""
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), **more}
    return subprocess.run(
        [*MAIN, *COMMANDS[name]],
        stdout=stdout,
        stderr=subprocess.PIPE,
        preexec_fn=(lambda: os.close(1)) if stdout is None else None,
        cwd=place,
        env=environment,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"to standard output"}))
def test_a_full_disk_is_one_line(place: Path, name: str) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    done = run(place, name, full)
    os.close(full)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "livedump-trace: error: write standard output: No space left on device"
    )
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("name", ["perfetto", "to standard output", "query --csv", "short"])
def test_a_broken_pipe_is_quiet(place: Path, name: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run(place, name, writing)
    os.close(writing)
    assert done.returncode == 141
    assert "error" not in done.stderr and "Traceback" not in done.stderr


def test_a_locale_without_the_characters_is_no_failure(place: Path) -> None:
    done = run(place, "umlaut", subprocess.PIPE, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout.split()[-1]) == (0, "?"), done.stderr


def test_no_standard_output_at_all(place: Path) -> None:
    done = run(place, "short", None)
    assert done.returncode == 2
    assert done.stderr.endswith("error: write standard output: Bad file descriptor\n")


def test_the_status_is_right_when_all_goes_well(place: Path) -> None:
    done = run(place, "diff", subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Changes" in done.stdout
