"""Whose faults are recorded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from livedump.recording.meta import filter_text
from livedump.trace.errors import TraceError
from livedump.trace.probe import filters
from livedump.trace.probe.filters import MAX_PIDS, Filter, find_cgroup


@pytest.fixture
def cgroups(tmp_path: Path) -> Path:
    """A cgroup tree with one slice."""
    for folder in (tmp_path, tmp_path / "a.slice"):
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.controllers").touch()
    return tmp_path


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Process 11 with the thread 12, in the PID namespace that the kernel began with."""
    folder = tmp_path / "proc"
    for pid, group in ((11, 11), (12, 11)):
        (folder / str(pid)).mkdir(parents=True)
        (folder / str(pid) / "status").write_text(f"Name:\tx\nTgid:\t{group}\nPid:\t{pid}\n")
    return folder


def test_threads_are_no_processes(proc: Path) -> None:
    Filter((11,)).check(proc)
    with pytest.raises(
        TraceError, match="12 is a thread of process 11. Give the process: --pid 11"
    ):
        Filter((12,)).check(proc)
    with pytest.raises(TraceError, match="no process 13"):
        Filter((11, 13)).check(proc)


def test_numbers_of_another_namespace_are_refused(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (proc / "self/ns").mkdir(parents=True)
    (proc / "self/ns/pid").touch()
    with pytest.raises(TraceError, match="other numbers in this PID namespace"):
        Filter((11,)).check(proc)
    Filter(comm="x").check(proc)
    monkeypatch.setattr(filters, "INITIAL_NAMESPACE", (proc / "self/ns/pid").stat().st_ino)
    Filter((11,)).check(proc)


def test_a_name_of_any_bytes_can_be_chosen() -> None:
    """A thread's name that the kernel has cut in the middle of a character."""
    chosen = Filter(comm=os.fsdecode(b"\xe5\xb7\xa5\xe4"))
    chosen.check()
    assert chosen.to_dict() == {"comm": "\u5de5\ufffd"}


def test_everybody_needs_no_flags() -> None:
    nobody_chosen = Filter()
    assert not nobody_chosen
    assert nobody_chosen.flags() == []
    assert nobody_chosen.to_dict() == {}
    assert filter_text({}) == ""
    nobody_chosen.check()


def test_what_is_chosen_is_a_flag_and_a_word(cgroups: Path, proc: Path) -> None:
    chosen = Filter((11,), "python", cgroups / "a.slice")
    chosen.check(proc)
    assert chosen.flags() == ["-DLD_FILTER_PID", "-DLD_FILTER_COMM", "-DLD_FILTER_CGROUP"]
    assert filter_text(chosen.to_dict()) == (
        f"process 11 and tasks named python and cgroup {cgroups}/a.slice"
    )


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (Filter(pids=(1 << 30,)), "no process 1073741824. Give one that runs"),
        (Filter(pids=(11,) * (MAX_PIDS + 1)), "more than 1024"),
        (Filter(comm=""), "no task's name"),
        (Filter(comm="a" * 16), "no task's name"),
        (Filter(comm="ä" * 8), "no task's name"),
        (Filter(cgroup=Path("/nowhere")), "/nowhere is no cgroup"),
        (Filter(cgroup=Path("/proc")), "/proc is no cgroup"),
    ],
)
def test_what_would_record_nothing(chosen: Filter, words: str, proc: Path) -> None:
    with pytest.raises(TraceError, match=words):
        chosen.check(proc)


def test_a_name_of_15_bytes_is_whole() -> None:
    Filter(comm="a" * 15).check()


def test_cgroups_are_found_by_their_name(cgroups: Path, tmp_path: Path) -> None:
    for name in ("a.slice", "/a.slice", str(cgroups / "a.slice")):
        assert find_cgroup(name, (tmp_path / "none", cgroups)) == cgroups / "a.slice"
    assert find_cgroup("a.slice", ()) == Path("a.slice")
