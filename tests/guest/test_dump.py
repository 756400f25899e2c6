"""A dump for the host's crash and drgn, and the live image for the guest's own drgn."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from livedump import abi
from livedump.control import Control
from livedump.dump import open_image
from livedump.session import Session
from livedump.units import format_bytes
from tools.guest import witness
from tools.guest.program import Load

LIVEDUMP = ["livedump"]
PR_PID_AT = 32  # in struct elf_prstatus


def test_image_reports_its_size() -> None:
    with Session(pool_bytes=256 << 20) as session:
        size = os.fstat(session.fd).st_size
        with open_image(abi.IMAGE_PATH) as image:
            assert size == image.layout.end
            assert image.cpus == os.cpu_count()
        assert os.stat(abi.IMAGE_PATH).st_mode & 0o7777 == 0o400
    assert os.stat(abi.IMAGE_PATH).st_size == 0


def test_cpus_are_told_apart() -> None:
    """By pr_pid, as crash does; and the kernel's text comes behind all RAM."""
    with Session(pool_bytes=256 << 20), open_image(abi.IMAGE_PATH) as image:
        status = [note.desc for note in image.layout.notes if note.name == "CORE"]
        text, ram = image.ranges[-1], image.ram
    assert [struct.unpack_from("<i", desc, PR_PID_AT)[0] for desc in status] == [
        cpu + 1 for cpu in range(os.cpu_count() or 1)
    ]
    assert [item.paddr for item in ram] == sorted(item.paddr for item in ram)
    assert any(
        item.paddr <= text.paddr and text.paddr - item.paddr == text.offset - item.offset
        for item in ram
    )


def test_the_doctor_asks_the_module() -> None:
    checks = json.loads(run("doctor", "--json").stdout)["checks"]
    found = {check["name"]: check for check in checks}
    assert found["machine"]["message"] == "the module refuses nothing about it"
    with Control() as control:
        pool = control.status().default_pool
    assert f"the default pool takes {format_bytes(pool)}" in found["memory"]["message"]


def test_drgn_opens_the_live_image() -> None:
    code = (
        "import drgn\n"
        "prog = drgn.Program()\n"
        f"prog.set_core_dump({abi.IMAGE_PATH!r})\n"
        "assert prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL\n"
        "assert not prog.flags & drgn.ProgramFlags.IS_LIVE\n"
        "print(prog['UTS_RELEASE'].string_().decode())\n"
    )
    with Session(pool_bytes=256 << 20):
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == os.uname().release, result.stderr


def test_crash_knows_the_live_image() -> None:
    with Session(pool_bytes=256 << 20):
        result = subprocess.run(
            ["crash", "--osrelease", abi.IMAGE_PATH], capture_output=True, text=True
        )
    assert result.stdout.strip() == os.uname().release, result.stderr


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, as an operator types it."""
    return subprocess.run([*LIVEDUMP, *arguments], capture_output=True, text=True)


def test_command_snapshot_and_dump_in_one(tmp_path: Path) -> None:
    ready = run("doctor", "--module", f"{os.environ['LIVEDUMP_KO']}/livedump.ko")
    assert ready.returncode == 0, ready.stdout
    disk = os.environ["LIVEDUMP_DISK"]
    done = run("snapshot", "--dump", disk, "--json")
    assert done.returncode == 0, done.stderr
    info = run("info", disk, "--json")
    assert info.returncode == 0, info.stderr
    assert json.loads(info.stdout)["verdict"] == "complete"
    with open(disk, "rb") as image:
        head = image.read(4 << 20)
    (tmp_path / "truncated").write_bytes(head)
    (tmp_path / "foreign").write_bytes(Path(sys.executable).read_bytes()[:65536])
    for name, word in (("truncated", "truncated"), ("foreign", "livedump")):
        refused = run("info", str(tmp_path / name))
        assert refused.returncode == 1
        assert word in refused.stderr


@pytest.mark.smoke
def test_dump_under_load(load: Load, writers: None, artefacts: Path) -> None:
    """Leaves the dump on the shared disk, and beside it what the witness saw in the stop.

    The last one to write to that disk.
    """
    disk = os.environ["LIVEDUMP_DISK"]
    witness.forget()
    with Session() as session:
        tasks = witness.tasks()
        result = session.dump(disk)
        assert result.complete
    with open_image(disk) as image:
        assert image.verdict is abi.Verdict.COMPLETE
        assert image.release == os.uname().release
        rows = witness.image_values(image)
        assert witness.torn_rows(rows) == 0
        assert witness.wrong_pages(rows) == 0
        assert image.report["pages_lost"] == 0
        assert image.report["faults"] > 0
    assert len(tasks) > 20
    vmcore = artefacts / "vmcore"
    vmcore.unlink(missing_ok=True)
    vmcore.symlink_to(os.environ["LIVEDUMP_DISK_FILE"])
    (artefacts / "tasks.json").write_text(json.dumps(tasks))
    (artefacts / "dump.json").write_text(json.dumps(result.to_dict(), default=str))


def test_commands_snapshot_dump_release() -> None:
    """As an operator would: three commands, each with its own process."""
    taken = run("snapshot", "--json", "--pool", "256M")
    assert taken.returncode == 0, taken.stderr
    status = run("status", "--json")
    assert json.loads(status.stdout)["state"] == "holding"
    refused = run("load")
    assert refused.returncode == 0, "loading twice is fine"
    full = run("dump", "/dev/full")
    assert full.returncode == 1
    assert "livedump: error:" in full.stderr
    released = run("release", "--json")
    assert released.returncode == 0, released.stderr
    again = run("release")
    assert again.returncode == 1
    assert "no snapshot" in again.stderr
