"""The tables as pyarrow has them: types, rows, and the columns that follow from others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

from livedump.kinds import ABOUT, kind_name
from livedump.recording.schema import CODES, TABLES, TIME, WHERE, Column, Row, columns
from livedump.text import storable

_PART_OF = {kind_name(kind): about.part_of or None for kind, about in ABOUT.items()}


def schema(name: str, minor: int | None = None) -> Any:
    """Of a table, all columns.

    :param minor: only those that a recording of this minor version has; None: of ours
    """
    import pyarrow

    return pyarrow.schema(
        [
            (column, _type(about))
            for column, about in columns(name).items()
            if minor is None or about.since <= minor
        ]
    )


def _type(column: Column) -> Any:
    import pyarrow

    return (
        pyarrow.timestamp("us", "UTC") if column.type == TIME else getattr(pyarrow, column.type)()
    )


def of_rows(name: str, rows: Sequence[Row]) -> Any:
    """Rows, without what :func:`whole` adds."""
    import pyarrow

    types = schema(name)
    own = [column for column in TABLES[name].columns if column not in _derived(name)]
    return pyarrow.table(
        {
            column: _array([row.get(column) for row in rows], types.field(column).type)
            for column in own
        }
    )


def whole(name: str, part: Any, meta: Mapping[str, Any]) -> Any:
    """A part of a table with all its columns.

    :param part: a table without those that follow from others, or from *meta*
    """
    import pyarrow

    found = {column: part[column] for column in part.column_names}
    for column in WHERE:
        found[column] = _same(meta[column], part.num_rows)
    derived = _derived(name)
    if "time" in derived:
        found["time"] = _time(part[TABLES[name].clock], TABLES[name].clock, meta)
    if "part_of" in derived:
        found["part_of"] = _mapped(part["kind"], _PART_OF)
    for code, members in CODES.items():
        if f"{code}_name" in derived:
            found[f"{code}_name"] = _mapped(part[code], _names(members))
    types = schema(name)
    return pyarrow.table([found[column] for column in types.names], types.names).cast(types)


def _derived(name: str) -> set[str]:
    """Columns that follow from others."""
    names = {f"{code}_name" for code in CODES} | {"part_of"}
    if TABLES[name].clock:
        names.add("time")
    return names & set(TABLES[name].columns)


def _names(members: type[IntEnum]) -> dict[Any, str | None]:
    return {int(member): member.name.lower() for member in members}


def _mapped(values: Any, names: Mapping[Any, str | None]) -> Any:
    """Each value's name; one that is not known is its number, or its own."""
    import pyarrow

    encoded = values.combine_chunks() if hasattr(values, "combine_chunks") else values
    encoded = encoded.dictionary_encode()
    words = [names.get(value, str(value)) for value in encoded.dictionary.to_pylist()]
    return pyarrow.array(words, pyarrow.string()).take(encoded.indices)


def _time(clock: Any, name: str, meta: Mapping[str, Any]) -> Any:
    """CLOCK_MONOTONIC, or ns since the start, as UTC: by the two clocks at the start."""
    import pyarrow
    from pyarrow import compute

    start = meta["clocks"]["start"]
    zero = 0 if name == "start_ns" else start["monotonic_ns"]
    since_1970 = compute.add(clock.cast(pyarrow.int64()), start["realtime_ns"] - zero)
    return compute.divide(since_1970, 1000).cast(pyarrow.timestamp("us", "UTC"))


def _array(values: list[Any], kind: Any) -> Any:
    """One bad name must not cost the recording."""
    import pyarrow

    try:
        return pyarrow.array(values, kind)
    except UnicodeEncodeError:
        return pyarrow.array([v if v is None else storable(v) for v in values], kind)


def _same(value: str, rows: int) -> Any:
    import pyarrow

    return pyarrow.array([storable(value)]).take(pyarrow.array([0] * rows, pyarrow.int32()))
