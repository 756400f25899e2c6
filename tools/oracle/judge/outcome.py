"""What a run came to, as plain values, and the table of them all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from tools.oracle.plan import Case


@dataclass(frozen=True)
class Outcome:
    """One row.

    :ivar verdict: see :meth:`tools.oracle.judge.verdict.Verdict.to_dict`; empty after *error*
    :ivar guest: what the guest wrote: livedump's own verdict and report, what the witness found
    """

    case: Case
    verdict: dict[str, Any]
    guest: dict[str, Any]
    seconds: dict[str, float]
    error: str = ""

    @property
    def caught(self) -> bool:
        """The oracle or the witness found something."""
        return bool(self.verdict) and bool(
            self.verdict["unexplained_pages"]
            or self.guest["wrong_pages"]
            or self.guest["torn_rows"]
        )

    @property
    def ok(self) -> bool:
        """As it must be: a mutant is caught; else it is clean, counts, and livedump agrees."""
        if self.error or not self.verdict:
            return False
        if self.case.mutant:
            return self.caught
        return (
            self.verdict["clean"]
            and self.verdict["counts"]
            and not self.caught
            and self.guest["verdict"] == "complete"
        )

    @property
    def word(self) -> str:
        """For the table."""
        if self.error:
            return "ERROR"
        if self.case.mutant:
            return "caught" if self.caught else "SURVIVED"
        if self.ok:
            return "clean"
        return "DIFFERS" if self.verdict["clean"] is False or self.caught else "DOES NOT COUNT"

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "kernel": self.case.kernel,
            "append": list(self.case.append),
            "levels": self.case.levels,
            "strategy": self.case.strategy,
            "mutant": self.case.mutant,
            "delays_us": list(self.case.delays_us),
            "ok": self.ok,
            "word": self.word,
            "error": self.error,
            "seconds": self.seconds,
            "verdict": self.verdict,
            "guest": self.guest,
        }


def write(outcome: Outcome, folder: Path) -> Path:
    """FOLDER/NAME.json"""
    path = folder / f"{outcome.case.name}.json"
    path.write_text(json.dumps(outcome.to_dict(), indent=1) + "\n")
    return path


_COLUMNS = (
    *("kernel", "levels", "strategy", "mutant", "covered", "changed", "unexplained"),
    *("explained", "unguarded", "live", "witness", "s", "verdict"),
)


def table(outcomes: list[Outcome]) -> Table:
    """One row for each run. Pages; `changed` of the covered ones, as a share of RAM.

    `witness`: pages that it found unlike the instant / torn rows.
    """
    shown = Table(*_COLUMNS)
    for outcome in outcomes:
        shown.add_row(*_row(outcome))
    return shown


def _row(outcome: Outcome) -> list[str]:
    case, verdict = outcome.case, outcome.verdict
    mutant = case.mutant or ("(delays)" if any(case.delays_us) else "")
    head = [" ".join((case.kernel, *case.append)), str(case.levels), case.strategy, mutant]
    tail = [f"{sum(outcome.seconds.values()):.0f}", outcome.word]
    if not verdict:
        return [*head, *[""] * (len(_COLUMNS) - len(head) - len(tail)), *tail]
    return [
        *head,
        f"{verdict['covered']:,}",
        f"{verdict['changed_covered']:,} ({verdict['changed_share']:.1%})",
        f"{verdict['unexplained_pages']:,}",
        f"{sum(verdict['explained'].values()):,}",
        f"{verdict['differ'].get('unguarded', 0):,}",
        f"{verdict['differ'].get('live', 0):,}",
        f"{outcome.guest['wrong_pages']} / {outcome.guest['torn_rows']}",
        *tail,
    ]


def details(outcome: Outcome) -> list[str]:
    """What is to be said about a row that is not as it must be, and what was explained."""
    said = [outcome.error] if outcome.error else []
    if not outcome.verdict:
        return said
    said += outcome.verdict["problems"]
    if outcome.verdict["lost"]:
        said.append(f"{outcome.verdict['lost']} pages lost")
    for item in outcome.verdict["unexplained"]:
        said.append(
            f"pfn {item['pfn']:#x} {item['kind']}: {item['name']}, bytes {item['first']} to "
            f"{item['last']}{', zeros' * item['zeros']}{', as after the drain' * item['as_after']}"
        )
    return said
