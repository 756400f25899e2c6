"""What makes recordings hard to compare: not the same was recorded, or not on the same machine."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
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


_Metas = Mapping[str, dict[str, Any]]


def differences(runs: Mapping[str, Recording]) -> list[str]:
    """Why recordings are not alike, a line for each reason, the gravest first.

    :param runs: by the names that lines call them
    """
    metas = {name: recording.meta for name, recording in runs.items()}
    grave = (_ended, _filters, _questions, _probes, _options)
    return [
        *(f"{GRAVE}{line}" for find in grave for line in find(metas)),
        *_common("not recorded", {name: _absent(meta) for name, meta in metas.items()}),
        *_machine(metas),
        *_common("not countable", {name: meta["unmeasured"] for name, meta in metas.items()}),
    ]


def _groups(values: Mapping[str, Hashable]) -> list[list[str]]:
    """Names that have the same value, where not all have."""
    found: dict[Hashable, list[str]] = {}
    for name, value in values.items():
        found.setdefault(value, []).append(name)
    return list(found.values()) if len(found) > 1 else []


def _each(values: Mapping[str, str]) -> str:
    """``A 2, B1/B2 64``; empty where all have the same."""
    return ", ".join(f"{'/'.join(names)} {values[names[0]]}" for names in _groups(values))


def _ended(metas: _Metas) -> Iterator[str]:
    for name, meta in metas.items():
        if meta["ended_by"] == "killed":
            yield f"{name}'s recorder was killed before its end"
        if status := (meta["command"] or {}).get("status"):
            yield f"{name}'s command failed: exit status {status}"


def _filters(metas: _Metas) -> Iterator[str]:
    chosen = {name: meta["options"].get("filter") or {} for name, meta in metas.items()}
    # The same process has another number each time.
    keys = {name: repr({**each, "pids": "pids" in each}) for name, each in chosen.items()}
    parts = []
    for names in _groups(keys):
        text = filter_text(chosen[names[0]])
        parts.append(f"{'/'.join(names)} recorded {f'only {text}' if text else 'everybody'}")
    if parts:
        yield ", ".join(parts)


def _questions(metas: _Metas) -> Iterator[str]:
    """Those that some have, by who has them."""
    questions = dict.fromkeys(each for meta in metas.values() for each in meta["questions"])
    found: dict[str, list[str]] = {}
    for question in questions:
        names = [name for name, meta in metas.items() if question in meta["questions"]]
        if len(names) < len(metas):
            found.setdefault("/".join(names), []).append(question)
    yield from (f"only {names} recorded {', '.join(each)}" for names, each in found.items())


def _probes(metas: _Metas) -> Iterator[str]:
    """Another function, or another way to attach, measures something else."""
    found: dict[str, dict[str, str]] = {}
    for name, meta in metas.items():
        for probe in meta["probes"]:
            point = f"{probe['point']} ({probe['attach']})"
            found.setdefault(probe["name"], {})[name] = point
    for probe_name, points in sorted(found.items()):
        groups = (f"{points[names[0]]} in {'/'.join(names)}" for names in _groups(points))
        if text := ", ".join(groups):
            yield f"{probe_name} is {text}"


def _options(metas: _Metas) -> Iterator[str]:
    for option, words in _OPTIONS.items():
        values = {name: _value(meta["options"].get(option)) for name, meta in metas.items()}
        if text := _each(values):
            yield f"{words}: {text}"
    slices = {name: f"{meta['slice_ns'] / 1e6:g} ms" for name, meta in metas.items()}
    groups = (f"{slices[names[0]]} in {'/'.join(names)}" for names in _groups(slices))
    if text := ", ".join(groups):
        yield f"slices of {text}"


def _value(option: Any) -> str:
    return {True: "yes", False: "no", None: "not known"}.get(option, str(option))


def _machine(metas: _Metas) -> Iterator[str]:
    for words, value in _MACHINE.items():
        if text := _each({name: str(value(meta)) for name, meta in metas.items()}):
            yield f"different {words}: {text}"


def _absent(meta: dict[str, Any]) -> list[str]:
    return [f"{each['name']}: {each['reason']}" for each in meta["absent"]]


def _common(words: str, lines: Mapping[str, list[str]]) -> Iterator[str]:
    """What several have in one line."""
    for line in dict.fromkeys(line for each in lines.values() for line in each):
        where = "/".join(name for name, each in lines.items() if line in each)
        yield f"{words} in {where}: {line}"
