"""What is made of the output of crash, and what happens when a tool is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from livedump.dump import crash, opened
from livedump.dump.drgn import open_program
from livedump.errors import OpenError
from tests.unit import images

OUTPUT = """\
      KERNEL: vmlinux
       TASKS: 5
     RELEASE: 6.1.0-56-amd64
      PID    PPID  CPU       TASK        ST  %MEM      VSZ      RSS  COMM
>       0       0   0  ffffffffaf61aa40  RU   0.0        0        0  [swapper/0]
        1       0   0  ffff88ac41214200  IN   0.0     2260       80  init
        2       0   1  ffff88ac41212100  IN   0.0        0        0  [kthreadd]
       17       2   0  ffff88ac4127a100  ID   0.0        0        0  [kworker/0:1]
> 4194303       1   1  ffff88ac4127a200  RU  12.5  9999999     9999  a b [x]
PID: 1        TASK: ffff88ac41214200  CPU: 0    COMMAND: "init"
 #0 [ffffccb600013c30] __schedule at ffffffffae65271d
 #1 [ffffccb600013cb8] schedule at ffffffffae652e2a
 #2 [ffffccb600013cd0] do_wait at ffffffffadca6684
"""


def fake_crash(tmp_path: Path, script: str) -> str:
    """A program that behaves like crash would."""
    path = tmp_path / "fake-crash"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def run(program: str, timeout_s: float = 20) -> opened.OpenResult:
    return crash.open_with_crash("vmcore", "vmlinux", program=program, timeout_s=timeout_s)


def test_parse(tmp_path: Path) -> None:
    (tmp_path / "out").write_text(OUTPUT)
    result = run(fake_crash(tmp_path, f"cat {tmp_path}/out"))
    assert result.ok and result.release == "6.1.0-56-amd64" and result.frames == 3
    assert result.tasks == [
        (1, "init"),
        (2, "kthreadd"),
        (17, "kworker/0:1"),
        (4194303, "a b [x]"),
    ]
    assert result.to_dict()["tasks"][0] == [1, "init"]


def test_half_of_it_is_not_ok(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("     RELEASE: 6.1.0\nbt: invalid task or pid value: 1\n")
    result = run(fake_crash(tmp_path, f"cat {tmp_path}/out"))
    assert not result.ok
    assert result.problems == ("no tasks", "a backtrace of only 0 frames (pid 1)")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo; echo 'crash: vmlinux and vmcore do not match!'; exit 1", "do not match"),
        ("true", "no output"),
        ("exec sleep 30", "did not end within 1 s"),
    ],
)
def test_crash_fails(tmp_path: Path, script: str, words: str) -> None:
    with pytest.raises(OpenError, match=words):
        run(fake_crash(tmp_path, script), timeout_s=1)


def test_crash_missing(tmp_path: Path) -> None:
    with pytest.raises(OpenError, match="apt-get install crash"):
        run(str(tmp_path / "absent"))


def test_the_extension_compiles(tmp_path: Path) -> None:
    """crash's own header is installed with it; without the extension no task would be found."""
    assert crash.build_extension(tmp_path) == tmp_path / "crash_pid.so"


def fake_gcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = tmp_path / "bin/gcc"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")


def test_an_extension_that_does_not_compile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without zlib1g-dev: crash would open the image and find no tasks."""
    fake_gcc(tmp_path, monkeypatch, 'for n in 1 2 3 4; do echo "line $n" >&2; done; exit 1')
    (tmp_path / "out").write_text(OUTPUT)
    with pytest.raises(OpenError, match="gcc failed: line 2 line 3 line 4.*zlib1g-dev gcc"):
        run(fake_crash(tmp_path, f"cat {tmp_path}/out"))


def test_gccs_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.c"
    broken.write_text("#include <no/such/header.h>\n")
    monkeypatch.setattr(crash, "_EXTENSION", broken)
    with pytest.raises(OpenError, match="fatal error: no/such/header.h: No such file"):
        crash.build_extension(tmp_path)


@pytest.mark.parametrize(
    ("gcc", "header", "words"),
    [
        (None, Path("/"), "for want of gcc:"),
        ("/usr/bin/gcc", Path("/absent/defs.h"), "for want of /absent/defs.h:"),
        (None, Path("/absent/defs.h"), "for want of gcc and /absent/defs.h:"),
    ],
)
def test_without_the_extension(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gcc: str | None, header: Path, words: str
) -> None:
    """Said when something is missing in the result; a newer crash needs no extension."""
    which = {"gcc": gcc}
    monkeypatch.setattr("shutil.which", lambda name: which.get(name, name))
    monkeypatch.setattr(crash, "_HEADER", header)
    (tmp_path / "out").write_text(OUTPUT)
    program = fake_crash(tmp_path, f"cat {tmp_path}/out")
    assert run(program).ok
    (tmp_path / "out").write_text("     RELEASE: 6.1.0\n")
    *_, last = run(program).problems
    assert words in last and "apt-get install crash gcc zlib1g-dev" in last


def test_drgn_refuses_what_is_no_core(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nonsense")
    with pytest.raises(OpenError, match="drgn did not open .*not an ELF"):
        open_program(tmp_path / "x", tmp_path / "x")


def test_drgn_needs_the_symbols(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(images.build([images.Segment(0, bytes(8192))]))
    with pytest.raises(OpenError, match="same kernel"):
        open_program(path, tmp_path / "absent")


def test_find_vmlinux(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    with pytest.raises(OpenError, match="linux-image-6.1.0-dbg"):
        opened.find_vmlinux("6.1.0", root=tmp_path, environ=environ)
    debian = tmp_path / "usr/lib/debug/boot/vmlinux-6.1.0"
    cached = tmp_path / "cache/livedump/debug/6.1.0/vmlinux"
    for path in (debian, cached):
        path.parent.mkdir(parents=True)
        path.touch()
        assert opened.find_vmlinux("6.1.0", root=tmp_path, environ=environ) == path
