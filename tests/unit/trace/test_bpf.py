"""What is asked of the kernel about losses, with a BCC and a tracefs that are not real."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from livedump.trace import bpf, maps
from livedump.trace.data import CpuRow, LossRow, TaskRow
from livedump.trace.errors import TraceError
from livedump.trace.layout import SPILLED, Counter, Kind
from livedump.trace.options import Options
from livedump.trace.probes import Attach, Plan, Probe

USER = Plan(
    ("user",), (Probe("user_latency", "user", Attach.KPROBE_PAIR, "handle_mm_fault", "why"),)
)
STOP = Plan(("stop",), (Probe("stop_machine", "stop", Attach.KPROBE_PAIR, "stop_machine", "why"),))

PROFILE = f"""\
  r_handle_mm_fault_bcc_{os.getpid()}                  5000               {{misses}}
  r_handle_mm_fault_bcc_1{os.getpid()}                  5000              77
  mine                                              1               3
"""


class NothingLost:
    """The map of losses, for two CPUs."""

    def __getitem__(self, index: object) -> list[int]:
        """Nothing."""
        return [0, 0]


class FakeBpf:
    """As much of bcc.BPF as asking takes."""

    def __init__(self, *, attachable: bool = True) -> None:
        self.attachable = attachable
        self.calls: list[str] = []
        self.funcs = {
            name: SimpleNamespace(fd=fd) for fd, name in enumerate((maps.REFUSED, b"ld_program"))
        }

    def __getitem__(self, table: bytes) -> Any:
        """Only the window is written; nothing was lost for want of room."""
        if table == b"losses":
            return NothingLost()
        assert table == b"window"
        return self

    def __setitem__(self, key: object, value: object) -> None:
        """Counted."""
        self.calls.append("update")

    def attach_kprobe(self, event: bytes, fn_name: bytes) -> None:
        """Counted."""
        if not self.attachable:
            raise Exception("no")
        self.calls.append(f"attach {fn_name.decode()} to {event.decode()}")

    def detach_kprobe(self, event: bytes) -> None:
        """Counted."""
        self.calls.append(f"detach {event.decode()}")


def programs(
    monkeypatch: pytest.MonkeyPatch,
    misses: Mapping[int, int | None],
    fake: FakeBpf | None = None,
    plan: Plan = STOP,
) -> maps.BccPrograms:
    """Programs after asking and after the end, with the kernel's counts by file descriptor."""
    monkeypatch.setattr(maps, "recursion_misses", misses.get)
    found = maps.BccPrograms(fake or FakeBpf(), plan, Options())
    found.ask_kernel()
    found.end()
    found.losses()
    return found


@pytest.mark.parametrize(
    ("function", "point"),
    [
        (b"tracepoint__livedump__livedump_fault", "livedump:livedump_fault"),
        (b"raw_tracepoint__page_fault_user", "page_fault_user"),
        (b"ld_stop_machine_entry", "ld_stop_machine_entry"),
    ],
)
def test_a_skipped_program_has_its_tracepoint_s_name(function: bytes, point: str) -> None:
    assert maps._point(function) == point


def test_package_of_another_bcc_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """PyPI's is something else, and may be found first."""
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / "__init__.py").touch()
    monkeypatch.setitem(sys.modules, "bcc", None)
    with pytest.raises(TraceError, match="cannot import bcc: .*apt-get install python3-bpfcc"):
        bpf.import_bcc()
    monkeypatch.delitem(sys.modules, "bcc")
    monkeypatch.syspath_prepend(tmp_path)
    words = f"{tmp_path}/bcc/__init__.py is not the BPF Compiler Collection"
    with pytest.raises(TraceError, match=words) as caught:
        bpf.import_bcc()
    assert caught.value.remedy.startswith("pip uninstall bcc; apt-get install python3-bpfcc")


