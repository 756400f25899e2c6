"""Names of hot pages: which dump may name them, and where the names go."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from livedump.analysis import annotate as module
from livedump.analysis.annotate import AnnotateError, annotate
from livedump.cli.common import command_main
from livedump.cli.trace.main import cli
from livedump.dump import open_image
from livedump.dump.pages import PageName
from livedump.errors import LivedumpError
from livedump.recording import store
from livedump.recording.schema import Row
from livedump.recording.store import Recording, write
from tests.unit import images, samples


class FakeNamer:
    """Every second page is a slab's."""

    def __init__(self, program: object) -> None:
        self.program = program

    def name(self, pfn: int) -> PageName:
        """By its number."""
        return PageName("slab", "dentry: struct dentry") if pfn % 2 else PageName("free", "")


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """The sample."""
    return store.read(samples.write(tmp_path / "r"))


@pytest.fixture
def vmcore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dump of the snapshot in the sample, which drgn is not asked about."""
    monkeypatch.setattr(module, "Namer", FakeNamer)
    monkeypatch.setattr(module, "open_program", lambda image, symbols: (image, symbols))
    return write_image(tmp_path / "vmcore", samples.INSTANT_NS)


def write_image(path: Path, instant_ns: int) -> Path:
    """A dump taken then."""
    values = {**images.report(), "instant_monotonic_ns": instant_ns}
    ram = [images.Segment(0, bytes(4096)), images.Segment(0x100000, b"K" * 8192)]
    path.write_bytes(images.build(ram, values=values))
    return path


def test_names_stay_in_the_recording(recording: Recording, vmcore: Path) -> None:
    assert recording.path
    with open_image(vmcore) as image:
        recording.meta["kernel"]["release"] = image.release
    found = annotate(recording, vmcore, Path("vmlinux"))
    assert found.remark == ""
    assert [(row["pfn"], row["was"]) for row in found.pages] == [
        (0x1234, "free"),
        (0x1235, "slab"),
        (0x1236, "free"),
    ]
    assert found.by_name == [
        {"was": "free", "name": "", "pages": 2, "count": 4, "stalled_ns": 12_000},
        {
            "was": "slab",
            "name": "dentry: struct dentry",
            "pages": 1,
            "count": 2,
            "stalled_ns": 6000,
        },
    ]
    again = store.read(recording.path).tables["pages"]
    assert [row["name"] for row in again] == ["", "dentry: struct dentry", ""]


def test_losses_are_in_every_output(vmcore: Path, tmp_path: Path) -> None:
    def printed(name: str, losses: list[Row], *options: str) -> str:
        with open_image(vmcore) as image:
            kernel = {**samples.meta()["kernel"], "release": image.release}
        folder = tmp_path / name
        tables = {**samples.tables(), "losses": losses}
        write(folder, {**samples.meta(), "kernel": kernel}, tables, force=True)
        files = ("--vmcore", str(vmcore), "--vmlinux", str(vmcore))
        with pytest.raises(SystemExit) as status, redirect_stdout(io.StringIO()) as out:
            command_main(cli, ["annotate", str(folder), *files, *options])
        assert status.value.code == 0
        return out.getvalue()

    full = {"probe": "cow", "what": "page table full", "count": 9}
    lost = {"probe": "user", "what": "entry without exit", "count": 2}
    listed = "0 events have no stack; 9 not listed by task, page or time; "
    assert printed("a", [full]).startswith(f"{listed}0 events lost\n")
    assert printed("b", [full, lost]).startswith(f"LOST: {listed}2 events lost\n")
    assert printed("c", []).startswith("What the 3 pages were")
    data = json.loads(printed("b", [full, lost], "--json"))
    assert (data["losses_total"], data["events_lost"]) == (11, 2)
    assert len(data["pages"]) == 3


def test_dump_of_another_snapshot_is_remarked(
    recording: Recording, vmcore: Path, tmp_path: Path
) -> None:
    other = write_image(tmp_path / "other", samples.INSTANT_NS + 1)
    with open_image(other) as image:
        recording.meta["kernel"]["release"] = image.release
    assert "not in the recording" in annotate(recording, other, Path("vmlinux")).remark
    assert recording.path
    assert not any(row["was"] for row in store.read(recording.path).tables["pages"])


def test_other_kernel_and_nothing_to_name(recording: Recording, vmcore: Path) -> None:
    recording.meta["kernel"]["release"] = "5.4.0-old"
    with pytest.raises(AnnotateError, match="the recording of 5.4.0-old"):
        annotate(recording, vmcore)
    recording.tables["pages"].clear()
    with pytest.raises(AnnotateError, match="no copy-on-write faults"):
        annotate(recording, vmcore)


def test_what_is_no_dump(
    recording: Recording, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("no dump")
    with pytest.raises(LivedumpError):
        annotate(recording, tmp_path / "text")
    with pytest.raises(SystemExit) as status:
        command_main(cli, ["annotate", str(recording.path), "--vmcore", str(tmp_path / "text")])
    assert status.value.code == 1
    assert "livedump-trace: error: " in capfd.readouterr().err
