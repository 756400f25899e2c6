"""Names of any bytes: what is stored, and what a terminal gets to see."""

from __future__ import annotations

import pytest

from livedump.text import decode, printable, printable_lines, storable


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("plain", "plain"),
        ("M\u00fcller", "M\u00fcller"),
        ("m\udcfcller", "m\ufffdller"),
        ("\ud800x", "\ufffdx"),
    ],
)
def test_what_is_stored_is_utf_8(name: str, stored: str) -> None:
    assert storable(name) == stored
    stored.encode()


def test_bytes_of_the_kernel() -> None:
    assert decode(b"caf\xc3\xa9 \xe5\xb7") == "caf\u00e9 \ufffd"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("nginx", "nginx"),
        ("\u5de5\u4f5c", "\u5de5\u4f5c"),
        ("\x1b[2J\x1b[H", r"\x1b[2J\x1b[H"),
        ("\x1b]0;x", r"\x1b]0;x"),
        ("\x9b2J", r"\x9b2J"),
        ("a\nb\r", r"a\nb\r"),
        ("\u202etxt", r"\u202etxt"),
        ("\u2028", r"\u2028"),
        ("\udcfc", r"\udcfc"),
    ],
)
def test_nothing_is_obeyed_by_a_terminal(name: str, shown: str) -> None:
    assert printable(name) == shown


def test_lines_stay_lines() -> None:
    assert printable_lines("a\x1b\n\nb\t") == "a\\x1b\n\nb\\t"
