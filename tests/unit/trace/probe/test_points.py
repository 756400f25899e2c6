"""Probe points are found on kernels made of text files."""

from __future__ import annotations

from pathlib import Path

import pytest

from livedump.trace.errors import TraceError
from livedump.trace.probe.points import NEEDS, Kernel, resolve

FUNCTIONS = ("handle_mm_fault", "__handle_mm_fault", "stop_machine", "stop_machine_cpuslocked")
FAULTS = ("exceptions:page_fault_user", "exceptions:page_fault_kernel")
MODULE = ("livedump:livedump_fault", "livedump:livedump_snapshot", "livedump:livedump_release")


def kernel(
    folder: Path,
    functions: tuple[str, ...] = FUNCTIONS,
    events: tuple[str, ...] = FAULTS + MODULE,
    blocked: tuple[str, ...] = (),
) -> Kernel:
    """A kernel with these functions and events."""
    for event in events:
        format_ = folder / "tracing" / "events" / event.replace(":", "/") / "format"
        format_.parent.mkdir(parents=True)
        format_.write_text("name: x\n\tfield:u64 trace_skipped;\toffset:40;\tsize:8;\n")
    (folder / "tracing").mkdir(exist_ok=True)
    symbols = [f"ffffffff8{i:07x} T {name}" for i, name in enumerate(functions)]
    (folder / "kallsyms").write_text("\n".join([*symbols, "ffffffff90000000 d jiffies"]) + "\n")
    lines = [f"0xffffffff80000000-0xffffffff80000100\t{name}\n" for name in blocked]
    (folder / "blacklist").write_text("".join(lines))
    return Kernel(folder / "tracing", folder / "kallsyms", folder / "blacklist")


def test_everything_there(tmp_path: Path) -> None:
    plan = resolve(("user", "kernel", "cow", "stop"), kernel=kernel(tmp_path))
    assert plan.questions == ("user", "kernel", "cow", "stop", "snapshot")
    assert {probe.name for probe in plan.probes} == {need.name for need in NEEDS}
    assert not plan.absent
    latency = plan.get("user_latency")
    assert latency and latency.point == "handle_mm_fault"
    assert latency.to_dict()["attach"] == "kprobe+kretprobe"


def test_module_not_loaded_leaves_cow_out(tmp_path: Path) -> None:
    plan = resolve(("user", "cow", "stop"), kernel=kernel(tmp_path, events=FAULTS))
    assert plan.questions == ("user", "stop")
    assert [absent.name for absent in plan.absent] == ["cow", "snapshot", "release"]
    assert "not loaded" in plan.absent[0].reason


def test_older_module_is_told(tmp_path: Path) -> None:
    """Else the compiler would say that a struct has no such member."""
    old = kernel(tmp_path)
    (tmp_path / "tracing/events/livedump/livedump_release/format").write_text("\tfield:u64 lost;\n")
    plan = resolve(("user", "cow", "stop"), kernel=old)
    assert plan.questions == ("user", "cow", "stop")
    [release] = [absent for absent in plan.absent if absent.name == "release"]
    assert (
        "trace_skipped: the livedump module that is loaded is of another version" in release.reason
    )


def test_explicit_question_must_be_answered(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot record cow: .*not loaded. Run: livedump load"):
        resolve(("user", "cow"), explicit={"cow"}, kernel=kernel(tmp_path, events=FAULTS))


def test_nothing_at_all(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="nothing to record: .*not loaded. Run: livedump load"):
        resolve(("cow", "stop"), kernel=kernel(tmp_path, functions=(), events=MODULE[1:]))


def test_second_candidate_when_the_first_is_blacklisted(tmp_path: Path) -> None:
    plan = resolve(("user",), kernel=kernel(tmp_path, blocked=("handle_mm_fault",)))
    latency = plan.get("user_latency")
    assert latency and latency.point == "__handle_mm_fault"
    assert "hugetlb" in latency.why


def test_missing_essential_names_every_reason(tmp_path: Path) -> None:
    bare = kernel(tmp_path, functions=("handle_mm_fault",), blocked=("handle_mm_fault",))
    with pytest.raises(TraceError, match="blacklist.*no function __handle_mm_fault") as caught:
        resolve(("user",), explicit={"user"}, kernel=bare)
    assert not caught.value.remedy, "no module would help"


def test_missing_optional_is_listed(tmp_path: Path) -> None:
    plan = resolve(("user",), kernel=kernel(tmp_path, events=FAULTS[1:]))
    assert plan.questions == ("user",)
    assert [absent.name for absent in plan.absent] == ["user_count"]


def test_unknown_kind_and_no_kallsyms(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="unknown kind 'disk'"):
        resolve(("disk",), kernel=kernel(tmp_path))
    with pytest.raises(TraceError, match="cannot read"):
        resolve(
            ("stop",), kernel=Kernel(tmp_path / "tracing", tmp_path / "none", tmp_path / "none")
        )
