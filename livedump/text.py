"""Names that others chose: tasks, cgroups, files and hosts may be called by any bytes."""

from __future__ import annotations


def decode(raw: bytes) -> str:
    """Bytes of the kernel's as text; U+FFFD for what is not UTF-8."""
    return raw.decode("utf-8", "replace")


def storable(text: str) -> str:
    """*text* as UTF-8 can have it: Python's lone surrogates, which stand for bytes that are not
    UTF-8, become U+FFFD."""
    if not _has_surrogates(text):
        return text
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)


def printable(text: str) -> str:
    """*text* with nothing that a terminal would obey: ``\\x1b`` for an escape, ``\\n`` for a
    line's end, ``\\u202e`` for what turns the direction of writing."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """The same for each line."""
    return "\n".join(map(printable, text.split("\n")))


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
