"""Man pages and shell completion."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from livedump.conditions import NOW, parse
from livedump.kinds import KINDS
from livedump.metrics import METRICS
from livedump.recording.schema import TABLES
from tools.package import manual

#: As roff has it.
HYPHEN = "\\-"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything, below a prefix."""
    prefix = tmp_path_factory.mktemp("prefix")
    assert manual.write(prefix)
    return prefix


def test_every_command_has_a_page(written: Path) -> None:
    pages = {file.name for file in (written / manual.MAN).iterdir()}
    expected = {f"{name}.1" for name in manual.COMMANDS}
    for name, group in manual.COMMANDS.items():
        expected |= {f"{name}-{below}.1" for below in group.commands}
    assert pages == expected
    assert {"livedump-snapshot.1", "livedump-trace-record.1"} <= pages


def test_pages_say_what_help_says(written: Path) -> None:
    text = (written / manual.MAN / "livedump-trace-diff.1").read_text()
    assert "\\fB\\-\\-fail\\-on\\fP COND" in text
    assert ".SH EXAMPLES\n.nf\n\\&livedump\\-trace diff before after\n" in text


def test_names_are_whole_sentences(written: Path) -> None:
    """As apropos and lexgrog(1) find them."""
    for file in (written / manual.MAN).iterdir():
        name, dash, sentence = name_line(file.read_text()).partition(" \\- ")
        assert (name.replace("\\-", "-"), dash) == (file.stem, " \\- ")
        assert sentence.endswith(".") and not sentence.endswith(".."), sentence
    text = (written / manual.MAN / "livedump-trace.1").read_text()
    what = "Page faults and stops of a running kernel: who waited, how long, and where."
    assert name_line(text) == f"livedump-trace \\- {what}"
    assert "\n  Record around COMMAND, for a time, or until Ctrl-C.\n" in text
    assert manual.COMMANDS["livedump-trace"].short_help is None, "--help is click's"


def name_line(text: str) -> str:
    """What is below NAME."""
    return text.partition(".SH NAME\n")[2].partition("\n.SH")[0]


def test_trace_s_page_has_what_others_refer_to(written: Path) -> None:
    text = (written / manual.MAN / "livedump-trace.1").read_text()
    terms = {name: section(text, name) for name in ("KINDS", "TABLES", "CONDITIONS")}
    for kind, what in KINDS.items():
        assert f"\\fB{kind}\\fP\n\\&{what.replace('-', HYPHEN)}" in terms["KINDS"]
    for table, info in TABLES.items():
        assert f"\\fB{table}\\fP\n\\&Each row: " in terms["TABLES"]
        assert f"\n.br\n\\&{', '.join(info.columns)}\n" in terms["TABLES"]
    assert "\\fBMETRIC(KIND) OP LIMIT [for TIME]\\fP: a limit with a sign" in terms["CONDITIONS"]
    assert "``" not in text and ":meth:" not in text
    assert ".SH KINDS" not in (written / manual.MAN / "livedump.1").read_text()


def test_conditions_are_as_the_page_says(written: Path) -> None:
    """Its examples are read, in place of the words of the grammar."""
    text = section((written / manual.MAN / "livedump-trace.1").read_text(), "CONDITIONS")
    shown = {
        term: re.findall(r"\\fB(.+?)\\fP", about.replace(HYPHEN, "-"))
        for term, about in re.findall(r"\.TP\n\\&\\fB([A-Z]+)\\fP\n(.+)\n", text)
    }
    limits = shown["LIMIT"]
    for metric in shown["METRIC"]:
        value = {"count": "1000", "rate": limits[-1]}.get(metric, "2ms")
        for op, limit in itertools.product(shown["OP"], limits[:2]):
            assert parse(f"{metric}(cow){op}{limit}", tuple(KINDS)).relative
        for op, time in itertools.product(shown["OP"], shown["TIME"] if metric != "count" else ()):
            assert parse(f"{metric}(cow){op}{value} for {time}", tuple(KINDS), NOW).hold_s
        assert not parse(f"{metric}(cow)>{value}", tuple(KINDS)).relative
    assert len(shown["METRIC"]) == 2 + len(METRICS)
    assert (len(limits), len(shown["OP"]), len(shown["TIME"])) == (3, 4, 2)


def section(text: str, title: str) -> str:
    """What a page has below a title."""
    return text.partition(f".SH {title}\n")[2].partition("\n.SH")[0] + "\n"


def test_examples_survive_roff() -> None:
    command = click.Command("x", epilog="\b\nExamples:\n  x -- 'a\\b'\n  .hidden")
    assert manual.examples(command).endswith(".nf\n\\&x \\-\\- 'a\\eb'\n\\&.hidden\n.fi\n")
    assert manual.examples(click.Command("x")) == ""


@pytest.mark.parametrize("name", list(manual.COMMANDS))
def test_bash_completes(written: Path, name: str) -> None:
    """By the script, and by what it asks the command."""
    script = written / manual.COMPLETION["bash"].format(name)
    subprocess.run(["bash", "-n", script], check=True)
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    assert variable in script.read_text()
    words = {"livedump": ("sn", "snapshot"), "livedump-trace": ("qu", "query")}
    begun, whole = words[name]
    asked = {variable: "bash_complete", "COMP_WORDS": f"{name} {begun}", "COMP_CWORD": "1"}
    done = subprocess.run(
        [Path(sys.executable).with_name(name)],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"plain,{whole}\n"
