"""One run: boot a machine, take its memory at the instant, let livedump drain."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.oracle.take.capture import AFTER, INSTANT, Capture, Sockets, Timing
from tools.oracle.take.guest import Job
from tools.paths import BUILD, PYTHON
from tools.vm import VmConfig, VmError, run
from tools.vm.config import BALLOON, Disk, parse_bytes
from tools.vm.kernels import resolve
from tools.vm.lines import LineSink
from tools.vm.machines import FULL

ORACLE = BUILD / "oracle"
#: livedump's dump, in the run's folder.
IMAGE = "vmcore"
_HEADER_ROOM = 64 << 20
_TIMEOUT_S = 900.0


class NotArmed(VmError):
    """The guest did not get as far as the snapshot: nothing has been judged."""


@dataclass(frozen=True)
class Machine:
    """What is booted.

    :ivar append: kernel arguments
    :ivar test: the module's test build; else the one that users have
    :ivar balloon: the host takes free pages
    :ivar modules: builds made beforehand, in folders named by release; None: build the tree's
    """

    kernel: str = FULL
    memory: str = "1G"
    la57: bool = True
    append: tuple[str, ...] = ()
    test: bool = False
    balloon: bool = False
    modules: Path | None = None


@dataclass(frozen=True)
class Taken:
    """What a run left in its folder."""

    folder: Path
    release: str
    guest: dict[str, Any]
    timing: Timing


@contextmanager
def sockets() -> Iterator[Sockets]:
    """A folder of a short name for QEMU's sockets."""
    with tempfile.TemporaryDirectory(prefix="oracle-") as folder:
        yield Sockets(Path(folder))


def prepare(name: str) -> Path:
    """An empty folder below build/oracle/."""
    folder = ORACLE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def remove_memory(folder: Path) -> None:
    """Remove the dumps: each is as large as the machine's RAM."""
    for name in (IMAGE, INSTANT, AFTER):
        (folder / name).unlink(missing_ok=True)


def _environment(machine: Machine) -> dict[str, str]:
    if machine.modules is None:
        return {}
    return {"LIVEDUMP_KO": str(machine.modules.absolute() / resolve(machine.kernel).release)}


def _config(machine: Machine, folder: Path, at: Sockets) -> VmConfig:
    size = parse_bytes(machine.memory) + _HEADER_ROOM
    return VmConfig(
        kernel=machine.kernel,
        memory=machine.memory,
        la57=machine.la57,
        append=machine.append,
        disks=(Disk(folder / IMAGE, size),),
        timeout_s=_TIMEOUT_S,
        name="oracle",
        qemu_args=(*at.qemu_args(), *(BALLOON if machine.balloon else ())),
        env=_environment(machine),
        build_kmod=machine.modules is None,
        test_kmod=machine.test,
    )


def take(machine: Machine, job: Job, folder: Path) -> Taken:
    """Boot, take the snapshot, drain; everything is in *folder* afterwards.

    :raises NotArmed: it failed before the snapshot
    :raises VmError: the machine, the guest's part or the capture failed
    """
    job.write(folder)
    said: list[str] = []
    with sockets() as at:
        capture = Capture(folder, at)

        def on_line(line: str) -> None:
            if not capture.on_line(line):
                said.append(line)

        thread = capture.start()
        command = [str(PYTHON), "-m", "tools.oracle.take.guest", str(folder)]
        sinks = LineSink(on_line), LineSink(said.append)
        try:
            result = run(_config(machine, folder, at), command, *sinks)
        except VmError as error:
            kind = VmError if capture.armed else NotArmed
            raise kind(f"{error}\n{_last_words(said, capture)}") from error
        thread.join(timeout=5)
    if result.status or not capture.done:
        kind = VmError if capture.armed else NotArmed
        raise kind(f"the run failed ({result.status}):\n{_last_words(said, capture)}")
    guest = json.loads((folder / "guest.json").read_text())
    os.truncate(folder / IMAGE, guest["image_bytes"])
    return Taken(folder, result.release, guest, capture.timing)


def _last_words(said: list[str], capture: Capture) -> str:
    cause = [f"capture: {capture.error!r}"] if capture.error else []
    return "\n".join([*cause, *said[-30:]])
