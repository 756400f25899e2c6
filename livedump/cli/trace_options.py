"""Options that several commands of livedump-trace have."""

from __future__ import annotations

import click

kinds_option = click.option(
    "--kind", "kinds", multiple=True, metavar="K", help="Only this kind; may be repeated."
)

by_option = click.option(
    "--by",
    type=click.Choice(["count", "stalled"]),
    default="count",
    show_default=True,
    help="Weight of stacks: faults, or nanoseconds stalled.",
)
