"""What the image holds: the memory of one instant, exactly."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from livedump import abi, receipt
from livedump.dump import Image, open_image
from livedump.session import Session
from tests.guest.pool import without_page
from tools.guest import witness
from tools.guest.program import Load

POOL = 256 << 20
TRACING = Path("/sys/kernel/tracing")


@contextlib.contextmanager
def fault_events() -> Iterator[list[dict[str, int]]]:
    """Collect the module's fault tracepoint: a list that is filled on exit."""
    events: list[dict[str, int]] = []
    enable = TRACING / "events/livedump/livedump_fault/enable"
    (TRACING / "buffer_size_kb").write_text("16384")
    (TRACING / "trace").write_text("")
    enable.write_text("1")
    try:
        yield events
    finally:
        enable.write_text("0")
        for line in (TRACING / "trace").read_text().splitlines():
            if "livedump_fault:" in line:
                fields = dict(item.split("=", 1) for item in line.split() if "=" in item)
                events.append(
                    {
                        "pfn": int(fields["pfn"], 16),
                        "outcome": int(fields["outcome"]),
                        "copy_ns": int(fields["copy_ns"]),
                        "total_ns": int(fields["total_ns"]),
                    }
                )


@pytest.mark.smoke
def test_value_before_is_in_the_image_and_value_after_in_memory(strategy: str) -> None:
    witness.poke_all(0xB4)
    with Session(pool_bytes=POOL, strategy=strategy):
        witness.poke_all(0xAF)
        with open_image(abi.IMAGE_PATH) as image:
            held = witness.image_values(image)
        live = witness.live_values()
    assert {value for row in held.values() for value in row} == {0xB4}
    assert {value for row in live.values() for value in row} == {0xAF}


@pytest.mark.smoke
def test_a_page_is_saved_once() -> None:
    pages = {page.pfn for row in witness.pages_by_row().values() for page in row}
    witness.poke_all(1)
    with fault_events() as events, Session(pool_bytes=POOL) as session:
        # Others may have been opened meanwhile: large pages beside them are split by writes.
        permissions = witness.direct_map()
        pages = {pfn for pfn in pages if permissions[pfn] & witness.SOFTW1}
        assert len(pages) > 50
        for value in (2, 3, 4):
            witness.poke_all(value)
        # Final: what is counted while others fault is of several moments.
        report = session.release().report
    ours = Counter(event["pfn"] for event in events if event["pfn"] in pages)
    assert ours == Counter(pages)
    assert {e["outcome"] for e in events if e["pfn"] in pages} == {abi.Outcome.SAVED}
    saves = [event for event in events if event["outcome"] == abi.Outcome.SAVED]
    assert all(0 < event["copy_ns"] <= event["total_ns"] for event in saves)
    # Without a saved page: what lost a race with another CPU.
    assert 0 <= without_page(report) <= report["faults_already"]


def test_order_holds_in_the_image_and_breaks_in_a_plain_copy(
    writers: None, load: Load, strategy: str
) -> None:
    # Power comes from many plain copies; they are cheap.
    torn_live = sum(witness.torn_rows(witness.live_values()) for _ in range(100))
    for _ in range(4):
        with Session(pool_bytes=POOL, strategy=strategy):
            with open_image(abi.IMAGE_PATH) as image:
                rows = witness.image_values(image)
            assert witness.torn_rows(rows) == 0
            assert witness.wrong_pages(rows) == 0
    assert torn_live > 0, "a plain copy held: the witness proves nothing"


def read_pages(image: Image, chunk: int, every: int) -> dict[int, bytes]:
    """A sample of RAM: page frame number -> content of every page of every so many-th chunk."""
    pages = {}
    for part in image.ram:
        end = part.paddr + part.file_bytes - chunk
        for start in range(part.paddr, end, chunk * every):
            data = image.read(start, chunk)
            for at in range(0, chunk, witness.PAGE):
                pages[(start + at) // witness.PAGE] = data[at : at + witness.PAGE]
    return pages


def test_the_image_reads_the_same_twice(writers: None, load: Load) -> None:
    with fault_events() as events, Session(pool_bytes=POOL) as session:
        with open_image(abi.IMAGE_PATH) as image:
            values = witness.image_values(image)
            first = read_pages(image, 2 << 20, 32)
            load.wait(2)
            second = read_pages(image, 2 << 20, 32)
            assert witness.image_values(image) == values
            report = session.status().report
    differing = {pfn for pfn, page in first.items() if second[pfn] != page}
    # A page that was written by way of the direct map never differs...
    saved = {event["pfn"] for event in events if event["outcome"] == abi.Outcome.SAVED}
    assert len(saved & first.keys()) > 50, "hardly a sampled page was written: proves nothing"
    # ... but for those that an alias wrote before: class `live`, or mapped by user space.
    share = len(first) / report["pages_ram"]
    allowed = share * (report["pages_live"] + report["pages_unguarded"])
    assert len(differing) <= allowed < 0.5 * len(first)
    assert len(differing & saved) <= len(saved) / 100


def test_the_receipt_adds_up(load: Load, strategy: str) -> None:
    with Session(pool_bytes=POOL, strategy=strategy) as session:
        load.wait(1.0)
        report = session.status().report
    assert report["pages_ram"] == sum(report[name] for name in receipt.CLASSES)
    assert report["faults"] > 100
    assert report["pages_lost"] == 0
    assert report["hooks_missed"] == report["mappings_unseen"] == 0
    assert report["marks_cleared"] == 0
    assert receipt.is_counted(report)
    phases = [f"{name}_ns" for name in receipt.PHASES]
    assert all(report[name] > 0 for name in (*phases, "prepare_ns"))
    assert sum(report[name] for name in phases) <= report["stop_ns"] <= report["stops_ns"]
    steps = receipt.preparation_ns(report)
    assert min(steps.values()) > 0 and sum(steps.values()) == report["prepare_ns"]
    assert report["entries_protected"] == sum(report["entries_by_level"])
    # Little of what was armed is written before the stop; what is in a TLB does not even fault.
    assert report["entries_closed"] < 0.5 * report["entries_armed"]
    assert report["entries_armed"] > 1000
    if strategy == "eager":
        assert report["leaves_held"][abi.Leaf.LEAF_2M] == 0
        assert report["entries_protected"] > 0.5 * report["pages_ram"]
    else:
        # Hundreds of entries for each GiB at the most, whatever its pages are doing.
        assert report["leaves_held"][abi.Leaf.LEAF_2M] > 0
        assert report["entries_protected"] < 0.02 * report["pages_ram"]
        assert 0 < report["recopied"] < report["pages_saved_stop"]
