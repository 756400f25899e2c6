"""Folded lines and flame graph trees."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from livedump import analysis
from livedump.analysis import stacks
from livedump.recording import store
from livedump.recording.store import Recording
from tests.unit import samples


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """The sample."""
    return store.read(samples.write(tmp_path / "r"))


def test_the_fault_machinery_is_cut() -> None:
    handler = "asm_exc_page_fault;exc_page_fault"
    assert stacks.trim(f"a;b;{handler};livedump_probe") == "a;b"
    assert stacks.trim(f"a;{handler};b;{handler};c") == f"a;{handler};b"
    assert stacks.trim(f"{handler};do_user_addr_fault") == f"{handler};do_user_addr_fault"
    assert stacks.trim("a") == "a"


def test_folded_lines(recording: Recording) -> None:
    text = stacks.folded(recording, kinds=("cow",))
    lines = text.splitlines()
    assert text.endswith("\n")
    assert lines == sorted(lines) and len(lines) == 2 * len(samples.COW_STACKS)
    total = 0
    for line in lines:
        found = re.fullmatch(r"([^;\n]+(?:;[^;\n]+)+) (\d+)", line)
        assert found, line
        assert found[1].startswith(("fio:1;", "stress-ng;"))
        total += int(found[2])
    assert total == sum(row["count"] for row in recording.tables["stacks"] if row["kind"] == "cow")


def test_several_kinds_are_told_apart(recording: Recording) -> None:
    lines = analysis.folded_lines(recording)
    assert {line.split(";")[0] for line in lines} == {"user", "kernel", "cow"}


def test_stacks_that_weigh_nothing_are_left_out(recording: Recording) -> None:
    lines = analysis.folded_lines(recording, weight="stalled_ns")
    assert {line.split(";")[0] for line in lines} == {"user", "cow"}


def test_tree_adds_up(recording: Recording) -> None:
    root = stacks.tree(recording, "cow")

    def check(node: stacks.Node) -> None:
        if node.children:
            assert node.count >= sum(child.count for child in node.children.values())
        for child in node.children.values():
            check(child)

    check(root)
    assert root.count == sum(child.count for child in root.children.values())
    assert set(root.children) == {"fio:1", "stress-ng"}


def test_top_is_over_all_tasks(recording: Recording) -> None:
    [first, second] = stacks.top(recording, "cow", limit=2)
    assert first["stack"].endswith("ext4_file_write_iter;memcpy")
    assert first["count"] == 411 > second["count"]