def test_kernel_that_counts_skipped_events(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeBpf()
    found = programs(monkeypatch, {0: 1, 1: 4}, fake)
    assert fake.calls[:3] == [
        "attach ld_refused to array_map_update_elem",
        "update",
        "detach array_map_update_elem",
    ]
    assert not found._unmeasured
    assert found.losses() == [LossRow("ld_program", "program skipped: another one was running", 4)]


@pytest.mark.parametrize("misses", [0, None])
def test_kernel_that_does_not(monkeypatch: pytest.MonkeyPatch, misses: int | None) -> None:
    found = programs(monkeypatch, {0: misses, 1: 0})
    assert list(found._unmeasured) == [maps.UNCOUNTED_SKIPS]


def test_kernel_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = programs(monkeypatch, {0: 1, 1: 0}, FakeBpf(attachable=False))
    assert list(found._unmeasured) == [maps.UNCOUNTED_SKIPS]


def test_count_of_skipped_events_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    found = programs(monkeypatch, {0: 1, 1: None})
    assert list(found._unmeasured) == [maps.UNREAD_SKIPS]


def test_fdinfo(tmp_path: Path) -> None:
    assert maps.recursion_misses(-1) is None
    with (tmp_path / "plain").open("w") as plain:
        assert maps.recursion_misses(plain.fileno()) is None


def test_missed_returns(tmp_path: Path) -> None:
    profile = tmp_path / "kprobe_profile"
    profile.write_text(PROFILE.format(misses=9))
    assert maps.missed_returns(profile, os.getpid()) == [
        LossRow("handle_mm_fault", "kprobe missed by the kernel", 9)
    ]
    profile.write_text(PROFILE.format(misses=0))
    assert maps.missed_returns(profile, os.getpid()) == []


@pytest.mark.parametrize("text", [None, "", "  mine 1 3\n"])
def test_missed_returns_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    profile = tmp_path / "kprobe_profile"
    if text is not None:
        profile.write_text(text)
    monkeypatch.setattr(maps, "KPROBE_PROFILE", profile)
    counts = {0: 1, 1: 0}
    assert programs(monkeypatch, counts, plan=USER)._unmeasured == {maps.UNREAD_RETURNS: None}
    assert programs(monkeypatch, counts, plan=STOP)._unmeasured == {}


def test_spilled_stacks_are_walked_in_their_own_map() -> None:
    class Walker:
        def __init__(self, name: str) -> None:
            self.name = name

        def walk(self, number: int) -> list[int]:
            """Where and what was asked."""
            return [len(self.name), number]

    tables: Any = {b"stacks": Walker("stacks"), b"spilled": Walker("spilled")}
    found = maps.BccPrograms(tables, STOP, Options())
    assert found.addresses(5) == (len("stacks"), 5)
    assert found.addresses(SPILLED | 5) == (len("spilled"), 5)
    assert found.addresses(-1) == ()


@dataclass(eq=False)
class Struct:
    """A key of a map."""

    slice: int
    cpu: int
    what: int


class FakeTable:
    """A hash map; *batch*: the kernel can read and delete many entries at once."""

    Key = ctypes.py_object

    def __init__(self, items: list[tuple[Any, Any]], *, batch: bool) -> None:
        self.entries = dict(items)
        self._batch = batch

    def items_lookup_batch(self) -> Any:
        """All of them."""
        if not self._batch:
            raise Exception("no batches")
        return list(self.entries.items())

    def items_delete_batch(self, keys: Any) -> None:
        """These."""
        if not self._batch:
            raise Exception("no batches")
        for key in keys:
            del self.entries[key]

    def keys(self) -> list[Any]:
        """With one that is gone before it is looked at."""
        return [*self.entries, Struct(slice=0, cpu=0, what=0)]

    def __getitem__(self, key: Any) -> Any:
        """As bcc: an object, not a number."""
        return ctypes.c_uint64(self.entries[key]) if isinstance(key.slice, int) else None

    def __delitem__(self, key: Any) -> None:
        del self.entries[key]


def test_a_map_is_read_into_the_same_memory_each_time() -> None:
    class Table(FakeTable):
        made = 0

        def _alloc_keys_values(self, **_wanted: bool) -> list[int]:
            self.made += 1
            return [self.made]

        def items_lookup_batch(self) -> Any:
            """Asks for room, as bcc does."""
            assert self._alloc_keys_values(alloc_k=True, alloc_v=True) == [1]
            return super().items_lookup_batch()

    table = Table([(Struct(slice=0, cpu=0, what=0), 5)], batch=True)
    found = maps.BccPrograms({b"cells": table}, STOP, Options())
    assert len(found._old(b"cells", 1)) == len(found._old(b"cells", 1)) == 1
    assert table.made == 1


@pytest.mark.parametrize("batch", [True, False])
def test_slices_that_are_over_are_taken_out(monkeypatch: pytest.MonkeyPatch, batch: bool) -> None:
    """Not the last ones, which a program may still be on its way into; at the end all."""
    now_ns = 0
    monkeypatch.setattr("time.clock_gettime_ns", lambda clock: now_ns)
    what = 7
    cells = FakeTable(
        [
            (Struct(slice=slice_, cpu=cpu, what=what), 10 + slice_)
            for slice_ in (2, 7, 8, 9)
            for cpu in (0, 1)
        ],
        batch=batch,
    )
    tables: Any = {b"cells": cells, b"folds": FakeTable([], batch=True)}
    found = maps.BccPrograms(tables, STOP, Options(slice_ns=100_000_000))
    now_ns = 950_000_000  # in slice 9; 200 ms before that are left alone
    drained = found.drain()
    assert drained.cells == {(2, what): 24}
    assert drained.last == 6
    assert sorted(key.slice for key in cells.entries) == [7, 7, 8, 8, 9, 9]
    found._end_ns = now_ns
    now_ns += 10**9  # looked at later
    last = found.drain()
    assert last.cells == {(7, what): 34, (8, what): 36, (9, what): 38}
    assert last.last == 9 and not cells.entries


def test_nothing_is_removed_before_everything_was_read() -> None:
    class Broken:
        def items_lookup_batch(self) -> Any:
            """Fails, as what comes next."""
            raise Exception("no")

        keys = items_lookup_batch

    cells = FakeTable([(Struct(slice=0, cpu=0, what=7), 1)], batch=True)
    tables: Any = {b"cells": cells, b"folds": Broken()}
    found = maps.BccPrograms(tables, STOP, Options())
    with pytest.raises(Exception, match="no"):
        found.drain()
    assert len(cells.entries) == 1


def test_events_are_handed_over_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """libbpf stops after the one for which it gets a negative number."""

    class Ring:
        def open_ring_buffer(self, callback: Any) -> None:
            """Remembered."""
            self.callback = callback

    class Bpf(dict[bytes, Any]):
        def ring_buffer_consume(self) -> None:
            """As libbpf does."""
            data = ctypes.create_string_buffer(b"x" * 48)
            for _ in range(100):
                if self[b"ring"].callback(None, ctypes.addressof(data), 48) < 0:
                    return

    monkeypatch.setattr(maps, "MOST_EVENTS", 30)
    kept: list[bytes] = []
    found = maps.BccPrograms(Bpf({b"ring": Ring()}), STOP, Options(events=True))
    found.events(kept.append)
    assert len(kept) == 30
    found._end_ns = 1
    found.events(kept.append)
    assert len(kept) == 130


def test_faults_are_kept_by_cpu() -> None:
    def parts(*counts: int) -> list[Any]:
        return [SimpleNamespace(count=count, sum_ns=100 * count) for count in counts]

    class PerCpu:
        def __init__(self, of: dict[int, list[Any]], none: list[Any]) -> None:
            self.of, self.none = of, none

        def __getitem__(self, index: ctypes.c_int) -> list[Any]:
            """Of three CPUs."""
            return self.of.get(index.value, self.none)

    tables: Any = {
        b"hists": PerCpu({Kind.COW: parts(5, 0, 2)}, parts(0, 0, 0)),
        b"counters": PerCpu({Counter.KERNEL_EVENTS: [0, 9, 0]}, [7, 7, 7]),
    }
    assert [*maps.BccPrograms(tables, STOP, Options())._cpus()] == [
        CpuRow("cow", 0, 5, 500),
        CpuRow("cow", 2, 2, 200),
        CpuRow("kernel", 1, 9, None),
    ]


def test_tasks_that_a_cpu_still_keeps_are_added() -> None:
    """And of what is under way, whatever has a place, in both maps."""

    def entry(pid: int, comm: bytes, count: int) -> tuple[Any, Any]:
        key = SimpleNamespace(kind=Kind.USER, pid=pid, comm=comm)
        return key, SimpleNamespace(count=count, stalled_ns=10 * count, cgroup=pid + count)

    class Items(list[tuple[Any, Any]]):
        def items_lookup_batch(self) -> Any:
            """All."""
            return self

    def tally(pid: int, comm: bytes, count: int) -> Any:
        key, sums = entry(pid, comm, count)
        return SimpleNamespace(key=key, sum=sums)

    class Tallies:
        def __getitem__(self, kind: ctypes.c_int) -> list[Any]:
            """Of two CPUs."""
            own = [tally(7, b"cat", 2), tally(8, b"dog", 1)]
            return own if kind.value == Kind.USER else [tally(0, b"", 0)] * 2

    tables: Any = {
        b"tasks": Items([entry(7, b"cat\0\0", 5)]),
        b"tallies": Tallies(),
        b"inflight": Items([(0, SimpleNamespace(task=0)), (1, SimpleNamespace(task=9))]),
        b"crowded": Items([(9, None)]),
    }
    found = maps.BccPrograms(tables, STOP, Options())
    found._cgroups._found = {9: "/a", 12: "/b"}
    assert found._tasks() == [
        TaskRow("user", 7, "cat", 7, 70, "/a"),
        TaskRow("user", 8, "dog", 1, 10, "/a"),
    ]
    assert found._unfinished() == 2
