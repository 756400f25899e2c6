"""What makes recordings hard to compare."""

from __future__ import annotations

from typing import Any

import pytest

from livedump.analysis import alike
from livedump.analysis.alike import measured
from livedump.kinds import KINDS, QUESTION_OF
from livedump.recording.store import Recording
from tests.unit import samples


def made(**changes: Any) -> Recording:
    """The sample, with another meta.json."""
    return Recording({**samples.meta(), "unmeasured": [], **changes}, samples.tables())


def differences(*recordings: Recording) -> list[str]:
    """Of one run of A, and others of B."""
    names = ["A", *(["B"] if len(recordings) == 2 else ["B1", "B2"])]
    return alike.differences(dict(zip(names, recordings, strict=True)))


def options(**chosen: Any) -> dict[str, Any]:
    """Of the recorder."""
    return {"filter": {}, "stacks": "sampled", "events": False, "user_stacks": False, **chosen}


def test_alike_recordings_have_no_differences() -> None:
    assert differences(made(), made()) == []
    pids = [made(options=options(filter={"pids": [number]})) for number in (7, 8)]
    assert differences(*pids) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ended_by": "killed"}, "not comparable: B's recorder was killed before its end"),
        ({"command": {"argv": ["x"], "status": 3}}, "B's command failed: exit status 3"),
        (
            {"options": options(filter={"comm": "nginx"})},
            "not comparable: A recorded everybody, B recorded only tasks named nginx",
        ),
        ({"options": options(stacks="all")}, "not comparable: stacks taken: A sampled, B all"),
        ({"options": options(events=True)}, "every event kept: A no, B yes"),
        ({"slice_ns": 10**7}, "slices of 100 ms in A, 10 ms in B"),
        ({"questions": ["user"]}, "only A recorded kernel, cow, stop, snapshot"),
        (
            {"absent": [{"name": "cow", "question": "cow", "reason": "no module"}]},
            "not recorded in B: cow: no module",
        ),
        ({"unmeasured": ["skipped"]}, "not countable in B: skipped"),
        ({"cpus": 64}, "different number of CPUs: A 2, B 64"),
        ({"host": "other"}, "different host: A sample, B other"),
        ({"kernel": {"release": "6.12", "machine": "x86_64"}}, "kernel: A 6.1.0-56-amd64, B 6.12"),
    ],
)
def test_a_difference_is_one_line(changes: dict[str, Any], words: str) -> None:
    [line] = differences(made(options=options()), made(**{"options": options(), **changes}))
    assert words in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cpus": 64}, "different number of CPUs: A 2, B1/B2 64"),
        ({"questions": ["user"]}, "only A recorded kernel, cow, stop, snapshot"),
        ({"slice_ns": 10**7}, "slices of 100 ms in A, 10 ms in B1/B2"),
        (
            {"options": options(filter={"comm": "nginx"})},
            "A recorded everybody, B1/B2 recorded only tasks named nginx",
        ),
        ({"unmeasured": ["skipped"]}, "not countable in B1/B2: skipped"),
    ],
)
def test_runs_that_are_alike_are_named_together(changes: dict[str, Any], words: str) -> None:
    other = made(**{"options": options(), **changes})
    [line] = differences(made(options=options()), other, other)
    assert line.removeprefix("not comparable: ") == words


def test_another_probe_measures_something_else() -> None:
    probes = samples.meta()["probes"]
    probes[0]["point"] = "__handle_mm_fault"
    [line] = differences(made(), made(probes=probes))
    assert "user_latency is handle_mm_fault (kprobe+kretprobe) in A, __handle_mm_fault" in line


def test_what_both_lack_is_one_line() -> None:
    both = made(unmeasured=["skipped"])
    assert differences(both, both) == ["not countable in A/B: skipped"]


def test_a_kind_is_measured_where_its_question_was_answered() -> None:
    assert set(QUESTION_OF) == set(KINDS)
    assert measured(made(), "cow_copy")
    assert not measured(made(questions=["user"]), "cow_copy")
