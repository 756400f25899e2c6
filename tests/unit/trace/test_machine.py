"""What a machine lacks is said before anything is compiled."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from livedump import lockdown
from livedump.trace import machine
from livedump.trace.errors import TraceError
from livedump.trace.probe import loader


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has everything."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    headers = tmp_path / "lib/modules" / os.uname().release / "build/include/linux/kconfig.h"
    headers.parent.mkdir(parents=True)
    headers.touch()
    put_lockdown(tmp_path, "[none] integrity confidentiality\n")
    return tmp_path


def put_lockdown(root: Path, text: str) -> None:
    """What the kernel says about lockdown."""
    path = root / lockdown.PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def refused(root: Path, cause: str, remedy: str) -> None:
    """One line, and what to do."""
    with pytest.raises(TraceError, match=re.escape(cause)) as error:
        loader.check_machine(root)
    assert remedy in error.value.remedy


def test_machine_that_has_everything(root: Path) -> None:
    loader.check_machine(root)


def test_not_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    refused(root, "not root", "sudo")


def test_no_headers(root: Path) -> None:
    build = root / "lib/modules" / os.uname().release / "build"
    build.rename(root / "elsewhere")
    refused(root, f"no kernel headers at {build}", f"linux-headers-{os.uname().release}")


def test_half_of_debians_headers(root: Path) -> None:
    modules = root / "lib/modules" / os.uname().release
    (modules / "build/include/linux/kconfig.h").unlink()
    refused(root, f"no link {modules / 'source'}", f"linux-headers-{os.uname().release}")
    (modules / "source").mkdir()
    loader.check_machine(root)


def test_lockdown_that_forbids_kprobes(root: Path) -> None:
    put_lockdown(root, "none integrity [confidentiality]\n")
    refused(root, "lockdown (confidentiality) forbids kprobes", "lockdown=none")


def test_lockdown_that_allows_kprobes(root: Path) -> None:
    """Integrity forbids unsigned modules, not tracing."""
    put_lockdown(root, "none [integrity] confidentiality\n")
    loader.check_machine(root)


def test_lockdown_that_cannot_be_told(root: Path) -> None:
    (root / lockdown.PATH).unlink()
    loader.check_machine(root)


def test_clocks_are_read_at_one_instant() -> None:
    """Also where reading them is interrupted now and then."""
    for _ in range(20):
        before = time.clock_gettime_ns(time.CLOCK_REALTIME)
        found = machine.clocks()
        after = time.clock_gettime_ns(time.CLOCK_REALTIME)
        assert before <= found["realtime_ns"] <= after
    apart = [
        (clock["realtime_ns"] - clock["monotonic_ns"], clock["boottime_ns"] - clock["monotonic_ns"])
        for clock in (machine.clocks() for _ in range(20))
    ]
    for column in zip(*apart, strict=True):
        assert max(column) - min(column) < 100_000


def test_clocks_of_a_moment_ago() -> None:
    now = machine.clocks()
    then = machine.clocks(now["monotonic_ns"] - 5_000_000)
    assert then["monotonic_ns"] == now["monotonic_ns"] - 5_000_000
    for name in ("realtime_ns", "boottime_ns"):
        assert abs(now[name] - 5_000_000 - then[name]) < 100_000
