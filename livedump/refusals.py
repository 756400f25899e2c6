"""Why the module takes no snapshot, by enum livedump_refusal, and what to do about it.

One table for what the module says (:mod:`livedump.control`) and for what `livedump doctor` finds
where it cannot ask.
"""

from __future__ import annotations

from collections.abc import Mapping

_STATUS = "See 'livedump status', end it with 'livedump release'"
_STOCK = "Use a kernel built without it, e.g. Debian's stock one"
_LOG = "See the kernel log: dmesg | grep livedump"

REMEDIES: Mapping[str, str] = {
    "xen_pv": "Run the machine as an HVM or PVH guest",
    "encrypted": "Run the machine without SEV or TDX",
    "preempt_rt": "Boot a kernel without PREEMPT_RT",
    "sanitizer": _STOCK,
    "config": "Use a stock Debian kernel",
    "debug_pagealloc": "Boot without debug_pagealloc=on",
    "cpa_debug": _STOCK,
    "nohz_full": "Boot without nohz_full=",
    "percpu_pages": "Boot without percpu_alloc=page",
    "tsc": "Boot with a usable time stamp counter (tsc=reliable, if the hypervisor's is)",
    "kvm_guest": "Stop the virtual machines first, or take the snapshot inside of them",
    "hugetlb_vmemmap": "Run: sysctl vm.hugetlb_optimize_vmemmap=0",
    "traced": "Another module calls itself first on page faults: unload it. " + _LOG,
    "sleeping": "Try again when the machine is awake",
    "busy": _STATUS,
    "strategy": "Module and client may be of different versions: reload the module",
    "owner": "Give an open file of /proc/livedump, or ask for a snapshot that persists",
    "unloading": "Load the module again: livedump load",
    "pool_too_large": "Free some memory or ask for a smaller pool (--pool)",
    "pool_too_small": "Ask for a larger pool (--pool)",
    "memory": "Free some memory or ask for a smaller pool (--pool)",
    "ram": _LOG,
    "hook": "The kernel has the function but does not let it be probed: is kprobes/enabled 1, "
    "kernel.ftrace_enabled on?",
    "tracepoint": "Use a kernel with CONFIG_TRACEPOINTS, e.g. Debian's stock one",
    "changing": "Modules, BPF programs or threads came and went all the time: try again later",
    "stop": _LOG,
    "cancelled": "",
}


def remedy(refusal: str) -> str:
    """What to do about a refusal, by its lower-case name; empty for one that is not known."""
    return REMEDIES.get(refusal, _LOG)
