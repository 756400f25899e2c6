"""What the running kernel does by itself, for those who must tell it from what livedump does."""

from __future__ import annotations

import platform
from pathlib import Path

from livedump.tested import is_of

#: Since 6.6 set_memory_ro() takes Dirty away, too: a page of code comes back without it, and has it
#: again once it is written.
CLEANS = not is_of(platform.release(), "6.1")

#: It marks by SOFTW3 what it has split for good, and preempts tasks in its own code.
IS_7 = is_of(platform.release(), "7")

#: It preempts tasks in its own code, and runs no program of ours on a CPU whose recorder was
#: preempted while it read a table; 6.1 does not count these, which the recording says
#: (docs/kernels.md). One emulated CPU, beside other machines, lost 1 fault in 150.
SKIPS_UNCOUNTED = (
    is_of(platform.release(), "6.1") and "preempt=full" in Path("/proc/cmdline").read_text().split()
)
