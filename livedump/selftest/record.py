"""What a self-test ran on, which paths that exercises, and where its results are kept.

Only reads files below a root, so that the doctor can use it and tests can feed it fake trees.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from livedump.errors import SelfTestError

#: Where the results are, below the root.
RESULTS = "var/lib/livedump/selftest.json"

_VERSION = 1
#: More CPUs than anything is tested on.
MANY_CPUS = 16


def _read(root: Path, name: str) -> str:
    try:
        return (root / name).read_text(errors="replace")
    except OSError:
        return ""


@dataclass(frozen=True)
class Identity:
    """What a result is valid for: another kernel, module or CPU must be tested anew."""

    release: str
    srcversion: str
    cpu: str

    @classmethod
    def of(cls, root: Path, release: str, module: Path | None = None) -> Identity:
        """This machine's, and the loaded module's or else that of *module*."""
        loaded = _read(root, "sys/module/livedump/srcversion").strip()
        text = _read(root, "proc/cpuinfo")
        digest = hashlib.sha256(f"{_model(text)}\n{' '.join(sorted(_flags(text)))}".encode())
        return cls(
            release,
            loaded or (read_srcversion(module) if module else ""),
            f"{_model(text) or 'unknown'} ({digest.hexdigest()[:12]})",
        )

    @property
    def key(self) -> str:
        """As the results are keyed."""
        return f"{self.release} | {self.srcversion} | {self.cpu}"


def read_srcversion(path: Path) -> str:
    """The module file's ``srcversion``; empty when it does not say (compressed, say)."""
    try:
        found = re.search(rb"\0srcversion=(\w+)\0", path.read_bytes())
    except OSError:
        return ""
    return found[1].decode() if found else ""


def _model(cpuinfo: str) -> str:
    found = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else ""


def _flags(cpuinfo: str) -> set[str]:
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    return set(found[1].split()) if found else set()


@dataclass(frozen=True)
class Features:
    """What this machine has of all that emulation lacks."""

    emulated: bool  # by QEMU's TCG: TLBs and page walks are software
    hypervisor: bool
    kvm_guest: bool
    ibt: bool
    user_shstk: bool
    pcid: bool
    invpcid: bool
    pti: bool
    la57: bool
    pdpe1gb: bool
    sme: bool
    fred: bool
    cpus: int
    nodes: int

    @classmethod
    def of(cls, root: Path) -> Features:
        """What /proc and /sys below *root* say. A flag is missing where the kernel has it off."""
        cpuinfo = _read(root, "proc/cpuinfo")
        flags = _flags(cpuinfo)
        options = _read(root, "proc/cmdline").split()
        meltdown = _read(root, "sys/devices/system/cpu/vulnerabilities/meltdown")
        clocks = _read(
            root, "sys/devices/system/clocksource/clocksource0/available_clocksource"
        ).split()
        return cls(
            emulated="TCG" in _model(cpuinfo),
            hypervisor="hypervisor" in flags,
            kvm_guest="kvm-clock" in clocks,
            ibt="ibt" in flags and "ibt=off" not in options,
            user_shstk="user_shstk" in flags,
            pcid="pcid" in flags,
            invpcid="invpcid" in flags,
            pti="PTI" in meltdown,
            la57="la57" in flags,
            pdpe1gb="pdpe1gb" in flags,
            sme="sme" in flags and "mem_encrypt=on" in options,
            fred="fred" in flags,
            cpus=len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)),
            nodes=len(list((root / "sys/devices/system/node").glob("node[0-9]*"))),
        )

    def to_dict(self) -> dict[str, bool | int]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Seen:
    """What the rounds met, as far as it decides which paths were exercised."""

    nmis_held: int = 0
    leaves_1g: int = 0


@dataclass(frozen=True)
class UntestedPath:
    """A path of docs/untested.md; ``exercised`` says whether a self-test has run it here."""

    name: str
    exercised: Callable[[Features, Seen], bool]


def _never(_features: Features, _seen: Seen) -> bool:
    return False


#: In the order of docs/untested.md; tests/unit/selftest compares.
PATHS = (
    UntestedPath("IBT", lambda f, s: f.ibt),
    UntestedPath("shadow stack", lambda f, s: f.user_shstk),
    UntestedPath("PCID", lambda f, s: f.pcid and not f.emulated),
    UntestedPath("PTI with PCID", lambda f, s: f.pti and f.pcid and not f.emulated),
    UntestedPath("PMU NMIs", lambda f, s: s.nmis_held > 0),
    UntestedPath("real TLBs", lambda f, s: not f.emulated),
    UntestedPath("paging-structure caches", lambda f, s: not f.emulated),
    UntestedPath("hardware A/D bits", lambda f, s: not f.emulated),
    UntestedPath("1 GiB leaves", lambda f, s: s.leaves_1g > 0),
    UntestedPath("SME", lambda f, s: f.sme),
    UntestedPath("FRED", lambda f, s: f.fred),
    UntestedPath("KVM guest", lambda f, s: f.kvm_guest),
    UntestedPath("many CPUs", lambda f, s: f.cpus >= MANY_CPUS),
    UntestedPath("NUMA", lambda f, s: f.nodes > 1),
    UntestedPath("machine check", _never),
    UntestedPath("AMD KVM host", _never),
    UntestedPath("memory hotplug", _never),
    UntestedPath("DMA", _never),
)


@dataclass(frozen=True)
class Record:
    """The results that are kept, in one file for all kernels, modules and CPUs.

    :param root: the results are at :data:`RESULTS` below it
    """

    root: Path = Path("/")

    @property
    def path(self) -> Path:
        """The file."""
        return self.root / RESULTS

    def find(self, identity: Identity) -> Mapping[str, Any] | None:
        """The last result for *identity*, None when there is none.

        :raises SelfTestError: the file cannot be read, or is damaged
        """
        found = self._load().get(identity.key)
        return found if isinstance(found, dict) else None

    def save(self, identity: Identity, result: Mapping[str, Any]) -> None:
        """Keep *result*, mode 0600 in a folder of mode 0700; a damaged file is replaced.

        :raises SelfTestError: it cannot be written
        """
        try:
            results = self._load()
        except SelfTestError:
            results = {}
        results[identity.key] = {**asdict(identity), **result}
        text = json.dumps({"version": _VERSION, "results": results}, indent=1) + "\n"
        fresh = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.parent.chmod(0o700)
            fresh.unlink(missing_ok=True)
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
        except OSError as error:
            raise SelfTestError(
                f"{error.filename or self.path}: {error.strerror}",
                step="keep results",
                remedy="Run as root",
            ) from error

    def _load(self) -> dict[str, Any]:
        try:
            data = json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise SelfTestError(
                f"{self.path}: {error.strerror}", step="read results", remedy="Run as root"
            ) from error
        except ValueError as error:
            raise self._damaged() from error
        if not isinstance(data, dict) or data.get("version") != _VERSION:
            raise self._damaged()
        results = data.get("results")
        if not isinstance(results, dict):
            raise self._damaged()
        return results

    def _damaged(self) -> SelfTestError:
        return SelfTestError(
            f"{self.path} is damaged, or of another version",
            step="read results",
            remedy="Run: livedump selftest",
        )
