"""Names for pages that differ: symbol, slab cache, vmalloc area, file, owner of a table."""

from __future__ import annotations

from drgn import FaultError, Object
from drgn.helpers.linux.fs import inode_path
from drgn.helpers.linux.mm import decode_page_flags, pfn_to_page
from drgn.helpers.linux.module import address_to_module
from drgn.helpers.linux.slab import slab_object_info

from tools.oracle.read.core import PAGE
from tools.oracle.read.kernel import Kernel
from tools.oracle.read.pages import Kind, Pages, direct_address


class Namer:
    """Names pages of one dump."""

    def __init__(self, kernel: Kernel, pages: Pages) -> None:
        self._kernel = kernel
        self._pages = pages
        self._percpu = _percpu_symbols(kernel)

    def name(self, pfn: int, kind: Kind, offset: int) -> str:
        """What lies at *offset* of the page."""
        try:
            return self._name(pfn, kind, offset)
        except (FaultError, LookupError, ValueError) as error:
            return f"? ({error})"

    def _name(self, pfn: int, kind: Kind, offset: int) -> str:
        if kind is Kind.STACK:
            return self._kernel.stacks.get(pfn, "stack of nobody")
        if kind is Kind.IMAGE:
            inside = (pfn - self._kernel.image_pfns.start) * PAGE + offset
            return self._kernel.symbol(self._kernel.image.start + inside)
        if kind is Kind.PERCPU:
            return self._percpu_name(pfn, offset)
        if kind is Kind.TABLE:
            table = self._kernel.walk.tables.get(pfn)
            if table is None:
                return "of a process"
            return f"kernel, level {table.level} of {table.start:#x}"
        if pfn in self._kernel.aliases and kind in (Kind.LIVE, Kind.OWN):
            return self.alias(self._kernel.aliases[pfn])
        if kind is Kind.VMEMMAP:
            address = self._kernel.vmemmap_pfns[pfn] + offset - self._kernel.vmemmap.start
            return f"struct page of pfn {address // self._kernel.page_size:#x}"
        if kind is Kind.SLAB:
            return self._slab(pfn, offset)
        return self._other(pfn)

    def alias(self, address: int) -> str:
        """The area that a virtual address outside the direct map belongs to."""
        kernel = self._kernel
        if address in kernel.vmemmap:
            return "vmemmap"
        module = address_to_module(kernel.program, address)
        if module:
            return f"module {module.name.string_().decode()}"
        area = kernel.area_at(address)
        return f"vmalloc by {area.owner}" if area else f"mapped at {address:#x}"

    def _percpu_name(self, pfn: int, offset: int) -> str:
        for cpu, unit in enumerate(self._kernel.percpu_units):
            if pfn in unit:
                at = (pfn - unit.start) * PAGE + offset
                name = next((n for start, end, n in self._percpu if start <= at < end), f"{at:#x}")
                return f"CPU {cpu} {name}"
        raise LookupError("no unit")

    def _slab(self, pfn: int, offset: int) -> str:
        found = slab_object_info(self._kernel.program, direct_address(self._kernel, pfn) + offset)
        if found is None:
            raise LookupError("no slab")
        inside = direct_address(self._kernel, pfn) + offset - found.address
        state = "allocated" if found.allocated else "free"
        return f"{found.slab_cache.name.string_().decode()}+{inside:#x} ({state})"

    def _other(self, pfn: int) -> str:
        page = pfn_to_page(self._kernel.program, pfn)
        flags = decode_page_flags(page).replace("PG_", "")
        raw = self._pages.read(range(pfn, pfn + 1))[0]
        state = f"flags {flags}, mapcount {raw.mapcount}, references {raw.references}"
        if raw.mapping and not raw.mapping & 3 and not raw.is_tail:
            return f"{_file_of(page)}; {state}"
        return state


def _file_of(page: Object) -> str:
    inode = page.mapping.host
    if not inode:
        return "no inode"
    kind = inode.i_sb.s_type.name.string_().decode()
    path = inode_path(inode)
    return f"{kind} {path.decode(errors='replace') if path else f'inode {inode.i_ino.value_()}'}"


def _percpu_symbols(kernel: Kernel) -> list[tuple[int, int, str]]:
    """(start, end, name) of static per-CPU variables, as offsets in a unit."""
    start = kernel.address("__per_cpu_start")
    end = kernel.address("__per_cpu_end")
    return [
        (symbol.address - start, symbol.address - start + symbol.size, symbol.name)
        for symbol in kernel.program.symbols()
        if start <= symbol.address < end and symbol.size
    ]
