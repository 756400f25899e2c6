"""`make install`, all that one does then, a kernel's upgrade, `make uninstall`: in this order."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from tests.install.conftest import Shell
from tools.vm import kernels
from tools.vm.machines import FULL, SMOKE

#: As newest: the machine runs the first, and is upgraded to the second.
RELEASE, NEXT = (kernels.resolve(series).release for series in (FULL, SMOKE))

#: One boot for all that is done with it.
DAILY = """
try doctor livedump doctor
try load livedump load
try snapshot livedump snapshot --pool 192M --dump "$LIVEDUMP_DISK"
try record livedump-trace record -o /tmp/rec --duration 5
try report livedump-trace report /tmp/rec --html /tmp/rec.html
try unload livedump unload
try modules grep -c '^livedump ' /proc/modules
"""


def installed_module(shell: Shell, release: str) -> Path:
    """The file, as DKMS has left it: some compress it."""
    (found,) = shell.path(f"/usr/lib/modules/{release}/updates/dkms").glob("livedump.ko*")
    return found


def use(shell: Shell, release: str) -> None:
    """As every day: each step does what it should."""
    said = shell.boot(release, DAILY)
    assert said.pop("modules") == (1, "0\n")
    assert said.keys() == {"doctor", "load", "snapshot", "record", "report", "unload"}
    assert {name: status for name, (status, _) in said.items() if status} == {}, said
    assert "complete" in said["snapshot"][1]


def test_without_headers_it_is_one_line_with_the_remedy(shell: Shell) -> None:
    said = shell("make", "-s", "install", "KRELEASE=6.1.0-0-none", status=None)
    assert "no archive has linux-headers-6.1.0-0-none" in said
    assert "Traceback" not in said and said.count("error:") == 1, said


def test_install(shell: Shell) -> None:
    assert "livedump doctor" in shell("make", "-s", "install", f"KRELEASE={RELEASE}")
    status = shell("dkms", "status", "-m", "livedump")
    assert f"{RELEASE}, x86_64: installed" in status
    assert installed_module(shell, RELEASE)


def test_it_is_used(shell: Shell) -> None:
    use(shell, RELEASE)


def test_an_upgrade_of_the_kernel_builds_it_anew(shell: Shell) -> None:
    """By what the kernel's package runs when it is installed."""
    shell("/etc/kernel/postinst.d/dkms", NEXT)
    assert f"{NEXT}, x86_64: installed" in shell("dkms", "status", "-m", "livedump")
    assert installed_module(shell, NEXT)
    use(shell, NEXT)


@pytest.mark.parametrize("suffix", [".ko.xz", ".ko"])
def test_only_signed_modules(shell: Shell, suffix: str) -> None:
    """DKMS signs by a key of its own, which this machine has not enrolled; xz or not."""
    module = installed_module(shell, RELEASE)
    data = module.read_bytes()
    data = lzma.decompress(data) if module.suffix == ".xz" else data
    module.unlink()
    module = module.with_name("livedump" + suffix)
    module.write_bytes(lzma.compress(data) if suffix == ".ko.xz" else data)
    shell("depmod", "-a", RELEASE)
    said = shell.boot(
        RELEASE,
        """
        try load livedump load
        try status livedump status
        try unload livedump unload
        echo 1 > /sys/module/module/parameters/sig_enforce
        try enforced livedump load
        try doctor livedump doctor
        """,
    )
    assert {name: status for name, (status, _) in said.items()} == {
        **{"load": 0, "status": 0, "unload": 0, "enforced": 1},
        "doctor": said["doctor"][0],
    }, said
    assert "key" in said["enforced"][1] and "mokutil --import" in said["enforced"][1]
    assert "mokutil" in said["doctor"][1], said["doctor"]


def test_uninstall_leaves_nothing_behind(shell: Shell) -> None:
    shell("make", "-s", "uninstall")
    assert "livedump" not in shell("dkms", "status")
    assert shell.left_behind() == set()
