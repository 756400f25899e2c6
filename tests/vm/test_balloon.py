"""A host that takes free pages and empties them: a machine with virtio-balloon, of its own."""

from __future__ import annotations

import io

from tools.vm import VmConfig, run
from tools.vm.config import BALLOON

CONFIG = VmConfig(
    memory="1G",
    qemu_args=BALLOON,
    timeout_s=300,
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
