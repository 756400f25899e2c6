"""What a page of memory was at the snapshot: slab cache, stack, page table, file, vmalloc area.

Read with drgn from the dump's own structures. A page has one name: the most telling.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

PAGE = 4096

_OLD_BUDDY, _OLD_TABLE = 0x80, 0x200

#: x86's call, with the distance in the four bytes that follow.
_CALL = 0xE8


@dataclass(frozen=True)
class PageName:
    """What a page was.

    :ivar kind: ``slab``, ``stack``, ``page table``, ``file``, ``anonymous``, ``vmalloc``,
        ``image``, ``per-CPU``, ``free``, ``kernel`` (allocated, nobody knows by whom) or
        ``unknown``
    :ivar name: what there is to say more; may be empty
    """

    kind: str
    name: str


class Namer:
    """Names pages of one dump.

    :param program: a drgn.Program, see :func:`livedump.dump.drgn.open_program`
    """

    def __init__(self, program: Any) -> None:
        self._program = program
        self._callers: dict[int, str] = {}

    def name(self, pfn: int) -> PageName:
        """What the page frame was. Memory that makes no sense gives ``unknown``, and the reason."""
        import drgn

        try:
            return self._name(pfn)
        except (drgn.FaultError, LookupError, ValueError) as error:
            return PageName("unknown", str(error).splitlines()[0])

    def _name(self, pfn: int) -> PageName:
        from drgn.helpers.linux.mm import PageReserved, PageSlab, compound_head, pfn_to_page

        page = pfn_to_page(self._program, pfn)
        if PageReserved(page):
            return self._reserved(pfn)
        if pfn in self._mapped:
            return self._mapped[pfn]
        head = compound_head(page)
        if PageSlab(head):
            return PageName("slab", self._slab(pfn))
        if kind := self._type_of(head):
            return PageName(kind, "")
        if not head._refcount.counter:
            return PageName("free", "")  # not the first page of its block, or on a CPU's list
        return _mapped_by_users(head)

    def _reserved(self, pfn: int) -> PageName:
        """What was there at boot; parts of the image that were freed since are not reserved."""
        if image := self._in_image(pfn):
            return PageName("image", image)
        cpu = self._cpu_of(pfn)
        return PageName("per-CPU", f"CPU {cpu}") if cpu is not None else PageName("kernel", "")

    def _in_image(self, pfn: int) -> str:
        """The largest symbol on this page of the kernel's image; empty: it is not of the image."""
        start, end, first = self._image
        at = start + (pfn - first) * PAGE
        if not start <= at < end:
            return ""
        symbols = [s for s in self._symbols if at <= s[0] < at + PAGE or s[0] <= at < s[0] + s[1]]
        return max(symbols, key=lambda symbol: symbol[1])[2] if symbols else "kernel image"

    @cached_property
    def _image(self) -> tuple[int, int, int]:
        """Addresses of its start and end, and its first page frame."""
        from drgn.helpers.linux.mm import follow_phys

        start, end = (int(self._program.symbol(name).address) for name in ("_text", "_end"))
        physical = follow_phys(self._program["init_mm"].address_of_(), start)
        return start, end, int(physical) // PAGE

    @cached_property
    def _symbols(self) -> list[tuple[int, int, str]]:
        """(address, size, name) of what the image holds."""
        return [(s.address, s.size, s.name) for s in self._program.symbols() if s.size]

    def _slab(self, pfn: int) -> str:
        """Cache, and type of the objects where there is one of that name."""
        from drgn.helpers.linux.mm import pfn_to_virt
        from drgn.helpers.linux.slab import find_containing_slab_cache

        cache = find_containing_slab_cache(pfn_to_virt(self._program, pfn))
        name = str(cache.name.string_().decode())
        for kind in (name, name.removesuffix("_cache")):
            if kind.isidentifier() and self._has_struct(kind):
                return f"{name}: struct {kind}"
        return name

    def _has_struct(self, name: str) -> bool:
        try:
            return bool(self._program.type(f"struct {name}").size)
        except LookupError:
            return False

    def _type_of(self, head: Any) -> str:
        """``page table`` or ``free``, by the page's type."""
        try:
            kinds = self._program.type("enum pagetype")
        except LookupError:
            return self._old_type_of(head)
        found = int(head.page_type.value_()) >> 24
        by_name = {enumerator.name: enumerator.value for enumerator in kinds.enumerators}
        return {by_name.get("PGTY_table"): "page table", by_name.get("PGTY_buddy"): "free"}.get(
            found, ""
        )

    def _old_type_of(self, head: Any) -> str:
        """Before 6.11: a bit that is cleared, in a word that begins with 0xf (page-flags.h)."""
        found = int(head.page_type.value_())
        if found & 0xF0000000 != 0xF0000000:
            return ""
        if not found & _OLD_TABLE:
            return "page table"
        return "" if found & _OLD_BUDDY else "free"

    def _cpu_of(self, pfn: int) -> int | None:
        """Whose per-CPU unit the page is in."""
        from drgn.helpers.linux.mm import pfn_to_virt

        address = pfn_to_virt(self._program, pfn).value_()
        size = int(self._program["pcpu_unit_size"])
        base = int(self._program["pcpu_base_addr"])
        for cpu in range(int(self._program["nr_cpu_ids"])):
            start = base + int(self._program["pcpu_unit_offsets"][cpu])
            if start <= address < start + size:
                return cpu
        return None

    @cached_property
    def _mapped(self) -> dict[int, PageName]:
        """Pages behind vmalloc areas: thread stacks and what others asked for."""
        from drgn.helpers.linux.mm import for_each_vmap_area, page_to_pfn

        stacks = self._stacks()
        found: dict[int, PageName] = {}
        for area in for_each_vmap_area(self._program):
            vm = area.vm
            if not vm or not vm.pages:
                continue
            address = int(area.va_start)
            owner = stacks.get(address)
            if owner is None:
                named = PageName("vmalloc", f"by {self._caller(int(vm.caller))}")
            else:
                named = PageName("stack", owner)
            for index in range(int(vm.nr_pages)):
                found[int(page_to_pfn(vm.pages[index]))] = named
        return found

    def _caller(self, address: int) -> str:
        """The function that an allocation returned to, a module's as ``name [module]``."""
        import drgn

        unreadable = (AttributeError, LookupError, ValueError, drgn.FaultError)
        if address not in self._callers:
            try:
                name = self._function(address)
            except (*unreadable, drgn.OutOfBoundsError):  # the modules' list, code or kallsyms
                name = hex(address)
            self._callers[address] = name
        return self._callers[address]

    def _function(self, address: int) -> str:
        """There is debug information of the image alone: modules have their kallsyms."""
        from drgn.helpers.linux.kallsyms import module_kallsyms
        from drgn.helpers.linux.module import address_to_module

        if found := self._in_kernel(address):
            return found
        module = address_to_module(self._program, address)
        if not module or not self._follows_call(address):
            return f"code that is gone ({address:#x})"
        for symbol in module_kallsyms(module):
            if symbol.address <= address < symbol.address + symbol.size:
                return f"{symbol.name} [{module.name.string_().decode()}]"
        return hex(address)

    def _in_kernel(self, address: int) -> str:
        try:
            return str(self._program.symbol(address).name)
        except LookupError:
            return ""

    def _follows_call(self, address: int) -> bool:
        """Whether a call of code is before *address*. A module's init code is freed, and another
        module may be where it was."""
        from drgn.helpers.linux.module import address_to_module

        code = self._program.read(address - 5, 5)
        target = (address + int.from_bytes(code[1:], "little", signed=True)) % (1 << 64)
        if code[0] != _CALL:
            return False
        return bool(self._in_kernel(target) or address_to_module(self._program, target))

    def _stacks(self) -> dict[int, str]:
        """Address of a stack -> whose it is."""
        from drgn.helpers.linux.pid import for_each_task

        return {
            int(task.stack): f"{task.comm.string_().decode(errors='replace')} ({int(task.pid)})"
            for task in for_each_task(self._program)
        }


def _mapped_by_users(head: Any) -> PageName:
    """A page with a mapping: of a file, or of a process."""
    from drgn import cast
    from drgn.helpers.linux.fs import inode_path

    mapping = int(head.mapping)
    if mapping & 1:
        return PageName("anonymous", "")
    if not mapping or mapping & 2:
        return PageName("kernel", "")
    inode = cast("struct address_space *", head.mapping).host
    if not inode:
        return PageName("file", "without an inode")
    path = inode_path(inode)
    kind = inode.i_sb.s_type.name.string_().decode()
    said = path.decode(errors="replace") if path else f"inode {int(inode.i_ino)}"
    return PageName("file", f"{kind} {said}")
