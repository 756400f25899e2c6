"""What readers of a recording rely on in its meta.json, checked once.

A rule is a type, a range of whole numbers, None for nothing (null or {}), a tuple of alternatives,
a list with the rule of its members, or the rules of an object's keys. A key that ends in ``?`` may
be absent; others that are not named here may be anything. Why this is no JSON Schema:
docs/decisions/029-own-rules-for-meta.md.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

#: Also for what counts: DuckDB and Parquet have 64 bits.
_COUNT = range(0, 1 << 63)
_TIME = _COUNT

#: As :meth:`livedump.trace.probe.filters.Filter.to_dict` has it.
_FILTER = {"pids?": [_COUNT], "comm?": str, "cgroup?": str}
_FILTER_WORDS = {"pids": "process", "comm": "tasks named", "cgroup": "cgroup"}

_RULES: dict[str, Any] = {
    "minor": _COUNT,
    "recording_id": str,
    "host": str,
    "machine_id": str,
    "boot_id": str,
    "kernel": {"release": str, "machine": str},
    "cpus": _COUNT,
    "memory_bytes": _COUNT,
    "versions": {"livedump": str},
    "clocks": {
        "start": {"realtime_ns": _TIME, "monotonic_ns": _TIME, "boottime_ns?": _TIME},
        "end": {"monotonic_ns": _TIME, "boottime_ns?": _TIME},
    },
    "slice_ns": range(1, 1 << 63),
    "ended_by": str,
    "questions": [str],
    "probes": [{"name": str, "point": str, "attach": str}],
    "absent": [{"name": str, "reason": str}],
    "unmeasured": [str],
    "losses_total": _COUNT,
    "events_lost?": _COUNT,
    "stacks_lost?": _COUNT,
    "rows_lost?": _COUNT,
    "options": {
        "filter?": (None, _FILTER),
        "stacks?": (None, str),
        "user_stacks?": (None, bool),
        "events?": (None, bool),
    },
    "command": (None, {"argv": [str], "status": (None, range(-(1 << 31), 1 << 31))}),
    "labels": dict,
    "triggers": [
        {
            "slice": _COUNT,
            "condition": str,
            "value?": (_COUNT, float),
            "error": (None, str),
            "done": (None, {"file": str, "verdict": str}),
        }
    ],
    "tables": dict,
}

#: Less is how exactly clocks can be read.
_SHORTEST_SLEEP_NS = 10_000_000

#: As many as the column ``slice`` can number.
_MOST_SLICES = 1 << 32


def lasted_ns(meta: Mapping[str, Any]) -> int:
    """How long the recording lasted."""
    clocks = meta["clocks"]
    return int(clocks["end"]["monotonic_ns"]) - int(clocks["start"]["monotonic_ns"])


def suspended_ns(meta: Mapping[str, Any]) -> int:
    """How long the machine slept meanwhile: no clock of the recording's went on."""
    passed = [
        clock["boottime_ns"] - clock["monotonic_ns"] if "boottime_ns" in clock else None
        for clock in (meta["clocks"]["start"], meta["clocks"]["end"])
    ]
    before, after = passed
    slept = after - before if before is not None and after is not None else 0
    return slept if slept >= _SHORTEST_SLEEP_NS else 0


def filter_text(chosen: dict[str, Any]) -> str:
    """``options.filter`` in words; empty when everybody was recorded."""
    parts = []
    for name, value in chosen.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        parts.append(f"{_FILTER_WORDS[name]} {shown}")
    return " and ".join(parts)


def problem(meta: Mapping[str, Any]) -> str:
    """What is wrong with the content of a meta.json; empty: nothing."""
    found = _problem(meta, _RULES, "")
    if found:
        return found
    if not _is_uuid(meta["recording_id"]):
        return f"recording_id is {_short(meta['recording_id'])}"
    if unknown := set(meta["options"].get("filter") or ()) - _FILTER_WORDS.keys():
        return f"options.filter has {min(unknown)}, which is unknown"
    lasted = lasted_ns(meta)
    if lasted <= 0:
        return "clocks.end does not lie behind clocks.start"
    if lasted // meta["slice_ns"] >= _MOST_SLICES:
        return f"slice_ns is {meta['slice_ns']}, far too little for {lasted} ns"
    return ""


def _is_uuid(text: str) -> bool:
    """As a file of a data set is called by it."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _problem(value: Any, rule: Any, where: str) -> str:
    if isinstance(rule, tuple):
        found = [_problem(value, each, where) for each in rule]
        return found[-1] if all(found) else ""
    if isinstance(rule, list) and isinstance(value, list):
        members = (_problem(each, rule[0], f"{where}[{n}]") for n, each in enumerate(value))
        return next(filter(None, members), "")
    if isinstance(rule, dict) and isinstance(value, dict):
        return next(filter(None, (_key_problem(value, *item, where) for item in rule.items())), "")
    return "" if _fits(value, rule) else f"{where} is {_short(value)}"


def _key_problem(value: Mapping[str, Any], key: str, rule: Any, where: str) -> str:
    name = key.removesuffix("?")
    place = f"{where}.{name}".lstrip(".")
    if name in value:
        return _problem(value[name], rule, place)
    return "" if key.endswith("?") else f"no {place}"


def _fits(value: Any, rule: Any) -> bool:
    if rule is None:
        return value is None or value == {}
    if isinstance(rule, range):
        return type(value) is int and value in rule  # not bool
    return isinstance(rule, type) and isinstance(value, rule)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
