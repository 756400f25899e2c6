"""Packets one by one, as Perfetto's own library makes them: tracks, and the few events of stops,
snapshots and counters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: Begin, end, name and notes.
Slice = tuple[int, int, str, dict[str, Any]]

MONOTONIC, BOOTTIME, REALTIME = 3, 6, 1  # BuiltinClock
#: Of a sequence alone: its times count from the one before.
SINCE_LAST = 64

#: What a number of a note is: addresses are shown as such.
_POINTERS = {"address"}


class Packets:
    """Packets, and tracks that are described when they are first used.

    Strings are sent once and then go by number; times are the kernel's monotonic ones.
    """

    SEQUENCE = 1

    def __init__(self) -> None:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

        self._protos = protos
        self._trace = protos.Trace()
        self._tracks = 0
        self._processes: set[int] = set()
        self._numbers: dict[str, dict[str, int]] = {}
        first = self._packet(self.SEQUENCE)
        first.sequence_flags = protos.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        first.trace_packet_defaults.timestamp_clock_id = MONOTONIC

    def take(self) -> bytes:
        """What has come since the last time; nothing before there is a track."""
        if not self._tracks:
            return b""
        data: bytes = self._trace.SerializeToString()
        self._trace = self._protos.Trace()
        return data

    def slices(self, name: str, slices: Iterable[Slice]) -> None:
        """A track for slices, in the order of their start; where they overlap, as stops that wait
        for each other, one more of that name. None without any."""
        ends: dict[int, int] = {}
        for start_ns, end_ns, text, notes in slices:
            track = next((each for each, end in ends.items() if end <= start_ns), 0)
            track = track or self.named(name)
            ends[track] = end_ns
            self._begin(track, start_ns, text, notes)
            self._event(track, end_ns, "TYPE_SLICE_END")

    def values(self, name: str, unit: str, points: Iterable[tuple[int, int]]) -> None:
        """A track of numbers: (time, value from then on)."""
        track = self._new_track(name=name)
        track.counter.unit = self._protos.CounterDescriptor.Unit.Value(unit)
        for time_ns, value in points:
            self._event(track.uuid, time_ns, "TYPE_COUNTER").track_event.counter_value = value

    def named(self, name: str) -> int:
        """A new track."""
        return int(self._new_track(name=name).uuid)

    def thread(self, pid: int, tid: int, process: str, name: str) -> int:
        """A new track of a thread.

        :param process: name of its process
        :param name: its own; empty: it is not known
        """
        if pid not in self._processes:
            self._processes.add(pid)
            described = self._new_track().process
            described.pid, described.process_name = pid, process
        track = self._new_track()
        track.thread.pid, track.thread.tid = pid, tid
        if name:
            track.thread.thread_name = name
        return int(track.uuid)

    def sequence(self, track: int, names: Sequence[str], notes: Sequence[str]) -> None:
        """Begin a sequence, of the number of a track: all its events are on that track.

        Their times count from the event before; the first one's from 0.

        :param names: of its events, by number from 1
        :param notes: names of what is noted of each, by number from 1
        """
        packet = self._packet(track)
        packet.sequence_flags = self._protos.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        packet.trace_packet_defaults.timestamp_clock_id = SINCE_LAST
        packet.trace_packet_defaults.track_event_defaults.track_uuid = track
        for number, name in enumerate(names, 1):
            packet.interned_data.event_names.add(iid=number, name=name)
        for number, name in enumerate(notes, 1):
            packet.interned_data.debug_annotation_names.add(iid=number, name=name)
        snapshot = self._packet(track).clock_snapshot
        snapshot.clocks.add(clock_id=SINCE_LAST, timestamp=0, is_incremental=True)
        snapshot.clocks.add(clock_id=MONOTONIC, timestamp=0)

    def _begin(self, track: int, time_ns: int, name: str, notes: Mapping[str, Any]) -> None:
        packet = self._event(track, time_ns, "TYPE_SLICE_BEGIN")
        packet.track_event.name_iid = self._number(packet, "event_names", name)
        for key, value in notes.items():
            note = packet.track_event.debug_annotations.add()
            note.name_iid = self._number(packet, "debug_annotation_names", key)
            if isinstance(value, int):
                note.uint_value = value
            else:
                text = "debug_annotation_string_values"
                note.string_value_iid = self._number(packet, text, str(value))

    def _number(self, packet: Any, table: str, text: str) -> int:
        """By which a string goes; this packet tells it when it is new."""
        numbers = self._numbers.setdefault(table, {})
        if text not in numbers:
            numbers[text] = len(numbers) + 1
            entry = getattr(packet.interned_data, table).add(iid=numbers[text])
            if table == "debug_annotation_string_values":
                entry.str = text.encode()
            else:
                entry.name = text
        return numbers[text]

    def _event(self, track: int, time_ns: int, kind: str) -> Any:
        packet = self._packet(self.SEQUENCE)
        packet.timestamp = time_ns
        packet.sequence_flags = self._protos.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        packet.track_event.type = getattr(self._protos.TrackEvent, kind)
        packet.track_event.track_uuid = track
        return packet

    def _new_track(self, **described: str) -> Any:
        """Numbers of tracks are those of sequences, too: the first one is ours."""
        self._tracks += 1
        track = self._packet(self.SEQUENCE).track_descriptor
        for key, value in described.items():
            setattr(track, key, value)
        track.uuid = self.SEQUENCE + self._tracks
        return track

    def _packet(self, sequence: int) -> Any:
        return self._trace.packet.add(trusted_packet_sequence_id=sequence)


def clocks(start: Mapping[str, int]) -> bytes:
    """How our clock and the others belong together: without this, the events of a clock that is
    not the trace's own are dropped when the trace is opened.

    It is of the moment when the monotonic clock was 0: later snapshots of a clock must not go back,
    and those of sequences begin there.
    """
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

    trace = protos.Trace()
    snapshot = trace.packet.add(trusted_packet_sequence_id=Packets.SEQUENCE).clock_snapshot
    snapshot.primary_trace_clock = MONOTONIC
    monotonic_ns = start["monotonic_ns"]
    for clock, now_ns in (
        (MONOTONIC, monotonic_ns),
        (BOOTTIME, start.get("boottime_ns", monotonic_ns)),
        (REALTIME, start["realtime_ns"]),
    ):
        snapshot.clocks.add(clock_id=clock, timestamp=max(now_ns - monotonic_ns, 0))
    data: bytes = trace.SerializeToString()
    return data


def compressed(packets: bytes) -> bytes:
    """Packets as one packet. Level 1: a higher one takes far longer and saves little."""
    import zlib

    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

    trace = protos.Trace()
    trace.packet.add(compressed_packets=zlib.compress(packets, 1))
    data: bytes = trace.SerializeToString()
    return data
