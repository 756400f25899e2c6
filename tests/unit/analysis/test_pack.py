"""Trees and paths, packed; page/unpack.js reads them, which tests/report tries in a browser."""

from __future__ import annotations

from livedump.analysis import pack
from livedump.analysis.pack import Frame, Names, forest


def tree(branches: int, deep: int) -> list[Frame]:
    """Stacks that are alike, but for their weight: 1, 2, ..."""
    frames: list[Frame] = [(0, "kind", (float(sum(range(branches + 1))), 0.0))]
    for branch in range(1, branches + 1):
        frames += [(depth, f"f{branch}.{depth}", (branch, 0.0)) for depth in range(1, deep + 1)]
    return frames


def unpacked(packed: list[float], names: Names) -> list[Frame]:
    """The reverse."""
    rows = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    return [(int(d), names.to_list()[int(n)], (count, stalled)) for d, n, count, stalled in rows]


def test_all_is_kept_where_there_is_room() -> None:
    frames, names = tree(5, 4), Names()
    found = forest({"a": frames}, names, 10_000)
    assert unpacked(found.trees["a"], names) == frames
    assert found.cut is None


def test_the_heaviest_stacks_are_kept_whole() -> None:
    """Not the first frames of all: the graph would be shallow."""
    frames, names = tree(1000, 40), Names()
    limit = 100_000
    found = forest({"a": frames}, names, limit)
    kept = unpacked(found.trees["a"], names)
    assert limit * 0.99 < pack.size(found.trees["a"]) + pack.size(names.to_list()) <= limit + 20
    assert max(depth for depth, _, _ in kept) == 40
    lightest = min(weights[0] for _, _, weights in kept)
    whole = [frame for frame in frames[1:] if frame[2][0] > lightest]
    assert [frame for frame in kept[1:] if frame[2][0] > lightest] == whole
    assert found.cut is not None
    assert found.cut["frames"] == 40_001 and found.cut["kept"] == len(kept)
    assert abs(found.share - lightest / frames[0][2][0]) < 1 / frames[0][2][0]


def test_a_weight_of_its_own_is_a_reason_to_be_kept() -> None:
    """Few faults that are slow, many that are quick."""
    frames: list[Frame] = [(0, "kind", (1000.0, 1000.0)), (1, "slow", (1.0, 999.0))]
    frames += [(1, f"quick{number}", (1.0, 0.0)) for number in range(999)]
    names = Names()
    found = forest({"a": frames}, names, 60)
    assert [name for _, name, _ in unpacked(found.trees["a"], names)][:2] == ["kind", "slow"]


def test_kinds_share_the_room_and_their_names() -> None:
    names = Names()
    found = forest({"a": tree(3, 2), "b": tree(3, 2)}, names, 10_000)
    assert [len(packed) for packed in found.trees.values()] == [28, 28]
    assert len(names.to_list()) == 7
    assert forest({"a": [(0, "a", (0.0, 0.0))]}, Names(), 100).cut is None  # weighs nothing


def test_paths_share_what_they_begin_with() -> None:
    names = Names()
    sorted_paths = [["a", "b", "c"], ["a", "b", "d", "e"], ["x"]]
    assert pack.paths(sorted_paths, names) == [0, 3, 0, 1, 2, 2, 2, 3, 4, 0, 1, 5]
    assert names.to_list() == ["a", "b", "c", "d", "e", "x"]


def test_steps_are_from_one_to_the_next() -> None:
    assert pack.steps([(3, 7, 1), (3, 8, 2), (10, 7, 5)]) == [3, 7, 1, 0, 8, 2, 7, 7, 5]
