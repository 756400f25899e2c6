"""Perfetto traces as a reader understands them: packets unpacked, numbers resolved."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket

STRINGS = {
    "event_names": "name",
    "debug_annotation_names": "name",
    "debug_annotation_string_values": "str",
}


class Sequence:
    """What packets of one sequence have said so far."""

    def __init__(self) -> None:
        self.strings: dict[str, dict[int, str]] = {table: {} for table in STRINGS}
        self.clock = self.track = 0
        self.since: dict[int, int] = {}
        self.begun = False

    def resolve(self, packet: Any) -> None:
        """Put what its numbers stand for into a packet."""
        if packet.sequence_flags & TracePacket.SEQ_INCREMENTAL_STATE_CLEARED:
            self.__init__()  # type: ignore[misc]
            self.begun = True
        assert self.begun or not packet.sequence_flags, "needs what was not sent"
        self._learn(packet)
        if packet.HasField("timestamp") and not packet.timestamp_clock_id:
            packet.timestamp_clock_id = self.clock
        if packet.timestamp_clock_id in self.since:
            self.since[packet.timestamp_clock_id] += packet.timestamp
            packet.timestamp = self.since[packet.timestamp_clock_id]
            packet.timestamp_clock_id = 3
        if packet.HasField("track_event"):
            self._name(packet.track_event)

    def _learn(self, packet: Any) -> None:
        if packet.HasField("trace_packet_defaults"):
            self.clock = packet.trace_packet_defaults.timestamp_clock_id
            self.track = packet.trace_packet_defaults.track_event_defaults.track_uuid
        for table, column in STRINGS.items():
            for entry in getattr(packet.interned_data, table):
                assert entry.iid not in self.strings[table], "told twice"
                text = getattr(entry, column)
                self.strings[table][entry.iid] = text if isinstance(text, str) else text.decode()
        for clock in packet.clock_snapshot.clocks:
            if clock.is_incremental:
                self.since[clock.clock_id] = clock.timestamp

    def _name(self, event: Any) -> None:
        event.track_uuid = event.track_uuid or self.track
        if event.name_iid:
            event.name = self.strings["event_names"][event.name_iid]
        for note in event.debug_annotations:
            note.name = self.strings["debug_annotation_names"][note.name_iid]
            if note.string_value_iid:
                values = self.strings["debug_annotation_string_values"]
                note.string_value = values[note.string_value_iid]


def read(data: bytes) -> Trace:
    """The trace, with every packet as if it stood alone."""
    trace, sequences = Trace(), dict[int, Sequence]()
    for packet in packets(data):
        sequence = sequences.setdefault(packet.trusted_packet_sequence_id, Sequence())
        sequence.resolve(packet)
        trace.packet.append(packet)
    return trace


def packets(data: bytes) -> Iterator[Any]:
    """Packets as they are written."""
    for packet in Trace.FromString(data).packet:
        if packet.HasField("compressed_packets"):
            yield from packets(zlib.decompress(packet.compressed_packets))
        else:
            yield packet
