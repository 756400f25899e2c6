"""The guest's part: load, snapshot, drain to the disk, and the witness as a second judge.

``python -m tools.oracle.take.guest FOLDER`` reads FOLDER/job.json and writes FOLDER/guest.json.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from livedump import abi
from livedump.control import Control
from livedump.dump import open_image
from livedump.session import Session
from tools.guest import witness
from tools.guest.modules import WITNESS, modules
from tools.guest.program import Program
from tools.oracle.take.ambush import Ambush, ambush
from tools.oracle.take.capture import GO, MEASURED, Event, await_answer

INSTANT_SYMBOL = "livedump_instant"
#: Records what drivers hand to devices (tests/kmod).
BUFFERS = "livedump_buffers"
_WARM_UP_S, _ANSWER_S = 1.0, 600.0
_MAPPED_MIB = 16
_FREED_MIB = 96
_TAKEN_S = 12  # for a host to take what is free
_WITNESSED = 8  # snapshots
_PAUSE_S = 0.02  # between two steps of the load: the drain needs a CPU, too


@dataclass(frozen=True)
class Job:
    """What the guest has to do; job.json."""

    strategy: str = "eager"
    parameters: list[str] = field(default_factory=list)  # of the module
    pool_bytes: int = 0
    churn_mib: int = 80
    ambush: bool = False  # reads that meet writes; needs the module's test build
    not_zeroed: bool = False  # a device may be the first to write a page
    balloon: bool = False  # the host takes pages that are free for some seconds

    def loads(self) -> list[list[str]]:
        """The Python modules that run meanwhile, with their arguments."""
        found = [["tools.guest.load", "--pause", str(_PAUSE_S)]]
        found.append(["tools.guest.load.churn", str(self.churn_mib)])
        found.append(["tools.guest.load.churn", str(_MAPPED_MIB), "maps"])
        if self.balloon:
            found.append(["tools.guest.load.churn", str(_FREED_MIB), "frees"])
        return found

    def modules(self) -> list[str]:
        """The modules beside livedump's."""
        return [WITNESS, *([BUFFERS] if self.not_zeroed else [])]

    def write(self, folder: Path) -> None:
        """To FOLDER/job.json."""
        (folder / "job.json").write_text(json.dumps(asdict(self)))


def read_job(folder: Path) -> Job:
    """From FOLDER/job.json."""
    return Job(**json.loads((folder / "job.json").read_text()))


def symbol_address(name: str, module: str) -> int:
    """Where the module's function is, from /proc/kallsyms."""
    for line in Path("/proc/kallsyms").read_text().splitlines():
        fields = line.split()
        if fields[2:] == [name, f"[{module}]"]:
            return int(fields[0], 16)
    raise SystemExit(f"oracle: no {name} in module {module}")


def buffers_since(text: str, instant_ns: int) -> list[tuple[int, int]]:
    """(physical address, bytes) of those that a device was given since the instant."""
    rows = [tuple(map(int, line.split())) for line in text.splitlines()]
    return sorted({(address, size) for given_ns, address, size in rows if given_ns >= instant_ns})


def snapshot(job: Job, folder: Path) -> dict[str, Any]:
    """Take the snapshot when the host is ready, drain it, and let the host look once more."""
    disk = os.environ["LIVEDUMP_DISK"]
    with contextlib.ExitStack() as stack:
        trap = stack.enter_context(ambush()) if job.ambush else None
        return _snapshot(job, folder, disk, trap)


def _snapshot(job: Job, folder: Path, disk: str, trap: Ambush | None) -> dict[str, Any]:
    time.sleep(_WARM_UP_S)
    say(Event("armed", symbol_address(INSTANT_SYMBOL, "livedump")))
    await_answer(folder, GO, _ANSWER_S)
    with Session(strategy=job.strategy, pool_bytes=job.pool_bytes) as session:
        if job.balloon:
            time.sleep(_TAKEN_S)
        result = session.dump(disk)
        if trap:
            trap.run(session.fd, disk)
        with Control() as control:
            lost = control.lost()
        buffers = Path("/proc", BUFFERS).read_text() if job.not_zeroed else ""
        say(Event("drained"))
        await_answer(folder, MEASURED, _ANSWER_S)
    with open_image(disk) as image:
        torn = witness.torn_rows(witness.image_values(image))
        size = image.layout.end
    with Control() as control:
        final = control.status()
    instant_ns = int(final.report["instant_boottime_ns"])
    return {
        "given": buffers_since(buffers, instant_ns),
        "image_bytes": size,
        "verdict": result.verdict,
        "seconds": result.seconds,
        "lost": lost,
        "torn_rows": torn,
        "report": final.to_dict()["report"],
    }


def witnessed(job: Job) -> tuple[int, int]:
    """More snapshots, of which the witness alone is the judge: its wrong pages and torn rows.

    Nothing halts the machine in these. That it is halted at the instant in the other one may cost
    what the TLBs hold: with `mutant=flush` the host found 8 wrong pages once, none another time.
    """
    wrong = torn = 0
    for _ in range(_WITNESSED):
        with Session(strategy=job.strategy, pool_bytes=job.pool_bytes):
            with open_image(abi.IMAGE_PATH) as image:
                rows = witness.image_values(image)
            wrong += witness.wrong_pages(rows)
            torn += witness.torn_rows(rows)
    return wrong, torn


def say(event: Event) -> None:
    """To the host."""
    print(event.line(), flush=True)


def main() -> None:
    """All of it; exits 0 only if every step worked."""
    folder = Path(sys.argv[1])
    job = read_job(folder)
    with contextlib.ExitStack() as stack:
        if job.balloon:
            subprocess.run(["modprobe", "virtio_balloon"], check=True)
        loads = [stack.enter_context(Program(*arguments)) for arguments in job.loads()]
        stack.enter_context(modules(*job.modules(), parameters=job.parameters))
        stack.enter_context(witness.writing())
        for load in loads:
            load.await_ready()
        seen = snapshot(job, folder)
        wrong, torn = witnessed(job)
        seen["wrong_pages"], seen["torn_rows"] = wrong, seen["torn_rows"] + torn
    (folder / "guest.json").write_text(json.dumps(seen, indent=1))


if __name__ == "__main__":
    main()
