"""Command line of tools.vm: run, shell, kernels, fetch."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from tools.vm import kernels
from tools.vm.config import ACCELERATOR, Disk, VmConfig, parse_bytes
from tools.vm.errors import VmError
from tools.vm.machine import note
from tools.vm.machine import run as run_machine
from tools.vm.machines import SERIES
from tools.vm.nmi import injector
from tools.vm.shell import shell as run_shell


def parse_disk(text: str) -> Disk:
    """FILE (which must exist) or FILE:SIZE (made anew), e.g. build/dump.img:4G."""
    if match := re.fullmatch(r"(.+):(\d+[KMGT]?)", text):
        return Disk(Path(match[1]), parse_bytes(match[2]))
    return Disk(Path(text))


def machine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that describe a machine."""
    default = VmConfig()
    options = (
        click.option("--kernel", default=default.kernel, show_default=True, help="Series."),
        click.option("--memory", default=default.memory, show_default=True),
        click.option("--cpus", type=click.IntRange(1), default=default.cpus, show_default=True),
        click.option("--la57/--no-la57", default=True, help="5-level page tables (the default)."),
        click.option(
            "--disk",
            "disks",
            type=parse_disk,
            multiple=True,
            metavar="FILE[:SIZE]",
            help="A raw virtio-blk disk: /dev/vda, ...; with SIZE (e.g. 4G) it is made anew.",
        ),
        click.option("--append", multiple=True, metavar="KARG", help="Kernel option; repeatable."),
        click.option("--qemu", multiple=True, metavar="ARG", help="Of QEMU's own; repeatable."),
        click.option("--env", multiple=True, metavar="NAME=VALUE", help="Environment of CMD."),
        click.option("--accel", type=click.Choice(list(ACCELERATOR)), help="Skip the probe boot."),
        click.option("--name", help="Folder below build/vm; default: the kernel series."),
        click.option("--no-kmod", is_flag=True, help="Do not build the module first."),
        click.option("--test-kmod", is_flag=True, help="The module's test build (kmod/test.h)."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _config(options: dict[str, Any]) -> VmConfig:
    if wrong := [pair for pair in options["env"] if "=" not in pair]:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE", param_hint="--env")
    return VmConfig(
        kernel=options["kernel"],
        memory=options["memory"],
        cpus=options["cpus"],
        la57=options["la57"],
        disks=options["disks"],
        append=options["append"],
        qemu_args=options["qemu"],
        env=dict(pair.split("=", 1) for pair in options["env"]),
        accelerator=options["accel"],
        name=options["name"],
        build_kmod=not options["no_kmod"],
        test_kmod=options["test_kmod"],
    )


@click.group()
def main() -> None:
    """Boot Debian's stock kernels with virtme-ng."""


@main.command(context_settings={"ignore_unknown_options": False})
@machine_options
@click.option("--timeout", type=float, metavar="SECONDS", help="Stop the guest after this long.")
@click.option(
    "--nmi", type=float, metavar="HZ", help="So many NMIs a second, while $LIVEDUMP_NMI exists."
)
@click.argument("command", nargs=-1, required=True, metavar="-- CMD...")
def run(command: tuple[str, ...], timeout: float | None, nmi: float | None, **options: Any) -> None:
    """Run CMD as root in a fresh machine and return its exit status.

    Other statuses: 121 CMD succeeded but the kernel log is bad, 122 the guest died, 124 time is up,
    125 the machine could not be started.

    Example: python -m tools.vm run --kernel 6.12 --memory 4G -- uname -a
    """
    config = replace(_config(options), timeout_s=timeout)
    if nmi is None:
        sys.exit(run_machine(config, command).status)
    with injector(nmi) as source:
        told = {**config.env, "LIVEDUMP_NMI": str(source.wanted)}
        config = replace(config, env=told, qemu_args=(*config.qemu_args, *source.qemu_args))
        with source.running():
            status = run_machine(config, command).status
    note(f"{source.injected} NMIs injected")
    sys.exit(status)


@main.command()
@machine_options
def shell(**options: Any) -> None:
    """A root shell in the guest. Leave it with Ctrl-D; Ctrl-A X ends the machine."""
    run_shell(_config(options))


@main.command(name="kernels")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--latest", is_flag=True, help="The newest that apt knows.")
@click.argument("series", nargs=-1)
def list_kernels(series: tuple[str, ...], as_json: bool, latest: bool) -> None:
    """The kernel that each series stands for; without a name, of each that there is."""
    found = [kernels.resolve(name, latest) for name in series or kernels.known(SERIES)]
    rows = [
        {
            "series": kernel.series,
            "release": kernel.release,
            "fetched": kernel.image.exists(),
            "headers": kernel.headers.exists(),
            "vmlinux": str(kernel.vmlinux) if kernel.vmlinux.exists() else None,
        }
        for kernel in found
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        for row in rows:
            click.echo(row["release"])


@main.command()
@click.option("--debug", is_flag=True, help="Debian's vmlinux with debug information instead.")
@click.option("--latest", is_flag=True, help="The newest that apt knows.")
@click.argument("series", nargs=-1, required=True)
def fetch(series: tuple[str, ...], debug: bool, latest: bool) -> None:
    """Get kernels into the cache folder, and print where they are."""
    for name in series:
        kernel = kernels.resolve(name, latest)
        click.echo(kernels.fetch_debug(kernel) if debug else kernels.fetch(kernel).root)


def entry() -> None:
    """Run the command line; a VmError becomes one message and its own exit status."""
    try:
        main(prog_name="python -m tools.vm")
    except VmError as error:
        print(f"vm: error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    entry()
