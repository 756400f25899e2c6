"""A machine of four CPUs, one of them offline: its dump is for tests/host/dump.

It does not zero pages when they are allocated, which the receipt must say.
"""

from __future__ import annotations

import pytest

from tools.paths import ROOT
from tools.vm import VmConfig, run
from tools.vm.kernels import resolve
from tools.vm.machines import FULL

_SCRIPT = """
set -e -o pipefail
echo 0 > /sys/devices/system/cpu/cpu1/online
livedump load > /dev/null
livedump snapshot --pool 64M --dump {path} --force | grep "complete.*init_on_alloc=0"
livedump unload > /dev/null
"""


def test_one_cpu_of_four_is_offline(capfd: pytest.CaptureFixture[str]) -> None:
    release = resolve(FULL).release
    path = ROOT / "build/test" / release / "vmcore-offline"
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    config = VmConfig(
        kernel=release,
        cpus=4,
        memory="512M",
        append=("init_on_alloc=0",),
        timeout_s=300,
        name="test-offline",
    )
    result = run(config, ["bash", "-c", _SCRIPT.format(path=path.relative_to(ROOT))])
    assert result.status == 0, capfd.readouterr().err
    assert path.stat().st_size > 256 << 20
