"""``python -m tools.guest.load``: the mixed load, for as long as you like."""

from __future__ import annotations

import json

import click

from tools.guest.load.mixed import run


@click.command()
@click.option("--seconds", type=float, help="How long; default: until SIGTERM or Ctrl-C.")
@click.option("--pause", default=0.005, show_default=True, help="Seconds between steps.")
def main(seconds: float | None, pause: float) -> None:
    """Processes, files, forks and a network of its own; prints `ready`, then the steps made.

    \b
    Example:
      python -m tools.guest.load --seconds 10
    """
    steps = run(seconds, pause, ready=lambda: click.echo("ready"))
    click.echo(json.dumps(steps))


if __name__ == "__main__":
    main()
