"""The dump writer and the image parser, on images that tests build."""

from __future__ import annotations

import errno
import os
import re
import resource
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from livedump import abi
from livedump.cli.dump import render_info
from livedump.dump import DumpResult, amend, kernel_release, open_image, write
from livedump.dump import writer as writer_module
from livedump.dump.image import check_whole
from livedump.errors import (
    AbiError,
    DumpError,
    ForeignImageError,
    ImageError,
    LivedumpError,
    NotLoadedError,
    TruncatedImageError,
)
from tests.unit import images

RAM = os.urandom(3 << 20)
TEXT = RAM[0x10000:0x14000]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An image as /proc/livedump would show it, verdict pending."""
    path = tmp_path / "proc"
    path.write_bytes(make())
    return path


def make(**values: int) -> bytes:
    """An image of 3 MiB RAM whose kernel text lies inside."""
    segments = [images.Segment(0, RAM), images.Segment(0x10000, TEXT, 0xFFFFFFFF81000000)]
    return images.build(segments, values=images.report(**values))


def dump(source: Path, target: object, **options: Any) -> DumpResult:
    """write() with a module that holds the snapshot all the time."""
    options.setdefault("status", images.report)
    return write(target, source=str(source), **options)  # type: ignore[arg-type]


def reports(*values: abi.ReportDict) -> Callable[[], abi.ReportDict]:
    """A status that answers *values* one after the other."""
    queue = list(values)
    return lambda: queue.pop(0)


def test_dump_is_the_image_with_the_final_receipt(source: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    target = tmp_path / "vmcore"
    final = images.report(pages_saved_fault=4711)
    result = dump(
        source,
        target,
        status=reports(images.report(), final),
        progress=lambda done, total: seen.append((done, total)),
    )
    size = source.stat().st_size
    assert result.complete and result.verdict == "complete"
    assert result.written_bytes == size == target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert seen[0] == (0, size) and seen[-1] == (size, size) and seen == sorted(seen)
    with open_image(target) as image, open_image(source) as live:
        assert image.verdict is abi.Verdict.COMPLETE
        assert image.report["pages_saved_fault"] == 4711
        offset = image.layout.report_offset
        assert live.verdict is abi.Verdict.PENDING
    before, after = source.read_bytes(), target.read_bytes()
    assert before[:offset] == after[:offset]
    assert before[offset + abi.REPORT_BYTES :] == after[offset + abi.REPORT_BYTES :]
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({"pages_lost": 1}, "lost"),
        ({"hooks_missed": 1}, "unproven"),
        ({"pages_lost": 2, "hooks_missed": 1}, "lost"),
    ],
)
def test_verdict_is_decided_by_the_last_status(
    source: Path, tmp_path: Path, values: dict[str, int], verdict: str
) -> None:
    """Counters that move while the dump runs decide, not those from before."""
    status = reports(images.report(), images.report(**values))
    result = dump(source, tmp_path / "vmcore", status=status)
    assert result.verdict == verdict and not result.complete
    with open_image(tmp_path / "vmcore") as image:
        assert image.verdict.name.lower() == verdict


@pytest.mark.parametrize(
    "last",
    [
        images.report(state=int(abi.State.IDLE)),
        images.report(state=int(abi.State.RELEASING)),
        images.report(instant_monotonic_ns=1),
    ],
)
def test_a_snapshot_released_meanwhile_fails(
    source: Path, tmp_path: Path, last: abi.ReportDict
) -> None:
    with pytest.raises(DumpError, match="released while"):
        dump(source, tmp_path / "vmcore", status=reports(images.report(), last))
    assert sorted(tmp_path.iterdir()) == [source]


def test_nothing_held(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DumpError, match="no snapshot is held") as caught:
        dump(source, tmp_path / "vmcore", status=abi.empty_report)
    assert "livedump snapshot" in caught.value.remedy
    assert sorted(tmp_path.iterdir()) == [source]


def test_module_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(NotLoadedError, match="livedump load"):
        dump(tmp_path / "absent", tmp_path / "vmcore")


def test_image_of_another_snapshot(source: Path, tmp_path: Path) -> None:
    source.write_bytes(make(instant_monotonic_ns=99))
    with pytest.raises(DumpError, match="another snapshot"):
        dump(source, tmp_path / "vmcore")


def test_existing_file_needs_force(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "vmcore"
    target.write_text("precious")
    with pytest.raises(DumpError, match="exists.*--force"):
        dump(source, target)
    assert target.read_text() == "precious"
    assert dump(source, target, force=True).complete
    assert open_image(target).verdict is abi.Verdict.COMPLETE


def test_partial_of_another_dump_needs_force(source: Path, tmp_path: Path) -> None:
    partial = tmp_path / "vmcore.partial"
    partial.write_text("running")
    with pytest.raises(DumpError, match="running or was killed"):
        dump(source, tmp_path / "vmcore")
    assert partial.read_text() == "running"
    assert dump(source, tmp_path / "vmcore", force=True).complete
    assert not partial.exists()


def test_disk_full(source: Path) -> None:
    with pytest.raises(DumpError, match="No space left.*Free some space"):
        dump(source, "/dev/full")


def test_a_file_that_may_not_be_so_large(source: Path, tmp_path: Path) -> None:
    """FAT, or `ulimit -f`: space is not what lacks."""
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, allowed[1]))
    try:
        with pytest.raises(DumpError, match="File too large.*ulimit -f"):
            dump(source, tmp_path / "vmcore")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)


def test_disk_full_half_way(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC in the middle: the error says so and nothing stays behind."""
    real = os.pwritev

    def full(fd: int, buffers: list[Any], offset: int) -> int:
        if offset >= writer_module.BUFFER_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(DumpError, match="No space left"):
        dump(source, tmp_path / "vmcore")
    assert sorted(tmp_path.iterdir()) == [source]


