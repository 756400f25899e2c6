"""Recording of page faults and stops: BPF programs in, a folder of tables out.

Nothing here imports bcc or pyarrow before it needs them; only
:mod:`livedump.trace.probe.loader` imports bcc at all.
"""

from livedump.trace.errors import CommandError, TraceError
from livedump.trace.recorder import RecordConfig, Recorder, RecordResult, record

__all__ = [
    "CommandError",
    "RecordConfig",
    "RecordResult",
    "Recorder",
    "TraceError",
    "record",
]
