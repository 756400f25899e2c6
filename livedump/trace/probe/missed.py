"""Events that no program of ours saw: the kernel counts them, for each program and probe."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from livedump.recording.rows import LossRow
from livedump.trace.probe.points import TRACEFS, Plan

#: The kernel's list of probes made through tracefs: name, hits, misses.
KPROBE_PROFILE = TRACEFS[0] / "kprobe_profile"

#: Runs inside bpf(BPF_MAP_UPDATE_ELEM) on an array, where the kernel holds bpf_prog_active and
#: therefore refuses every program of ours.
REFUSING = b"array_map_update_elem"
REFUSED = b"ld_refused"

UNCOUNTED_SKIPS = (
    "this kernel does not count the events that it skips while another BPF program runs on the "
    "same CPU"
)
UNREAD_SKIPS = "the kernel's count of the events that a program skipped cannot be read"
UNREAD_RETURNS = (
    "the kernel's kprobe_profile does not tell how many returns of page faults it missed"
)


class Missed:
    """What the kernel says of a process's programs.

    :param bpf: of bcc, with the programs
    """

    def __init__(self, bpf: Any, plan: Plan) -> None:
        self._bpf = bpf
        self._plan = plan
        self._unmeasured: dict[str, None] = {}

    @property
    def unmeasured(self) -> list[str]:
        """What the kernel does not say, in words, as far as it was asked."""
        return list(self._unmeasured)

    def ask(self, update_array: Callable[[], None]) -> None:
        """Find out whether this kernel counts the events that it skips.

        The field is in fdinfo of kernels that count only other types of program in it, so that it
        takes an event that must be skipped (since "bpf: Count missed stats in trace_call_bpf").

        :param update_array: writes to a map that is an array
        """
        try:
            self._bpf.attach_kprobe(event=REFUSING, fn_name=REFUSED)
        except Exception:  # bcc raises nothing more precise; not known means not counted
            self._unmeasured[UNCOUNTED_SKIPS] = None
            return
        try:
            update_array()
        finally:
            self._bpf.detach_kprobe(event=REFUSING)
        if not recursion_misses(self._bpf.funcs[REFUSED].fd):
            self._unmeasured[UNCOUNTED_SKIPS] = None

    def rows(self) -> list[LossRow]:
        """What was missed since the programs were attached."""
        return [*self._skipped(), *self._missed_returns()]

    def _skipped(self) -> Iterator[LossRow]:
        """Runs that the kernel refused because another program was running on that CPU."""
        for name, function in self._bpf.funcs.items():
            if name == REFUSED:
                continue
            misses = recursion_misses(function.fd)
            if misses is None:
                self._unmeasured[UNREAD_SKIPS] = None
            elif misses:
                yield LossRow(_point(name), "program skipped: another one was running", misses)

    def _missed_returns(self) -> list[LossRow]:
        """Returns that were missed for want of a kretprobe instance."""
        if self._plan.get("user_latency") is None:
            return []  # the others are rare, and BCC makes them where the kernel lists none
        found = missed_returns(KPROBE_PROFILE, os.getpid())
        if found is None:
            self._unmeasured[UNREAD_RETURNS] = None
        return found or []


def _point(function: bytes) -> str:
    """``tracepoint__livedump__livedump_fault``, bcc's name for a program, is
    ``livedump:livedump_fault``."""
    name = function.decode()
    for prefix in ("tracepoint__", "raw_tracepoint__"):
        if name.startswith(prefix):
            return name.removeprefix(prefix).replace("__", ":", 1)
    return name


def recursion_misses(fd: int) -> int | None:
    """How often the kernel refused to run a program; None when it does not tell."""
    try:
        text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    except OSError:
        return None
    misses = re.search(r"^recursion_misses:\s+(\d+)$", text, re.MULTILINE)
    return int(misses[1]) if misses else None


def missed_returns(profile: Path, pid: int) -> list[LossRow] | None:
    """Misses of the probes that BCC made through tracefs for a process.

    :param profile: see :data:`KPROBE_PROFILE`
    :returns: None when it cannot be read, or lists none of them
    """
    try:
        lines = [line.split() for line in profile.read_text().splitlines()]
    except OSError:
        return None
    tail = f"_bcc_{pid}"
    own = [fields for fields in lines if len(fields) == 3 and fields[0].endswith(tail)]
    if not own:
        return None
    return [
        LossRow(
            name.removesuffix(tail).removeprefix("r_").removeprefix("p_"),
            "kprobe missed by the kernel",
            int(misses),
        )
        for name, _hits, misses in own
        if int(misses)
    ]
