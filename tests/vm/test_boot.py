"""Real boots: what tools.vm promises about statuses, output and dead guests."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from tools.vm import DirtyLog, GuestDied, VmConfig, run

CONFIG = VmConfig(build_kmod=False, timeout_s=120, name="test")

#: Far above what a boot takes here alone (9 to 20 s); a boot that hangs is ended later still.
READY_S = 60.0


def test_status_output_and_clean_log(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = io.BytesIO(), io.BytesIO()
    script = (
        "cat /sys/devices/system/clocksource/clocksource0/current_clocksource; pwd; "
        "grep -cw la57 /proc/cpuinfo; "
        "touch build/vm/test/written; touch setup.cfg; "
        "head -c 10000000 /dev/zero | tr '\\0' 'x'; exit 3"
    )
    result = run(CONFIG, ["sh", "-c", script], stdout=out, stderr=err)
    assert result.status == 3
    with capsys.disabled():
        print(f"\nready after {result.seconds_to_ready} s")
    assert result.seconds_to_ready <= READY_S
    clocksource, cwd, la57, rest = out.getvalue().split(b"\n", 3)
    assert la57 == b"2" or result.accelerator == "kvm"
    assert clocksource in (b"tsc", b"kvm-clock")
    assert cwd.endswith(result.kernel_log.parents[3].name.encode())
    assert rest == b"x" * 10_000_000
    assert b"Read-only file system" in err.getvalue()
    assert (result.kernel_log.parent / "written").exists()
    assert "livedump-vm: ready" in result.kernel_log.read_text()


def test_warning_in_the_log_fails_a_command_that_succeeds() -> None:
    out = io.BytesIO()
    script = "grep -cw la57 /proc/cpuinfo; echo 'WARNING: test' > /dev/kmsg"
    with pytest.raises(DirtyLog, match="WARNING: test"):
        run(replace(CONFIG, la57=False), ["sh", "-c", script], stdout=out)
    assert out.getvalue() == b"0\n"


def test_panic_is_a_dead_guest() -> None:
    with pytest.raises(GuestDied, match="died while CMD ran: Kernel panic.*sysrq triggered crash"):
        run(CONFIG, ["sh", "-c", "echo c > /proc/sysrq-trigger; sleep 60"])
