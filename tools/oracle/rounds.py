"""``python -m tools.oracle.rounds``: many snapshots in one boot, and every large page comes back.

In the guest: ``python -m tools.oracle.rounds --guest FOLDER``.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import click

from livedump import abi
from livedump.control import DEFAULT_STRATEGY
from livedump.dump import open_image
from livedump.session import Session
from tools.guest import witness
from tools.guest.modules import WITNESS, modules
from tools.guest.program import Load
from tools.oracle.read import leaves
from tools.oracle.take.capture import GO, MEASURED, Capture, Event, answer, await_answer
from tools.oracle.take.guest import say
from tools.oracle.take.run import prepare, sockets
from tools.paths import PYTHON
from tools.vm import VmConfig, VmError, run
from tools.vm.lines import LineSink
from tools.vm.machines import SERIES

_READY_S, _ROUND_S, _TIMEOUT_S = 300.0, 60.0, 3000.0
_HOLD_S = 0.2
_SHOWN = 10


@dataclass
class Watch(Capture):
    """Reads the leaves when the guest says that it is ready, and when it is done."""

    rounds: int = 0
    before: list[leaves.Leaf] = field(default_factory=list)
    after: list[leaves.Leaf] = field(default_factory=list)

    def _steps(self) -> None:
        self._wait("ready", _READY_S)
        self.before = self._leaves()
        answer(self.folder, GO)
        self._wait("done", _ROUND_S * self.rounds)
        self.after = self._leaves()
        answer(self.folder, MEASURED)

    def _leaves(self) -> list[leaves.Leaf]:
        self._command("stop")
        text = self._command("human-monitor-command", **{"command-line": "info tlb"})
        self._command("cont")
        return leaves.parse(text)


def kernel_splits() -> int:
    """How many large leaves of 2 MiB the kernel has split so far; livedump's are not among them."""
    counts = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(counts["direct_map_level2_splits"])


def guest(folder: Path) -> None:
    """Load the module, snapshot and release again and again under load."""
    job = json.loads((folder / "job.json").read_text())
    done = Counter[str]()
    with modules(WITNESS), witness.writing(), Load():
        say(Event("ready"))
        await_answer(folder, GO, _READY_S)
        splits = kernel_splits()
        for _ in range(job["rounds"]):
            with Session(strategy=job["strategy"], pool_bytes=256 << 20) as session:
                time.sleep(_HOLD_S)
                with open_image(abi.IMAGE_PATH) as image:
                    rows = witness.image_values(image)
                final = session.release()
            done["snapshots"] += 1
            done["complete"] += final.verdict == "complete"
            done["torn"] += witness.torn_rows(rows)
            done["wrong"] += witness.wrong_pages(rows)
            done["demotions"] += final.report["demotions"]
            done["faults"] += final.report["faults"]
        done["splits"] = kernel_splits() - splits
        say(Event("done"))
        await_answer(folder, MEASURED, _READY_S)
    (folder / "guest.json").write_text(json.dumps(done))


def run_one(
    kernel: str, strategy: str, memory: str, rounds: int, append: tuple[str, ...]
) -> list[str]:
    """Boot and compare; what is wrong, a line each."""
    folder = prepare("-".join(["rounds", kernel, *append, strategy]))
    (folder / "job.json").write_text(json.dumps({"rounds": rounds, "strategy": strategy}))
    said: list[str] = []
    with sockets() as at:
        watch = Watch(folder, at, rounds=rounds)
        config = VmConfig(
            kernel=kernel,
            memory=memory,
            timeout_s=_TIMEOUT_S,
            name="rounds",
            append=append,
            qemu_args=at.qemu_args(),
        )
        thread = watch.start()
        sink = LineSink(lambda line: None if watch.on_line(line) else said.append(line))
        command = [str(PYTHON), "-m", "tools.oracle.rounds", "--guest", str(folder)]
        try:
            status = run(config, command, sink, LineSink(said.append)).status
        except VmError as error:
            return [*said[-_SHOWN:], str(error)]
        thread.join(timeout=5)
    if status or not watch.done:
        return [*said[-_SHOWN:], f"status {status}, {watch.error!r}"]
    done = Counter(json.loads((folder / "guest.json").read_text()))
    click.echo(f"rounds: {kernel} {strategy}: {dict(done)}")
    click.echo(f"rounds:   before {leaves.sizes(watch.before)}")
    click.echo(f"rounds:   after  {leaves.sizes(watch.after)}")
    return wrong(watch, done, rounds)


def wrong(watch: Watch, done: Counter[str], rounds: int) -> list[str]:
    """What must not be, and what would prove nothing."""
    before = leaves.split_by_kernel(watch.before, watch.after, done["splits"])
    problems = leaves.differences(before, watch.after)
    if done["snapshots"] != rounds or not done["faults"]:
        problems.append(f"{rounds} rounds under load were asked for: {dict(done)}")
    if done["complete"] != done["snapshots"] or done["torn"] or done["wrong"]:
        problems.append(f"not every image was complete and of its instant: {dict(done)}")
    if not any(leaf.is_large for leaf in watch.before):
        problems.append("QEMU found no large leaf: nothing could come back")
    return problems


@click.command()
@click.option("--kernel", "kernels", multiple=True, default=SERIES, show_default=True)
@click.option(
    "--strategy", "strategies", multiple=True, default=[DEFAULT_STRATEGY], show_default=True
)
@click.option("--memory", default="8G", show_default=True, help="With 8G some leaves are of 1 GiB.")
@click.option("--rounds", default=100, show_default=True)
@click.option("--append", multiple=True, metavar="KARG", help="Kernel option; repeatable.")
@click.option("--guest", "folder", type=click.Path(path_type=Path), hidden=True)
def main(
    kernels: tuple[str, ...],
    strategies: tuple[str, ...],
    memory: str,
    rounds: int,
    append: tuple[str, ...],
    folder: Path | None,
) -> None:
    """Compare the direct map before and after many snapshots, as QEMU sees it; judge each by the
    witness. Status 1 if the map is not as it was, or an image not of its instant.

    \b
    Example:
      python -m tools.oracle.rounds --kernel 6.1 --memory 2G --rounds 10
    """
    if folder:
        guest(folder)
        return
    bad = False
    for kernel in kernels:
        for strategy in strategies:
            problems = run_one(kernel, strategy, memory, rounds, append)
            for line in problems[:_SHOWN]:
                click.echo(f"rounds:   {line}", err=True)
            click.echo(f"rounds: {kernel} {strategy}: {len(problems) or 'no'} problems")
            bad |= bool(problems)
    sys.exit(bad)


if __name__ == "__main__":
    main()
