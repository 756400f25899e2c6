"""summary.json, and the screen that shows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from livedump import receipt
from livedump.dump.opened import OpenResult
from livedump.units import format_ns
from tools.vm import VmResult

PHASES = ("prepare_ns", *(f"{name}_ns" for name in receipt.PHASES), "stop_ns")
SAVED = ("pages_ram", *receipt.CLASSES, *receipt.CAVEATS)


def read_guest(path: Path) -> dict[str, Any]:
    """What the guest wrote."""
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def opened_ok(opener: OpenResult, guest: dict[str, Any], release: str) -> bool:
    """It opens, names this kernel, and sees exactly the tasks that the witness wrote down."""
    tasks = sorted((pid, comm) for pid, comm in guest["tasks"] if pid)
    return opener.ok and opener.release == release and opener.tasks == tasks


def build_summary(
    machine: VmResult,
    guest: dict[str, Any],
    openers: Sequence[OpenResult],
    faults: dict[str, Any],
) -> dict[str, Any]:
    """Everything that the demo promises, as plain values; ``ok`` is their conjunction."""
    report = guest["final"]["report"]
    summary: dict[str, Any] = {
        "kernel": machine.release,
        "accelerator": machine.accelerator,
        "strategy": guest["final"]["strategy"],
        "ram_bytes": report["pages_ram"] * 4096,
        "verdict": guest["final"]["verdict"],
        "downtime_ns": {name: report[name] for name in PHASES},
        "release_ns": report["release_ns"],
        "bpf_stop_ns": [stop["duration_ns"] for stop in faults["stops"]],
        "pages": {name.removeprefix("pages_"): report[name] for name in SAVED},
        "lost_pages": report["pages_lost"],
        "cow_faults": report["faults"],
        "faults": faults["latencies"],
        "fault_counts": faults["counters"],
        "events_lost": faults["events_lost"],
        "stacks_lost": faults["stacks_lost"],
        "unmeasured": faults["unmeasured"],
        "absent": faults["absent"],
        "cow_check": faults["cow_check"],
        **{f"{opener.tool}_ok": opened_ok(opener, guest, machine.release) for opener in openers},
        "opened": [opener.to_dict() for opener in openers],
        "witness_torn": guest["witness_torn"],
        "witness_torn_plain_copy": guest["witness_torn_plain_copy"],
        "report": report,
    }
    summary["ok"] = (
        summary["crash_ok"]
        and summary["drgn_ok"]
        and summary["verdict"] == "complete"
        and summary["lost_pages"] == 0
        and summary["witness_torn"] == 0
        and summary["witness_torn_plain_copy"] > 0
        and traced(faults)
    )
    return summary


def traced(faults: dict[str, Any]) -> bool:
    """BPF saw our faults, and measured the stop of the very snapshot that the module timed."""
    counts = {row["kind"]: row["count"] for row in faults["latencies"]}
    receipts = faults["receipts"]
    return (
        counts.get("cow", 0) > 0
        and counts.get("user", 0) > 0
        and bool(receipts)
        and all(row["bpf_stop_ns"] is not None for row in receipts)
    )


def write_json(path: Path, summary: dict[str, Any]) -> None:
    """Write summary.json."""
    path.write_text(json.dumps(summary, indent=2, default=str) + "\n")


def _openers(summary: dict[str, Any]) -> list[str]:
    lines = []
    for opener in summary["opened"]:
        good = "ok" if summary[f"{opener['tool']}_ok"] else "FAILED"
        lines.append(
            f"  {opener['tool']:<6} {good}: kernel {opener['release']}, "
            f"{len(opener['tasks'])} tasks, in {opener['seconds']} s"
        )
        some = ", ".join(f"{pid} {comm}" for pid, comm in opener["tasks"][:5])
        lines.append(f"         {some}, ...")
        lines += [f"         {problem}" for problem in opener["problems"]]
    backtrace = summary["opened"][-1]["backtrace"].splitlines()[:6]
    return [*lines, "  one backtrace, of pid 1, by drgn:", *(f"    {line}" for line in backtrace)]


def _latencies(summary: dict[str, Any]) -> list[str]:
    lines = ["  kind               count        p50        p99      p99.9        max"]
    for row in summary["faults"]:
        cells = [format_ns(row[name]) for name in ("p50_ns", "p99_ns", "p99.9_ns", "max_ns")]
        lines.append(f"  {row['kind']:<14}{row['count']:>10,}" + "".join(f"{c:>11}" for c in cells))
    return lines


def render(summary: dict[str, Any], folder: Path) -> str:
    """One screen: what was done, what it cost, where to look."""
    report = summary["report"]
    lines = [
        "",
        f"Linux {summary['kernel']}, {summary['ram_bytes'] >> 20} MiB, {summary['accelerator']}, "
        f"strategy {summary['strategy']}: {summary['seconds']} s in all",
        receipt.downtime_line(report),
        receipt.verdict_line(report),
        f"witness: {summary['witness_torn']} torn rows in the image, "
        f"{summary['witness_torn_plain_copy']} in plain copies of live memory",
        "",
        "the dump, opened with Debian's vmlinux",
        *_openers(summary),
        "",
        f"faults ({summary['events_lost']} events lost, {summary['stacks_lost']} without a stack)",
        *_latencies(summary),
        "",
        *(
            f"  {folder / name}"
            for name in ("vmcore", "recording/", "report.html", "faults.folded", "summary.json")
        ),
    ]
    return "\n".join(lines)
