"""Single events: each on the track of its thread, in a sequence of packets of its own.

There may be tens of millions. DuckDB sorts them by thread, on disk where they are too many; then
they are encoded some ten thousand at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from livedump.analysis.files import ExportError
from livedump.analysis.perfetto import wire
from livedump.analysis.perfetto.nesting import BEGIN, END, Nesting, Records, Rows
from livedump.analysis.perfetto.packets import Packets
from livedump.errors import LivedumpError
from livedump.recording.store import Recording
from livedump.sums import add_up

#: Events that are encoded at once: few enough for the CPU's cache.
PART = 16_384

#: Memory that DuckDB may have to sort, beside what Python and its libraries take.
MEMORY = "256MB"

#: By number from 1 in each event.
NOTES = ("cpu", "address")

_COLUMNS = ("pid", "tid", "time_monotonic_ns", "latency_ns", "kind", "cpu", "address")

#: Beyond it is no number of a task's, or of a CPU.
_LARGEST_ID, _LARGEST_CPU = (1 << 31) - 1, (1 << 16) - 1

#: What is sorted: columns and their types. The three that are sorted by fit into 24 bytes, of which
#: DuckDB makes one key; a larger one takes twice as long.
_SORTED = (
    ("thread", "uint32"),
    ("start", "int64"),
    ("end", "int64"),
    ("kind", "uint8"),
    ("cpu", "uint16"),
    ("address", "uint64"),
)
#: What holds another event comes before it.
_SORT = 'SELECT * FROM events ORDER BY thread, start, "end" DESC'

#: Kinds that events may have, at most: they are numbered, and told to each thread's sequence.
MOST_KINDS = 100

#: Name of a column -> its values, as numpy has them.
Columns = dict[str, Any]


def add_events(out: Packets, found: Recording, kinds: Sequence[str]) -> Iterator[bytes]:
    """Packets of the events, in parts, behind those that *out* has had so far.

    :param kinds: only of these; empty: all
    :raises ExportError: an event is damaged, or there is no room to sort them
    :raises livedump.recording.errors.RecordingError: the table cannot be read
    """
    source = _Source(found, kinds)
    threads = _Threads(out, _Names(found), source)
    with _sorted(source) as parts:
        for columns in parts:
            yield threads.part(columns)
        yield threads.close()


class _Threads:
    """Events thread by thread.

    :param source: of the events; it has read them all when the first ones come
    """

    def __init__(self, out: Packets, names: _Names, source: _Source) -> None:
        self._out = out
        self._names = names
        self._source = source
        self._sequences: list[int] = []
        self._last = (-1, 0)
        self._nesting = Nesting()

    def part(self, columns: Columns) -> bytes:
        """Packets of the next of the sorted events."""
        threads = columns["thread"].astype("i8")
        for thread in self._source.threads[len(self._sequences) : int(threads[-1]) + 1]:
            self._sequences.append(self._new(thread))
        rows = Rows(threads, columns["start"], columns["end"])
        return self._packets(self._nesting.records(rows), columns)

    def close(self) -> bytes:
        """Ends of what is open."""
        import numpy

        nothing = dict.fromkeys(("kind", "cpu", "address"), numpy.zeros(1, "u8"))
        return self._packets(self._nesting.close(), nothing)

    def _new(self, thread: Thread) -> int:
        """Number of a thread's track and sequence; idle tasks are all thread 0, one a CPU."""
        out, (process, name) = self._out, self._names.of(thread.pid)
        if thread.tid:
            track = out.thread(thread.pid, thread.tid, process, name)
        else:
            track = out.named(f"swapper/{thread.idle}")
        out.sequence(track, self._source.kinds, NOTES)
        return track

    def _packets(self, records: Records, columns: Columns) -> bytes:
        """Descriptions of new threads, and the records."""
        import numpy

        described = self._out.take()
        if not len(records.what):
            return described
        before = numpy.concatenate([[self._last[1]], records.time[:-1]])
        same = numpy.diff(records.track, prepend=self._last[0]) == 0
        self._last = int(records.track[-1]), int(records.time[-1])
        sequences = numpy.array(self._sequences, "u8")[records.track]
        waits = (records.time - numpy.where(same, before, 0)).astype("u8")
        notes = [columns[name][records.row].astype("u8") for name in ("kind", "cpu", "address")]
        return described + _encoded(sequences, waits, records.what, *notes)


