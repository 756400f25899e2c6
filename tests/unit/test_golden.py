"""What users see stays as it is, unless somebody means it (see refresh_golden.py)."""

from __future__ import annotations

import pytest

from tests.unit import refresh_golden as golden

OUTPUTS = golden.outputs()


@pytest.mark.parametrize("name", sorted(OUTPUTS))
def test_golden(name: str) -> None:
    path = golden.FOLDER / name
    assert path.exists(), "refresh with: python -m tests.unit.refresh_golden"
    assert OUTPUTS[name] == path.read_text()


def test_no_leftovers() -> None:
    kept = {path.name for path in golden.FOLDER.glob("*.txt")}
    assert kept == set(OUTPUTS)
