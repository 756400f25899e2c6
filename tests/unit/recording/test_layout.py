"""livedump/recording/layout.py mirrors bpf/*.c and kmod/trace.h."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import pytest

from livedump import abi
from livedump.kinds import ABOUT, KINDS, Kind, kind_name
from livedump.recording import layout
from livedump.recording.schema import TABLES
from livedump.trace.probe import options, programs

ROOT = Path(__file__).resolve().parents[3]


def c_enum(file: str, name: str, prefix: str) -> dict[str, int]:
    """Members of a C enum without explicit values, but for the one that counts them."""
    text = (ROOT / "bpf" / file).read_text()
    body = re.search(rf"enum {name} \{{(.*?)\}};", text, re.DOTALL)
    assert body, name
    names = re.findall(r"^\s+(\w+),", body[1], re.MULTILINE)
    return {
        member.removeprefix(prefix): value
        for value, member in enumerate(names)
        if member.startswith(prefix)
    }


@pytest.mark.parametrize(
    ("file", "name", "prefix", "mirror"),
    [
        ("abi.h", "ld_kind", "LD_KIND_", Kind),
        ("abi.h", "ld_loss", "LD_LOSS_", layout.Loss),
        ("abi.h", "ld_counter", "LD_COUNT_", layout.Counter),
        ("stop_machine.c", "ld_stop_site", "LD_STOP_", layout.StopSite),
    ],
)
def test_enum_is_mirrored(file: str, name: str, prefix: str, mirror: type[IntEnum]) -> None:
    found = c_enum(file, name, prefix)
    if mirror is layout.StopSite:
        found = {f"STOP_{member}": value for member, value in found.items()}
    assert found == {member.name: member.value for member in mirror}


def test_everything_has_a_name() -> None:
    assert set(layout.COUNTER_NAMES) == set(layout.Counter)
    assert set(layout.LOSS_NAMES) == set(layout.Loss)
    assert set(ABOUT) == set(Kind)
    assert len(set(layout.COUNTER_NAMES.values())) == len(layout.Counter)
    assert list(KINDS) == [kind_name(kind) for kind in Kind]
    assert kind_name(Kind.COW_COPY) == "cow_copy"
    assert kind_name(99) == "99"


def test_every_loss_is_what_the_header_says() -> None:
    """Those that are "counted, but not under ..." are no lost events; all others are."""
    header = (ROOT / "bpf" / "abi.h").read_text()
    said = dict(re.findall(r"LD_LOSS_(\w+),\s+/\* (.*?) \*/", header))
    assert set(said) == {loss.name for loss in layout.Loss}
    counted = {layout.Loss[name] for name, text in said.items() if text.startswith("counted")}
    assert counted == layout.WITHOUT_STACK | layout.UNLISTED | layout.NO_EVENT
    assert not layout.WITHOUT_STACK & (layout.UNLISTED | layout.NO_EVENT)
    assert {layout.Loss[name] for name, text in said.items() if "stack" in text} == (
        layout.WITHOUT_STACK
    )


def test_constants_of_the_header() -> None:
    header = (ROOT / "bpf" / "abi.h").read_text()
    found = re.search(r"#define LD_CELL_KINDS (\w+)", header)
    assert found and int(found[1]) == layout.CELL_KINDS
    found = re.search(r"#define LD_SLOW_NS \(1 << (\d+)\)", header)
    assert found and layout.SLOW_NS == 1 << int(found[1])
    found = re.search(r"#define LD_SPILLED \(1 << (\d+)\)", header)
    assert found and layout.SPILLED == 1 << int(found[1])


def test_choices_of_stacks_are_the_header_s() -> None:
    header = (ROOT / "bpf" / "abi.h").read_text()
    found = dict(re.findall(r"#define LD_STACKS_(\w+) (\d+)\n", header))
    assert {stacks.name for stacks in options.Stacks} <= set(found)
    for stacks in options.Stacks:
        flags = options.Options(stacks=stacks).flags()
        assert f"-DLD_STACKS=LD_STACKS_{stacks.name}" in flags


def test_limits_exist_in_the_header() -> None:
    header = (ROOT / "bpf" / "abi.h").read_text()
    assert set(re.findall(r"#define (LD_MAX_\w+|LD_RING_PAGES)", header)) == set(
        options.LIMITS.values()
    )


def test_batches_are_the_header_s() -> None:
    header = (ROOT / "bpf" / "abi.h").read_text()
    assert re.findall(r"#define LD_BATCH (\d+)", header) == [str(layout.BATCH)]


def test_outcomes_are_the_module_s() -> None:
    """cow_fault.c counts by the numbers of enum livedump_outcome."""
    text = (ROOT / "bpf" / "cow_fault.c").read_text()
    found = re.findall(r"outcome == (\d)\)\s+ld_count\(LD_COUNT_COW_(\w+)\)", text)
    assert {name: int(value) for value, name in found} == {
        member.name: member.value for member in abi.Outcome
    }


def test_fields_exist_in_the_module_s_tracepoints() -> None:
    """Every args->field is in kmod/trace.h, and is stored under the report's name."""
    header = (ROOT / "kmod" / "trace.h").read_text()
    report = {name for name, *_ in abi.Report._fields_}
    for file, events in (
        ("cow_fault.c", ["livedump_fault"]),
        ("snapshot.c", ["livedump_snapshot", "livedump_release"]),
    ):
        text = (ROOT / "bpf" / file).read_text()
        parts = re.split(r"TRACEPOINT_PROBE\(livedump, (\w+)\)", text)
        assert parts[1::2] == events
        for event, body in zip(events, parts[2::2], strict=True):
            trace = re.search(rf"TRACE_EVENT\({event},.*?TP_fast_assign", header, re.DOTALL)
            assert trace
            fields = set(re.findall(r"__field\(\w+, (\w+)\)", trace[0]))
            assert set(re.findall(r"args->(\w+)", body)) <= fields
    own = {"reason"}
    assert {*programs._SNAPSHOT_FIELDS, *programs._RELEASE_FIELDS} - own <= report
    assert {*programs._SNAPSHOT_FIELDS, *programs._RELEASE_FIELDS} <= set(
        TABLES["snapshots"].columns
    )


def test_only_attach_types_that_may_nest() -> None:
    """Never raw_tp or fentry on anything that can nest with a fault. What comes from user mode
    cannot (docs/decisions/015-raw-tracepoint-for-user-faults.md)."""
    for file in (ROOT / "bpf").glob("*.c"):
        text = file.read_text().replace("RAW_TRACEPOINT_PROBE(page_fault_user)", "")
        assert not re.search(r"RAW_TRACEPOINT|KFUNC|KRETFUNC|raw_tp|fentry", text), file
        assert "BPF_F_NO_PREALLOC" not in file.read_text()


def test_events_are_passed_on_to_perf() -> None:
    """A tracepoint's program that returns 0 hides the event from everybody else."""
    for file in (ROOT / "bpf").glob("*.c"):
        for program in re.split(r"(?<!RAW_)TRACEPOINT_PROBE\(", file.read_text())[1:]:
            expected = "LD_PASS_ON" if program.startswith("exceptions") else "0"
            assert set(re.findall(r"return (\w+);", program)) == {expected}, file
