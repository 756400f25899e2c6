"""Exports, each read back by the library or schema that its format comes from."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from livedump.analysis import assets, export
from livedump.analysis.files import ExportError
from livedump.recording import store
from livedump.recording.store import Recording
from tests.unit import samples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The sample recording."""
    return samples.write(tmp_path / "rec")


@pytest.fixture
def sample(folder: Path) -> Recording:
    """The sample recording, read."""
    return store.read(folder)


def test_speedscope_is_as_its_schema_says(sample: Recording) -> None:
    data = json.loads(json.dumps(export.speedscope(sample)))
    jsonschema.validate(data, json.loads(assets.text("speedscope-schema.json")))
    profiles = {profile["name"]: profile for profile in data["profiles"]}
    assert list(profiles) == [
        "user by count",
        "user by stalled_ns",
        "kernel by count",
        "cow by count",
        "cow by stalled_ns",
    ]
    stalled = profiles["cow by stalled_ns"]
    rows = [row for row in sample.tables["stacks"] if row["kind"] == "cow"]
    assert stalled["endValue"] == sum(row["stalled_ns"] for row in rows)
    assert stalled["unit"] == "nanoseconds"
    frames = [frame["name"] for frame in data["shared"]["frames"]]
    leaves = {frames[stack[-1]] for stack in stalled["samples"]}
    assert "memcpy" in leaves
    assert "livedump_probe [livedump]" not in leaves


def test_the_speedscope_schema_bites(sample: Recording) -> None:
    data = export.speedscope(sample)
    data["profiles"][0]["unit"] = "parsecs"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, json.loads(assets.text("speedscope-schema.json")))


@pytest.mark.parametrize(
    ("form", "kind", "weight", "words"),
    [
        ("folded", "cow_copy", "count", "no stacks of cow_copy in this.*. It has those of user"),
        ("folded", "kernel", "stalled_ns", "no stacks of kernel with stalled time"),
        ("speedscope", "cow_copy", "count", "no stacks of cow_copy"),
    ],
)
def test_no_stacks_are_no_export(
    sample: Recording, form: str, kind: str, weight: str, words: str
) -> None:
    with pytest.raises(ExportError, match=words):
        export.FORMATS[form](sample, (kind,), weight)


def test_a_recording_without_stacks(tmp_path: Path) -> None:
    store.write(tmp_path / "r", samples.meta(), {})
    for form in ("folded", "speedscope"):
        with pytest.raises(ExportError, match="no stacks in this recording. It has those of no"):
            export.FORMATS[form](store.read(tmp_path / "r"), (), "count")


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="No such file"):
        export.write(tmp_path / "none" / "x", b"")
