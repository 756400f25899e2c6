"""``python -m tools.demo``: the main job, from boot to report."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from livedump import analysis
from livedump.dump.crash import open_with_crash
from livedump.dump.drgn import open_with_drgn
from livedump.dump.opened import OpenResult, find_vmlinux
from livedump.errors import LivedumpError
from livedump.recording.recover import open_recording
from tools.demo.steps import Steps
from tools.demo.summary import build_summary, render, write_json
from tools.paths import BUILD, PYTHON
from tools.vm import VmConfig, VmError, VmResult, run
from tools.vm.config import Disk, parse_bytes
from tools.vm.lines import LineSink

DEMO = BUILD / "demo"
TIMEOUT_S = 600.0


def boot(steps: Steps, memory: str) -> VmResult:
    """Run the guest's part; its dump is in build/demo/vmcore afterwards.

    :raises VmError: the guest died, or one of its steps failed
    """
    notes: list[str] = []

    def on_line(line: str) -> None:
        if not steps.on_guest_line(line):
            notes.append(line)

    vmcore = DEMO / "vmcore"
    # Room for headers beside the memory itself.
    config = VmConfig(
        memory=memory,
        disks=(Disk(vmcore, parse_bytes(memory) + (64 << 20)),),
        timeout_s=TIMEOUT_S,
        name="demo",
    )
    steps.begin("boot the machine")
    sink = LineSink(on_line)
    result = run(config, [str(PYTHON), "-m", "tools.demo.guest"], sink, LineSink(notes.append))
    if result.status:
        raise VmError("the demo failed in the guest:\n" + "\n".join(notes[-30:]))
    return result


def open_dump(steps: Steps, release: str) -> list[OpenResult]:
    """Open the dump with crash and drgn, side by side with Debian's own vmlinux."""
    vmlinux = find_vmlinux(release)
    results = []
    for name, opener in (("crash", open_with_crash), ("drgn", open_with_drgn)):
        steps.begin(f"open the dump with {name}")
        results.append(opener(DEMO / "vmcore", vmlinux))
    return results


def write_reports(steps: Steps) -> dict[str, Any]:
    """report.html and faults.folded from the recording; what they say, as data."""
    steps.begin("write the report")
    recording = open_recording(DEMO / "recording")
    analysis.write_html(recording, DEMO / "report.html")
    analysis.export.write(DEMO / "faults.folded", analysis.stacks.folded(recording))
    return analysis.summarize(recording).to_dict()


def prepare() -> None:
    """An empty build/demo/: nothing of an older demo is taken for this one's."""
    DEMO.mkdir(parents=True, exist_ok=True)
    for name in ("vmcore", "report.html", "faults.folded", "summary.json", "guest.json"):
        (DEMO / name).unlink(missing_ok=True)


def run_demo(memory: str) -> dict[str, Any]:
    """All steps; returns what summary.json says."""
    from tools.demo.summary import read_guest

    prepare()
    with Steps() as steps:
        machine = boot(steps, memory)
        guest = read_guest(DEMO / "guest.json")
        os.truncate(DEMO / "vmcore", guest["image_bytes"])
        os.chmod(DEMO / "vmcore", 0o600)
        openers = open_dump(steps, machine.release)
        faults = write_reports(steps)
    return build_summary(machine, guest, openers, faults)


@click.command()
@click.option("--memory", default="2G", show_default=True, help="The machine's RAM.")
def main(memory: str) -> None:
    """Boot Debian's 6.1 kernel, dump it under load, open the dump, report what it cost."""
    started = time.monotonic()
    try:
        summary = run_demo(memory)
    except (VmError, LivedumpError) as error:
        click.echo(f"demo: error: {error}", err=True)
        sys.exit(1)
    summary["seconds"] = round(time.monotonic() - started, 1)
    write_json(DEMO / "summary.json", summary)
    click.echo(render(summary, DEMO.relative_to(Path.cwd())))
    sys.exit(0 if summary["ok"] else 1)


if __name__ == "__main__":
    main()