def failing_once(real: Callable[[int], None]) -> Callable[[int], None]:
    """A sync whose writeback failed: like the kernel it says so to one caller only."""
    errors = [OSError(errno.EIO, os.strerror(errno.EIO))]

    def sync(fd: int) -> None:
        real(fd)
        if errors:
            raise errors.pop()

    return sync


@pytest.mark.parametrize("name", ["fdatasync", "fsync"])
def test_a_writeback_error_is_not_forgotten(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(os, name, failing_once(getattr(os, name)))
    monkeypatch.setattr(writer_module, "_SYNC_EVERY_BYTES", 1 << 20)
    with pytest.raises(DumpError, match="write dump: .*vmcore: Input/output error"):
        dump(source, tmp_path / "vmcore", direct=False)
    assert sorted(tmp_path.iterdir()) == [source]


def test_the_cache_is_only_advised(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    monkeypatch.setattr(writer_module, "_SYNC_EVERY_BYTES", 1 << 20)
    assert dump(source, tmp_path / "vmcore", direct=False).complete


def test_amend(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the receipt changes, and it is on the disk when amend() returns."""
    target = tmp_path / "vmcore"
    dump(source, target)
    before = target.read_bytes()
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(target.read_bytes()))
    final = images.report(state=0, entries_late=2, release_ns=9, verdict=3)
    amend(target, final)
    after = target.read_bytes()
    assert synced == [after]
    with open_image(target) as image:
        assert image.verdict is abi.Verdict.UNPROVEN
        assert image.report == final
        offset = image.layout.report_offset
    end = offset + abi.REPORT_BYTES
    assert before[:offset] == after[:offset] and before[end:] == after[end:]


def test_amend_failures_say_what_is_true(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "vmcore"
    dump(source, target)
    final = images.report(verdict=3, entries_late=2)
    with pytest.raises(DumpError, match="No such file.* after release it is 'unproven'"):
        amend(tmp_path / "absent", final)
    with pytest.raises(DumpError, match="another snapshot.*Do not trust the verdict"):
        amend(target, images.report(instant_monotonic_ns=1))
    monkeypatch.setattr(os, "fsync", failing_once(os.fsync))
    with pytest.raises(DumpError, match="amend dump: .*Input/output error.*Do not trust"):
        amend(target, final)
    target.write_bytes(b"nonsense")
    with pytest.raises(DumpError, match="not a livedump image"):
        amend(target, final)
    assert target.read_bytes() == b"nonsense"


def test_amend_leaves_character_devices_alone() -> None:
    amend("/dev/null", images.report())


def test_no_room_is_said_before_the_first_byte(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fstatvfs(os.open(tmp_path, os.O_RDONLY))
    small = type(real)((*real[:4], 1, *real[5:]))
    monkeypatch.setattr(os, "fstatvfs", lambda fd: small)
    with pytest.raises(DumpError, match="has room for .*, the dump needs 3.0 MiB"):
        dump(source, tmp_path / "vmcore")
    assert sorted(tmp_path.iterdir()) == [source]


def test_short_read(source: Path, tmp_path: Path) -> None:
    source.write_bytes(make()[:-5000])
    with pytest.raises(DumpError, match="the image ends at byte"):
        dump(source, tmp_path / "vmcore")
    assert sorted(tmp_path.iterdir()) == [source]


def test_read_error(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, buffers: list[Any], offset: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(DumpError, match="read image: byte 0 .*Input/output error"):
        dump(source, tmp_path / "vmcore")
    assert sorted(tmp_path.iterdir()) == [source]


def test_interrupt_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dump(source, tmp_path / "vmcore", progress=interrupt)
    assert sorted(tmp_path.iterdir()) == [source]


def test_partial_name_while_writing(source: Path, tmp_path: Path) -> None:
    """Until it is done the file has no final name and says pending."""
    target = tmp_path / "vmcore"

    def look(done: int, total: int) -> None:
        assert not target.exists()
        assert stat.S_IMODE((tmp_path / "vmcore.partial").stat().st_mode) == 0o600

    assert dump(source, target, progress=look).complete


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_other_kinds_of_files_are_refused(source: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    target.mkdir() if kind == "directory" else os.mkfifo(target)
    with pytest.raises(DumpError, match="neither a regular file nor a device"):
        dump(source, target)


def test_descriptor_is_written_as_it_is(source: Path, tmp_path: Path) -> None:
    with open(tmp_path / "out", "w+b") as file:
        assert dump(source, file.fileno()).complete
        assert open_image(tmp_path / "out").verdict is abi.Verdict.COMPLETE
        file.write(b"still open")


@pytest.mark.parametrize("direct", [True, False])
def test_without_direct_io_the_bytes_are_the_same(
    source: Path, tmp_path: Path, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that refuses O_DIRECT at the first write only (some do)."""
    real = os.pwritev

    def picky(fd: int, buffers: list[Any], offset: int) -> int:
        import fcntl

        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", picky)
    monkeypatch.setattr(writer_module, "_SYNC_EVERY_BYTES", 1 << 20)
    result = dump(source, tmp_path / "vmcore", direct=direct)
    assert result.complete and not result.direct
    with open_image(tmp_path / "vmcore") as image:
        assert image.read(0, len(RAM)) == RAM


def test_tail_that_is_no_whole_block(tmp_path: Path) -> None:
    source = tmp_path / "proc"
    source.write_bytes(images.build([images.Segment(0, RAM[:-1001])]))
    assert dump(source, tmp_path / "vmcore").complete
    with open_image(tmp_path / "vmcore") as image:
        assert image.read(0, len(RAM) - 1001) == RAM[:-1001]
    assert (tmp_path / "vmcore").stat().st_size == source.stat().st_size


def test_read_crosses_ranges_and_fills_zeros(tmp_path: Path) -> None:
    path = tmp_path / "image"
    segments = [
        images.Segment(0x1000, b"a" * 4096),
        images.Segment(0x2000, b"b" * 4096, mem_bytes=8192),
        images.Segment(0x9000, b"c" * 4096),
    ]
    path.write_bytes(images.build(segments, values=images.report(verdict=1)))
    with open_image(path) as image:
        assert image.read(0x1FFE, 4) == b"aabb"
        assert image.read(0x2FFF, 3) == b"b\0\0"
        assert image.read(0x3000, 4096) == bytes(4096)
        assert image.read(0x9000, 0) == b""
        for paddr, size in ((0, 1), (0x4000, 1), (0x3FFF, 2), (0x9FFF, 2)):
            with pytest.raises(ImageError, match="no memory at"):
                image.read(paddr, size)
        assert image.cpus == 2
        assert image.release == "6.1.0-56-amd64"
        assert image.vmcoreinfo["SYMBOL(_stext)"] == "ffffffff81000000"
        assert len(image.ranges) == 3
        assert image.report["stop_ns"] == 3_100_000


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (b"KDUMP   ", "a kdump-compressed file. crash and drgn open it"),
        (b"makedumpfile\0\0\0\0", "a flattened file of makedumpfile. Run: makedumpfile -R"),
        (b"\x1f\x8b\x08", "compressed with gzip. Run: gzip -d"),
        (b"\xfd7zXZ\0", "compressed with xz. Run: xz -d"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd. Run: zstd -d"),
        (b"#!/bin/sh", "no ELF file"),
    ],
)
def test_what_else_a_file_is(tmp_path: Path, begin: bytes, words: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(begin + bytes(100))
    for look in (open_image, check_whole, kernel_release):
        with pytest.raises(ForeignImageError, match=words):
            look(path)


def test_a_core_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "image"
    whole = images.build([images.Segment(0, RAM)], values=images.report(verdict=1))
    path.write_bytes(whole)
    check_whole(path)
    path.write_bytes(whole[:-1])
    assert kernel_release(path)
    with pytest.raises(TruncatedImageError, match=f"{len(whole) - 1:,} of {len(whole):,} bytes"):
        check_whole(path)


def test_pages_that_somebody_took_out(tmp_path: Path) -> None:
    """As makedumpfile -d does: our note is still there."""
    path = tmp_path / "image"
    segments = [images.Segment(0, RAM), images.Segment(1 << 30, b"", mem_bytes=3 * 4096)]
    text = images.Segment(2 << 30, b"t" * 4096)
    path.write_bytes(images.build([*segments, text], values=images.report(verdict=1)))
    with open_image(path) as image:
        assert image.verdict is abi.Verdict.COMPLETE and not image.is_complete
        assert image.to_dict()["complete"] is False
        assert image.layout.left_out == 3 * 4096
        text_ = render_info(image, full=False)
    assert f"FILTERED: 3 pages were taken out of this file, {len(RAM) // 4096:,} are in it" in text_


def test_many_ranges_use_the_extended_count(tmp_path: Path) -> None:
    """More than 65534 program headers: e_phnum is PN_XNUM, section header 0 has the number."""
    data = bytearray(images.build([images.Segment(0, RAM[:4096])]))
    struct.pack_into("<H", data, 56, 0xFFFF)
    struct.pack_into("<Q", data, 40, len(data))
    data += struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 2, 0, 0)
    path = tmp_path / "image"
    path.write_bytes(data)
    assert open_image(path).read(0, 4096) == RAM[:4096]


def patched(offset: int, data: bytes) -> bytes:
    """The image with some bytes replaced."""
    image = bytearray(make())
    image[offset : offset + len(data)] = data
    return bytes(image)


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"", TruncatedImageError, "empty"),
        (b"#!/bin/sh\n" * 100, ForeignImageError, "no ELF file"),
        (make()[:40], TruncatedImageError, "the ELF header"),
        (make()[:100], TruncatedImageError, "the program headers"),
        (make()[:600], TruncatedImageError, "the notes"),
        (make()[:-1], TruncatedImageError, "truncated: .* has 3,"),
        (patched(4, b"\x01"), ForeignImageError, "not for x86-64"),
        (patched(18, b"\xb7"), ForeignImageError, "not for x86-64"),
        (patched(16, b"\x02"), ForeignImageError, "no core"),
        (patched(54, b"\x20"), ForeignImageError, "program headers of 32"),
        (patched(56, b"\0\0"), ForeignImageError, "0 program headers"),
        (patched(64, b"\x01"), ForeignImageError, "no PT_NOTE"),
        (patched(64 + 56, b"\x04"), ForeignImageError, "not only one"),
        (
            images.build([images.Segment(0, RAM[:4096])], with_report=False),
            ForeignImageError,
            "without a LIVEDUMP note",
        ),
    ],
)
def test_files_that_are_no_image(
    tmp_path: Path, data: bytes, kind: type[LivedumpError], words: str
) -> None:
    path = tmp_path / "image"
    path.write_bytes(data)
    with pytest.raises(kind, match=words):
        open_image(path)


