"""What can go wrong with a virtual machine, each with its own exit status."""

from __future__ import annotations

from collections.abc import Sequence


class VmError(Exception):
    """The machine could not be prepared or started."""

    exit_status = 125


class GuestDied(VmError):
    """The guest ended before CMD's exit status arrived: panic, crash of QEMU, failed boot."""

    exit_status = 122


class GuestTimeout(GuestDied):
    """The guest was still running when its time was up; it has been stopped."""

    exit_status = 124


class NotReady(GuestTimeout):
    """The guest did not get as far as starting CMD; it has been stopped."""


class DirtyLog(VmError):
    """CMD succeeded, but the kernel log holds lines that no healthy kernel prints."""

    exit_status = 121

    def __init__(self, message: str, findings: Sequence[str]) -> None:
        super().__init__(message)
        self.findings = list(findings)
