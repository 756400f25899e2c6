"""The guest's kernel as the dump of the instant has it, read with drgn.

Everything here comes from QEMU's dump and Debian's debug information.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import drgn
from drgn.helpers.linux.mm import follow_phys, for_each_vmap_area
from drgn.helpers.linux.module import find_module, module_address_regions
from drgn.helpers.linux.percpu import per_cpu
from drgn.helpers.linux.pid import for_each_task

from livedump.dump.opened import find_vmlinux
from tools.oracle.read.core import PAGE, Core
from tools.oracle.read.tables import RW, Walk, leaf_pfn, walk_kernel

MODULE = "livedump"
IORESOURCE_SYSTEM_RAM = 0x01000000 | 0x00000200
IORESOURCE_BUSY = 0x80000000
VM_MAP = 4
STACK_BYTES = 4 * PAGE
MODULES, MODULES_END = 0xFFFFFFFF_C000_0000, 0xFFFFFFFF_FF00_0000


class Area(NamedTuple):
    """A virtual area of the kernel's: [start, end), and who asked for it.

    :ivar own: livedump's
    :ivar borrowed: its pages have another owner; this is a second mapping of them (vmap)
    """

    start: int
    end: int
    owner: str
    own: bool
    borrowed: bool


class Kernel:
    """drgn on the dump of the instant, and what the judge asks of it."""

    def __init__(self, core: Core, path: Path) -> None:
        info = core.vmcoreinfo()
        self.core = core
        self.info = dict(line.split("=", 1) for line in info.decode().splitlines() if "=" in line)
        self.release = self.info["OSRELEASE"]
        self.program = drgn.Program(vmcoreinfo=info)
        self.program.set_core_dump(str(path))
        self.program.load_debug_info([str(find_vmlinux(self.release))])

    def value(self, name: str) -> int:
        """An integer variable or constant of the kernel's."""
        return int(self.program[name].value_())

    def address(self, name: str) -> int:
        """Where a symbol is."""
        return int(self.program.symbol(name).address)

    def symbol(self, address: int) -> str:
        """``name+0x12``, or the number."""
        try:
            found = self.program.symbol(address)
        except LookupError:
            return f"{address:#x}"
        return f"{found.name}+{address - found.address:#x}"

    def physical(self, address: int) -> int:
        """Where a kernel address lies, by the kernel's own page tables."""
        return int(follow_phys(self.program["init_mm"].address_of_(), address).value_())

    # ---- regions ----

    @cached_property
    def direct_map(self) -> range:
        """Virtual addresses of the direct map."""
        base = self.value("page_offset_base")
        return range(base, base + self.value("max_pfn") * PAGE)

    @cached_property
    def vmemmap(self) -> range:
        """Virtual addresses of the struct pages."""
        base = self.value("vmemmap_base")
        return range(base, base + self.value("max_pfn") * self.page_size)

    @cached_property
    def vmemmap_pfns(self) -> dict[int, int]:
        """Page frames that hold struct pages: to their virtual address."""
        return {pfn: at for at, pfn in self.by_address.items() if at in self.vmemmap}

    def is_protected(self, address: int) -> bool:
        """Whether livedump protects what maps this address: direct map and vmemmap."""
        return address in self.direct_map or address in self.vmemmap

    @cached_property
    def armed(self) -> tuple[range, range]:
        """Virtual addresses whose 4 KiB entries are protected before the stop: vmalloc space, and
        modules."""
        base = self.value("vmalloc_base")
        terabytes = 12800 if self.value("__pgtable_l5_enabled") else 32
        return range(base, base + (terabytes << 40)), range(MODULES, MODULES_END)

    def may_protect(self, address: int) -> bool:
        """Whether livedump changes the entry that maps this address. The kernel's data is watched
        in 4 KiB: its large leaves are split like the others."""
        armed = any(address in area for area in self.armed)
        return self.is_protected(address) or armed or address in self.image

    @cached_property
    def page_size(self) -> int:
        """sizeof(struct page)"""
        return int(self.program.type("struct page").size)

    @cached_property
    def image(self) -> range:
        """Virtual addresses of the kernel's image."""
        return range(self.address("_text"), self.address("_end"))

    def pfns_of(self, address: int, size: int) -> range:
        """Page frames of a piece of the direct map."""
        start = address - self.direct_map.start
        return range(start // PAGE, (start + size + PAGE - 1) // PAGE)

    @cached_property
    def system_ram(self) -> list[range]:
        """Page frames of the kernel's System RAM, as /proc/iomem has it."""
        flags = IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY
        found = []
        resource = self.program["iomem_resource"].child
        while resource:
            if resource.flags.value_() & flags == flags and not resource.desc.value_():
                start, last = resource.start.value_(), resource.end.value_()
                pfns = range((start + PAGE - 1) // PAGE, (last + 1) // PAGE)
                found += [pfns] if pfns else []
            resource = resource.sibling
        return found

    # ---- page tables ----

    @cached_property
    def walk(self) -> Walk:
        """The kernel's half of init_mm."""
        levels = 5 if self.value("__pgtable_l5_enabled") else 4
        root = self.physical(self.program["init_mm"].pgd.value_())
        return walk_kernel(self.core.page, root // PAGE, levels)

    @cached_property
    def aliases(self) -> dict[int, int]:
        """Page frames mapped writable beside direct map, vmemmap and image: to one such address."""
        found: dict[int, int] = {}
        for address, entry, level in self.walk.leaves:
            if not entry & RW or self.is_protected(address) or address in self.image:
                continue
            pfn = leaf_pfn(entry, level)
            for index in range(1 << 9 * (level - 1)):
                found.setdefault(pfn + index, address + index * PAGE)
        return found

    @cached_property
    def in_direct_map(self) -> set[int]:
        """Page frames that the direct map has."""
        found: set[int] = set()
        for address, entry, level in self.walk.leaves:
            if address in self.direct_map:
                pfn = leaf_pfn(entry, level)
                found.update(range(pfn, pfn + (1 << 9 * (level - 1))))
        return found

    @cached_property
    def by_address(self) -> dict[int, int]:
        """Virtual pages outside the direct map, to page frames."""
        return {
            address + index * PAGE: leaf_pfn(entry, level) + index
            for address, entry, level in self.walk.leaves
            if address not in self.direct_map
            for index in range(1 << 9 * (level - 1))
        }

    @cached_property
    def user_roots(self) -> set[int]:
        """Page frames of the top tables of processes."""
        roots: set[int] = set()
        for task in for_each_task(self.program):
            for mm in (task.mm, task.active_mm):
                if mm:
                    roots.update(self.pfns_of(mm.pgd.value_(), PAGE))
        return roots

    # ---- what livedump saves in the stop ----

    @cached_property
    def image_pfns(self) -> range:
        """Page frames of the kernel's image."""
        start = self.physical(self.image.start) // PAGE
        return range(start, start + (len(self.image) + PAGE - 1) // PAGE)

    @cached_property
    def percpu_units(self) -> list[range]:
        """Page frames of the first chunk, by CPU."""
        base, size = self.value("pcpu_base_addr"), self.value("pcpu_unit_size")
        offsets = self.program["pcpu_unit_offsets"]
        count = self.value("nr_cpu_ids")
        return [self.pfns_of(base + offsets[cpu].value_(), size) for cpu in range(count)]

    @cached_property
    def free_stacks(self) -> set[int]:
        """Page frames of what looks like a thread's stack and is nobody's now."""
        found = {
            pfn
            for area in self.areas
            if area.owner == "kernel_clone" and area.end - area.start == STACK_BYTES + PAGE
            for pfn in self._pfns(area)
        }
        return found - set(self.stacks)

    @cached_property
    def stacks(self) -> dict[int, str]:
        """Page frames of the stacks of living tasks, to the task's name."""
        found: dict[int, str] = {}
        for task in [*for_each_task(self.program), *self.idle_tasks]:
            start = task.stack.value_()
            name = f"{task.comm.string_().decode(errors='replace')}/{task.pid.value_()}"
            for address in range(start, start + STACK_BYTES, PAGE):
                pfn = self.by_address.get(address)
                if pfn is not None:
                    found[pfn] = name
        return found

    @cached_property
    def idle_tasks(self) -> list[Any]:
        """Of every CPU."""
        runqueues, count = self.program["runqueues"], self.value("nr_cpu_ids")
        return [per_cpu(runqueues, cpu).idle for cpu in range(count)]

    # ---- vmalloc and modules ----

    @cached_property
    def areas(self) -> list[Area]:
        """vmalloc's areas. livedump's own are what it asked for, and itself."""
        ours = module_address_regions(find_module(self.program, MODULE))
        found = []
        for area in for_each_vmap_area(self.program):
            start, end = area.va_start.value_(), area.va_end.value_()
            caller = area.vm.caller.value_() if area.vm else 0
            own = any(base <= caller < base + size for base, size in ours)
            own |= any(start < base + size and base < end for base, size in ours)
            owner = MODULE if own else self.symbol(caller).split("+")[0]
            flags = area.vm.flags.value_() if area.vm else 0
            found.append(Area(start, end, owner, own, bool(flags & VM_MAP)))
        return found

    def area_at(self, address: int) -> Area | None:
        """The area of a virtual address."""
        return next((area for area in self.areas if area.start <= address < area.end), None)

    @cached_property
    def own_pfns(self) -> set[int]:
        """Page frames of livedump's own; the page tables that it maps a second time are not."""
        own = {pfn for area in self.areas if area.own for pfn in self._pfns(area)}
        mapped = [area for area in self.areas if area.own and area.borrowed]
        borrowed = {pfn for area in mapped for pfn in self._pfns(area)}
        return own - (borrowed & set(self.walk.tables))

    def _pfns(self, area: Area) -> Iterator[int]:
        for address in range(area.start, area.end, PAGE):
            if address in self.by_address:
                yield self.by_address[address]
