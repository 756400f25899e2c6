"""Adding up rows."""

from __future__ import annotations

from livedump.sums import add_up


def test_rows_with_the_same_key_are_added_up() -> None:
    rows = [("b", (1, 2)), ("a", (3, 4)), ("b", (10, 20))]
    totals = add_up(rows)
    assert list(totals.items()) == [("b", [11, 22]), ("a", [3, 4])]
    assert add_up([("a", [1, 1])], totals) is totals
    assert totals["a"] == [4, 5]
    assert add_up([]) == {}
