"""Pages on their way into user space at the instant.

A page fault has taken a page and filled it, and was preempted before it mapped it. To the struct
page it is kernel memory; a moment later user space stores into it past the direct map. The proof
is on a stack: a task that is inside handle_mm_fault() holds the pointer to the struct page.
"""

from __future__ import annotations

import struct
from functools import cached_property

from drgn import FaultError
from drgn.helpers.linux.pid import for_each_task

from tools.oracle.core import PAGE
from tools.oracle.kernel import Kernel
from tools.oracle.pages import Page

_STACK_BYTES = 4 * PAGE
_FAULT = "handle_mm_fault"


def may_be_in_flight(page: Page) -> bool:
    """Held once, by nobody that the struct page knows."""
    return page.references == 1 and page.mapcount == -1 and not page.mapping


class InFlight:
    """The stacks of tasks that were inside a page fault of user memory."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def holder(self, pfn: int) -> str | None:
        """The task whose page fault holds the page."""
        pointer = self._kernel.vmemmap.start + pfn * self._kernel.page_size
        return next((name for name, words in self._stacks.items() if pointer in words), None)

    @cached_property
    def _stacks(self) -> dict[str, frozenset[int]]:
        """Words of the used part of each stack that has a return into the fault handler."""
        handler = self._kernel.program.symbol(_FAULT)
        code = range(handler.address, handler.address + handler.size)
        found = {}
        for task in for_each_task(self._kernel.program):
            start, used = task.stack.value_(), task.thread.sp.value_()
            size = start + _STACK_BYTES - used
            if not 0 < size <= _STACK_BYTES:
                continue
            try:
                words = struct.unpack(f"<{size // 8}Q", self._kernel.program.read(used, size & ~7))
            except FaultError:
                continue
            if any(word in code for word in words):
                name = f"{task.comm.string_().decode(errors='replace')}/{task.pid.value_()}"
                found[name] = frozenset(words)
        return found
