"""Debian packages: which are missing, and installing them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tools.setup.steps import SetupError, watched

#: What livedump's tools need from Debian.
PACKAGES = (
    # machines
    *("qemu-system-x86", "busybox-static", "kmod", "udev", "iproute2", "file"),
    # the module, lint
    *("gcc", "make", "libc6-dev", "binutils", "xz-utils", "zstd", "sparse", "perl"),
    *("python3-venv", "python3-bpfcc"),
    # the dump; livedump/dump/crash_pid.c includes crash's defs.h, which includes zlib.h
    *("crash", "zlib1g-dev"),
    "chromium",  # the report's tests
    *("linux-perf", "bpfcc-tools", "bpftrace"),  # peers: their counts and costs are compared
)

#: Programs that may come from elsewhere; the package that has them if they do not.
PROGRAMS = {"npm": "npm"}  # the report's assets


def wanted() -> list[str]:
    """Every package to have, beside the headers of each kernel."""
    return [*PACKAGES, *absent_programs()]


def absent_programs() -> list[str]:
    """The packages of those PROGRAMS that are not there."""
    return [package for program, package in PROGRAMS.items() if shutil.which(program) is None]


def missing(packages: Iterable[str]) -> list[str]:
    """Those of `packages` that are not installed."""
    names = list(packages)
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\\n", *names]
    result = subprocess.run(query, capture_output=True, text=True, check=False)
    lines = result.stdout.splitlines()
    installed = {line.split()[0] for line in lines if line.endswith(" installed")}
    return [package for package in names if package not in installed]


def require(packages: Sequence[str]) -> None:
    """Raise SetupError with the command that installs what is missing of `packages`."""
    if absent := missing(packages):
        raise SetupError(f"missing packages. As root: {remedy(absent)}")


def remedy(packages: Sequence[str]) -> str:
    """The shell command that installs `packages`."""
    update_first = "" if have_lists() else "apt-get update && "
    return f"{update_first}apt-get install --no-install-recommends {' '.join(packages)}"


def install(packages: Sequence[str]) -> list[str]:
    """Install what is missing of `packages` and return it; without root, raise and name it."""
    absent = missing(packages)
    if not absent:
        return []
    if os.geteuid() != 0:
        require(absent)
    print(f"setup: installing {' '.join(absent)}", file=sys.stderr, flush=True)
    command = ["install", "-y", "--no-install-recommends", *absent]
    if not have_lists() or _apt_get(command):
        update()
        if output := _apt_get(command):
            raise SetupError(f"apt-get install {' '.join(absent)} failed:\n{output}")
    return absent


def have_lists() -> bool:
    """Whether apt knows any package of an archive."""
    return any(Path("/var/lib/apt/lists").glob("*_Packages*"))


def update() -> None:
    """Fetch apt's package lists anew (root only)."""
    if os.geteuid() != 0:
        raise SetupError("apt's package lists are missing or out of date. As root: apt-get update")
    if output := _apt_get(["update"]):
        raise SetupError(f"apt-get update failed:\n{output}")


def _apt_get(arguments: Sequence[str]) -> str:
    """Run apt-get and show its last line; the output of a failure, or an empty string."""
    environment = {
        **os.environ,
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C.UTF-8",
    }
    command = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120", *arguments]
    return watched(f"setup: apt-get {arguments[0]}", command, environment)
