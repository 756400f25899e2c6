"""What is read of the programs' maps, with a BCC that is not real."""

from __future__ import annotations

import ctypes
import re
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from livedump.kinds import Kind
from livedump.recording.buckets import BUCKETS
from livedump.recording.journal import EVENT_BYTES
from livedump.recording.layout import LOSS_NAMES, SPILLED, Counter, Loss
from livedump.recording.rows import CpuRow, Histogram, LossRow, TaskRow
from livedump.trace.probe import programs
from livedump.trace.probe.options import Options
from livedump.trace.probe.points import Plan

ROOT = Path(__file__).resolve().parents[4]

PLAN = Plan(("stop",), ())


def test_spilled_stacks_are_walked_in_their_own_map() -> None:
    class Walker:
        def __init__(self, name: str) -> None:
            self.name = name

        def walk(self, number: int) -> list[int]:
            """Where and what was asked."""
            return [len(self.name), number]

    tables: Any = {b"stacks": Walker("stacks"), b"spilled": Walker("spilled")}
    found = programs.BccPrograms(tables, PLAN, Options())
    assert found.addresses(5) == (len("stacks"), 5)
    assert found.addresses(SPILLED | 5) == (len("spilled"), 5)
    assert found.addresses(-1) == ()


class FakeHash:
    """A hash map, as :class:`livedump.trace.probe.hashmap.HashMap` reads it."""

    def __init__(self, entries: dict[bytes, bytes]) -> None:
        self.entries = entries

    def read(self) -> tuple[memoryview, memoryview]:
        """All of it."""
        return memoryview(b"".join(self.entries)), memoryview(b"".join(self.entries.values()))

    def delete(self, keys: bytes) -> None:
        """These; they are there."""
        while keys:
            size = len(next(iter(self.entries)))
            del self.entries[keys[:size]]
            keys = keys[size:]


def cell(slice_: int, cpu: int, what: int, count: int, time_ns: int = 0) -> tuple[bytes, bytes]:
    """Key and value."""
    return programs.CELL_KEY.pack(slice_, cpu, what), programs.CELL_VALUE.pack(count, time_ns)


def with_hashes(**hashes: Any) -> programs.BccPrograms:
    """Programs that have these hash maps."""
    lost = FakeArray()
    found = programs.BccPrograms({b"losses": lost}, PLAN, Options(slice_ns=100_000_000))
    found._hash_maps = {name.encode(): hash_ for name, hash_ in hashes.items()}
    return found


class FakeArray(dict[Any, Any]):
    """An array of each CPU's numbers, all of them the same."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = 0

    def __getitem__(self, index: Any) -> list[int]:
        return [self.lost if index.value == Kind.USER * len(Loss) + Loss.SLICES_FULL else 0, 0]


def test_slices_without_room_are_told_until_they_are_out() -> None:
    """What was lost between two drains may be of slices that the second one left."""
    found = with_hashes(cells=FakeHash({}), folds=FakeHash({}))
    assert not found.drain().full
    found._bpf[b"losses"].lost = 3
    assert [found.drain().full for _ in range(4)] == [True, True, False, False]
    found._bpf[b"losses"].lost = 4
    assert found.drain().full


def test_slices_that_are_over_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the last ones, which a program may still be on its way into; at the end all."""
    now_ns = 0
    monkeypatch.setattr("time.clock_gettime_ns", lambda clock: now_ns)
    what = 7
    cells = FakeHash(
        dict(cell(slice_, cpu, what, 10 + slice_, 3) for slice_ in (7, 2, 8, 9) for cpu in (0, 1))
    )
    found = with_hashes(cells=cells, folds=FakeHash({}))
    now_ns = 950_000_000  # in slice 9; 200 ms before that are left alone
    drained = found.drain()
    assert drained.cells == {(2, what): 24} and drained.stalled == {(2, what): 6}
    assert drained.last == 6
    left = [programs.CELL_KEY.unpack(key)[0] for key in cells.entries]
    assert left == [7, 7, 8, 8, 9, 9]
    found._end_ns, found._ended = now_ns, True
    now_ns += 10**9  # looked at later
    cells.entries.update([cell(1 << 30, 0, what, 5)])  # it has met the end
    last = found.drain()
    assert last.cells == {(7, what): 34, (8, what): 36, (9, what): 38 + 5}
    assert last.last == 9 and not cells.entries