@pytest.mark.parametrize("value", [(1 << 64) - 64, (1 << 63) - 8, 1 << 63, 1 << 40])
@pytest.mark.parametrize(
    ("offset", "kind", "words"),
    [
        (32, "Foreign|Truncated", "the program headers"),  # e_phoff
        (64 + 8, "Foreign|Truncated", "the notes"),  # p_offset of the PT_NOTE
        (64 + 32, "Foreign", "bytes of notes"),  # p_filesz of the PT_NOTE
        (64 + 56 + 8, "Truncated", "truncated: "),  # p_offset of a PT_LOAD
        (64 + 56 + 32, "Truncated", "truncated: "),  # p_filesz of a PT_LOAD
    ],
)
def test_damaged_offsets(tmp_path: Path, offset: int, kind: str, words: str, value: int) -> None:
    path = tmp_path / "image"
    path.write_bytes(patched(offset, struct.pack("<Q", value)))
    with pytest.raises(ImageError, match=words) as caught:
        open_image(path)
    assert re.match(kind, type(caught.value).__name__)
    if value >= (1 << 63) - 8 and offset < 64 + 32:
        assert isinstance(caught.value, ForeignImageError)


@pytest.mark.parametrize("value", [(1 << 64) - 64, (1 << 63) - 8, 1 << 40])
def test_damaged_section_offset(tmp_path: Path, value: int) -> None:
    data = bytearray(make())
    struct.pack_into("<Q", data, 40, value)
    struct.pack_into("<H", data, 56, 0xFFFF)
    (tmp_path / "image").write_bytes(data)
    with pytest.raises((ForeignImageError, TruncatedImageError), match="section header 0"):
        open_image(tmp_path / "image")


