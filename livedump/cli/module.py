"""``livedump load`` and ``livedump unload``."""

from __future__ import annotations

import click

from livedump.cli.common import emit, examples, json_option
from livedump.cli.services import Services


@click.command(
    epilog=examples("livedump load", "livedump load --module build/kmod/$(uname -r)/livedump.ko")
)
@click.option(
    "--module",
    "module_path",
    metavar="PATH",
    help="livedump.ko or its folder; default: $LIVEDUMP_KO, then the installed one.",
)
@json_option
@click.pass_context
def load(ctx: click.Context, module_path: str | None) -> None:
    """Load the kernel module; fine if it is loaded already."""
    services: Services = ctx.obj
    module = services.find_module(module_path)
    fresh = services.load(module)
    emit(
        {"loaded": True, "already": not fresh, "path": str(module.path), "origin": module.origin},
        f"loaded {module.path}" if fresh else "the module was loaded already",
    )


@click.command(epilog=examples("livedump unload"))
@json_option
@click.pass_context
def unload(ctx: click.Context) -> None:
    """Unload the kernel module; refused while a snapshot is held."""
    services: Services = ctx.obj
    services.unload()
    emit({"loaded": False}, "unloaded")