def _encoded(sequence: Any, wait_ns: Any, what: Any, *notes: Any) -> bytes:
    """Packets of the records, each an array. Where an event ends before another begins, as nearly
    all do, both its packets are made at once."""
    import numpy
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket

    first = what != END
    first[1:] |= what[:-1] != BEGIN
    first[0] = True
    at = numpy.flatnonzero(first)
    ends = what[at] == END
    both = numpy.append(~first, False)[at + 1]
    named = wire.number(TracePacket.TRUSTED_PACKET_SEQUENCE_ID_FIELD_NUMBER, sequence[at])
    begin = _packet(named, wait_ns[at], _begun(what[at], *(note[at] for note in notes)))
    end = _packet(named, wait_ns[at + both], _ended())
    return wire.flat(wire.join(wire.only(~ends, begin), wire.only(ends | both, end)))


def _packet(sequence: wire.Piece, wait_ns: Any, event: wire.Piece) -> wire.Piece:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket

    flags = wire.tag(TracePacket.SEQUENCE_FLAGS_FIELD_NUMBER, wire.VARINT)
    inside = wire.join(
        sequence,
        wire.constant(flags + bytes([TracePacket.SEQ_NEEDS_INCREMENTAL_STATE])),
        wire.number(TracePacket.TIMESTAMP_FIELD_NUMBER, wait_ns),
        wire.message(TracePacket.TRACK_EVENT_FIELD_NUMBER, event),
    )
    return wire.message(Trace.PACKET_FIELD_NUMBER, inside)


def _begun(what: Any, kind: Any, cpu: Any, address: Any) -> wire.Piece:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import DebugAnnotation, TrackEvent

    def noted(number: int, field: int, values: Any) -> wire.Piece:
        name = wire.tag(DebugAnnotation.NAME_IID_FIELD_NUMBER, wire.VARINT) + bytes([number])
        inside = wire.join(wire.constant(name), wire.number(field, values))
        return wire.message(TrackEvent.DEBUG_ANNOTATIONS_FIELD_NUMBER, inside)

    return wire.join(
        wire.number(TrackEvent.TYPE_FIELD_NUMBER, what.astype("u8")),
        wire.number(TrackEvent.NAME_IID_FIELD_NUMBER, kind),
        noted(1, DebugAnnotation.UINT_VALUE_FIELD_NUMBER, cpu),
        noted(2, DebugAnnotation.POINTER_VALUE_FIELD_NUMBER, address),
    )


def _ended() -> wire.Piece:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TrackEvent

    tag = wire.tag(TrackEvent.TYPE_FIELD_NUMBER, wire.VARINT)
    return wire.constant(tag + bytes([TrackEvent.TYPE_SLICE_END]))


class _Names:
    """Of processes and threads, as far as they are known: the table of tasks has processes, each
    with the names of its threads, but not which thread has which."""

    def __init__(self, found: Recording) -> None:
        rows = found.tables["tasks"]
        self._counts = add_up(((row["pid"], row["comm"]), (row["count"],)) for row in rows)
        self._of: dict[int, list[str]] = {}
        for (pid, comm), _ in sorted(self._counts.items(), key=lambda item: -item[1][0]):
            self._of.setdefault(pid, []).append(comm)

    def of(self, pid: int) -> tuple[str, str]:
        """Of a process and of its threads.

        A process goes by the name under which most of its faults were, its busiest threads'; a
        thread is named where all of them have one name.
        """
        names = self._of.get(pid, [""])
        return names[0], names[0] if len(names) == 1 else ""


# ---- sorting ----


@contextmanager
def _sorted(source: _Source) -> Iterator[Iterator[Columns]]:
    """The events by thread and start, in parts."""
    import duckdb
    import pyarrow

    try:
        with tempfile.TemporaryDirectory(prefix="livedump-") as folder:
            # Each of DuckDB's threads takes its part of the memory.
            config: dict[str, Any] = {
                "memory_limit": MEMORY,
                "temp_directory": folder,
                "threads": 2,
            }
            with duckdb.connect(config=config) as database:
                schema = pyarrow.schema(
                    [(name, getattr(pyarrow, kind)()) for name, kind in _SORTED]
                )
                reader = pyarrow.RecordBatchReader.from_batches(schema, iter(source))
                database.register("events", reader)
                yield _parts(database.sql(_SORT))
    except (duckdb.Error, OSError) as error:
        if source.failed is not None:
            raise source.failed from error
        raise ExportError(
            f"the events cannot be sorted: {error}",
            step="export",
            remedy="Set TMPDIR to a folder with more room",
        ) from error


