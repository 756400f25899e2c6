"""What one does every day with an installed livedump, in one boot of a kernel."""

from __future__ import annotations

from pathlib import Path

from tests.install.conftest import Shell
from tools.vm import kernels
from tools.vm.machines import FULL, SMOKE

#: As newest: the machine runs the first, and is upgraded to the second.
RELEASE, NEXT = (kernels.resolve(series).release for series in (FULL, SMOKE))

_DAILY = """
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
    """Each step does what it should."""
    said = shell.boot(release, _DAILY)
    assert said.pop("modules") == (1, "0\n")
    assert said.keys() == {"doctor", "load", "snapshot", "record", "report", "unload"}
    assert {name: status for name, (status, _) in said.items() if status} == {}, said
    assert "complete" in said["snapshot"][1]
