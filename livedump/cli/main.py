"""The ``livedump`` command."""

from __future__ import annotations

from typing import NoReturn

import click

from livedump import __version__
from livedump.cli.common import command_main, examples
from livedump.cli.doctor import doctor
from livedump.cli.dump import dump, info
from livedump.cli.module import load, unload
from livedump.cli.open import open_dump
from livedump.cli.selftest import selftest
from livedump.cli.services import Services
from livedump.cli.snapshot import release, snapshot, status


@click.group(
    name="livedump",
    epilog=examples(
        "livedump doctor                    is this machine ready?",
        "livedump load                      load the kernel module",
        "livedump snapshot --dump vmcore    snapshot, dump, release",
        "livedump info vmcore               the receipt of a dump",
        "livedump open vmcore               what crash sees in it",
    ),
)
@click.version_option(__version__, prog_name="livedump")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Consistent memory snapshots of a running Linux kernel.

    Exit status: 0 when everything promised happened, 1 when a step failed, 2 for wrong usage,
    3 when a dump was written but is not complete (pages lost, or not proven).
    """
    ctx.ensure_object(Services)


for command in (doctor, selftest, load, unload, status, snapshot, dump, release, info, open_dump):
    cli.add_command(command)


def main() -> NoReturn:
    """Entry point of the console script."""
    command_main(cli)
