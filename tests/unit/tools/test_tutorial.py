"""The tutorial's page shows what the tutorial's driver types, in the same order."""

from __future__ import annotations

import re

from tools.demo.tutorial import GUEST, HOST
from tools.paths import ROOT


def test_page_has_the_commands_that_are_run() -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text()
    assert re.findall(r"^\$ (.*)$", text, re.MULTILINE) == [
        command for command, _ in (*GUEST, *HOST)
    ]


def test_statuses_that_are_not_0_are_shown() -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text()
    expected = [status for _, status in (*GUEST, *HOST) if status]
    assert [int(status) for status in re.findall(r"\[exit status (\d+)\]", text)] == expected