def _parts(answer: Any) -> Iterator[Columns]:
    for batch in answer.to_arrow_reader(PART):
        yield {name: batch[name].to_numpy() for name, _kind in _SORTED}


@dataclass(frozen=True)
class Thread:
    """One track.

    :ivar idle: of an idle task, which are all thread 0, its CPU; else 0
    """

    pid: int
    tid: int
    idle: int


class _Source:
    """What is to be sorted, of the table of events.

    :ivar kinds: names, in the order of their numbers, from 1
    :ivar threads: in the order of their numbers, from 0
    :ivar failed: what ended it; DuckDB, which reads it, tells that as an error of its own
    """

    def __init__(self, found: Recording, kinds: Sequence[str]) -> None:
        self.kinds: list[str] = []
        self.threads: list[Thread] = []
        self.failed: LivedumpError | None = None
        self._found = found
        self._only = kinds
        self._numbers: dict[int, int] = {}

    def __iter__(self) -> Iterator[Any]:
        from pyarrow import array, compute

        try:
            for batch in self._found.batches("events", _COLUMNS):
                if self._only:
                    batch = batch.filter(compute.is_in(batch["kind"], array(self._only)))
                yield self._prepared(batch)
        except LivedumpError as error:
            self.failed = error
            raise

    def _prepared(self, batch: Any) -> Any:
        import pyarrow

        latency = batch["latency_ns"].fill_null(0).to_numpy()
        end, cpu, address = (
            batch[name].to_numpy() for name in ("time_monotonic_ns", "cpu", "address")
        )
        if (latency > end).any():
            raise _damaged("it has no possible time")
        if cpu.max(initial=0) > _LARGEST_CPU:
            raise _damaged("it has no possible CPU")
        threads = self._thread_numbers(batch["pid"].to_numpy(), batch["tid"].to_numpy(), cpu)
        kinds = self._kind_numbers(batch["kind"])
        columns = (threads, end - latency, end, kinds, cpu, address)
        arrays = [
            pyarrow.array(column.astype(kind))
            for column, (_name, kind) in zip(columns, _SORTED, strict=True)
        ]
        return pyarrow.RecordBatch.from_arrays(arrays, [name for name, _kind in _SORTED])

    def _thread_numbers(self, pid: Any, tid: Any, cpu: Any) -> Any:
        import numpy
        import pyarrow

        if max(pid.max(initial=0), tid.max(initial=0)) > _LARGEST_ID:
            raise _damaged("it has no possible pid")
        keys = numpy.where(tid == 0, -1 - cpu.astype("i8"), pid.astype("i8") << 32 | tid)
        coded = pyarrow.array(keys).dictionary_encode()
        numbers = [self._thread_number(key) for key in coded.dictionary.to_pylist()]
        return numpy.array(numbers, "u4")[coded.indices.to_numpy()]

    def _thread_number(self, key: int) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self.threads)
            idle = key < 0
            thread = Thread(0, 0, -1 - key) if idle else Thread(key >> 32, key & 0xFFFFFFFF, 0)
            self.threads.append(thread)
        return self._numbers[key]

    def _kind_numbers(self, kinds: Any) -> Any:
        import numpy

        coded = kinds.dictionary_encode()
        try:
            names = coded.dictionary.to_pylist()
        except UnicodeDecodeError as error:
            raise _damaged("its kind is no text") from error
        self.kinds += [name for name in names if name not in self.kinds]
        if len(self.kinds) > MOST_KINDS:
            raise _damaged(f"there are more than {MOST_KINDS} kinds")
        numbers = numpy.array([self.kinds.index(name) + 1 for name in names], "u1")
        return numbers[coded.indices.to_numpy()]


def _damaged(why: str) -> ExportError:
    return ExportError(f"the table of events is damaged: {why}", step="export")
