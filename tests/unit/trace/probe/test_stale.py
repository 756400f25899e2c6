"""What a killed recorder leaves behind, in trees that are not the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from livedump.recording import store
from livedump.trace.errors import RecordingError
from livedump.trace.probe import stale

ALIVE, DEAD = 11, 22

#: As the kernel shows them; only the first two may go.
EVENTS = f"""\
r1024:kprobes/r_handle_mm_fault_bcc_{DEAD} handle_mm_fault
p:kprobes/p_stop_machine_bcc_{DEAD} stop_machine
r1024:kprobes/r_handle_mm_fault_bcc_{ALIVE} handle_mm_fault
p:kprobes/p_vfs_read_bcc_{DEAD} vfs_read
p:kprobes/p_handle_mm_fault_{DEAD} handle_mm_fault
p:other/p_handle_mm_fault_bcc_{DEAD} handle_mm_fault
p:kprobes/mine handle_mm_fault
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc where one process is alive."""
    (tmp_path / "proc" / str(ALIVE)).mkdir(parents=True)
    return tmp_path / "proc"


def test_kprobe_events_of_dead_processes_go(tmp_path: Path, proc: Path) -> None:
    file = tmp_path / "kprobe_events"
    file.write_text(EVENTS)
    names = [f"kprobes/r_handle_mm_fault_bcc_{DEAD}", f"kprobes/p_stop_machine_bcc_{DEAD}"]
    assert stale.remove_kprobe_events(tmp_path, proc) == names
    assert file.read_text() == EVENTS + "".join(f"-:{name}\n" for name in names)


def test_kprobe_events_that_are_in_use_stay(
    tmp_path: Path, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(file: Path, text: str) -> None:
        raise OSError(16, "Device or resource busy")

    (tmp_path / "kprobe_events").write_text(EVENTS)
    monkeypatch.setattr(stale, "_append", busy)
    assert stale.remove_kprobe_events(tmp_path, proc) == []


def test_no_tracefs_is_not_an_error(tmp_path: Path, proc: Path) -> None:
    assert stale.remove_kprobe_events(tmp_path, proc) == []


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
        make(here / f".b{store.PARTIAL}{DEAD}"),
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
    assert stale.remove_partials(here, proc) == gone
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
        store.write(tmp_path / "r", {"host": "h", "boot_id": "b"}, {})
    [partial] = seen
    assert partial.name == f".r.partial-{os.getpid()}"
    make(partial, "meta.json", "losses.parquet")
    (tmp_path / "proc").mkdir()
    assert stale.remove_partials(tmp_path, tmp_path / "proc") == [partial]
