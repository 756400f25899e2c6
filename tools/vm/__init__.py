"""Boot one of Debian's stock kernels with virtme-ng and run a command in it.

>>> from tools.vm import VmConfig, run
>>> run(VmConfig(kernel="6.1", memory="2G"), ["uname", "-r"]).status
0
"""

from tools.vm.config import VmConfig, VmResult
from tools.vm.errors import DirtyLog, GuestDied, GuestTimeout, VmError
from tools.vm.machine import run

__all__ = [
    "DirtyLog",
    "GuestDied",
    "GuestTimeout",
    "VmConfig",
    "VmError",
    "VmResult",
    "run",
]
