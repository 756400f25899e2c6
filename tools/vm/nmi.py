"""Non-maskable interrupts for a running machine, at a steady rate, by way of QEMU's monitor."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from tools.paths import BUILD
from tools.vm.errors import VmError

#: QEMU answers its monitor well within this time of its start.
_CONNECT_S = 20.0


class Injector:
    """Injects while the guest asks for it: while :attr:`wanted` exists.

    A guest without a handler for them takes an NMI for a fault of the machine.
    """

    def __init__(self, folder: Path, per_second: float) -> None:
        self._socket = folder / "qmp"
        #: A file that both sides see; the guest makes and removes it.
        self.wanted = BUILD / "vm" / f"nmi-{os.getpid()}"
        self._pause_s = 1 / per_second
        self._end = threading.Event()
        #: NMIs that QEMU took.
        self.injected = 0

    @property
    def qemu_args(self) -> tuple[str, ...]:
        """Options that let us at the monitor."""
        return (
            *("-chardev", f"socket,id=nmiqmp,path={self._socket},server=on,wait=off"),
            *("-mon", "chardev=nmiqmp,mode=control"),
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Inject when asked to, while the block runs."""
        self.wanted.unlink(missing_ok=True)
        thread = threading.Thread(target=self._inject, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join(_CONNECT_S)
            self.wanted.unlink(missing_ok=True)

    def _inject(self) -> None:
        from qemu.qmp import QMPError
        from qemu.qmp.legacy import QEMUMonitorProtocol

        while not self._socket.exists():
            if self._end.wait(0.1):
                return
        monitor = QEMUMonitorProtocol(str(self._socket))
        # The machine may end at any moment: that is no error of ours.
        with contextlib.suppress(QMPError, OSError, EOFError):
            monitor.connect()
            while not self._end.wait(self._pause_s):
                if self.wanted.exists():
                    monitor.cmd("inject-nmi")
                    self.injected += 1
        with contextlib.suppress(QMPError, OSError, EOFError):
            monitor.close()


@contextlib.contextmanager
def injector(per_second: float) -> Iterator[Injector]:
    """An injector whose socket has a short path: they have at most 107 characters.

    :raises VmError: not a rate
    """
    if not 0 < per_second <= 1000:
        raise VmError(f"{per_second} NMIs a second: choose from 1 to 1000")
    with tempfile.TemporaryDirectory(prefix="livedump-nmi-") as folder:
        yield Injector(Path(folder), per_second)