@pytest.mark.parametrize("field", [0, 4])
def test_damaged_note_sizes(tmp_path: Path, field: int) -> None:
    notes_at = 64 + 3 * 56
    (tmp_path / "image").write_bytes(patched(notes_at + field, b"\xff" * 4))
    with pytest.raises(ForeignImageError, match="longer than its segment"):
        open_image(tmp_path / "image")


def test_any_damage_of_the_headers_is_our_error(tmp_path: Path) -> None:
    """Whatever eight bytes of the headers say: an image, or one of our errors."""
    intact = images.build([images.Segment(0, RAM[:4096])])
    refused = 0
    for offset in range(0, 64 + 2 * 56 + 32, 4):
        for value in (0, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
            data = bytearray(intact)
            struct.pack_into("<Q", data, offset, value)
            (tmp_path / "image").write_bytes(data)
            try:
                with open_image(tmp_path / "image") as image:
                    image.to_dict()
            except LivedumpError:
                refused += 1
    assert refused > 100


def test_kernel_release_of_any_core(tmp_path: Path) -> None:
    """Also of a dump by another version of livedump, or by another program."""
    path = tmp_path / "image"
    path.write_bytes(make(abi=7))
    assert kernel_release(path) == "6.1.0-56-amd64"
    path.write_bytes(images.build([images.Segment(0, RAM[:4096])], with_report=False))
    assert kernel_release(path) == "6.1.0-56-amd64"
    path.write_bytes(images.build([images.Segment(0, RAM[:4096])], vmcoreinfo="X=1"))
    assert kernel_release(path) == ""
    with pytest.raises(ImageError, match="No such file"):
        kernel_release(tmp_path / "absent")
    with pytest.raises(ImageError, match="directory"):
        kernel_release(tmp_path)
    path.write_bytes(b"nonsense" * 20)
    with pytest.raises(ForeignImageError):
        kernel_release(path)


def test_foreign_abi(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(make(abi=7))
    with pytest.raises(AbiError, match="ABI 7"):
        open_image(path)


def test_absent_and_unknown(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        open_image(tmp_path / "absent")
    (tmp_path / "image").write_bytes(make(verdict=42))
    with pytest.raises(ImageError, match="unknown verdict 42"):
        open_image(tmp_path / "image").verdict
