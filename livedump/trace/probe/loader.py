"""The BPF programs: compile and attach. The only module that imports bcc.

What they have counted is read by :mod:`livedump.trace.probe.programs`.

BCC rewrites map calls and tracepoint structures only in the main file, so the C files are joined
into one text (each under a ``#line`` of its own) instead of including each other; options are
``-D`` flags.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from livedump import lockdown
from livedump.trace.errors import TraceError
from livedump.trace.probe import stale
from livedump.trace.probe.options import Options
from livedump.trace.probe.points import TRACEFS, Attach, Plan, Probe
from livedump.trace.probe.programs import BccPrograms

STEP = "load BPF programs"

#: Kretprobe instances for handle_mm_fault: one for each fault that sleeps at the same time. More
#: than BCC's default makes it use tracefs, where the kernel shows how many returns it missed.
MAXACTIVE = 1024

_SOURCES = {
    "user": "user_fault.c",
    "kernel": "kernel_fault.c",
    "cow": "cow_fault.c",
    "stop": "stop_machine.c",
    "snapshot": "snapshot.c",
}

#: Need -> program for the entry and for the return.
_KPROBES = {
    "user_latency": ("ld_user_fault_entry", "ld_user_fault_return", MAXACTIVE),
    "stop_machine": ("ld_stop_machine_entry", "ld_stop_machine_return", 0),
    "stop_machine_cpuslocked": ("ld_stop_cpuslocked_entry", "ld_stop_cpuslocked_return", 0),
}

#: What all programs share, in the order in which it is joined.
SHARED = ("abi.h", "maps.h", "filter.h", "count.h", "sample.h", "emit.h")

#: Newer kernel headers have attributes that BCC's clang does not know.
_QUIET = ("-Wno-ignored-attributes", "-Wno-duplicate-decl-specifier")


def source_dir() -> Path:
    """The folder of the C files: the checkout's, else the installed one.

    :raises TraceError: neither is there
    """
    places = (
        Path(__file__).resolve().parents[3] / "bpf",
        Path(sys.prefix) / "share" / "livedump" / "bpf",
        Path("/usr/local/share/livedump/bpf"),
        Path("/usr/share/livedump/bpf"),
    )
    for place in places:
        if (place / SHARED[0]).is_file():
            return place
    raise TraceError(
        f"the BPF programs are not in {places[0]} nor in {places[1]}",
        step=STEP,
        remedy="Run from a checkout, or repeat `make install`",
    )


def program_text(questions: Sequence[str], source: Path) -> str:
    """One text with the programs for *questions*; compiler messages keep file and line."""
    names = [*SHARED, *(_SOURCES[question] for question in questions)]
    return "".join(f'#line 1 "{name}"\n{(source / name).read_text()}\n' for name in names)


def compiler_flags(plan: Plan, options: Options, source: Path) -> list[str]:
    """Flags for :func:`program_text`."""
    flags = [f"-I{source}", *_QUIET, *options.flags()]
    if plan.get("user_count"):
        flags.append("-DLD_HAVE_PAGE_FAULT_USER")
    latency = plan.get("user_latency")
    if latency and latency.point == "__handle_mm_fault":
        flags.append("-DLD_FAULT_WITHOUT_REGS")
    return flags


def import_bcc() -> Any:
    """The module bcc (late: it takes 5 s in an emulated guest).

    :raises TraceError: it is missing, or is the PyPI package of that name
    """
    remedy = "apt-get install python3-bpfcc, and a venv of /usr/bin/python3 --system-site-packages"
    try:
        import bcc
    except ImportError as error:
        raise TraceError(f"cannot import bcc: {error}", step=STEP, remedy=remedy) from error
    if not hasattr(bcc, "BPF"):
        raise TraceError(
            f"{bcc.__file__} is not the BPF Compiler Collection but a PyPI package of that name",
            step=STEP,
            remedy=f"pip uninstall bcc; {remedy}",
        )
    return bcc


def check_machine(root: Path = Path("/")) -> None:
    """Raise :class:`TraceError` for what would only fail obscurely later.

    :param root: tests bring their own
    """
    if os.geteuid() != 0:
        raise TraceError("not root", step=STEP, remedy="Run as root, e.g. with sudo")
    _check_lockdown(root / lockdown.PATH)
    release = os.uname().release
    headers = root / "lib/modules" / release / "build"
    remedy = f"apt-get install linux-headers-{release}"
    if not (headers / "include").is_dir():
        raise TraceError(f"no kernel headers at {headers}", step=STEP, remedy=remedy)
    whole = headers / "include" / "linux" / "kconfig.h"
    if not whole.exists() and not (headers.parent / "source").is_dir():
        # Debian's headers are two folders, and BCC finds the second by this link only.
        raise TraceError(f"no link {headers.parent / 'source'}", step=STEP, remedy=remedy)


def _check_lockdown(path: Path) -> None:
    """Where the file cannot be read, the kernel's refusal will tell."""
    with contextlib.suppress(OSError):
        if (mode := lockdown.mode(path.read_text())) == lockdown.CONFIDENTIALITY:
            raise TraceError(
                f"kernel lockdown ({mode}) forbids kprobes and reading kernel memory",
                step=STEP,
                remedy=lockdown.REMEDY,
            )


def load(plan: Plan, options: Options) -> BccPrograms:
    """Compile and attach everything in *plan*; nothing is counted before :meth:`BccPrograms.begin`.

    :raises TraceError: with the point that could not be attached
    """
    check_machine()
    bcc = import_bcc()
    source = source_dir()
    flags = compiler_flags(plan, options, source)
    try:
        bpf = bcc.BPF(text=program_text(plan.questions, source).encode(), cflags=flags)
    except Exception as error:  # bcc raises nothing more precise
        raise TraceError(
            f"{_first_line(error)} (the compiler's or verifier's own words are above)",
            step=STEP,
            remedy="See `livedump doctor`",
        ) from error
    programs = BccPrograms(bpf, plan, options)
    programs.choose(options.chosen)
    stale.remove_kprobe_events(TRACEFS[0])
    try:
        for probe in plan.probes:
            if probe.attach is Attach.KPROBE_PAIR:
                _attach_pair(bpf, probe)
        programs.ask_kernel()
    except BaseException:
        programs.close()
        raise
    return programs


def bcc_version() -> str:
    """Version of bcc, which must have been imported before."""
    return str(getattr(sys.modules.get("bcc"), "__version__", ""))


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:120] if lines else type(error).__name__


def _attach_pair(bpf: Any, probe: Probe) -> None:
    """The return first, so that no entry is counted whose return cannot be."""
    entry, exit_, maxactive = _KPROBES[probe.name]
    try:
        bpf.attach_kretprobe(
            event=probe.point.encode(), fn_name=exit_.encode(), maxactive=maxactive
        )
        bpf.attach_kprobe(event=probe.point.encode(), fn_name=entry.encode())
    except Exception as error:  # bcc raises nothing more precise
        raise TraceError(
            f"cannot attach to {probe.point}: {_first_line(error)}",
            step="attach BPF programs",
            remedy="See `livedump doctor` (kernel lockdown forbids kprobes)",
        ) from error
