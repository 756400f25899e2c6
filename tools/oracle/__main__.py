"""``python -m tools.oracle``: run the matrix and the mutants, print one table."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from livedump.control import STRATEGIES
from tools.oracle.judge import outcome as outcomes
from tools.oracle.judge.outcome import Outcome
from tools.oracle.plan import NOT_ZEROED, Case, matrix, mutants
from tools.oracle.read.core import CoreError
from tools.oracle.take.guest import Job
from tools.oracle.take.run import ORACLE, Machine, NotArmed, Taken, prepare, remove_memory, take
from tools.vm import VmError
from tools.vm.config import parse_bytes
from tools.vm.machines import SERIES

#: Share of RAM that the churn rewrites; more than must change.
CHURN_SHARE = 0.08
_SHOWN = 12


def run_case(case: Case, machine: Machine, keep: bool) -> Outcome:
    """One run and its judgement; what goes wrong becomes the outcome's error."""
    begun = time.monotonic()
    job = Job(
        strategy=case.strategy,
        parameters=case.parameters(),
        churn_mib=int(parse_bytes(machine.memory) * CHURN_SHARE) >> 20,
        ambush=case.tests,
        not_zeroed=case.append == NOT_ZEROED,
        balloon=case.balloon,
    )
    folder = prepare(case.name)
    try:
        machine = replace(
            machine,
            kernel=case.kernel,
            la57=case.la57,
            append=case.append,
            test=case.tests,
            balloon=case.balloon,
        )
        try:
            taken = take(machine, job, folder)
        except NotArmed as error:
            # Seen twice on a host that ran five machines: a guest without a timer tick for minutes,
            # and a load that could not start. No snapshot was taken, so nothing is judged twice.
            click.echo(f"oracle: {str(error).splitlines()[0]} Booting once more", err=True)
            taken = take(machine, job, folder)
        seconds = {"run": round(time.monotonic() - begun, 1)}
        return _judged(case, taken, seconds)
    except (VmError, CoreError, LookupError) as error:
        return Outcome(case, {}, {}, {}, f"{type(error).__name__}: {error}")
    finally:
        if not keep:
            remove_memory(folder)


def _judged(case: Case, taken: Taken, seconds: dict[str, float]) -> Outcome:
    from tools.oracle.judge.verdict import Judge  # drgn: only where there is something to judge

    begun = time.monotonic()
    verdict = Judge(taken.folder, case.strategy, taken.guest).judge()
    seconds["judge"] = round(time.monotonic() - begun, 1)
    return Outcome(case, verdict.to_dict(), taken.guest, seconds)


def run_all(cases: list[Case], machine: Machine, keep: bool) -> list[Outcome]:
    """One after the other; each is written as soon as it is there."""
    console = Console(stderr=True)
    done = []
    for number, case in enumerate(cases, 1):
        console.print(f"oracle: {number} of {len(cases)}: {case.name}", highlight=False)
        found = run_case(case, machine, keep)
        outcomes.write(found, ORACLE)
        done.append(found)
        lines = [] if found.ok and case.mutant else outcomes.details(found)
        for line in [*lines[:_SHOWN], f"{found.word}"]:
            console.print(f"oracle:   {line}", highlight=False, markup=False)
    return done


@click.command()
@click.option("--kernel", "kernels", multiple=True, default=SERIES, show_default=True)
@click.option("--strategy", "strategies", multiple=True, default=STRATEGIES, show_default=True)
@click.option("--memory", default="1G", show_default=True, help="The machines' RAM.")
@click.option("--short", is_flag=True, help="One run: the first kernel, the first strategy.")
@click.option("--mutants/--no-mutants", "with_mutants", default=True, show_default=True)
@click.option("--only", help="Only runs whose name contains this, e.g. 6.1-5level-eager-flush.")
@click.option("--keep", is_flag=True, help="Keep the dumps below build/oracle/.")
@click.option(
    "--modules",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Builds made beforehand, in folders named by release; default: build the tree.",
)
def main(
    kernels: tuple[str, ...],
    strategies: tuple[str, ...],
    memory: str,
    short: bool,
    with_mutants: bool,
    only: str | None,
    keep: bool,
    modules: Path | None,
) -> None:
    """Judge snapshots by what QEMU saw at the instant. Exit status 1 unless all is as it must be.

    \b
    Example:
      python -m tools.oracle --kernel 6.1 --strategy eager --no-mutants --keep
    """
    cases = list(matrix(kernels, strategies))
    cases = cases[:1] if short else cases
    if with_mutants and not short:
        cases += mutants(kernels[0], strategies)
    cases = [case for case in cases if not only or only in case.name]
    done = run_all(cases, Machine(memory=memory, modules=modules), keep)
    Console(width=140).print(outcomes.table(done))
    click.echo(f"details in {ORACLE}/*.json")
    good = sum(found.ok for found in done)
    click.echo(f"oracle: {good} of {len(done)} as they must be")
    sys.exit(0 if done and good == len(done) else 1)


if __name__ == "__main__":
    main()
