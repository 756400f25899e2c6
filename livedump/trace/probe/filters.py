"""Whose faults are recorded: those of some processes, of tasks with a name, of a cgroup.

Stops of the machine and snapshots are everybody's, and always recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livedump.recording.layout import COMM_BYTES
from livedump.trace.errors import TraceError

STEP = "choose tasks"

#: Where cgroup v2 is mounted; alone, or beside version 1.
CGROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))

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
        for pid in self.pids:
            if not (proc / str(pid)).is_dir():
                raise TraceError(
                    f"no process {pid}", step=STEP, remedy="Give one that runs, see: pgrep -l NAME"
                )
        if len(self.pids) > MAX_PIDS:
            raise TraceError(f"more than {MAX_PIDS} processes", step=STEP, remedy="Use a cgroup")
        if self.comm is not None and not 0 < len(self.comm.encode()) < COMM_BYTES:
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
            found["comm"] = self.comm
        if self.cgroup is not None:
            found["cgroup"] = str(self.cgroup)
        return found


def find_cgroup(name: str, places: tuple[Path, ...] = CGROUPS) -> Path:
    """The folder of a cgroup: as given, or below where cgroups are mounted (``system.slice``, or
    ``/system.slice`` as /proc/PID/cgroup has it)."""
    if Path(name).is_dir():
        return Path(name).resolve()
    for place in places:
        if (place / "cgroup.controllers").is_file():
            return place / name.lstrip("/")
    return Path(name)
