"""What a killed recorder leaves behind, in trees that are not the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

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
