"""Recording of page faults and stops: BPF programs in, a folder of tables out.

Nothing here imports bcc or pyarrow before it needs them; only :mod:`livedump.trace.bpf` imports
bcc at all.
"""

from livedump.trace.errors import CommandError, RecordingError, TraceError
from livedump.trace.recorder import RecordConfig, Recorder, RecordResult, record
from livedump.trace.recording import Recording, read

__all__ = [
    "CommandError",
    "RecordConfig",
    "RecordResult",
    "Recorder",
    "Recording",
    "RecordingError",
    "TraceError",
    "read",
    "record",
]