def test_stacks_of_slices_that_are_over() -> None:
    """Each with its place's number looked up, and the keys that are taken out as they were."""
    key = programs.FOLD_KEY.pack(3, Kind.USER, 5, -1, 0, 1, b"cat\0rest")
    folds = FakeHash({key: programs.FOLD_VALUE.pack(40, 900, 2, 7, 8)})
    found = with_hashes(cells=FakeHash({}), folds=folds)
    found._walked = {5: (1, 2)}
    found._end_ns, found._ended = 10**9, True
    [row] = found.drain().stacks
    assert (row.slice, row.kind, row.comm, row.addresses) == (3, "user", "cat", (1, 2))
    assert (row.samples, row.count, row.stalled_ns, row.user) == (2, 40, 900, ())
    assert (row.slow, row.variance, row.stalled_variance) == (True, 7, 8 * 1024**2)
    assert not folds.entries


def test_nothing_is_removed_before_everything_was_read() -> None:
    class Broken:
        def read(self) -> Any:
            """Fails, as what comes next."""
            raise OSError(22, "no")

    cells = FakeHash(dict([cell(0, 0, 7, 1)]))
    with pytest.raises(OSError, match="no"):
        with_hashes(cells=cells, folds=Broken()).drain()
    assert len(cells.entries) == 1


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("ld_cell", programs.CELL_KEY),
        ("ld_stack_key", programs.FOLD_KEY),
        ("ld_fold", programs.FOLD_VALUE),
        ("ld_hist", struct.Struct("<QQQ")),  # and the slots
    ],
)
def test_keys_and_values_are_the_header_s(name: str, format_: struct.Struct) -> None:
    header = (ROOT / "bpf" / "abi.h").read_text()
    body = re.search(rf"struct {name} \{{(.*?)\n\}};", header, re.DOTALL)
    assert body
    letters = {"u64": "Q", "u32": "I", "s32": "i", "u16": "H", "char": "16s"}
    fields = re.findall(r"^\t(\w+) \w+(?:\[LD_COMM\])?;", body[1], re.MULTILINE)
    assert "<" + "".join(letters[kind] for kind in fields) == format_.format


def test_histograms_are_in_the_order_of_the_header() -> None:
    header = (ROOT / "bpf" / "abi.h").read_text()
    body = re.search(r"struct ld_hist \{(.*?)\n\};", header, re.DOTALL)
    assert body
    names = re.findall(r"^\tu64 (\w+)", body[1], re.MULTILINE)
    assert names == ["count", *programs.HistogramPart._fields[1:]]


class Counting:
    """As much of bcc.BPF as beginning and ending take: what is done, in order.

    :ivar skipped: what the kernel counts, more each time it is asked
    """

    def __init__(self) -> None:
        self.done: list[str] = []
        self.skipped = 0

    def __getitem__(self, table: bytes) -> Any:
        """The window, or the losses of two CPUs."""
        return {b"window": self, b"losses": Losses()}[table]

    def __setitem__(self, key: object, value: ctypes.c_uint64) -> None:
        self.done.append("open" if value.value else "shut")

    def rows(self) -> list[LossRow]:
        """What the kernel counts."""
        self.done.append("ask")
        self.skipped += 10
        return [LossRow("probe", "skipped", self.skipped)]


class Losses:
    """The map of losses: in one place, 1 on each CPU."""

    def __getitem__(self, index: ctypes.c_int) -> list[int]:
        """Of two CPUs."""
        return [1, 1] if index.value == Kind.COW * len(Loss) + Loss.SLICES_FULL else [0, 0]


