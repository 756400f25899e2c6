"""Where exports and pages are written, and what is never written over.

No test names a real device: what they are to be written to is a pipe or a terminal of their own.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from livedump.analysis import dataset
from livedump.analysis.files import ExportError, write_file
from livedump.recording import store
from tests.unit import samples


def write(file: Path, content: str | bytes = b"new") -> None:
    """Write *file* as an export is written."""
    write_file(file, content, step="export")


def test_a_new_file_is_its_owner_s_only(tmp_path: Path) -> None:
    write(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_old_file_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("something longer")
    (tmp_path / "x").chmod(0o664)
    write(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o664


def test_what_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    (tmp_path / "x").write_text("old")
    with pytest.raises(ExportError, match="x: No space left on device"):
        write_file(tmp_path / "x", parts(), step="export")
    assert (tmp_path / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_symbolic_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_text("old")
    for name, points_to in (("link", "folder/x"), ("dangling", "folder/y")):
        (tmp_path / name).symlink_to(points_to)
        write(tmp_path / name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / points_to).read_bytes() == b"new"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ExportError, match="symbolic links"):
        write(tmp_path / "loop")


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write(tmp_path / "pipe")
    reader.join(10)
    assert read == [b"new"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_device_is_written_to(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    (tmp_path / "tty").symlink_to(os.ttyname(theirs))
    write(tmp_path / "tty")
    assert os.read(ours, 10) == b"new"
    assert stat.S_ISCHR((tmp_path / "tty").stat().st_mode)
    os.close(ours)
    os.close(theirs)


def test_standard_output_may_be_named(tmp_path: Path) -> None:
    """What was in the file and what comes later is kept."""
    code = (
        "from pathlib import Path\n"
        "from livedump.analysis.files import write_file\n"
        "print('before')\n"
        "write_file(Path('/dev/stdout'), 'new\\n', step='export')\n"
        "print('after')\n"
    )
    out = tmp_path / "out"
    out.write_text("old\n")
    with out.open("a") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True, timeout=60)
    assert out.read_text() == "old\nbefore\nnew\nafter\n"


@pytest.mark.parametrize("name", ["meta.json", "stacks.parquet", "report.html"])
@pytest.mark.parametrize("damaged", [False, True])
def test_nothing_is_written_into_a_recording(tmp_path: Path, name: str, damaged: bool) -> None:
    folder = samples.write(tmp_path / "rec")
    if damaged:
        meta = (folder / "meta.json").read_text()
        (folder / "meta.json").write_text(meta[: len(meta) // 2])
    before = {path: path.read_bytes() for path in folder.iterdir()}
    (tmp_path / "link").symlink_to(folder / name)
    (tmp_path / "folder").symlink_to(folder)
    for target in (folder / name, tmp_path / "link", tmp_path / "folder" / name):
        with pytest.raises(ExportError, match="into the recording"):
            write(target)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_link_of_a_recording_is_not_replaced_either(tmp_path: Path) -> None:
    """A table may be kept elsewhere, behind a link."""
    folder = samples.write(tmp_path / "rec")
    (folder / "stacks.parquet").rename(tmp_path / "kept")
    (folder / "stacks.parquet").symlink_to(tmp_path / "kept")
    with pytest.raises(ExportError, match="into the recording"):
        write(folder / "stacks.parquet")


def test_a_data_set_is_no_recording(tmp_path: Path) -> None:
    folder = samples.write(tmp_path / "rec")
    with pytest.raises(ExportError, match="into the recording"):
        dataset.add(folder, folder)
    assert store.read(folder).tables["stacks"]
    assert all(path.is_file() for path in folder.iterdir())


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="Is a directory"):
        write(tmp_path)
