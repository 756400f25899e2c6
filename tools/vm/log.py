"""Reading kernel logs: what must never be in one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Complaint:
    """A kind of line that no healthy kernel prints."""

    name: str
    pattern: re.Pattern[str]


def _complaint(name: str, pattern: str) -> Complaint:
    return Complaint(name, re.compile(pattern))


#: The deny-list. tests/unit/tools/test_vm_log.py holds a sample for each entry.
COMPLAINTS = (
    _complaint("BUG", r"\bBUG\b[: ]|kernel BUG at"),
    _complaint("WARNING", r"\bWARNING: "),
    _complaint("Oops", r"\bOops\b|Unable to handle kernel|unable to handle page fault"),
    _complaint("general protection", r"general protection"),
    _complaint("double fault", r"double fault|stack guard page was hit"),
    _complaint("machine check", r"mce: \[Hardware Error\]|Machine check"),
    _complaint("panic", r"Kernel panic"),
    _complaint("hung task", r"blocked for more than \d+ seconds"),
    _complaint("lockup", r"(soft|hard) lockup|hard LOCKUP"),
    _complaint("RCU stall", r"rcu.*(self-)?detected.* stall|rcu.*kthread.* starved"),
    _complaint("lock debugging", r"possible (recursive|circular) locking|suspicious RCU usage"),
    _complaint("bad page table", r"\bbad (pgd|p4d|pud|pmd|pte)\b|Bad (page|rss-counter)"),
    _complaint("corruption", r"(list_(add|del)|[Ss]lab|[Pp]age) corrupt|Object.*corrupt"),
    _complaint("sanitizer", r"\b(KASAN|KCSAN|KMSAN|KFENCE|UBSAN): "),
    _complaint("use count", r"refcount_t: |Freeing alive|waiting for .* to become free"),
    _complaint("unsafe module end", r"Attempt to (unload|release)|still has \d+ objects"),
    _complaint("MSR", r"unchecked MSR access"),
    _complaint("IRQ", r"nobody cared|Fixing recursive fault"),
)


def scan(lines: Iterable[str]) -> list[str]:
    """Every line that matches the deny-list, as "NAME: LINE", in order."""
    found = []
    for line in lines:
        for complaint in COMPLAINTS:
            if complaint.pattern.search(line):
                found.append(f"{complaint.name}: {line.strip()}")
                break
    return found


def cause_of_death(lines: Iterable[str]) -> str | None:
    """The panic line of a log, if it holds one."""
    for line in lines:
        if "Kernel panic - not syncing" in line:
            return line.split("] ", 1)[-1].strip()
    return None


def excerpt(lines: Sequence[str], count: int = 40) -> list[str]:
    """What to show of a dead guest's log: from the first bad line on, or else the last lines."""
    for index, line in enumerate(lines):
        if scan([line]):
            return list(lines[index : index + count])
    return list(lines[-count:])
