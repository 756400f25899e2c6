"""The summary, the receipt and the terminal's text."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from livedump import analysis
from livedump.analysis.receipt import fault_check, match_stop, receipts
from livedump.cli.trace.text import render, render_parts, table
from livedump.recording import store
from livedump.recording.store import Recording
from tests.unit import samples


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """The sample."""
    return store.read(samples.write(tmp_path / "r"))


def test_receipt_has_both_measures(recording: Recording) -> None:
    [receipt] = receipts(recording)
    assert receipt.phases_ns["exit"] == 700_000
    assert sum(receipt.phases_ns.values()) == receipt.snapshot["stop_ns"]
    assert receipt.stop and receipt.stop["site"] == "stop_machine"
    assert receipt.difference_ns == -200_000


def test_stop_is_found_by_instant_then_by_task() -> None:
    def stop(start: int, pid: int) -> dict[str, object]:
        return {"start_monotonic_ns": start, "duration_ns": 10, "pid": pid}

    snapshot = {"instant_monotonic_ns": 105, "snapshot_monotonic_ns": 300, "pid": 1}
    stops = [stop(50, 1), stop(100, 2), stop(200, 1), stop(295, 1)]
    assert match_stop(snapshot, stops) == stops[1]
    assert match_stop({**snapshot, "instant_monotonic_ns": 1}, stops) == stops[2]
    assert match_stop({**snapshot, "instant_monotonic_ns": 1, "pid": 9}, stops) is None


def test_unseen_cow_faults_are_told(recording: Recording) -> None:
    assert fault_check(recording) == {
        "module": 1357,
        "seen": 1350,
        "unseen": 7,
        "not_traced_by_module": 2,
    }
    recording.tables["snapshots"][0]["faults"] = None
    assert fault_check(recording) is None


def test_snapshot_before_the_recording_has_no_receipt(recording: Recording) -> None:
    recording.tables["snapshots"][0]["stop_ns"] = None
    assert receipts(recording) == []


def test_summary_is_json_and_can_be_narrowed(recording: Recording) -> None:
    whole = analysis.summarize(recording)
    data = json.loads(json.dumps(whole.to_dict()))
    assert (data["losses_total"], data["events_lost"], data["stacks_lost"]) == (7, 0, 7)
    assert data["unmeasured"] == ["skipped events"] and data["absent"] == []
    assert data["duration_ns"] == 12 * 10**9
    assert data["receipts"][0]["bpf_stop_ns"] == 64_900_000
    assert data["counters"]["cow"] == {"saved": 1340, "already": 10}
    narrow = analysis.summarize(recording, kinds=("cow",), weight="stalled_ns", limit=1)
    assert list(narrow.top_stacks) == ["cow"]
    assert len(narrow.top_stacks["cow"]) == len(narrow.tasks) == 1
    assert set(narrow.counters) == {"cow"}


def test_stacks_say_how_uncertain_they_are(recording: Recording) -> None:
    """77 of 6,000 faults and 1.2 of 70 ms."""
    summary = analysis.summarize(recording)
    assert summary.stack_errors == {"user": (0.0128, 0.0171), "kernel": (0, 0), "cow": (0, 0)}
    [row] = summary.top_stacks["user"]
    assert (row["count_error"], row["stalled_error_ns"]) == (77.0, 1_200_000)
    text = render(summary)
    assert "6,000 ±1%" in text and "70,000.0 ±2%" in text


def test_terminal_text(recording: Recording) -> None:
    text = render(analysis.summarize(recording))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    losses = text.index("7 events have no stack; 0 events lost")
    assert losses < text.index("downtime: 65.1 ms") < text.index("Latency, us")
    assert "LOST" not in text and "not countable: skipped events" in text
    assert "by BPF, within that: 64.9 ms in livedump_stop [livedump]" in text
    assert "recopy 500.0 us, exit 700.0 us" in " ".join(text.split())
    table = text[text.index("Latency, us") : text.index("Faults, each column")]
    assert re.findall(r"^ *(cow\w*) ", table, re.MULTILINE) == ["cow", "cow_demote", "cow_copy"]
    [bars] = re.findall(r"^ *cow +(\d+) +(\S+)$", text, re.MULTILINE)
    # 6 of 12 s, in 40 columns of 300 ms: held from 2.0 to 8.0 s
    assert len(bars[1]) == 21 and int(bars[0]) > 50
    assert (
        "Top stacks: user, by 3,000 samples (±: standard error)\n" in text
        and "Top stacks: cow, 5 of 6\n" in text
    )
    assert "p99.9" in text and "memcpy < ext4_file_write_iter < vfs_write" in text


def test_faults_without_latency_are_counted(recording: Recording) -> None:
    counted = {"events": 4552, "not_present": 1474, "write_protect": 3078, "user_address": 0}
    recording.tables["counters"] += [
        {"kind": "kernel", "name": name, "count": count} for name, count in counted.items()
    ]
    row = r"^ *kernel +4,552( +-){5}$"
    text = render(analysis.summarize(recording))
    assert re.search(row, text, re.MULTILINE)
    assert text.index(" user ") < text.index(" kernel ") < text.index(" cow_demote ")
    words = "kernel 4,552 exceptions, 1,474 not present, 3,078 write-protected"
    assert f"counted: user 6,010 exceptions; {words}; cow 1,340 saved, 10 already saved" in (
        " ".join(text.split())
    )
    alone = render(analysis.summarize(recording, kinds=("kernel",)))
    assert re.search(row, alone, re.MULTILINE) and f"counted: {words}\n" in alone
    other = render(analysis.summarize(recording, kinds=("user",)))
    assert "4,552" not in other and "counted: user 6,010 exceptions\n" in other


def test_lost_events_are_told_apart(recording: Recording) -> None:
    recording.tables["losses"] += [
        {"probe": "user", "what": "entry without exit", "count": 2},
        {"probe": "livedump:x", "what": "program skipped: another one was running", "count": 1},
        {"probe": "user", "what": "task table full", "count": 10},
    ]
    summary = analysis.summarize(recording)
    data = summary.to_dict()
    assert (data["losses_total"], data["events_lost"], data["stacks_lost"]) == (20, 3, 7)
    text = "LOST: 7 events have no stack; 10 not listed by task, page or time; 3 events lost"
    assert text in render(summary)
    recording.tables["losses"].clear()
    assert "losses: none counted" in render(analysis.summarize(recording))


def test_what_a_trigger_did_is_said(recording: Recording) -> None:
    fired = {
        "condition": "p99(user)>2ms",
        "value": 3e6,
        "slice": 42,
        "done": {},
        "error": "no room",
    }
    done = {"file": "vmcore", "verdict": "complete"}
    rate = {**fired, "condition": "rate(user)>5/s for 1s", "value": 1234.56, "slice": 70}
    old = {name: value for name, value in fired.items() if name != "value"}
    recording.meta["triggers"] = [
        fired,
        {**fired, "slice": 61, "done": done, "error": ""},
        {**rate, "error": ""},
        old,
    ]
    recording.meta["ended_by"] = "killed"
    text = render(analysis.summarize(recording))
    assert "triggered after 4.2 s: p99(user)>2ms (3.0 ms): FAILED: no room" in text
    assert "triggered after 6.1 s: p99(user)>2ms (3.0 ms): vmcore, complete" in text
    assert "triggered after 7.0 s: rate(user)>5/s for 1s (1,234.6/s): not finished" in text
    assert "triggered after 4.2 s: p99(user)>2ms: FAILED: no room" in text, "it has no value"
    assert "the recorder was killed" in text


def test_a_suspend_is_said(recording: Recording) -> None:
    for clock, ahead in (("start", 5), ("end", 8 * 3600 + 5)):
        times = recording.meta["clocks"][clock]
        times["boottime_ns"] = times["monotonic_ns"] + ahead * 10**9
    summary = analysis.summarize(recording)
    assert summary.to_dict()["suspended_ns"] == 8 * 3600 * 10**9
    assert "the machine slept meanwhile, for 28800.0 s" in render(summary)
    recording.meta["clocks"]["end"]["boottime_ns"] = times["monotonic_ns"] + 5 * 10**9 + 4_000_000
    assert "slept" not in render(analysis.summarize(recording)), "that is how clocks are read"


def test_hot_pages_and_what_they_were(recording: Recording) -> None:
    text = render(analysis.summarize(recording))
    assert "Hottest pages\n" in text and re.search(r"^ *0x1234 +3 +9.0$", text, re.MULTILINE)
    hint = "what they were: livedump-trace annotate DIR --vmcore FILE"
    assert hint in text
    for row, was in zip(recording.tables["pages"], ("slab", "free", "slab"), strict=True):
        row.update(was=was, name="dentry: struct dentry" if was == "slab" else "")
    text = render(analysis.summarize(recording, limit=1))
    assert re.search(r"0x1234 +3 +9.0 +slab dentry: struct dentry$", text, re.MULTILINE)
    assert "pages by what they were: 2 slab, 1 free\n" in text and hint not in text
    assert "Hottest pages" not in render(analysis.summarize(recording, kinds=("user",)))


def test_pages_that_were_written_once_are_ranked_by_time(recording: Recording) -> None:
    page = recording.tables["pages"][0]
    recording.tables["pages"] = [{**page, "count": 1, "pfn": pfn} for pfn in range(1234)]
    text = render(analysis.summarize(recording))
    assert "Hottest pages, 5 of 1,234: one fault each, longest first\n" in text
    recording.tables["pages"].clear()
    assert "annotate" not in render(analysis.summarize(recording))


def test_the_longest_stop_is_listed(recording: Recording) -> None:
    stop = recording.tables["stops"][0]
    assert "Stops of the machine\n" in render(analysis.summarize(recording))
    short = [{**stop, "duration_ns": 50_000 + number} for number in range(999)]
    recording.tables["stops"] = [{**stop, "duration_ns": 900_000_000}, *short]
    text = render(analysis.summarize(recording))
    listed = text[text.index("Stops of the machine, 10 of 1,000, longest first") :].splitlines()[4:]
    assert listed[0].split()[:2] == ["900,000.0", "1.9"]
    assert sum(line.split()[0][0].isdigit() for line in listed) == 10
    assert "livedump_snapshot" in listed[0], "who called stop_machine()"


def test_top_lists_say_of_how_many(recording: Recording) -> None:
    task = recording.tables["tasks"][0]
    recording.tables["tasks"] = [{**task, "pid": pid} for pid in range(2071)]
    recording.tables["pages"][0].update(was="slab", name="dentry")
    summary = analysis.summarize(recording, limit=2)
    assert (summary.totals, summary.stack_totals["cow"]) == ({"tasks": 2071, "pages": 3}, 6)
    text = render(summary)
    assert "Tasks, 2 of 2,071\n" in text and "Hottest pages, 2 of 3\n" in text
    assert "Top stacks: cow, 2 of 6\n" in text
    assert "Top stacks: user, by 3,000 samples (±: standard error)\n" in text, "there is no other"


def test_losses_are_told_by_time(recording: Recording) -> None:
    row = recording.tables["loss_slices"][0]
    recording.tables["loss_slices"] += [
        {**row, "slice": 70, "start_ns": 7 * 10**9, "count": 2},
        {**row, "slice": 110, "start_ns": 11 * 10**9, "probe": "user", "count": 1},
    ]
    summary = analysis.summarize(recording)
    told = [(row["slice"], row["probe"], row["count"]) for row in summary.to_dict()["loss_slices"]]
    assert told == [(21, "cow", 7), (70, "cow", 2), (110, "user", 1)]
    text = render(summary)
    [(most, bars)] = re.findall(r"^ *losses +(\d+)   (.+)$", text, re.MULTILINE)
    assert (most, bars.replace(" ", ".")) == ("7", ".......█...............▃............▂")
    [cow] = re.findall(r"^losses: cow, .*\n.*", text, re.MULTILINE)
    assert " ".join(cow.split()) == (
        "losses: cow, no stack: 9 seen from 2.1 s to 7.1 s, most (7) at 2.1 s"
        " losses: user, no stack: 1 seen from 11.0 s to 11.1 s, most (1) at 11.0 s"
    )
    recording.tables["loss_slices"].clear()
    assert not re.search(
        "^(losses: cow| *losses +[0-9])", render(analysis.summarize(recording)), re.M
    )


def test_faults_are_told_by_cpu(recording: Recording) -> None:
    text = render(analysis.summarize(recording))
    assert re.search(r"^ user +2   0: 67%, 1: 33%\n kernel +1   1: 100%$", text, re.MULTILINE)
    rows = analysis.summarize(recording, kinds=["kernel"]).to_dict()["cpus"]
    assert rows == [{"kind": "kernel", "part_of": None, "cpu": 1, "count": 90, "stalled_ns": None}]
    assert "by CPU" not in render(analysis.summarize(recording, kinds=["kernel"])), "it has one"


def test_faults_that_the_module_did_not_trace_are_told(recording: Recording) -> None:
    text = " ".join(render(analysis.summarize(recording)).split())
    assert "module 1,357, seen by BPF 1,350, not traced by the module 2" in text


def test_a_title_may_be_longer_than_its_table() -> None:
    title = "Top stacks: cow, by 3,221 samples, 5 of 188"
    shown = render_parts([table(title, (("count", True),), [("1",)])]).splitlines()
    assert [line.strip() for line in shown] == [title, "", "count", "─────", "1"]


def test_a_percentile_of_few_is_no_maximum(recording: Recording) -> None:
    """There is one stop: nothing lies above any of its percentiles."""
    text = render(analysis.summarize(recording))
    rows = [line.split() for line in text[text.index("Latency, us") :].splitlines()]
    assert next(row for row in rows if row[:1] == ["stop"]) == ["stop", "1", *"----", "64,900.0"]
    assert "-" not in next(row for row in rows if row[:1] == ["user"])


def test_other_kinds_have_no_stops(recording: Recording) -> None:
    for kinds, shown in ((("kernel",), False), (("stop",), True), ((), True)):
        text = render(analysis.summarize(recording, kinds), kinds)
        assert ("Stops of the machine" in text) == shown
