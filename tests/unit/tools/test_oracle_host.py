"""The oracle's host side: the gdb protocol, virtqueues, cores, outcomes."""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from pathlib import Path

import pytest

from tools.oracle.judge.outcome import Outcome
from tools.oracle.judge.verdict import Verdict
from tools.oracle.plan import ALL_DELAYS, MUTANTS, Case, matrix, mutants
from tools.oracle.read.core import PAGE, Core, CoreError, Cpu, differing, differing_bytes
from tools.oracle.read.devices import Bytes, Queue, ask_queues, given_later, writable
from tools.oracle.take.capture import Event, parse_event
from tools.oracle.take.gdb import Gdb, GdbError, frame, unframe
from tools.oracle.take.guest import Job, buffers_since, read_job

# ---- gdb ----


def test_packets() -> None:
    assert frame("OK") == b"$OK#9a"
    assert unframe(b"+$OK#9a+$") == ("OK", b"+$")
    assert unframe(b"+$OK#9") is None
    with pytest.raises(GdbError, match="checksum"):
        unframe(b"$OK#00")


def _stub(path: Path, replies: list[str]) -> threading.Thread:
    """Answers each request with the next replies, up to an empty one; without any, hangs up."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            for reply in replies:
                if reply:
                    connection.sendall(b"+" + frame(reply))
                else:
                    connection.recv(1 << 16)
            while replies and connection.recv(1 << 16):
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_stop_before_the_reply_is_no_reply(tmp_path: Path) -> None:
    _stub(tmp_path / "gdb", ["T02thread:01;", "", "OK"])
    with Gdb(tmp_path / "gdb", 5) as gdb:
        gdb.set_breakpoint(0x1000)


def test_refused_breakpoint(tmp_path: Path) -> None:
    _stub(tmp_path / "gdb", ["", "E22"])
    with Gdb(tmp_path / "gdb", 5) as gdb, pytest.raises(GdbError, match="Z1,1000,1: 'E22'"):
        gdb.set_breakpoint(0x1000)


def test_machine_that_ends_does_not_stop(tmp_path: Path) -> None:
    _stub(tmp_path / "gdb", ["W00"])
    with Gdb(tmp_path / "gdb", 5) as gdb, pytest.raises(GdbError, match="did not stop: 'W00'"):
        gdb.wait_for_stop()


def test_connection_that_ends(tmp_path: Path) -> None:
    _stub(tmp_path / "gdb", [])
    with Gdb(tmp_path / "gdb", 5) as gdb, pytest.raises(GdbError, match="closed"):
        gdb.wait_for_stop()


# ---- guest and host ----


def test_events_among_other_lines() -> None:
    event = Event("armed", 0xFFFFFFFFC0001000)
    assert parse_event(event.line()) == event
    assert parse_event("something else") is None


def test_job(tmp_path: Path) -> None:
    job = Job("lazy", ["mutant=flush"], 1 << 20, 3)
    job.write(tmp_path)
    assert read_job(tmp_path) == job


# ---- virtqueues ----

QUEUE = Queue("virtio-x", 1, 4, desc=0x1000, avail=0x2000, used=0x3000)


def _ring_memory() -> bytearray:
    """Three chains given, two returned; the third is head 2 -> 3, and 0 is indirect."""
    memory = bytearray(0x6000)
    struct.pack_into("<HH4H", memory, 0x2000, 0, 4, 1, 1, 2, 0)
    struct.pack_into("<HH", memory, 0x3000, 0, 2)
    for index, desc in enumerate(
        ((0x5000, 32, 4, 0), (0x4100, 8, 2, 0), (0x4200, 16, 1, 3), (0x4300, 24, 2, 0))
    ):
        struct.pack_into("<QIHH", memory, 0x1000 + 16 * index, *desc)
    struct.pack_into("<QIHH", memory, 0x5000, 0x4400, 512, 0, 0)
    struct.pack_into("<QIHH", memory, 0x5010, 0x4500, 1, 2, 0)
    return memory


def test_only_outstanding_writable_buffers_and_the_used_ring() -> None:
    memory = _ring_memory()
    found = list(writable(QUEUE, lambda at, size: bytes(memory[at : at + size])))
    buffer = "device DMA: buffer of virtio-x queue 1"
    assert found == [
        Bytes(0x3000, 0x3000 + 4 + 8 * 4 + 2, "device DMA: used ring of virtio-x queue 1"),
        Bytes(0x4300, 0x4318, buffer),
        Bytes(0x4500, 0x4501, buffer),
    ]


def test_buffers_that_a_device_was_given_after_the_instant() -> None:
    text = "99 4096 64\n100 8192 35\n101 8192 35\n"
    why = "device DMA: buffer given after the instant"
    assert given_later(buffers_since(text, 100)) == [Bytes(8192, 8192 + 35, why)]


def test_queues_that_are_not_set_up_are_left_out() -> None:
    def ask(command: str, **arguments: object) -> object:
        if command == "x-query-virtio":
            return [{"path": "/machine/a", "name": "virtio-a"}]
        if command == "x-query-virtio-status":
            return {"num-vqs": 2}
        desc = 0x1000 if arguments["queue"] else 0
        names = ("vring-num", "vring-avail", "vring-used")
        return {**dict.fromkeys(names, 8), "vring-desc": desc}

    assert [queue["number"] for queue in ask_queues(ask)] == [1]


# ---- cores ----


def _core(path: Path, pages: dict[int, bytes]) -> Core:
    ehdr = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 4, 62, 1, 0, 64, 0, 0, 64, 56, len(pages), 0, 0, 0
    )
    headers, data = b"", b""
    for index, (pfn, content) in enumerate(pages.items()):
        offset = PAGE * (index + 1)
        headers += struct.pack("<IIQQQQQQ", 1, 7, offset, 0, pfn * PAGE, PAGE, PAGE, 0)
        data += content.ljust(PAGE, b"\0")
    path.write_bytes((ehdr + headers).ljust(PAGE, b"\0") + data)
    return Core(path)


def test_core(tmp_path: Path) -> None:
    note = struct.pack("<III", 11, 24, 0) + b"VMCOREINFO\0\0" + b"OSRELEASE=6.1.0-9-amd64\n"
    core = _core(tmp_path / "core", {3: b"a", 7: bytes(100) + note})
    assert core.page(3)[:1] == b"a"
    assert core.vmcoreinfo() == b"OSRELEASE=6.1.0-9-amd64\n"
    with pytest.raises(CoreError, match="no memory at 0x4000"):
        core.page(4)
    with pytest.raises(CoreError, match="no VMCOREINFO"):
        _core(tmp_path / "other", {3: b"a"}).vmcoreinfo()


def test_registers_of_a_core(tmp_path: Path) -> None:
    path = tmp_path / "core"
    status = struct.pack("<112x27Q8x", *range(27))
    foreign = struct.pack("<III8s8x", 5, 8, 1, b"QEMU")
    notes = foreign + struct.pack("<III8s", 5, len(status), 1, b"CORE") + status
    ident = b"\x7fELF\2\1\1"
    ehdr = struct.pack("<16sHHIQQQIHHHHHH", ident, 4, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    path.write_bytes(ehdr + struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(notes), 0, 4) + notes)
    assert Core(path).cpus == [Cpu(rip=16, rsp=19)]
    for data in (b"text", ehdr[:40]):
        path.write_bytes(data)
        with pytest.raises(CoreError, match="is no ELF file, or damaged"):
            Core(path)


def test_pages_that_differ(tmp_path: Path) -> None:
    one = _core(tmp_path / "one", {3: b"abcd", 7: b"x"})
    other = _core(tmp_path / "other", {3: b"aXcY", 7: b"x"})
    assert list(differing(one, other, range(3, 4))) == [3]
    assert list(differing(one, other, range(7, 8))) == []
    assert differing_bytes(one.page(3), other.page(3)) == range(1, 4)


# ---- verdicts ----


def _verdict(**fields: object) -> Verdict:
    verdict = Verdict(
        pages=Counter({"slab": 60, "live": 40}), changed=Counter({"slab": 5, "live": 40})
    )
    for name, value in fields.items():
        setattr(verdict, name, value)
    return verdict


def _outcome(verdict: Verdict, mutant: str = "", torn: int = 0, said: str = "complete") -> Outcome:
    guest = {"torn_rows": torn, "wrong_pages": 0, "verdict": said}
    return Outcome(Case(mutant=mutant), verdict.to_dict(), guest, {})


def test_only_covered_pages_count_as_changed() -> None:
    assert _verdict().changed_covered == 5
    assert _verdict().counts
    assert not _verdict(changed=Counter({"slab": 4, "live": 40})).counts


@pytest.mark.parametrize(
    "outcome",
    [
        _outcome(_verdict(unexplained_pages=1)),
        _outcome(_verdict(lost=1)),
        _outcome(_verdict(problems=["x"])),
        _outcome(_verdict(changed=Counter())),
        _outcome(_verdict(), torn=1),
        _outcome(_verdict(), said="unproven"),
        _outcome(_verdict(), mutant="flush"),
        Outcome(Case(), {}, {}, {}, "VmError: x"),
        Outcome(Case(mutant="flush"), {}, {}, {}, "VmError: x"),
    ],
)
def test_what_must_fail(outcome: Outcome) -> None:
    assert not outcome.ok


@pytest.mark.parametrize(
    "outcome",
    [
        _outcome(_verdict()),
        _outcome(_verdict(unexplained_pages=1), mutant="flush"),
        _outcome(_verdict(), mutant="flush", torn=1),
    ],
)
def test_what_must_pass(outcome: Outcome) -> None:
    assert outcome.ok


def test_plan() -> None:
    names = [case.name for case in [*matrix(("6.1", "6.12"), ("eager", "lazy"))]]
    assert len(set(names)) == 20
    assert sum("init_on_alloc=0" in name for name in names) == 4
    assert sum("balloon" in name for name in names) == 4
    assert sum("preempt=full" in name for name in names) == 4
    cases = list(mutants("6.1", ("eager", "lazy")))
    assert [case.parameters() for case in cases if case.strategy == "eager"][:2] == [
        ["delay_us=" + ",".join(map(str, ALL_DELAYS))],
        ["mutant=flush"],
    ]
    assert {case.mutant for case in cases if case.strategy == "lazy"} == {
        "",
        *(mutant.name for mutant in MUTANTS),
    }
