"""With which kernels and userlands livedump is tested: the one table, for its tools and doctor.

Standard library only: set-up reads it before there is anything else.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tested:
    """A kernel series in a userland, and what is tried with it.

    :ivar userland: the release of Debian, as VERSION_ID in /etc/os-release
    :ivar series: the first numbers of the kernel's version; the newest of these is taken
    :ivar tried: the series that it was when all passed last
    :ivar headers: package that pulls in the newest headers, for those who have no package lists yet
    :ivar full: all guest tests, measured and shown; else those marked ``smoke``
    :ivar preempt: what `preempt=` is where it is not `full`
    :ivar deep: races with the module's test build, and the oracle's short form
    """

    userland: str
    series: str
    tried: str
    headers: str
    full: bool = False
    preempt: str = "voluntary"
    deep: bool = False


#: Of each userland in the order in which they are tested. Debian's backports move on: any 7.
TESTED = (
    Tested("12", "6.1", "6.1", "linux-headers-amd64", full=True, deep=True),
    Tested("12", "6.12", "6.12", "linux-headers-6.12-amd64"),
    Tested("13", "6.12", "6.12", "linux-headers-amd64", full=True),
    Tested("13", "7", "7.3", "linux-headers-amd64/trixie-backports", preempt="lazy", deep=True),
)


def is_of(release: str, series: str) -> bool:
    """Whether a release is of a series: "6.1.0-9-amd64" is of "6.1", "7.3.4+deb13-amd64" of "7"."""
    return release.startswith(f"{series}.")


def tested_with(release: str) -> list[Tested]:
    """Where a kernel's series is tested, if anywhere."""
    return [row for row in TESTED if is_of(release, row.tried)]
