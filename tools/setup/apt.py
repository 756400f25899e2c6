"""Debian packages: which are missing, and installing them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from tools.setup.steps import SetupError, step

#: What livedump's tools need from Debian.
PACKAGES = (
    # machines
    *("qemu-system-x86", "busybox-static", "kmod", "udev", "iproute2", "file"),
    # the module, lint
    *("gcc", "make", "libc6-dev", "binutils", "xz-utils", "sparse", "perl"),
    *("python3-venv", "python3-bpfcc"),
    "crash",
    "chromium",  # the report's tests
)

#: Programs that may come from elsewhere; the package that has them if they do not.
PROGRAMS = {"npm": "npm"}  # the report's assets


def wanted() -> list[str]:
    """Every package to have, beside the headers of each kernel."""
    absent = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    return [*PACKAGES, *absent]


def missing(packages: Iterable[str]) -> list[str]:
    """Those of `packages` that are not installed."""
    names = list(packages)
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\\n", *names]
    result = subprocess.run(query, capture_output=True, text=True, check=False)
    lines = result.stdout.splitlines()
    installed = {line.split()[0] for line in lines if line.endswith(" installed")}
    return [package for package in names if package not in installed]


def install(packages: Sequence[str]) -> None:
    """Install what is missing of `packages`; without root, raise and name all of it."""
    absent = missing(packages)
    if not absent:
        return
    names = " ".join(absent)
    if os.geteuid() != 0:
        raise SetupError(
            f"missing packages. As root: apt-get install --no-install-recommends {names}"
        )
    with step(f"installing {names}"):
        command = ["install", "-y", "--no-install-recommends", *absent]
        if not have_lists() or _apt_get(command):
            update()
            if output := _apt_get(command):
                raise SetupError(f"apt-get install {names} failed:\n{output}")


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
    """Run apt-get quietly; the output of a failure, or an empty string."""
    environment = {
        **os.environ,
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C.UTF-8",
    }
    result = subprocess.run(
        ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        check=False,
    )
    if result.returncode == 0:
        return ""
    return result.stdout[-3000:] or f"exit status {result.returncode}"
