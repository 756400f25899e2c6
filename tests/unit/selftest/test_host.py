"""The load and the cycle counter, on this machine: neither needs the module."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import pytest

from livedump.errors import SelfTestError
from livedump.selftest import host as host_module
from livedump.selftest import load, perf
from livedump.selftest.host import Host


def children() -> set[int]:
    """Processes that we started and that are there still."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return set(map(int, text.split()))


def test_the_load_ends_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "_WARM_UP_S", 0.0)
    before = children()
    with Host().load():
        assert children() > before
    assert children() == before


def test_a_load_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "_LOAD_LIMIT_S", "forever")
    with pytest.raises(SelfTestError, match="ended with status 1: ValueError"), Host().load():
        pass


def test_each_part_of_the_load(tmp_path: Path) -> None:
    assert load.run(tmp_path, 0.2) > 0
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 0 < size <= 32 * (256 << 10)


def test_nmis(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    host = Host(root=tmp_path)
    assert host.nmis() == 0 and host.available_bytes() == 0
    (tmp_path / "proc/interrupts").write_text(
        "       CPU0  CPU1\n  1:  5 6  IO-APIC\nNMI:   12   30   Non-maskable interrupts\n"
    )
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   1024 kB\n")
    assert host.nmis() == 42 and host.available_bytes() == 1 << 20


def test_attributes() -> None:
    data = perf.attributes(4000)
    assert len(data) == 112
    assert struct.unpack_from("<IIQQ", data) == (0, 112, 0, 4000)
    assert struct.unpack_from("<Q", data, 40) == (1 | 1 << 10,)


def test_the_counter_here() -> None:
    """Either it counts, or it says why not; no descriptor stays open."""
    before = len(os.listdir("/proc/self/fd"))
    try:
        with perf.CycleSampler() as sampler, sampler.running():
            time.sleep(0.01)
    except perf.Unavailable as error:
        assert "perf_event_open: " in str(error)
    assert len(os.listdir("/proc/self/fd")) == before
