"""Folded output goes through flamegraph.pl and inferno unchanged: read here by their rules, only
that what they merely guess at or leave out is an error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from livedump.analysis import export
from livedump.recording import store
from livedump.recording.schema import ERRORS
from tests.unit import samples

#: The last space splits the count off; flamegraph.pl and inferno take these as numbers.
LINE = re.compile(r"(.*) ([0-9]+)")
NUMBER = re.compile(r"[0-9]*\.?[0-9]*")

#: A name as the kernel has it -> as a frame.
NAMES = {
    b"Web Content": "Web Content",
    b"fio;1": "fio:1",
    b"two\nlines": "two lines",
    b"cr\rlf\r\n": "cr lf",
    b"job 12": "job 12",
    b"12": "12",
    b" padded ": "padded",
    b"\xff\xfe": "\ufffd\ufffd",
    "ünïcode\u2028".encode(): "ünïcode",
    b"\x1b[31mred": "?[31mred",
    b"": "?",
    b";": ":",
}


def parse(text: str) -> dict[tuple[str, ...], int]:
    """Frames, root first -> count.

    :raises ValueError: flamegraph.pl or inferno would drop or misread a line
    """
    found: dict[tuple[str, ...], int] = {}
    if text and not text.endswith("\n"):
        raise ValueError("cut short")
    for line in text.split("\n")[:-1]:
        matched = LINE.fullmatch(line)
        if not matched:
            raise ValueError(f"no count: {line!r}")
        frames = tuple(matched[1].split(";"))
        # The last frame is beside the count, and the first one with flamegraph.pl --reverse.
        for frame in frames:
            if " " in frame and NUMBER.fullmatch(frame.rpartition(" ")[2]):
                raise ValueError(f"two counts: {line!r}")
        if not all(frames) or any(name != name.strip() for name in frames):
            raise ValueError(f"empty or padded frame: {line!r}")
        if not line.isprintable():
            raise ValueError(f"no text: {line!r}")
        if frames in found:
            raise ValueError(f"twice: {line!r}")
        found[frames] = int(matched[2])
    return found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a;b 1", "cut short"),
        ("a;b\n", "no count"),
        ("a;b 1.5\n", "no count"),
        ("a;b -1\n", "no count"),
        ("a;b 7 1\n", "two counts"),
        ("a 7;b 1\n", "two counts"),
        ("a;;b 1\n", "empty"),
        ("a; 1\n", "empty"),
        ("\n", "no count"),
        ("a;\x1b 1\n", "no text"),
        ("a 1\na 2\n", "twice"),
    ],
)
def test_the_rules_bite(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)


@pytest.mark.parametrize("by", ["count", "stalled_ns"])
@pytest.mark.parametrize("kinds", [(), ("cow",), ("user", "cow")])
def test_the_sample_is_read_whole(tmp_path: Path, by: str, kinds: tuple[str, ...]) -> None:
    found = store.read(samples.write(tmp_path / "r"))
    content = export.FORMATS["folded"](found, kinds, by)
    assert isinstance(content, str)
    rows = [row for row in found.tables["stacks"] if not kinds or row["kind"] in kinds]
    assert sum(parse(content).values()) == sum(row[by] for row in rows)


def test_hostile_names_are_frames(tmp_path: Path) -> None:
    """Tasks' names, and functions': user space chooses both."""
    rows = [
        {
            "kind": "user",
            "comm": comm.decode("utf-8", "replace"),
            "stack": f"main;{leaf.decode('utf-8', 'replace').replace(';', ':')}",
            "samples": 1,
            "count": 1,
            "stalled_ns": 5,
            **dict.fromkeys(ERRORS, 0.0),
        }
        for comm in NAMES
        for leaf in NAMES
    ]
    store.write(tmp_path / "r", samples.meta(), {"stacks": rows})
    content = export.FORMATS["folded"](store.read(tmp_path / "r"), ("user",), "count")
    assert isinstance(content, str)
    names = {name.replace("job 12", "job_12") for name in NAMES.values()}
    expected = {(comm, "main", leaf) for comm in names for leaf in names}
    assert parse(content).keys() == expected
    assert sum(parse(content).values()) == len(rows)
