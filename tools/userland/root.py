"""The root file system of a release, in the cache folder: Debian's debootstrap makes it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.paths import cache_dir
from tools.setup import apt
from tools.setup.steps import SetupError, step, watched

MIRROR = "http://deb.debian.org"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

#: What the checkout's `make setup` needs, which brings the rest.
INCLUDED = ("ca-certificates", "make", "python3")


@dataclass(frozen=True)
class Release:
    """A release of Debian: its name and the suites that its users have beside it."""

    version: str
    codename: str
    backports: bool

    @property
    def sources(self) -> str:
        """The contents of /etc/apt/sources.list."""
        suites = [("debian", self.codename), ("debian", f"{self.codename}-updates")]
        suites += [("debian", f"{self.codename}-backports")] if self.backports else []
        suites += [("debian-security", f"{self.codename}-security")]
        return "".join(f"deb {MIRROR}/{archive} {suite} main\n" for archive, suite in suites)

    @property
    def path(self) -> Path:
        """Where its root is, once it is made."""
        return cache_dir() / "roots" / self.version


_ALL = (
    Release("12", "bookworm", backports=False),
    Release("13", "trixie", backports=True),
)
RELEASES = {release.version: release for release in _ALL}


def ensure(release: Release) -> Path:
    """The root; it is made unless it is there. A folder that is there is whole.

    What an interrupted run has downloaded is used by the next one.

    :raises SetupError: it cannot be made
    """
    with _alone(release):
        if not release.path.is_dir():
            if os.geteuid() != 0:
                raise SetupError(f"only root can make a root of Debian {release.version}")
            apt.install(["debootstrap", "debian-archive-keyring"])
            _make(release)
        sources = release.path / "etc" / "apt" / "sources.list"
        if not sources.exists() or sources.read_text() != release.sources:
            sources.write_text(release.sources)
    return release.path


@contextlib.contextmanager
def _alone(release: Release) -> Iterator[None]:
    release.path.parent.mkdir(parents=True, exist_ok=True)
    with open(release.path.with_suffix(".lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(release: Release) -> None:
    """By debootstrap, which checks each package by the archive's signed lists."""
    partial, debs = release.path.with_suffix(".partial"), release.path.with_suffix(".debs")
    shutil.rmtree(partial, ignore_errors=True)  # what is half unpacked cannot be gone on with
    debs.mkdir(exist_ok=True)
    # Killed with us, and what it has mounted goes with it.
    alone = "setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child".split()
    options = ["--variant=minbase", f"--keyring={KEYRING}", f"--cache-dir={debs}"]
    options += [f"--include={','.join(INCLUDED)}"]
    what = [release.codename, str(partial), f"{MIRROR}/debian"]
    with step(f"making a root of Debian {release.version}"):
        _debootstrap([*alone, "debootstrap", *options, *what])
        partial.rename(release.path)
    shutil.rmtree(debs)


def _debootstrap(command: list[str]) -> None:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    if output := watched("setup: debootstrap", command, environment):
        raise SetupError(f"{' '.join(command)} failed:\n{output}")
