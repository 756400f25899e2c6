"""System calls for which Python has no function, by x86-64's numbers."""

from __future__ import annotations

import ctypes
import os
from typing import Any

DELETE_MODULE = 176
PERF_EVENT_OPEN = 298
FINIT_MODULE = 313
BPF = 321
MEMBARRIER = 324

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def syscall(number: int, *args: int | bytes | Any) -> int:
    """What the call returns.

    :param args: numbers, and what ctypes passes as an address
    :raises OSError: it failed
    """
    wide = (ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args)
    result = _libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(result)
