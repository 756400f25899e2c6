"""The row of the table ``recordings``: what meta.json says, for SQL over many recordings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from livedump.recording.losses import LOSSES
from livedump.recording.meta import lasted_ns, suspended_ns
from livedump.recording.schema import Row

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def about(meta: Mapping[str, Any]) -> Row:
    """The row.

    :param meta: with ``schema`` and ``minor``
    """
    start = meta["clocks"]["start"]
    passed_ns = lasted_ns(meta) + suspended_ns(meta)
    command = meta.get("command") or {"argv": [], "status": None}
    return {
        "schema": meta["schema"],
        "minor": meta["minor"],
        "start_at": utc(start["realtime_ns"]),
        "end_at": utc(start["realtime_ns"] + passed_ns),
        "start_realtime_ns": start["realtime_ns"],
        "start_monotonic_ns": start["monotonic_ns"],
        "duration_ns": lasted_ns(meta),
        "suspended_ns": suspended_ns(meta),
        "slice_ns": meta["slice_ns"],
        "kernel": meta["kernel"]["release"],
        "architecture": meta["kernel"]["machine"],
        "cpus": meta["cpus"],
        "memory_bytes": meta["memory_bytes"],
        "livedump": meta["versions"]["livedump"],
        "command": " ".join(command["argv"]) or None,
        "command_status": command["status"],
        "ended_by": meta["ended_by"],
        "stacks": meta["options"].get("stacks"),
        "labels": json.dumps(meta["labels"], sort_keys=True),
        **{name: meta.get(name) for name in LOSSES},
        "meta": json.dumps(meta),
    }


def utc(realtime_ns: int) -> datetime:
    """CLOCK_REALTIME as a time, to the microsecond."""
    return _EPOCH + timedelta(microseconds=realtime_ns // 1000)
