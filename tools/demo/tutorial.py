"""``make tutorial``: the commands of docs/tutorial.md, one after the other, in a machine.

What they print is in build/tutorial/transcript.txt afterwards, beside the recordings.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable

from tools.paths import BUILD, PYTHON, ROOT
from tools.vm import VmConfig, run
from tools.vm.config import Disk

TUTORIAL = BUILD / "tutorial"
TRANSCRIPT = TUTORIAL / "transcript.txt"
TIMEOUT_S = 1200.0

SERVICE = "python3 -m tools.guest.load.requests"

#: What to type, and the exit status that it must have.
GUEST: tuple[tuple[str, int], ...] = (
    (f"livedump-trace record -o monday --kind user --comm ldservice -- {SERVICE} 20", 0),
    (f"livedump-trace record -o tuesday --kind user --comm ldservice -- {SERVICE} 20 --huge", 0),
    ("livedump-trace diff monday tuesday --fail-on 'p90(user)>+50%'", 1),
    ("livedump-trace report tuesday --kind user --by stalled", 0),
    ("livedump load", 0),
    ("livedump snapshot", 0),
    ("livedump release", 0),
    (
        "livedump-trace record -o caught --kind user,cow,stop"
        " --snapshot-when 'p99(user)>1ms for 1s' --dump /dev/vda"
        f" -- {SERVICE} 15 --huge",
        0,
    ),
    ("livedump-trace report caught --kind user --kind cow", 0),
    (
        "livedump-trace query \"SELECT sum(count) AS pages, stack FROM stacks WHERE kind = 'cow'"
        " AND comm = 'ldservice' GROUP BY ALL ORDER BY pages DESC LIMIT 1\" caught",
        0,
    ),
    ("livedump unload", 0),
)
HOST: tuple[tuple[str, int], ...] = (
    ("livedump open vmcore", 0),
    ("livedump-trace annotate caught --vmcore vmcore", 0),
    ("livedump-trace report caught --html caught.html", 0),
)


def type_in(steps: Iterable[tuple[str, int]]) -> None:
    """Run them in a shell, in build/tutorial; both sides go to the transcript.

    :raises RuntimeError: one has another exit status than it must have
    """
    path = f"{PYTHON.parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "COLUMNS": "80"}
    for command, expected in steps:
        print(f"tutorial: {command}", file=sys.stderr, flush=True)
        done = subprocess.run(
            command,
            shell=True,
            cwd=TUTORIAL,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
        )
        with TRANSCRIPT.open("a") as out:
            out.write(f"$ {command}\n{done.stdout}")
            out.write(f"[exit status {done.returncode}]\n\n" if done.returncode else "\n")
        if done.returncode != expected:
            raise RuntimeError(f"{command}: exit status {done.returncode}\n{done.stdout}")


def main() -> None:
    """On the host; with the argument ``guest`` in there."""
    if sys.argv[1:] == ["guest"]:
        type_in(GUEST)
        return
    shutil.rmtree(TUTORIAL, ignore_errors=True)
    TUTORIAL.mkdir(parents=True)
    config = VmConfig(
        disks=(Disk(TUTORIAL / "vmcore", (2 << 30) + (64 << 20)),),
        timeout_s=TIMEOUT_S,
        name="tutorial",
    )
    if status := run(config, [str(PYTHON), "-m", "tools.demo.tutorial", "guest"]).status:
        sys.exit(status)
    type_in(HOST)
    print(TRANSCRIPT)


if __name__ == "__main__":
    main()
