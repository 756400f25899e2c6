"""Names of pages in the guest tests' dump, against what drgn finds by walking from the objects."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from livedump.analysis.annotate import annotate
from livedump.dump.drgn import open_program
from livedump.dump.opened import find_vmlinux
from livedump.dump.pages import Namer
from livedump.errors import OpenError
from livedump.recording import store
from tests.host.dump.test_open import ARTEFACTS, RELEASES


@pytest.fixture(scope="module", params=RELEASES)
def folder(request: pytest.FixtureRequest) -> Path:
    """The artefacts of one kernel release."""
    path = ARTEFACTS / str(request.param)
    assert (path / "vmcore").is_file(), f"no vmcore in {path}: run the guest tests first"
    return path


@pytest.fixture(scope="module")
def program(folder: Path) -> Any:
    """The dump."""
    return open_program(folder / "vmcore", find_vmlinux(folder.name))


@pytest.fixture(scope="module")
def namer(program: Any) -> Namer:
    """Its namer."""
    return Namer(program)


def test_pages_of_tasks(program: Any, namer: Namer) -> None:
    """task_struct, stack, top page table."""
    from drgn.helpers.linux.mm import virt_to_pfn, vmalloc_to_pfn
    from drgn.helpers.linux.pid import for_each_task

    tasks = list(for_each_task(program))
    assert len(tasks) > 30
    tables = 0
    for task in tasks:
        assert namer.name(virt_to_pfn(task).value_()).name == "task_struct: struct task_struct"
        stack = namer.name(vmalloc_to_pfn(program, task.stack).value_())
        who = f"{task.comm.string_().decode()} ({task.pid.value_()})"
        assert (stack.kind, stack.name) == ("stack", who)
        if task.mm:
            tables += namer.name(virt_to_pfn(program, task.mm.pgd).value_()).kind == "kernel"
    assert tables > 0, "the kernel does not say that a top table is one"


def test_page_tables_of_a_process(program: Any, namer: Namer) -> None:
    """The lowest two levels: the kernel itself does not mark those above."""
    from drgn.helpers.linux.mm import for_each_vma, pfn_to_virt
    from drgn.helpers.linux.pid import find_task

    mm = find_task(program, 1).mm
    address = next(for_each_vma(mm)).vm_start.value_()
    levels = 5 if program["VMCOREINFO"].string_().count(b"NUMBER(pgtable_l5_enabled)=1") else 4
    table, kinds = mm.pgd.value_(), []
    for level in range(levels, 1, -1):
        index = (address >> (12 + 9 * (level - 1))) & 511
        entry = int.from_bytes(program.read(table + 8 * index, 8), "little")
        assert entry & 1
        pfn = (entry & 0xFFFFFFFFFF000) >> 12
        kinds.append(namer.name(pfn).kind)
        table = pfn_to_virt(program, pfn).value_()
    assert kinds[-2:] == ["page table"] * 2, kinds


def test_files_and_anonymous_memory(program: Any, namer: Namer) -> None:
    """Of all memory: every kind is there, and hardly anything is unknown."""
    from drgn.helpers.linux.mm import for_each_valid_pfn_and_page

    kinds: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for number, (pfn, _page) in enumerate(for_each_valid_pfn_and_page(program)):
        if number % 61 == 0:
            found = namer.name(pfn)
            kinds[found.kind] += 1
            files[found.name] += found.kind == "file"
    for kind in ("free", "slab", "file", "anonymous", "kernel", "image"):
        assert kinds[kind] > 0, kinds
    assert kinds["unknown"] <= sum(kinds.values()) // 1000, kinds
    assert any("/" in name for name in files)


def test_image_pages_have_symbols(program: Any, namer: Namer) -> None:
    kernel_map = 0xFFFFFFFF80000000
    address = program.symbol("init_task").address
    said = re.search(rb"NUMBER\(phys_base\)=(-?\d+)", program["VMCOREINFO"].string_())
    assert said
    physical = address - kernel_map + int(said[1])
    found = namer.name(physical // 4096)
    assert (found.kind, found.name) == ("image", "init_task")


def test_vmalloc_callers_in_modules(program: Any, namer: Namer) -> None:
    """livedump's own memory is there while a snapshot is held (of its pool the array of its pages,
    as vmap() keeps none); its init code is not any more, and where it was, a module that was loaded
    later has other functions."""
    callers = vmalloc_names(program, namer)
    assert callers["by ld_area_alloc [livedump]"] > 100, callers
    assert callers["by load_module"] > 0, callers
    assert any(name.startswith("by code that is gone (0xffffffffc0") for name in callers), callers
    modules = {name.rpartition(" ")[2] for name in callers if name.endswith("]")}
    assert modules == {"[livedump]"}, callers
    assert not any(name.startswith("by 0x") for name in callers), callers


def test_kallsyms_that_cannot_be_read(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import drgn

    def fails(_module: object) -> None:
        raise drgn.FaultError("no page there", 0)

    monkeypatch.setattr("drgn.helpers.linux.kallsyms.module_kallsyms", fails)
    callers = vmalloc_names(program, Namer(program))
    assert callers["by load_module"] > 0, callers
    assert any(name.startswith("by 0xffffffffc0") for name in callers), callers


def vmalloc_names(program: Any, namer: Namer) -> Counter[str]:
    """Names of the first page of each vmalloc area that is no stack, and pages of these areas."""
    from drgn.helpers.linux.mm import for_each_vmap_area, page_to_pfn

    found: Counter[str] = Counter()
    for area in for_each_vmap_area(program):
        if area.vm and area.vm.pages and area.vm.nr_pages:
            name = namer.name(page_to_pfn(area.vm.pages[0]).value_())
            if name.kind == "vmalloc":
                found[name.name] += area.vm.nr_pages.value_()
    return found


def test_symbols_of_something_else(folder: Path) -> None:
    """drgn only warns; every page would be unknown."""
    with pytest.raises(OpenError, match="struct page"):
        open_program(folder / "vmcore", "/bin/sh")


def test_hot_pages_of_the_guest_s_recording(folder: Path) -> None:
    recording = store.read(folder / "recording")
    found = annotate(recording, folder / "vmcore")
    assert found.remark  # the dump is of a later snapshot of the same boot
    assert {row["was"] for row in found.by_name} >= {"slab"}
    assert sum(row["pages"] for row in found.by_name) == len(found.pages)
    assert len(found.pages) == len(recording.tables["pages"]) > 300
    assert sum(row["was"] == "unknown" for row in found.pages) <= len(found.pages) // 100
    # So names are not kept.
    assert not any(row["was"] for row in store.read(folder / "recording").tables["pages"])
