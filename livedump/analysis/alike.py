"""What makes two recordings hard to compare: not the same was recorded, or not on the same
machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from livedump.kinds import QUESTION_OF
from livedump.recording.meta import filter_text
from livedump.recording.store import Recording

#: How a line begins that makes numbers mean something else.
GRAVE = "not comparable: "

_MACHINE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "host": lambda meta: meta["host"],
    "kernel": lambda meta: meta["kernel"]["release"],
    "processor": lambda meta: meta["kernel"]["machine"],
    "number of CPUs": lambda meta: meta["cpus"],
    "memory": lambda meta: f"{meta['memory_bytes'] / (1 << 30):.1f} GiB",
    "livedump": lambda meta: meta["versions"].get("livedump"),
}

#: These change what recording costs.
_OPTIONS = {"stacks": "stacks taken", "user_stacks": "user stacks", "events": "every event kept"}


def measured(recording: Recording, kind: str) -> bool:
    """Whether faults of this kind would have been recorded, had there been any."""
    return QUESTION_OF.get(kind) in recording.meta["questions"]


def differences(before: Recording, after: Recording) -> list[str]:
    """Why A and B are not alike, a line for each reason, the gravest first."""
    a, b = before.meta, after.meta
    grave = (_ended, _filters, _questions, _probes, _options)
    return [
        *(f"{GRAVE}{line}" for find in grave for line in find(a, b)),
        *_absent(a, b),
        *(
            f"different {name}: A {value(a)}, B {value(b)}"
            for name, value in _MACHINE.items()
            if value(a) != value(b)
        ),
        *_uncounted(a, b),
    ]


_Meta = dict[str, Any]


def _ended(a: _Meta, b: _Meta) -> Iterator[str]:
    for name, meta in (("A", a), ("B", b)):
        if meta["ended_by"] == "killed":
            yield f"{name}'s recorder was killed before its end"
        if status := (meta["command"] or {}).get("status"):
            yield f"{name}'s command failed: exit status {status}"


def _filters(a: _Meta, b: _Meta) -> Iterator[str]:
    chosen = [meta["options"].get("filter") or {} for meta in (a, b)]
    # The same process has another number each time.
    without = [{**each, "pids": "pids" in each} for each in chosen]
    if without[0] != without[1]:
        sides = [filter_text(each) for each in chosen]
        only = [f"only {text}" if text else "everybody" for text in sides]
        yield f"A recorded {only[0]}, B recorded {only[1]}"


def _questions(a: _Meta, b: _Meta) -> Iterator[str]:
    for name, own, other in (("A", a, b), ("B", b, a)):
        if only := [each for each in own["questions"] if each not in other["questions"]]:
            yield f"only {name} recorded {', '.join(only)}"


def _probes(a: _Meta, b: _Meta) -> Iterator[str]:
    """Another function, or another way to attach, measures something else."""
    found = [{p["name"]: f"{p['point']} ({p['attach']})" for p in m["probes"]} for m in (a, b)]
    for name in sorted(found[0].keys() & found[1].keys()):
        if found[0][name] != found[1][name]:
            yield f"{name} is {found[0][name]} in A, {found[1][name]} in B"


def _options(a: _Meta, b: _Meta) -> Iterator[str]:
    for option, words in _OPTIONS.items():
        values = [meta["options"].get(option) for meta in (a, b)]
        if values[0] != values[1]:
            yield f"{words}: A {_value(values[0])}, B {_value(values[1])}"
    if a["slice_ns"] != b["slice_ns"]:
        yield f"slices of {a['slice_ns'] / 1e6:g} ms in A, {b['slice_ns'] / 1e6:g} ms in B"


def _value(option: Any) -> str:
    return {True: "yes", False: "no", None: "not known"}.get(option, str(option))


def _absent(a: _Meta, b: _Meta) -> Iterator[str]:
    lines = [[f"{each['name']}: {each['reason']}" for each in meta["absent"]] for meta in (a, b)]
    return _by_side("not recorded", *lines)


def _uncounted(a: _Meta, b: _Meta) -> Iterator[str]:
    return _by_side("not countable", a["unmeasured"], b["unmeasured"])


def _by_side(words: str, a: list[str], b: list[str]) -> Iterator[str]:
    """What both have in one line."""
    for line in dict.fromkeys([*a, *b]):
        where = " and ".join(n for n, lines in (("A", a), ("B", b)) if line in lines)
        yield f"{words} in {where}: {line}"
