"""Every way out of the fault path, and why it may be taken.

What a page fault reaches from our probe must be untraced, closed to kprobes and in kmod/fault/:
tools.lint.untraced follows it through the module, up to what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass

from tools.lint.argued import Argued


@dataclass(frozen=True)
class Exit:
    """A branch out of the fault path, which is not followed.

    :ivar to: the symbol; of code that is in no function, its section
    :ivar within: the function that may do so; empty for all
    :ivar why: what happens there, and why no fault of ours enters itself by it
    """

    to: str
    within: str
    why: str


EXITS = (
    Exit(
        "__x86_return_thunk",
        "",
        "a return: the kernel's thunk is assembly, so untraced, and apply_returns() replaces it by "
        "RET where the CPU needs none; a kprobe in it would be hit by every return of the kernel, "
        "its own too",
    ),
    Exit(
        "__stack_chk_fail",
        "",
        "panics: the stack is smashed, and nothing that a tracer does makes it worse",
    ),
    Exit(
        ".altinstr_aux",
        "",
        "static_cpu_has() before alternatives are patched: apply_alternatives() replaces the jump "
        "before any of the module runs",
    ),
    Exit(
        "__SCT__tp_func_livedump_fault",
        "handle",
        "the tracepoint livedump_fault, whose iterator and probes may be traced: at depth 1 only, "
        "after the page is writable; a fault of theirs is at depth 2, opens its page and does not "
        "come here",
    ),
    Exit(
        "__SCT__preempt_schedule_notrace",
        "handle",
        "the end of that tracepoint's preempt_disable_notrace(): after the page is writable, and "
        "with interrupts off preempt_schedule_notrace() returns at once",
    ),
)

#: Indirect branches in the fault path, written as those of tools.lint.argued.
BRANCHES = (
    Argued(
        "iterate",
        "iterator.c",
        "probe(func->data, address, regs, error_code)",
        "the other probes of exceptions:page_fault_kernel, after ours has returned: the page is "
        "writable, and what they write faults on other pages, each of them once",
    ),
)
