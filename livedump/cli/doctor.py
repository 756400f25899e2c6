"""``livedump doctor``: is this machine ready, and if not, what to do."""

from __future__ import annotations

import click

from livedump import doctor as checks
from livedump.cli.common import EXIT_ERROR, emit, examples, json_option
from livedump.cli.services import Services

_MARKS = {checks.OK: "ok  ", checks.WARN: "WARN", checks.FAIL: "FAIL"}


def render(results: list[checks.Check]) -> str:
    """One line for each check, the remedy below it, and a summary."""
    width = max(len(check.name) for check in results)
    lines = []
    for check in results:
        lines.append(f"{_MARKS[check.status]}  {check.name:<{width}}  {check.message}")
        if check.remedy:
            lines.append(f"{'':{width + 6}}  -> {check.remedy}")
    failed = sum(check.status == checks.FAIL for check in results)
    warned = sum(check.status == checks.WARN for check in results)
    if failed:
        lines.append(f"{failed} of {len(results)} checks failed: snapshots will not work here")
    elif warned:
        lines.append(f"snapshots should work here; {warned} of {len(results)} checks warn")
    else:
        lines.append("this machine is ready")
    return "\n".join(lines)


@click.command(
    epilog=examples(
        "livedump doctor",
        "livedump doctor --json | jq '.checks[] | select(.status != \"ok\")'",
    )
)
@click.option("--module", "module_path", metavar="PATH", help="The module to check.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, module_path: str | None) -> None:
    """Check every prerequisite and say what to do about what is missing.

    Exit status 1 when a check failed; warnings do not count.
    """
    services: Services = ctx.obj
    results = checks.run(services.machine(module_path))
    failed = any(check.status == checks.FAIL for check in results)
    emit(
        {"ok": not failed, "checks": [check.to_dict() for check in results]},
        lambda: render(results),
    )
    if failed:
        ctx.exit(EXIT_ERROR)
