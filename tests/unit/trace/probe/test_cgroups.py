"""Cgroups by number: folders of a real file system have such numbers, too."""

from __future__ import annotations

import os
from pathlib import Path

from livedump.trace.probe.cgroups import Cgroups


def mounted(path: Path) -> Cgroups:
    """With version 2 there."""
    (path / "system.slice" / "nginx.service").mkdir(parents=True)
    mounts = path / "mounts"
    mounts.write_text(f"proc /proc proc rw 0 0\nnone {path} cgroup2 rw,nosuid 0 0\n")
    return Cgroups(mounts)


def test_names_as_proc_has_them(tmp_path: Path) -> None:
    cgroups = mounted(tmp_path)
    service = tmp_path / "system.slice" / "nginx.service"
    numbers = [folder.stat().st_ino for folder in (tmp_path, service)]
    assert cgroups.names(numbers) == dict(
        zip(numbers, ("/", "/system.slice/nginx.service"), strict=True)
    )


def test_what_was_found_stays_known(tmp_path: Path) -> None:
    cgroups = mounted(tmp_path)
    service = tmp_path / "system.slice" / "nginx.service"
    number = service.stat().st_ino
    assert cgroups.names([number, 1 << 60]) == {
        number: "/system.slice/nginx.service",
        1 << 60: "",
    }
    service.rmdir()
    assert cgroups.names([number])[number] == "/system.slice/nginx.service"


def test_machine_without_version_2(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text("proc /proc proc rw 0 0\n")
    assert Cgroups(tmp_path / "mounts").names([1]) == {1: ""}


def test_names_and_mounts_that_are_not_utf_8(tmp_path: Path) -> None:
    """Whoever may make a cgroup, or mount something, chooses the bytes."""
    root = os.fsencode(tmp_path) + b"/c groups"
    folder = root + b"/m\xfcller.scope"
    os.makedirs(folder)
    mounts = tmp_path / "mounts"
    listed = root.replace(b" ", rb"\040")
    mounts.write_bytes(b"none /mnt/m\xfcller tmpfs rw 0 0\nnone " + listed + b" cgroup2 rw 0 0\n")
    number = os.stat(folder).st_ino
    assert Cgroups(mounts).names([number]) == {number: "/m\ufffdller.scope"}
