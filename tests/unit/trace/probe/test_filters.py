"""Whose faults are recorded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from livedump.recording.meta import filter_text
from livedump.trace.errors import TraceError
from livedump.trace.probe.filters import MAX_PIDS, Filter, find_cgroup


@pytest.fixture
def cgroups(tmp_path: Path) -> Path:
    """A cgroup tree with one slice."""
    for folder in (tmp_path, tmp_path / "a.slice"):
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.controllers").touch()
    return tmp_path


def test_everybody_needs_no_flags() -> None:
    nobody_chosen = Filter()
    assert not nobody_chosen
    assert nobody_chosen.flags() == []
    assert nobody_chosen.to_dict() == {}
    assert filter_text({}) == ""
    nobody_chosen.check()


def test_what_is_chosen_is_a_flag_and_a_word(cgroups: Path) -> None:
    chosen = Filter((os.getpid(), 1), "python", cgroups / "a.slice")
    chosen.check()
    assert chosen.flags() == ["-DLD_FILTER_PID", "-DLD_FILTER_COMM", "-DLD_FILTER_CGROUP"]
    assert filter_text(chosen.to_dict()) == (
        f"process {os.getpid()}, 1 and tasks named python and cgroup {cgroups}/a.slice"
    )


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (Filter(pids=(1 << 30,)), "no process 1073741824. Give one that runs"),
        (Filter(pids=(1,) * (MAX_PIDS + 1)), "more than 1024"),
        (Filter(comm=""), "no task's name"),
        (Filter(comm="a" * 16), "no task's name"),
        (Filter(comm="ä" * 8), "no task's name"),
        (Filter(cgroup=Path("/nowhere")), "/nowhere is no cgroup"),
        (Filter(cgroup=Path("/proc")), "/proc is no cgroup"),
    ],
)
def test_what_would_record_nothing(chosen: Filter, words: str) -> None:
    with pytest.raises(TraceError, match=words):
        chosen.check()


def test_a_name_of_15_bytes_is_whole() -> None:
    Filter(comm="a" * 15).check()


def test_cgroups_are_found_by_their_name(cgroups: Path, tmp_path: Path) -> None:
    for name in ("a.slice", "/a.slice", str(cgroups / "a.slice")):
        assert find_cgroup(name, (tmp_path / "none", cgroups)) == cgroups / "a.slice"
    assert find_cgroup("a.slice", ()) == Path("a.slice")
