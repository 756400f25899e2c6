"""Which probe points answer a question on the running kernel.

The names have changed over the years (``do_page_fault`` is gone) and the best places cannot be
probed at all, so each need has a list of candidates, best first, and what was chosen goes into the
recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path

from livedump.kinds import QUESTIONS
from livedump.trace.errors import TraceError

STEP = "resolve probe points"

#: Where tracefs is; BCC 0.26 itself looks only at the first.
TRACEFS = (Path("/sys/kernel/debug/tracing"), Path("/sys/kernel/tracing"))


class Attach(Enum):
    """How a program is attached; all but raw ones are guarded by ``bpf_prog_active``, see
    docs/kernels.md."""

    TRACEPOINT = "tracepoint"
    RAW_TRACEPOINT = "raw tracepoint"
    KPROBE_PAIR = "kprobe+kretprobe"


@dataclass(frozen=True)
class Candidate:
    """A place that can answer a need: ``category:event``, or the name of a function.

    :param field: the newest one of the event's that our program reads
    """

    point: str
    why: str
    field: str = ""


@dataclass(frozen=True)
class Need:
    """One thing that a question needs.

    :param name: the program's role, e.g. ``user_latency``
    :param optional: without it the question is still answered, only less fully
    """

    name: str
    question: str
    attach: Attach
    candidates: tuple[Candidate, ...]
    optional: bool = False


@dataclass(frozen=True)
class Probe:
    """A need with the place chosen for it."""

    name: str
    question: str
    attach: Attach
    point: str
    why: str

    def to_dict(self) -> dict[str, str]:
        """For meta.json."""
        return {**asdict(self), "attach": self.attach.value}


@dataclass(frozen=True)
class Absent:
    """A question, or a part of it, that this kernel cannot answer now."""

    name: str
    question: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """For meta.json."""
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """What will be attached."""

    questions: tuple[str, ...]
    probes: tuple[Probe, ...]
    absent: tuple[Absent, ...] = field(default=())

    def get(self, name: str) -> Probe | None:
        """The probe for a need, None when it is absent."""
        return next((probe for probe in self.probes if probe.name == name), None)


NEEDS: tuple[Need, ...] = (
    Need(
        "user_latency",
        "user",
        Attach.KPROBE_PAIR,
        (
            Candidate(
                "handle_mm_fault",
                "the handlers above it are noinstr or blacklisted; covers the VMA-lock path, "
                "hugetlb and GUP; leaves out the exception entry and the wait for the mmap lock",
            ),
            Candidate(
                "__handle_mm_fault",
                "handle_mm_fault cannot be probed here; leaves out hugetlb faults",
            ),
        ),
    ),
    Need(
        "user_count",
        "user",
        Attach.RAW_TRACEPOINT,
        (Candidate("exceptions:page_fault_user", "every page fault from user mode, exactly once"),),
        optional=True,
    ),
    Need(
        "kernel_count",
        "kernel",
        Attach.TRACEPOINT,
        (
            Candidate(
                "exceptions:page_fault_kernel", "every page fault in kernel mode, exactly once"
            ),
        ),
    ),
    Need(
        "cow",
        "cow",
        Attach.TRACEPOINT,
        (
            Candidate(
                "livedump:livedump_fault", "the module's own faults, with its own time stamps"
            ),
        ),
    ),
    Need(
        "stop_machine",
        "stop",
        Attach.KPROBE_PAIR,
        (Candidate("stop_machine", "call to return, the wait for the CPU hotplug lock included"),),
    ),
    Need(
        "stop_machine_cpuslocked",
        "stop",
        Attach.KPROBE_PAIR,
        (Candidate("stop_machine_cpuslocked", "callers that hold the CPU hotplug lock already"),),
        optional=True,
    ),
    Need(
        "snapshot",
        "snapshot",
        Attach.TRACEPOINT,
        (Candidate("livedump:livedump_snapshot", "the downtime receipt"),),
    ),
    Need(
        "release",
        "snapshot",
        Attach.TRACEPOINT,
        (Candidate("livedump:livedump_release", "the end of the hold", "trace_skipped"),),
    ),
)

#: ``snapshot`` is no question of the user's: it comes along with these.
_SNAPSHOT_WITH = {"cow", "stop"}

_NOT_LOADED = "the livedump module is not loaded"
_OLDER = "the livedump module that is loaded is of another version"
_REMEDIES = {
    _NOT_LOADED: "Run: livedump load",
    _OLDER: "Run: livedump unload, then: livedump load",
}


class Kernel:
    """What can be probed on a kernel; tests bring paths of their own."""

    def __init__(
        self,
        tracefs: Path | None = None,
        kallsyms: Path = Path("/proc/kallsyms"),
        blacklist: Path = Path("/sys/kernel/debug/kprobes/blacklist"),
    ) -> None:
        self.tracefs = tracefs if tracefs is not None else find_tracefs()
        self._kallsyms = kallsyms
        self._blacklist = blacklist
        self._functions: set[bytes] | None = None
        self._blocked: set[bytes] | None = None

    def tracepoint(self, point: str) -> str | None:
        """The format of ``category:event``; None when it does not exist now."""
        category, _, event = point.partition(":")
        try:
            return (self.tracefs / "events" / category / event / "format").read_text()
        except OSError:
            return None

    def why_not_function(self, name: str) -> str:
        """Why a function cannot be probed; empty when it can."""
        if self._functions is None:
            self._functions = self._read_functions()
        if self._blocked is None:
            self._blocked = self._read_blacklist()
        if name.encode() not in self._functions:
            return f"this kernel has no function {name}"
        if name.encode() in self._blocked:
            return f"{name} is on the kernel's kprobe blacklist"
        return ""

    def _read_functions(self) -> set[bytes]:
        wanted = {
            candidate.point.encode()
            for need in NEEDS
            if need.attach is Attach.KPROBE_PAIR
            for candidate in need.candidates
        }
        try:
            with self._kallsyms.open("rb") as lines:
                fields = (line.split() for line in lines)
                return {f[2] for f in fields if len(f) == 3 and f[2] in wanted and f[1] in b"tT"}
        except OSError as error:
            raise TraceError(
                f"cannot read {self._kallsyms}: {error.strerror}", step=STEP, remedy="Run as root"
            ) from error

    def _read_blacklist(self) -> set[bytes]:
        try:
            with self._blacklist.open("rb") as lines:
                return {f[1] for f in (line.split() for line in lines) if len(f) > 1}
        except OSError:
            return set()  # no debugfs: attaching will tell


def find_tracefs() -> Path:
    """The mounted tracefs.

    :raises TraceError: when there is none where BCC looks for it
    """
    if (TRACEFS[0] / "events").is_dir():
        return TRACEFS[0]
    remedy = "mount -t debugfs nodev /sys/kernel/debug"
    if (TRACEFS[1] / "events").is_dir():
        raise TraceError(
            f"tracefs is mounted, but not at {TRACEFS[0]} where BCC expects it",
            step=STEP,
            remedy=remedy,
        )
    raise TraceError(f"no tracefs at {TRACEFS[0]}", step=STEP, remedy=f"Be root, then: {remedy}")


def resolve(
    questions: Sequence[str], *, explicit: Iterable[str] = (), kernel: Kernel | None = None
) -> Plan:
    """Choose a probe point for everything that *questions* need.

    A question that this kernel cannot answer now is left out and listed in :attr:`Plan.absent`.

    :param questions: of :data:`livedump.recording.layout.QUESTIONS`
    :param explicit: questions that must not be left out
    :raises TraceError: an explicit question, or all of them, cannot be answered
    """
    unknown = [question for question in questions if question not in QUESTIONS]
    if unknown:
        raise TraceError(
            f"unknown kind {unknown[0]!r}", step=STEP, remedy=f"Use: {', '.join(QUESTIONS)}"
        )
    kernel = kernel if kernel is not None else Kernel()
    wanted = list(dict.fromkeys(questions))
    if _SNAPSHOT_WITH & set(wanted):
        wanted.append("snapshot")
    probes: list[Probe] = []
    absent: list[Absent] = []
    for question in wanted:
        found, missing, whole = _answer(question, kernel)
        absent += missing
        if whole:
            probes += found
        elif question in set(explicit):
            raise _unanswered(f"cannot record {question}", missing[-1])
    answered = {probe.question for probe in probes}
    if not answered - {"snapshot"}:
        raise _unanswered("nothing to record", absent[0])
    return Plan(tuple(q for q in wanted if q in answered), tuple(probes), tuple(absent))


def _unanswered(what: str, why: Absent) -> TraceError:
    remedies = (remedy for cause, remedy in _REMEDIES.items() if why.reason.endswith(cause))
    return TraceError(f"{what}: {why.reason}", step=STEP, remedy=next(remedies, ""))


def _answer(question: str, kernel: Kernel) -> tuple[list[Probe], list[Absent], bool]:
    """Probes found, what is missing, and whether the question can be answered."""
    found: list[Probe] = []
    missing: list[Absent] = []
    whole = True
    for need in (need for need in NEEDS if need.question == question):
        reasons = []
        for candidate in need.candidates:
            reason = _why_not(candidate, need, kernel)
            if not reason:
                found.append(
                    Probe(need.name, question, need.attach, candidate.point, candidate.why)
                )
                break
            reasons.append(reason)
        else:
            missing.append(Absent(need.name, question, "; ".join(reasons)))
            whole = whole and need.optional
    if not whole:
        # Put the reason that decided last.
        optional = {need.name for need in NEEDS if need.optional}
        missing.sort(key=lambda item: item.name not in optional)
    return found, missing, whole


def _why_not(candidate: Candidate, need: Need, kernel: Kernel) -> str:
    if need.attach is Attach.KPROBE_PAIR:
        return kernel.why_not_function(candidate.point)
    found = kernel.tracepoint(candidate.point)
    if found is not None:
        known = not candidate.field or f" {candidate.field};" in found
        return "" if known else f"{candidate.point} has no {candidate.field}: {_OLDER}"
    if candidate.point.startswith("livedump:"):
        return f"no tracepoint {candidate.point}: {_NOT_LOADED}"
    return f"this kernel has no tracepoint {candidate.point}"
