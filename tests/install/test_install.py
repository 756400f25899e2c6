"""`make install`, all that one does then, a kernel's upgrade, `make uninstall`: in this order."""

from __future__ import annotations

import itertools
import lzma
import os
import subprocess

import pytest

from tests.install.conftest import Shell
from tests.install.daily import NEXT, RELEASE, installed_module, use
from tools.paths import BUILD, PYTHON

OVMF = "/usr/share/OVMF"
#: Of a file of UEFI variables, with what of its needs is not Python's own; Debian 12 has none.
EDITOR = ("virt-firmware", "pefile", "cryptography", "cffi", "pycparser", "pyyaml", "requests")
#: Whose the key is, to the firmware: any.
OWNER = "6c766475-6d70-4b65-7920-6f776e657200"


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
    # As the kernel unpacks it: it knows no CRC64.
    packed = lzma.compress(data, check=lzma.CHECK_CRC32)
    module.write_bytes(packed if suffix == ".ko.xz" else data)
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
        **{"load": 0, "status": 0, "unload": 0, "enforced": 1, "doctor": 1}
    }, said
    assert "key" in said["enforced"][1] and "mokutil --import" in said["enforced"][1]
    assert "mokutil" in said["doctor"][1], said["doctor"]


def firmware(shell: Shell) -> list[str]:
    """Options for a machine whose UEFI trusts DKMS's key, in its `db`: for the kernel that is as
    good as one that was enrolled by mokutil, which takes Secure Boot's shim."""
    shell("apt-get", "-qy", "install", "--no-install-recommends", "ovmf")
    tool, variables = BUILD / "test" / "virt-firmware", BUILD / "test" / "install-vars.fd"
    pip = [PYTHON, "-m", "pip", "-q", "install", "--no-deps", "--upgrade", "--target", tool]
    subprocess.run([*map(str, pip), *EDITOR], check=True)
    files = {"--input": shell.path(f"{OVMF}/OVMF_VARS_4M.fd"), "--output": variables}
    enrol = ["--add-db", OWNER, shell.path("/var/lib/dkms/mok.pub")]
    command = [
        str(PYTHON),
        "-m",
        "virt.firmware.vars",
        *map(str, (*itertools.chain(*files.items()), *enrol)),
    ]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(tool)})
    flash = [f"unit=0,readonly=on,file={OVMF}/OVMF_CODE_4M.fd", f"unit=1,file={variables}"]
    return [option for unit in flash for option in drive(f"if=pflash,format=raw,{unit}")]


def drive(text: str) -> tuple[str, ...]:
    """For tools.vm."""
    return "--qemu", "-drive", "--qemu", text


def test_a_key_that_is_enrolled(shell: Shell) -> None:
    said = shell.boot(
        RELEASE,
        """
        try enforced grep Y /sys/module/module/parameters/sig_enforce
        try doctor livedump doctor
        try load livedump load
        try unload livedump unload
        """,
        *firmware(shell),
        "--append=module.sig_enforce=1",
    )
    assert {name: status for name, (status, _) in said.items() if status} == {}, said
    assert "which this kernel knows" in said["doctor"][1]


def test_uninstall_leaves_nothing_behind(shell: Shell) -> None:
    shell("make", "-s", "uninstall")
    assert "livedump" not in shell("dkms", "status")
    assert shell.left_behind() == set()
