"""docs/recording.md is what the schema says."""

from __future__ import annotations

from livedump.recording.schema import TABLES, columns
from tools.setup import format as document


def test_the_document_is_the_schema_s() -> None:
    text = document.FILE.read_text()
    assert text == document.markdown(), "refresh with: python -m tools.setup.format"
    for table in TABLES:
        assert f"\n## {table}\n" in text
        for name, about in columns(table).items():
            assert about.text and f"- `{name}`, `{about.type.removesuffix('_')}`:" in text
    assert max(map(len, text.splitlines())) <= 100
