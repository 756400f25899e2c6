"""``make stats``: the long form of what tests/unit/analysis/test_chance.py asks in short."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace

from livedump.analysis.compare import METRICS
from tools.paths import BUILD
from tools.stats.loads import Load
from tools.stats.study import Case, Found, study

EVEN = Load("even")
LOADS = {
    "even": EVEN,
    "bursts of 0.5 s": Load("bursts", 0.5),
    "bursts of 2 s": Load("bursts", 2),
    "bursts of 5 s": Load("bursts", 5),
    "two modes": Load("two modes"),
    "gc": Load("gc"),
    "on and off": Load("on and off"),
    "start": Load("start"),
    "one burst": Load("one burst"),
}


def equal() -> Iterator[Case]:
    """One run of each, nothing changed."""
    for name, load in LOADS.items():
        for seconds in (10, 30, 60):
            yield Case(f"{name}, {seconds} s", load, load, seconds)


def slower() -> Iterator[Case]:
    """One run of each, all faults slower."""
    for name in ("even", "bursts of 0.5 s", "two modes"):
        for factor in (1.03, 1.05, 1.1, 1.2):
            load = LOADS[name]
            yield Case(f"{name}, x{factor}", load, replace(load, slower=factor))


def between() -> Iterator[Case]:
    """Runs differ among themselves: one of each is wrong, several are not."""
    for runs in ((1, 1), (1, 3), (2, 2), (3, 3), (5, 5)):
        for run_sd in (0.02, 0.05, 0.1):
            load = replace(EVEN, run_sd=run_sd)
            yield Case(f"{runs[0]}+{runs[1]} runs, sd {run_sd:.0%}", load, load, runs=runs)
    for runs in ((2, 2), (3, 3)):
        yield Case(
            f"{runs[0]}+{runs[1]} runs, two modes",
            LOADS["two modes"],
            LOADS["two modes"],
            runs=runs,
        )
    for runs in ((2, 2), (3, 3)):
        yield Case(
            f"{runs[0]}+{runs[1]} runs, one burst in B's",
            LOADS["even"],
            LOADS["one burst"],
            60,
            runs,
        )
    for runs in ((2, 2), (3, 3), (5, 5)):
        for factor in (1.1, 1.2):
            load = replace(EVEN, run_sd=0.02)
            yield Case(
                f"{runs[0]}+{runs[1]} runs, sd 2%, x{factor}",
                load,
                replace(load, slower=factor),
                runs=runs,
            )


GROUPS = {"equal": equal, "slower": slower, "between": between}


def main() -> None:
    """All cases, or a group of them."""
    parser = argparse.ArgumentParser(prog="python -m tools.stats", description=__doc__)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--only", choices=GROUPS, action="append")
    parser.add_argument("--case", help="cases whose names have this")
    options = parser.parse_args()
    kept = []
    for group in options.only or GROUPS:
        print(f"\n{group}: % of {options.pairs} pairs; intervals that leave out 0, any *\n")
        print(_line(["case", *METRICS, "any", "any *", "fails: p99", "p99.9", "max", "mean >+20%"]))
        print(_line(["---"] * (len(METRICS) + 7)))
        for case in GROUPS[group]():
            if not options.case or options.case in case.name:
                found = study(case, options.pairs)
                kept.append(asdict(found))
                print(_row(found), flush=True)
    folder = BUILD / "stats"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stats.json").write_text(json.dumps(kept, indent=1))


def _row(found: Found) -> str:
    alone = [_percent(found.alone, metric) for metric in METRICS]
    anywhere = [f"{100 * share:.1f}" for share in (found.any_alone, found.any_star)]
    fails = [f"{100 * share:.1f}" for share in found.fails.values()]
    return _line([found.case.name, *alone, *anywhere, *fails])


def _percent(shares: Mapping[str, float], metric: str) -> str:
    return f"{100 * shares[metric]:.1f}" if metric in shares else "-"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
