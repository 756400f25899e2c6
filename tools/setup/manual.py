"""Man pages and shell completion, made of what the commands themselves say.

``python -m tools.setup.manual PREFIX`` writes them below PREFIX, /usr/local for `make install`.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path

import click

import livedump
from livedump.cli import main, trace

#: Command -> the group of click's.
COMMANDS: dict[str, click.Group] = {"livedump": main.cli, "livedump-trace": trace.cli}

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
    # roff takes "-" for a hyphen, "'" and "." at the start of a line for a request.
    text = "\n".join("\\&" + line.replace("\\", "\\e").replace("-", "\\-") for line in shown)
    return f".SH EXAMPLES\n.nf\n{text}\n.fi\n"


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
