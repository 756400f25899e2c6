"""Trees and paths, packed; page/unpack.js reads them (tests/host/report tries it in a browser)."""

from __future__ import annotations

from pathlib import Path

from livedump.analysis import pack, stacks
from livedump.analysis.pack import Names, forest
from livedump.analysis.stacks import Branch, Weighed
from livedump.recording import store
from tests.unit import samples

#: Depth, name, count, stalled_ns.
Row = tuple[int, str, int, int]


def tree(weights: list[int], deep: int) -> Branch:
    """Stacks that are alike, but for their weight."""
    return Branch(
        "kind",
        [
            ([f"f{number}.{depth}" for depth in range(1, deep + 1)], weight, 0)
            for number, weight in enumerate(weights)
        ],
    )


def preorder(node: Branch, depth: int = 0) -> list[Row]:
    """As it is in the page."""
    found = [(depth, node.name, *node.weights)]
    for child in sorted(node.below, key=lambda child: child.name):
        found += preorder(child, depth + 1)
    return found


def unpacked(packed: list[float], names: Names) -> list[Row]:
    """The reverse."""
    rows = [list(map(int, packed[at : at + 4])) for at in range(0, len(packed), 4)]
    return [(row[0], names.to_list()[row[1]], row[2], row[3]) for row in rows]


def left_out(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Frames, and what stands for others."""
    rest = [row for row in rows if row[1] == pack.LEFT_OUT]
    return [row for row in rows if row not in rest], rest


def test_all_is_kept_where_there_is_room() -> None:
    root, names = tree([1, 2, 3, 4, 5], 4), Names()
    found = forest({"a": root}, names, 10_000)
    assert unpacked(found.trees["a"], names) == preorder(root)
    assert found.cut is None


def test_the_heaviest_stacks_are_kept_whole() -> None:
    """Not the first frames of all: the graph would be shallow."""
    root, names = tree([*range(1, 1001)], 40), Names()
    limit = 100_000
    found = forest({"a": root}, names, limit)
    assert limit * 0.99 < pack.size(found.trees["a"]) + pack.size(names.to_list()) <= limit + 20
    kept, gone = left_out(unpacked(found.trees["a"], names))
    assert sum(row[2] for row in [*kept, *gone] if row[0] == 1) == root.weights[0]
    assert max(row[0] for row in kept) == 40
    lightest = min(row[2] for row in kept)
    rest = [row for row in kept if row[2] == lightest]
    assert [row for row in preorder(root) if row[2] > lightest] == [
        r for r in kept if r not in rest
    ]
    assert [row[0] for row in rest] == list(range(1, len(rest) + 1))  # one stack, cut
    assert found.cut is not None
    assert found.cut["frames"] == 40_001 and found.cut["kept"] == len(kept)
    assert found.share == lightest / root.weights[0]


def test_equal_stacks_are_kept_whole_too() -> None:
    root, names = tree([1] * 1000, 40), Names()
    kept, _gone = left_out(unpacked(forest({"a": root}, names, 20_000).trees["a"], names))
    depths = [row[0] for row in kept]
    assert depths.count(40) in (depths.count(1), depths.count(1) - 1) and depths.count(40) > 10


def test_a_weight_of_its_own_is_a_reason_to_be_kept() -> None:
    """Few faults that are slow, many that are quick."""
    rows: list[Weighed] = [([f"quick{number}"], 1, 0) for number in range(999)]
    root = Branch("kind", [*rows, (["slow"], 1, 999)])
    names = Names()
    found = forest({"a": root}, names, 120)
    assert "slow" in [row[1] for row in unpacked(found.trees["a"], names)]
    assert found.cut


def test_kinds_share_the_room_and_their_names() -> None:
    names = Names()
    found = forest({"a": tree([1, 2, 3], 2), "b": tree([1, 2, 3], 2)}, names, 10_000)
    assert [len(packed) for packed in found.trees.values()] == [28, 28]
    assert len(names) == 8  # with pack.LEFT_OUT
    assert forest({"a": Branch("a", [])}, Names(), 100).cut is None  # weighs nothing


def test_branches_are_the_tree_s(tmp_path: Path) -> None:
    recording = store.read(samples.write(tmp_path / "r"))
    for kind in ("cow", "user", "kernel"):
        same: list[tuple[stacks.Node, Branch]] = [
            (stacks.tree(recording, kind), stacks.branches(recording, kind))
        ]
        for node, branch in same:
            assert (node.name, (node.count, node.stalled_ns)) == (branch.name, branch.weights)
            by_name = {child.name: child for child in branch.below}
            assert by_name.keys() == node.children.keys()
            same += [(child, by_name[name]) for name, child in node.children.items()]
        assert stacks.branches(recording, kind).count() == len(same)
        assert pack.count(stacks.branches(recording, kind)) == len(same)


def test_a_stack_may_be_as_deep_as_it_likes() -> None:
    names = Names()
    root = Branch("kind", [(["f"] * 5000, 1, 0)])
    packed = forest({"a": root}, names, 1_000_000).trees["a"]
    assert packed[-4:] == [5000, 2, 1, 0]


def test_paths_share_what_they_begin_with() -> None:
    names = Names()
    sorted_paths = [["a", "b", "c"], ["a", "b", "d", "e"], ["x"]]
    assert pack.paths(sorted_paths, names) == [0, 3, 0, 1, 2, 2, 2, 3, 4, 0, 1, 5]
    assert names.to_list() == ["a", "b", "c", "d", "e", "x"]


def test_steps_are_from_one_to_the_next() -> None:
    assert pack.steps([(3, 7, 1), (3, 8, 2), (10, 7, 5)]) == [3, 7, 1, 0, 8, 2, 7, 7, 5]
