"""Man pages and shell completion, made of what the commands themselves say.

``python -m tools.package.manual PREFIX`` writes them below PREFIX, /usr/local for `make install`.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

import livedump
from livedump import conditions
from livedump.cli.main import cli as livedump_cli
from livedump.cli.trace.main import cli as trace_cli
from livedump.kinds import KINDS, QUESTION_OF, UNTIMED
from livedump.metrics import METRICS
from livedump.recording.schema import TABLES, WHERE

#: Command -> the group of click's.
COMMANDS: dict[str, click.Group] = {"livedump": livedump_cli, "livedump-trace": trace_cli}

MAN = Path("share/man/man1")

#: Shell -> where it looks for the completion of a command.
COMPLETION = {
    "bash": "share/bash-completion/completions/{}",
    "zsh": "share/zsh/site-functions/_{}",
    "fish": "share/fish/vendor_completions.d/{}.fish",
}


def man_pages(
    name: str, command: click.Command, parent: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """File name and text for *command* and all below it."""
    from click_man.core import generate_man_page

    command = with_sentences(command)
    context = click.Context(command, info_name=name, parent=parent)
    text = generate_man_page(context, version=livedump.__version__)
    if context.command_path in SECTIONS:
        text += SECTIONS[context.command_path]()
    yield f"{context.command_path.replace(' ', '-')}.1", text + examples(command)
    for below, subcommand in getattr(command, "commands", {}).items():
        yield from man_pages(below, subcommand, context)


def with_sentences(command: click.Command) -> click.Command:
    """A copy whose short help, and that of all below it, is the first sentence of the help: what
    click makes of it ends in the middle after 45 characters."""
    found = copy.copy(command)
    words = (command.help or "").split()
    ends = [index for index, word in enumerate(words, 1) if word.endswith(".")]
    found.short_help = " ".join(words[: ends[0]] if ends else words)
    if isinstance(found, click.Group):
        found.commands = {name: with_sentences(below) for name, below in found.commands.items()}
    return found


def examples(command: click.Command) -> str:
    """The section EXAMPLES; empty without any."""
    lines = (command.epilog or "").replace("\b", "").split("\n")
    shown = [line.strip() for line in lines if line.startswith(" ")]
    if not shown:
        return ""
    text = "\n".join(map(roff, shown))
    return f".SH EXAMPLES\n.nf\n{text}\n.fi\n"


def roff(line: str) -> str:
    """A line of text; what is in double backquotes becomes bold."""
    # roff takes "-" for a hyphen, "'" and "." at the start of a line for a request.
    text = line.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + re.sub("``(.+?)``", r"\\fB\1\\fP", text)


def trace_sections() -> str:
    """What other outputs refer to the manual for."""
    kinds = ((kind, f"{what} (record --kind {QUESTION_OF[kind]})") for kind, what in KINDS.items())
    tables = [
        (name, f"Each row: {info.text}.", ", ".join(info.columns)) for name, info in TABLES.items()
    ]
    about = (
        f"Files of a recording, and tables of livedump-trace-query(1). All have {', '.join(WHERE)}."
    )
    return (
        _section("KINDS", "What faults and stops are told apart by.", kinds)
        + _section("TABLES", about, tables)
        + _section("CONDITIONS", _grammar(), _parts_of_conditions())
    )


def _section(title: str, text: str, terms: Iterable[tuple[str, ...]]) -> str:
    """Each of *terms* with the lines on it. Names of columns are not hyphenated."""
    lines = [f".SH {title}", ".nh", roff(text)]
    for term, *about in terms:
        lines += [".TP", roff(f"``{term}``"), "\n.br\n".join(map(roff, about))]
    return "\n".join([*lines, ""])


def _grammar() -> str:
    """The sentence of its module."""
    text = " ".join((conditions.__doc__ or "").partition("\n\n")[2].split())
    return text.partition(". ")[0] + "."


def _parts_of_conditions() -> Iterator[tuple[str, ...]]:
    metrics = ", ".join(f"``{name}``" for name in METRICS)
    yield "METRIC", f"A percentile like ``p50`` or ``p99.9``, {metrics}."
    yield "KIND", f"See KINDS; {', '.join(UNTIMED)} has a count and a rate only."
    yield "OP", "``>``, ``>=``, ``<`` or ``<=``."
    yield (
        "LIMIT",
        "A change like ``+20%`` or ``-5%``; a number for count, a second for rate (``1000/s``); "
        "else a time in ns, us, ms or s, for stalled that of each second.",
    )
    yield "TIME", "For how long it must be so, like ``500ms`` or ``1s``."
    yield "record --snapshot-when", "Values of all metrics but count, also with ``for``."
    yield "diff --fail-on", "Changes, and values of the second recording."


#: Command -> more sections of its page.
SECTIONS = {"livedump-trace": trace_sections}


def completion(name: str, group: click.Group, shell: str) -> str:
    """The script that makes *shell* complete a command."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    return found(group, {}, name, variable).source()


def files() -> Iterator[tuple[Path, str]]:
    """Path below the prefix and content of everything."""
    for name, group in COMMANDS.items():
        for page, text in man_pages(name, group):
            yield MAN / page, text
        for shell, place in COMPLETION.items():
            yield Path(place.format(name)), completion(name, group, shell)


def write(prefix: Path) -> list[Path]:
    """Write them all; returns the files."""
    written = []
    for path, text in files():
        file = prefix / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        written.append(file)
    return written


if __name__ == "__main__":
    print("\n".join(str(file) for file in write(Path(sys.argv[1]))))
