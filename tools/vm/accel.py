"""KVM or emulation. A host can have /dev/kvm and yet run no guest, so only a boot proves it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

from tools.paths import cache_dir
from tools.vm.config import ACCELERATOR, KVM_PROBE_SECONDS
from tools.vm.errors import GuestDied, GuestTimeout, VmError

#: Boots a machine with an accelerator under a limit in seconds; raises VmError if it fails.
ProbeBoot = Callable[[str, float], None]


def choose(wanted: str | None, probe_boot: ProbeBoot) -> tuple[str, str]:
    """The accelerator to use and why.

    What a guest proved is remembered until the host reboots; that no guest could be tried is not.
    """
    if wanted is not None:
        if wanted not in ACCELERATOR:
            raise VmError(f"unknown accelerator {wanted!r}: give {' or '.join(ACCELERATOR)}")
        return wanted, "as asked"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg", "no access to /dev/kvm"
    memory = _memory()
    if not memory.exists():
        try:
            found = _probe(probe_boot)
        except VmError as error:
            return "tcg", f"the probe boot under KVM went wrong: {_first_line(error)}"
        memory.parent.mkdir(parents=True, exist_ok=True)
        scratch = memory.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps(found))
        scratch.replace(memory)
    verdict: dict[str, str] = json.loads(memory.read_text())
    return verdict["accelerator"], verdict["reason"]


def _memory() -> Path:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return cache_dir() / "kvm" / f"{platform.release()}-{boot}.json"


def _first_line(error: VmError) -> str:
    return str(error).partition("\n")[0]


def _probe(probe_boot: ProbeBoot) -> dict[str, str]:
    """What a guest under KVM did; raises VmError when it is no guest's fault."""
    try:
        probe_boot("kvm", KVM_PROBE_SECONDS)
    except GuestTimeout:
        reason = f"/dev/kvm exists, but a guest does not boot within {KVM_PROBE_SECONDS:.0f} s"
        return {"accelerator": "tcg", "reason": reason}
    except GuestDied as error:
        reason = f"/dev/kvm exists, but a guest fails: {_first_line(error)}"
        return {"accelerator": "tcg", "reason": reason}
    return {"accelerator": "kvm", "reason": "a probe boot worked"}
