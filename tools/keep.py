"""``python3 -m tools.keep TARGET...``: run `make TARGET`, keep what came of it in docs/tested.md.

A row for each target and userland, the last run's: a failure is kept, too.
"""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass

from tools.paths import ROOT
from tools.setup import apt
from tools.setup.steps import SetupError

DOCUMENT = ROOT / "docs" / "tested.md"
_HEAD = """\
# What was tested last

Each row is the last run of `make TARGET` on that userland, written by `make keep TARGETS='...'`.
A commit with a + had changes beside it. The machines: QEMU's TCG on a host with two cores, unless a
result says otherwise.

| target | Debian | kernels | result | s | commit | date |
|---|---|---|---|---|---|---|
"""

#: What a run says of itself, in the order in which it does.
_SAID = (
    re.compile(r"^=+ (.*(?:passed|failed|error).*?) in [0-9.]+s.*=+$"),
    re.compile(r"^((?:oracle|rounds|matrix): .*(?:as they must be|problems|passed).*)$"),
)
_KERNEL = re.compile(r"^vm: Linux (\S+),")


@dataclass(frozen=True)
class Row:
    """One run."""

    target: str
    debian: str
    kernels: str
    result: str
    seconds: str
    commit: str
    date: str

    @property
    def key(self) -> tuple[str, str]:
        """What a later run replaces."""
        return self.target, self.debian

    def __str__(self) -> str:
        cells = (self.target, self.debian, self.kernels, self.result, self.seconds)
        return f"| {' | '.join((*cells, self.commit, self.date))} |"


def parse(text: str) -> list[Row]:
    """The rows of the document."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines]


def merge(rows: list[Row], row: Row) -> str:
    """The document with *row* in the place of the one before."""
    kept = [other for other in rows if other.key != row.key]
    return _HEAD + "".join(f"{line}\n" for line in sorted(map(str, [*kept, row])))


def describe(target: str, lines: list[str], status: int, seconds: float, commit: str) -> Row:
    """The row of a run of that commit that has ended."""
    said = [match[1] for line in lines for pattern in _SAID if (match := pattern.match(line))]
    kernels = [match[1] for line in lines if (match := _KERNEL.match(line))]
    failed = [f"**failed**, exit status {status}"] if status else []
    result = "; ".join([*failed, *said]) or "done"
    return Row(
        f"`{target}`",
        _debian(),
        ", ".join(dict.fromkeys(kernels)),
        result.replace("|", "/"),
        f"{seconds:.0f}",
        commit,
        datetime.date.today().isoformat(),
    )


def _debian() -> str:
    return platform.freedesktop_os_release().get("VERSION_ID", "?")


def _commit() -> str:
    """The short name; with a + when the tree differs from it."""
    git = ["git", "-c", f"safe.directory={ROOT}"]
    name = _output([*git, "rev-parse", "--short", "HEAD"])
    changed = _output([*git, "status", "--porcelain", "--", ".", f":!{DOCUMENT.relative_to(ROOT)}"])
    return name + ("+" if changed else "")


def _output(command: list[str]) -> str:
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return result.stdout.strip()


def run(target: str) -> int:
    """Run it, show what it says, keep what came of it; its exit status."""
    started, lines, commit = time.monotonic(), list[str](), _commit()
    with subprocess.Popen(
        ["make", target],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as make:
        assert make.stdout
        for line in make.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip("\n"))
    row = describe(target, lines, make.returncode, time.monotonic() - started, commit)
    rows = parse(DOCUMENT.read_text(encoding="utf-8")) if DOCUMENT.exists() else []
    DOCUMENT.write_text(merge(rows, row), encoding="utf-8")
    print(f"keep: {row}", flush=True)
    return make.returncode


def main(targets: list[str]) -> int:
    """The first exit status that is not 0; all are run."""
    if not targets or not all(re.fullmatch(r"[a-z][a-z-]*", target) for target in targets):
        print("usage: python3 -m tools.keep TARGET...", file=sys.stderr)
        return 2
    try:
        apt.install(["git"])  # for the commit's name; a root of debootstrap's has none
    except SetupError as error:
        print(f"keep: error: {error}", file=sys.stderr)
        return 1
    statuses = [run(target) for target in targets]
    return next((status for status in statuses if status), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
