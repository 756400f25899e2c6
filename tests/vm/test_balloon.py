"""A host that takes pages and empties them: machines with virtio-balloon, of their own."""

from __future__ import annotations

import io
import json
from dataclasses import replace

from qemu.qmp.legacy import QEMUMonitorProtocol

from tests.vm import inflate
from tools.oracle.take.capture import Sockets
from tools.oracle.take.run import sockets
from tools.paths import PYTHON
from tools.vm import VmConfig, run
from tools.vm.config import BALLOON
from tools.vm.lines import LineSink

CONFIG = VmConfig(
    memory="1G",
    qemu_args=BALLOON,
    timeout_s=420,
    name="test-balloon",
)

#: Prints how many reports of free pages the host got: before, while held, and afterwards.
_SCRIPT = r"""
set -e
cd /sys/kernel/tracing
modprobe virtio_balloon
echo p:report virtballoon_free_page_report > kprobe_events
echo 1 > events/kprobes/report/enable
hits() { awk '$1 == "report" { print $2 }' kprobe_profile; }
said() { echo "$1:$(($(hits) - seen))"; seen=$(hits); }
seen=0
livedump load > /dev/null
for i in 1 2; do head -c 150M /dev/zero > /dev/shm/$i; done
rm /dev/shm/1; sleep 6; said before
livedump snapshot --pool 128M > /dev/null; seen=$(hits)
rm /dev/shm/2; sleep 8; said held
livedump release --json | grep -o '"verdict": "[a-z]*"'
sleep 8; said after
livedump unload > /dev/null
"""


def test_free_pages_are_not_reported_while_a_snapshot_is_held() -> None:
    out = io.BytesIO()
    result = run(CONFIG, ["bash", "-c", _SCRIPT], stdout=out)
    assert result.status == 0
    lines = out.getvalue().decode().splitlines()
    assert '"verdict": "complete"' in lines, lines
    reports = {name: int(count) for name, count in (x.split(":") for x in lines if x[0] != '"')}
    assert reports["before"] > 0, "the host takes no free pages: proves nothing"
    assert reports["held"] == 0
    assert reports["after"] > 0, "reporting did not go on"


def take_pages(monitor: Sockets) -> None:
    """The host makes the guest give up some of its memory."""
    client = QEMUMonitorProtocol(str(monitor.qmp))
    client.connect()
    client.cmd("balloon", value=MEMORY - TAKEN)
    client.close()


MEMORY, TAKEN = 1 << 30, 128 << 20
_INFLATE = "set -e; modprobe virtio_balloon; livedump load > /dev/null; {} -m tests.vm.inflate"


def test_pages_that_the_balloon_takes_are_saved_first() -> None:
    """Where allocation zeroes pages it is a fault that saves them."""
    with sockets() as monitor:
        config = replace(
            CONFIG,
            append=("init_on_alloc=0",),
            qemu_args=(*BALLOON, *monitor.qemu_args()),
            name="test-inflate",
        )
        said: list[str] = []

        def on_line(line: str) -> None:
            said.append(line)
            if line == "inflate":
                take_pages(monitor)

        result = run(config, ["bash", "-c", _INFLATE.format(PYTHON)], stdout=LineSink(on_line))
    assert result.status == 0
    found = json.loads(said[-1])
    assert found["before"] >= inflate.STAMPED // inflate.PAGE
    assert found["after"] == found["before"], found
    assert found["saved"] >= inflate.ENOUGH, "the host took no pages: proves nothing"
    assert found["verdict"] == "complete"
