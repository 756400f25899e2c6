"""Golden outputs: what they are, and ``python -m tests.unit.refresh_golden`` to refresh them.

Read the difference before you commit it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click
from click.testing import CliRunner

from livedump import doctor, receipt
from livedump.cli.doctor import render
from livedump.cli.main import cli
from livedump.cli.snapshot import render_status
from livedump.cli.trace.main import cli as trace_cli
from livedump.control import Status
from tests.unit import images
from tests.unit.fakes import FakeModule

FOLDER = Path(__file__).with_name("golden")


def outputs() -> dict[str, str]:
    """File name -> text, everything that is kept."""
    found = {**_helps("livedump", cli, "help"), **_helps("livedump-trace", trace_cli, "trace-help")}
    lost = images.report(
        pages_lost=128, pages_in_place=499_872, verdict=2, attempts=2, stops_ns=6_300_000, nmis=1
    )
    done = images.released(images.report())
    partly = images.released(images.report(), tables_left=1, leaves_after=[1_024, 510, 1])
    found["receipt.txt"] = receipt.render(done)
    found["receipt-lost.txt"] = receipt.render(lost)
    found["receipt-eager.txt"] = receipt.render(images.released(images.eager_report()))
    found["receipt-tables-left.txt"] = receipt.render(partly)
    found["receipt-full.txt"] = receipt.render_full(done)
    held = Status(state="holding", strategy="lazy", flags=1, report=images.report())
    found["status-idle.txt"] = render_status(Status(state="idle"))
    found["status-held.txt"] = render_status(held)
    preparing = Status(state="prepared", strategy="lazy", step="plan", owner_pid=4711)
    found["status-prepared.txt"] = render_status(preparing)
    failed = Status(
        state="idle",
        reason="failed",
        refusal="pool_too_large",
        error="a pool of 9000 MiB does not fit: 1500 MiB are available",
        machine="kvm_guest",
    )
    found["status-refused.txt"] = render_status(failed)
    counting = images.report(pages_counted=131_072, pages_live=9_000, pages_unguarded=0)
    found["receipt-counting.txt"] = receipt.render(counting)
    found["doctor.txt"] = render(
        [
            doctor.Check("privileges", doctor.OK, "root with all capabilities needed"),
            doctor.Check("bcc", doctor.WARN, "no BCC", "Install it"),
            doctor.Check("symbols", doctor.FAIL, "kallsyms has no init_mm", "Use another kernel"),
        ]
    )
    found["snapshot.txt"] = _run(["snapshot"])
    found["errors.txt"] = _run(["release"])
    return {name: text.rstrip("\n") + "\n" for name, text in found.items()}


def _helps(program: str, group: click.Group, prefix: str) -> dict[str, str]:
    """Of the command itself and of each below it."""
    below = {f"{prefix}-{name}.txt": [name] for name in group.commands}
    found = {}
    for file, command in {f"{prefix}.txt": [], **below}.items():
        result = CliRunner(env={"COLUMNS": "80"}).invoke(
            group, [*command, "--help"], prog_name=program, terminal_width=80
        )
        assert result.exit_code == 0, result.output
        found[file] = result.output
    return found


def _run(arguments: list[str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        module = FakeModule(Path(folder) / "proc")
        result = CliRunner().invoke(cli, arguments, obj=module.services())
    return result.output or f"{type(result.exception).__name__}: {result.exception}"


def refresh() -> int:
    """Write all files; returns how many changed."""
    FOLDER.mkdir(exist_ok=True)
    wanted = outputs()
    changed = 0
    for old in FOLDER.glob("*.txt"):
        if old.name not in wanted:
            old.unlink()
            changed += 1
    for name, text in wanted.items():
        path = FOLDER / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"{os.path.relpath(path)}\n")
            changed += 1
    return changed


if __name__ == "__main__":
    sys.stdout.write(f"{refresh()} changed; read the difference before you commit it\n")
