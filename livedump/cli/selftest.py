"""``livedump selftest``: try on this machine what no emulated one can show."""

from __future__ import annotations

from contextlib import ExitStack

import click

from livedump.cli.common import EXIT_ERROR, emit, examples, json_option, parsed, spinner
from livedump.cli.services import Services
from livedump.errors import NotLoadedError, SelfTestError
from livedump.selftest.rounds import Options, Outcome, Round, SelfTest
from livedump.units import format_ns, parse_size

DEFAULT_ROUNDS = 3


def render_round(number: int, item: Round) -> str:
    """One line for a round, its problems and remarks below it."""
    report = item.report
    compared = item.compared
    lines = [
        f"round {number}: {'FAIL' if item.problems else 'ok'}, verdict {item.verdict}, downtime "
        f"{format_ns(report['stop_ns'])}, {report['faults']:,} faults, {item.nmis_held:,} NMIs, "
        f"{compared.pages:,} pages read twice ({compared.newer:,} have changed in memory)"
    ]
    lines += [f"  FAIL {text}" for text in item.problems]
    lines += [f"  note {text}" for text in item.remarks]
    return "\n".join(lines)


def render(outcome: Outcome) -> str:
    """What was exercised, what was not, and the result."""
    exercised = outcome.exercised()
    ran = [name for name, value in exercised.items() if value]
    rest = [name for name, value in exercised.items() if not value]
    lines = [render_round(number, item) for number, item in enumerate(outcome.rounds, 1)]
    lines += [
        f"cpu            {outcome.identity.cpu}",
        f"cycle counter  {outcome.sampling or 'sampled, for NMIs'}",
        f"exercised      {', '.join(ran) or 'nothing that emulation cannot run'}",
        f"not exercised  {', '.join(rest) or 'nothing'}",
        "passed" if outcome.passed else "FAILED: do not trust snapshots of this machine",
    ]
    return "\n".join(lines)


def _pool(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int:
    return 0 if value is None else parsed(parse_size, value)


@click.command(
    epilog=examples(
        "livedump selftest",
        "livedump selftest --rounds 20 --hold 10",
        "livedump selftest --json | jq .exercised",
    )
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=DEFAULT_ROUNDS,
    show_default=True,
    help="Snapshots to take.",
)
@click.option(
    "--hold",
    type=click.FloatRange(0.1, 60),
    metavar="SECONDS",
    default=Options.hold_s,
    show_default=True,
    help="How long each is held.",
)
@click.option(
    "--pool",
    metavar="SIZE",
    callback=_pool,
    help="Memory for copies of pages; default: a quarter of what is available, 512M at most.",
)
@click.option("--module", "module_path", metavar="PATH", help="The module to load, if none is.")
@json_option
@click.pass_context
def selftest(
    ctx: click.Context, rounds: int, hold: float, pool: int, module_path: str | None
) -> None:
    """Test this machine: take short snapshots under load, and check them.

    Tests run on emulated machines, which lack much of a real one: see docs/untested.md. This runs
    on the real one and says which of that it has exercised. The result is kept, and `livedump
    doctor` says whether this kernel, module and CPU have passed.

    Loads the module if it is not loaded, and unloads it again then. Exit status 1 when a check
    failed, or the result could not be kept.
    """
    services: Services = ctx.obj
    host = services.host()
    host.require_root()
    options = Options(hold_s=hold, pool_bytes=pool)
    test = SelfTest(host, options, control=services.control, image_path=services.image_path)
    done: list[Round] = []
    with ExitStack() as stack:
        if _load(services, module_path):
            stack.callback(services.unload)
        for number in range(1, rounds + 1):
            with spinner(f"round {number} of {rounds}"):
                done.append(test.round())
        outcome = test.outcome(done)
    record = host.record()
    kept, error = f"kept in {record.path}", None
    try:
        record.save(outcome.identity, outcome.to_dict())
    except SelfTestError as caught:
        kept, error = f"NOT kept: {caught}", caught.to_dict()
    emit(
        {**outcome.to_dict(), "path": str(record.path), "error": error},
        lambda: f"{render(outcome)}\n{kept}",
    )
    if error or not outcome.passed:
        ctx.exit(EXIT_ERROR)


def _load(services: Services, module_path: str | None) -> bool:
    """Make sure that the module is loaded; True when we did it."""
    try:
        with services.control():
            return False
    except NotLoadedError:
        return services.load(services.find_module(module_path))
