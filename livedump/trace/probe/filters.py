"""Whose faults are recorded: those of some processes, of tasks with a name, of a cgroup.

Stops of the machine and snapshots are everybody's, and always recorded.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livedump.recording.layout import COMM_BYTES
from livedump.text import storable
from livedump.trace.errors import TraceError

STEP = "choose tasks"

#: Where cgroup v2 is mounted; alone, or beside version 1.
CGROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))

#: The PID namespace that the kernel began with (PROC_PID_INIT_INO).
INITIAL_NAMESPACE = 0xEFFFFFFC

#: Room in the map ``wanted_pids`` of bpf/filter.h.
MAX_PIDS = 1024


@dataclass(frozen=True)
class Filter:
    """A task must meet all that is given.

    :param pids: process numbers; their threads are recorded, children are not
    :param comm: name of the task (of a thread, that may be its own), whole
    :param cgroup: folder of a cgroup (version 2); those below it belong to it
    """

    pids: tuple[int, ...] = ()
    comm: str | None = None
    cgroup: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.pids or self.comm is not None or self.cgroup is not None)

    def check(self, proc: Path = Path("/proc")) -> None:
        """Raise for what would record nothing.

        :raises TraceError: a process or cgroup is not there, or a name cannot be one
        """
        if self.pids:
            _check_namespace(proc)
        for pid in self.pids:
            _check_process(pid, proc)
        if len(self.pids) > MAX_PIDS:
            raise TraceError(f"more than {MAX_PIDS} processes", step=STEP, remedy="Use a cgroup")
        if self.comm is not None and not 0 < len(os.fsencode(self.comm)) < COMM_BYTES:
            raise TraceError(
                f"{self.comm!r} is no task's name: the kernel keeps 1 to {COMM_BYTES - 1} bytes",
                step=STEP,
                remedy="See /proc/PID/comm",
            )
        if self.cgroup is not None and not (self.cgroup / "cgroup.controllers").is_file():
            raise TraceError(
                f"{self.cgroup} is no cgroup of version 2", step=STEP, remedy="See /proc/PID/cgroup"
            )

    def flags(self) -> list[str]:
        """``-D`` flags for bpf/filter.h."""
        given = {
            "LD_FILTER_PID": self.pids,
            "LD_FILTER_COMM": self.comm is not None,
            "LD_FILTER_CGROUP": self.cgroup is not None,
        }
        return [f"-D{name}" for name, value in given.items() if value]

    def to_dict(self) -> dict[str, Any]:
        """For meta.json; empty when everybody is recorded."""
        found: dict[str, Any] = {}
        if self.pids:
            found["pids"] = list(self.pids)
        if self.comm is not None:
            found["comm"] = storable(self.comm)
        if self.cgroup is not None:
            found["cgroup"] = storable(str(self.cgroup))
        return found


def _check_process(pid: int, proc: Path) -> None:
    """Threads have numbers of their own, and a folder in /proc that is not listed."""
    try:
        status = (proc / str(pid) / "status").read_bytes()
    except OSError:
        raise TraceError(
            f"no process {pid}", step=STEP, remedy="Give one that runs, see: pgrep -l NAME"
        ) from None
    found = re.search(rb"^Tgid:\s*(\d+)$", status, re.MULTILINE)
    if found and int(found[1]) != pid:
        raise TraceError(
            f"{pid} is a thread of process {int(found[1])}",
            step=STEP,
            remedy=f"Give the process: --pid {int(found[1])}; or choose threads by --comm",
        )


def _check_namespace(proc: Path) -> None:
    """The programs in the kernel compare the numbers that the host has."""
    try:
        own = os.stat(proc / "self/ns/pid").st_ino
    except OSError:
        return
    if own != INITIAL_NAMESPACE:
        raise TraceError(
            "processes have other numbers in this PID namespace than in the kernel",
            step=STEP,
            remedy="Run where the host's are seen, e.g. nsenter --target 1 --pid --mount; or use "
            "--comm or --cgroup",
        )


def find_cgroup(name: str, places: tuple[Path, ...] = CGROUPS) -> Path:
    """The folder of a cgroup: as given, or below where cgroups are mounted (``system.slice``, or
    ``/system.slice`` as /proc/PID/cgroup has it)."""
    if Path(name).is_dir():
        return Path(name).resolve()
    for place in places:
        if (place / "cgroup.controllers").is_file():
            return place / name.lstrip("/")
    return Path(name)
