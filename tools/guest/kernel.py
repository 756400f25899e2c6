"""What the running kernel does by itself, for those who must tell it from what livedump does."""

from __future__ import annotations

import platform

from livedump.tested import is_of

#: It marks by SOFTW3 what it has split for good, gives pages of code back without Dirty, and
#: preempts tasks in its own code.
IS_7 = is_of(platform.release(), "7")
