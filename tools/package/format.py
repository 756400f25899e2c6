"""docs/recording.md, made of the schema: ``python -m tools.package.format`` writes it anew."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping

from livedump.kinds import ABOUT, kind_name
from livedump.recording.schema import MINOR, SCHEMA, TABLES, WHERE, Column
from tools.paths import ROOT

FILE = ROOT / "docs" / "recording.md"

#: Columns that may be negative.
_SIGNED = " and ".join(
    f"`{name}`"
    for info in TABLES.values()
    for name, about in info.columns.items()
    if about.type == "int64" and about.least is None
)

INTRODUCTION = f"""\
# The format of a recording

Version {SCHEMA}.{MINOR}. Made of livedump/recording/schema.py by `python -m tools.package.format`.

A recording is a folder with `meta.json` and one Parquet file for each table, `TABLE.parquet`. A
data set (`livedump-trace export --format parquet`) is a folder of many: its files are
`TABLE/date=YYYY-MM-DD/RECORDING_ID.parquet`, by the UTC date of the start, and tables without a row
have none. `livedump-trace query` reads both, and folders of recordings; so do DuckDB, Spark, Polars
and pandas.

- Whole numbers are signed and have 64 bits. An address is the same 64 bits, so that the kernel's
  are negative: `to_hex(address)` shows it.
- Times are in nanoseconds: `..._monotonic_ns` by CLOCK_MONOTONIC of one boot. Columns of type
  timestamp are UTC, in microseconds.
- Null is only where the text says so, and what it means. Other columns have a value in each row.
- Numbers are 0 or more, {_SIGNED} aside: a reader refuses
  others.
- Text is what a task, a file or a host was named by; bytes that are no UTF-8 become U+FFFD.
- The minor version grows when columns or tables are added. A reader fills with null what an older
  recording has not, and says so where a newer one has more. Another version cannot be read.
- Everything that was lost is in `losses`, with its time in `loss_slices`, and added up in
  `recordings` and meta.json.
"""


def markdown() -> str:
    """The text."""
    return "\n".join([INTRODUCTION, *_kinds(), *_tables()])


def _kinds() -> Iterator[str]:
    yield "## Kinds\n"
    yield (
        "Faults of kind `kernel` are counted by its tracepoint: those of `uaccess` and `cow` are "
        "among\nthem.\n"
    )
    yield from _list(
        (kind_name(kind), about.text + (f" (part of `{about.part_of}`)" if about.part_of else ""))
        for kind, about in ABOUT.items()
    )
    yield ""


def _tables() -> Iterator[str]:
    yield "## Columns of every table\n"
    yield from _columns(WHERE)
    for name, info in TABLES.items():
        yield f"\n## {name}\n"
        yield f"Each row: {info.text}.\n"
        yield from _columns(info.columns)
    yield ""


def _columns(columns: Mapping[str, Column]) -> Iterator[str]:
    yield from _list(
        (f"{name}`, `{about.type.removesuffix('_')}", about.text) for name, about in columns.items()
    )


def _list(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, text in items:
        item = f"- `{name}`: {text}"
        yield from textwrap.wrap(item, 100, subsequent_indent="  ", break_on_hyphens=False)


if __name__ == "__main__":
    FILE.write_text(markdown())
