"""Recording the faults of chosen tasks: of a process, of a name, of a cgroup, all at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from livedump import analysis
from livedump.recording import store
from tests.guest.faults import TOUCHER
from tests.guest.test_trace import SLACK, command

PAGES = 1500


@pytest.fixture
def cgroup(tmp_path: Path) -> Iterator[Path]:
    """A cgroup below another one, in a tree of version 2."""
    tree = tmp_path / "cgroups"
    tree.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "none", str(tree)], check=True)
    try:
        below = tree / "livedump-test" / "below"
        below.mkdir(parents=True)
        yield below
        below.rmdir()
        below.parent.rmdir()
    finally:
        subprocess.run(["umount", "-l", str(tree)], check=True)


@contextmanager
def children(ready: Path, cgroup: Path, count: int) -> Iterator[list[int]]:
    """Process numbers of tests.guest.chosen, in the cgroup; at their end they leave it."""
    argv = [sys.executable, "-m", "tests.guest.chosen", str(ready), str(PAGES)]
    found = [subprocess.Popen([*argv, str(cgroup.parent.parent)]) for _ in range(count)]
    try:
        for child in found:
            (cgroup / "cgroup.procs").write_text(str(child.pid))
        yield [child.pid for child in found]
        assert [child.wait(60) for child in found] == [0] * count
    finally:
        for child in found:
            child.kill()
            child.wait()


def test_only_what_was_chosen_is_recorded(tmp_path: Path, cgroup: Path) -> None:
    ready, folder = tmp_path / "ready", tmp_path / "recording"
    with children(ready, cgroup, 2) as pids:
        done = " && ".join(f"test -e {ready}.{pid}" for pid in pids)
        subprocess.run(
            [
                *command("record", "-o", str(folder), "--kind", "user,stop"),
                *("-p", str(pids[0]), "--comm", TOUCHER, "--cgroup", str(cgroup.parent)),
                *("--ready-file", str(ready), "--"),
                *("sh", "-c", f"until {done}; do sleep 0.2; done"),
            ],
            check=True,
            timeout=300,
        )
    minor = int(Path(f"{ready}.{pids[0]}").read_text())
    recording = store.read(folder)
    rows = [row for row in recording.tables["tasks"] if row["count"]]
    assert {(row["pid"], row["comm"]) for row in rows} == {(pids[0], TOUCHER)}
    [user] = [row for row in rows if row["kind"] == "user"]
    assert user["cgroup"] == "/livedump-test/below"
    assert PAGES <= user["count"] <= minor + SLACK < 2 * PAGES
    assert {row["comm"] for row in recording.tables["stacks"] if row["kind"] == "user"} == {TOUCHER}
    # The name may change between a fault's entry and its exit.
    lost = analysis.summarize(recording).loss_counts["events_lost"]
    assert lost <= 2, recording.tables["losses"]
    assert recording.meta["options"]["filter"]["pids"] == [pids[0]]


def test_a_dead_process_is_an_error(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    done = subprocess.run(
        command("record", "-o", str(tmp_path / "r"), "-p", str(dead.pid), "--duration", "1"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 125
    assert f"no process {dead.pid}" in done.stderr
    assert not (tmp_path / "r").exists()
