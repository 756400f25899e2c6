"""Builds small images in the layout of /proc/livedump, for tests that have no kernel to ask."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from livedump import abi

PAGE = 4096
INSTANT_NS = 5_000_000_000
VMCOREINFO = "OSRELEASE=6.1.0-56-amd64\nPAGESIZE=4096\nSYMBOL(_stext)=ffffffff81000000\n"

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")


class Segment(NamedTuple):
    """A PT_LOAD: *data* at *paddr*, then zeros up to *mem_bytes*."""

    paddr: int
    data: bytes
    vaddr: int = 0
    mem_bytes: int = 0


def note(name: str, kind: int, desc: bytes) -> bytes:
    """One ELF note."""

    def pad(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    raw = name.encode() + b"\0"
    return struct.pack("<III", len(raw), len(desc), kind) + pad(raw) + pad(desc)


def report(**values: int | list[int]) -> abi.ReportDict:
    """A plausible report of a snapshot that is held; *values* override."""
    base: abi.ReportDict = {
        **abi.empty_report(),
        "state": int(abi.State.HOLDING),
        "strategy": int(abi.Strategy.LAZY),
        "instant_realtime_ns": 1_763_917_445_123_456_789,
        "instant_boottime_ns": INSTANT_NS + 1000,
        "instant_monotonic_ns": INSTANT_NS,
        "prepare_ns": 1_200_000_000,
        "reserve_ns": 840_000_000,
        "hooks_ns": 50_000_000,
        "survey_ns": 110_000_000,
        "plan_ns": 200_000_000,
        "rendezvous_ns": 300_000,
        "save_ns": 20_000,
        "protect_ns": 400_000,
        "flush_ns": 80_000,
        "recopy_ns": 1_900_000,
        "stop_ns": 3_100_000,
        "stops_ns": 3_100_000,
        "attempts": 1,
        "recopied": 1_500,
        "entries_protected": 2_550,
        "entries_by_level": [2_040, 509, 1],
        "entries_armed": 31_400,
        "entries_closed": 240,
        "demotions": 154,
        "leaves_before": [512, 511, 1],
        "leaves_held": [2_048, 508, 1],
        "pages_ram": 524_288,
        "pages_saved_stop": 20_000,
        "pages_saved_fault": 1_000,
        "pages_saved_hook": 10,
        "pages_in_place": 500_000,
        "pages_own": 3_000,
        "pages_unreadable": 278,
        "pages_counted": 524_288,
        "pages_live": 40_000,
        "pages_unguarded": 60_000,
        "faults": 1_005,
        "faults_already": 5,
        "fault_demote_ns": 402_000,
        "fault_copy_ns": 1_005_000,
        "fault_total_ns": 2_010_000,
        "fault_max_ns": 45_000,
        "pool_pages": 65_536,
        "pool_used": 1_010,
    }
    return {**base, **values}


def eager_report(**values: int | list[int]) -> abi.ReportDict:
    """The same of strategy ``eager``."""
    eager: dict[str, int | list[int]] = {
        "strategy": int(abi.Strategy.EAGER),
        "save_ns": 12_100_000,
        "protect_ns": 50_000_000,
        "flush_ns": 200_000,
        "recopy_ns": 600_000,
        "stop_ns": 64_700_000,
        "stops_ns": 64_700_000,
        "recopied": 0,
        "entries_protected": 500_000,
        "entries_by_level": [500_000, 0, 0],
        "entries_armed": 31_400,
        "entries_closed": 240,
        "demotions": 1_024,
        "leaves_held": [524_288, 0, 0],
    }
    return report(**{**eager, **values})


def released(report: abi.ReportDict, **values: int | list[int]) -> abi.ReportDict:
    """*report* after a release that found nothing wrong; *values* override."""
    final = {
        "state": int(abi.State.IDLE),
        "verdict": int(abi.Verdict.COMPLETE),
        "release_ns": 3_000_000,
        "entries_restored": int(report["entries_protected"]) - 1_010,
        "leaves_after": report["leaves_before"],
    }
    return {**report, **final, **values}


def _prstatus(cpu: int) -> bytes:
    """A CPU's NT_PRSTATUS: crash tells CPUs apart by pr_pid."""
    return bytes(32) + struct.pack("<i", cpu + 1) + bytes(300)


def build(
    segments: Sequence[Segment],
    *,
    values: abi.ReportDict | None = None,
    cpus: int = 2,
    vmcoreinfo: str = VMCOREINFO,
    prstatus: Sequence[bytes] = (),
    with_report: bool = True,
    page_align: bool = True,
) -> bytes:
    """An image: one PT_NOTE, then *segments* page-aligned in file order.

    In an image of the module the last one is the kernel's text.
    """
    registers = list(prstatus) or [_prstatus(cpu) for cpu in range(cpus)]
    notes = b"".join(note("CORE", 1, desc) for desc in registers)
    notes += note("VMCOREINFO", 0, vmcoreinfo.encode())
    if with_report:
        receipt = abi.report_from_dict(values if values is not None else report())
        notes += note(abi.NOTE_NAME, abi.NOTE_TYPE, bytes(receipt))
    phnum = 1 + len(segments)
    notes_at = _EHDR.size + phnum * _PHDR.size
    offset = notes_at + len(notes)
    if page_align:
        offset += -offset % PAGE
    headers = [_PHDR.pack(4, 0, notes_at, 0, 0, len(notes), len(notes), 0)]
    body = bytearray(bytes(offset - notes_at - len(notes)))
    for item in segments:
        size = item.mem_bytes or len(item.data)
        vaddr = item.vaddr or 0xFFFF888000000000 + item.paddr
        headers.append(_PHDR.pack(1, 7, offset, vaddr, item.paddr, len(item.data), size, 0))
        body += item.data
        offset += len(item.data)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    ehdr = _EHDR.pack(ident, 4, 62, 1, 0, _EHDR.size, 0, 0, _EHDR.size, _PHDR.size, phnum, 0, 0, 0)
    return ehdr + b"".join(headers) + notes + bytes(body)