def test_begin_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel counted before is no loss, nor what it counts afterwards; what programs that
    are on their way have no room for is."""
    fake = Counting()
    found = programs.BccPrograms(fake, PLAN, Options())
    found._missed = fake  # type: ignore[assignment]

    def wait() -> None:
        fake.done.append("wait")
        assert not found._ended, "programs are on their way"

    monkeypatch.setattr(programs, "await_programs", wait)
    monkeypatch.setattr(Losses, "__getitem__", lambda self, index: [0, 0])
    found.begin()
    monkeypatch.undo()
    monkeypatch.setattr(programs, "await_programs", wait)
    assert found.losses() == [
        LossRow("probe", "skipped", 10),
        LossRow("cow", LOSS_NAMES[Loss.SLICES_FULL], 2),
    ]
    found.end()
    assert found._ended
    assert fake.done == ["ask", "open", "ask", "shut", "ask", "wait"]
    assert found.losses()[0] == found.losses()[0] == LossRow("probe", "skipped", 20)


def test_where_a_grace_period_cannot_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    def refuse(*_: object) -> int:
        raise OSError(22, "nohz_full")

    monkeypatch.setattr("time.sleep", slept.append)
    programs.await_programs()
    assert not slept
    monkeypatch.setattr(programs, "syscall", refuse)
    programs.await_programs()
    assert slept == [programs.MARGIN_NS / 1e9]


def test_events_are_handed_over_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """libbpf stops after the batch for which it gets a negative number; at the end comes what CPUs
    still keep."""

    class Ring:
        def open_ring_buffer(self, callback: Any) -> None:
            """Remembered."""
            self.callback = callback

    class Batches:
        def __getitem__(self, kind: ctypes.c_int) -> list[Any]:
            """Of two CPUs."""
            events = (ctypes.c_char * EVENT_BYTES * 64)()
            events[0].raw = events[1].raw = b"rest" * 12
            count = 2 if kind.value == Kind.GUP else 0
            return [SimpleNamespace(count=0, events=events)] + [
                SimpleNamespace(count=count, events=events)
            ]

    class Bpf(dict[bytes, Any]):
        def ring_buffer_consume(self) -> None:
            """As libbpf does."""
            size = 2 * EVENT_BYTES
            data = ctypes.create_string_buffer(b"x" * size)
            for _ in range(50):
                if self[b"ring"].callback(None, ctypes.addressof(data), size) < 0:
                    return

    monkeypatch.setattr(programs, "MOST_EVENTS", 29)
    kept: list[bytes] = []
    found = programs.BccPrograms(
        Bpf({b"ring": Ring(), b"batches": Batches()}), PLAN, Options(events=True)
    )
    found.events(kept.append)
    assert b"".join(kept) == b"x" * EVENT_BYTES * 30
    kept.clear()
    found._ended = True
    found.events(kept.append)
    assert b"".join(kept) == b"x" * EVENT_BYTES * 100 + b"rest" * 12 * 2
    kept.clear()
    found.events(kept.append)  # the pump was in its round when recording ended
    assert b"rest" not in b"".join(kept)


class HistogramOfCpu(ctypes.Structure):
    """struct ld_hist, as bcc has it."""

    _fields_ = [
        *((name, ctypes.c_uint64) for name in ("count", "sum_ns", "max_ns")),
        ("slots", ctypes.c_uint64 * BUCKETS),
    ]


def test_faults_are_kept_by_cpu() -> None:
    class PerCpu:
        def __init__(self, of: dict[int, Any], none: Any) -> None:
            self.of, self.none = of, none

        def __getitem__(self, index: ctypes.c_int) -> Any:
            """Of three CPUs."""
            return self.of.get(index.value, self.none)

    cpus = (HistogramOfCpu * 3)()
    for cpu, count in ((0, 5), (2, 2)):
        cpus[cpu].count, cpus[cpu].sum_ns, cpus[cpu].max_ns = count, 100 * count, 100 + cpu
        cpus[cpu].slots[cpu] = 1
        cpus[cpu].slots[BUCKETS - 1] = count - 1
    tables: Any = {
        b"hists": PerCpu({Kind.COW: cpus}, (HistogramOfCpu * 3)()),
        b"counters": PerCpu({Counter.KERNEL_EVENTS: [0, 9, 0]}, [7, 7, 7]),
    }
    found = programs.BccPrograms(tables, PLAN, Options())
    parts = found._histogram_parts()
    assert [*found._cpus(parts)] == [
        CpuRow("cow", 0, 5, 500),
        CpuRow("cow", 2, 2, 200),
        CpuRow("kernel", 1, 9, None),
    ]
    assert programs.histograms(parts) == {"cow": Histogram({0: 1, 2: 1, BUCKETS - 1: 5}, 700, 102)}


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
    found = programs.BccPrograms(tables, PLAN, Options())
    found._cgroups._found = {9: "/a", 12: "/b"}
    assert found._tasks() == [
        TaskRow("user", 7, "cat", 7, 70, "/a"),
        TaskRow("user", 8, "dog", 1, 10, "/a"),
    ]
    assert found._unfinished() == 2
