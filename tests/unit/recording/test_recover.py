"""Half-written recordings of killed recorders, in folders and a /proc that are not real."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from livedump.recording import recover, store
from livedump.recording.errors import RecordingError
from livedump.recording.schema import PARTIAL
from tests.unit import samples

ALIVE, DEAD = 11, 22


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc where one process is alive."""
    (tmp_path / "proc" / str(ALIVE)).mkdir(parents=True)
    return tmp_path / "proc"


def make(folder: Path, *files: str, age_s: float = 1000) -> Path:
    """A folder that changed some time ago."""
    folder.mkdir()
    for name in files:
        (folder / name).write_text("x")
    then = folder.stat().st_mtime - age_s
    os.utime(folder, (then, then))
    return folder


def test_partial_recordings_of_dead_processes_go(tmp_path: Path, proc: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    gone = [
        make(here / f".a.partial-{DEAD}", "meta.json", "stacks.parquet"),
        make(here / f".b{PARTIAL}{DEAD}"),
    ]
    kept = {
        make(here / f".a.partial-{ALIVE}", "stacks.parquet"),
        make(here / f".new.partial-{DEAD}", "stacks.parquet", age_s=0),
        make(here / f".thesis.partial-{DEAD}", "stacks.parquet", "chapter-1"),
        make(here / ".a.partial-old"),
        make(here / f"a.partial-{DEAD}"),
        make(here / "recording", "meta.json"),
    }
    link = here / f".link.partial-{DEAD}"
    link.symlink_to(make(tmp_path / "elsewhere", "meta.json"))
    file = here / f".file.partial-{DEAD}"
    file.write_text("x")
    assert recover.remove_partials(here, proc) == gone
    assert set(here.iterdir()) == kept | {link, file}
    assert (tmp_path / "elsewhere" / "meta.json").exists()


def test_writer_s_folder_is_what_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that is killed, as far as the disk can tell."""
    seen: list[Path] = []

    def killed(path: Path) -> None:
        seen[:] = tmp_path.iterdir()
        raise OSError(5, "killed")

    monkeypatch.setattr(store, "_sync", killed)
    with pytest.raises(RecordingError):
        store.write(tmp_path / "r", samples.meta(), {})
    [partial] = seen
    assert partial.name == f".r.partial-{os.getpid()}"
    make(partial, "meta.json", "losses.parquet")
    (tmp_path / "proc").mkdir()
    assert recover.remove_partials(tmp_path, tmp_path / "proc") == [partial]
