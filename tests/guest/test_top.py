"""livedump-trace top beside a load that never ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from itertools import islice
from typing import Any

from tests.guest.faults import TOUCHER
from tests.guest.test_trace import KPROBE_EVENTS, command

PAGES = 2000

#: QEMU may execute a breakpoint that is gone (docs/decisions/009): nobody faults while probes come
#: or go.
TOUCH_WHEN_PROBED = f"""
import time
from tests.guest.faults import touch
while "_bcc_" not in open({str(KPROBE_EVENTS)!r}).read():
    time.sleep(0.2)
time.sleep(2)
while True:
    touch({PAGES})
"""


def is_of_load(view: dict[str, Any]) -> bool:
    """On a quick machine the first views are of before it began."""
    return any(row["comm"] == TOUCHER for row in view["stacks"])


def test_faults_are_seen_as_they_happen_and_nothing_stays_attached() -> None:
    with subprocess.Popen([sys.executable, "-c", TOUCH_WHEN_PROBED]) as toucher:
        try:
            asked = command("top", "-n", "8", "--json", "--kind", "user", "-p", str(toucher.pid))
            with subprocess.Popen(asked, stdout=subprocess.PIPE, text=True) as top:
                assert top.stdout
                views = list(islice(filter(is_of_load, map(json.loads, top.stdout)), 2))
                toucher.send_signal(signal.SIGSTOP)
                assert top.stdout.read(), "it has seen the load too late"
                assert top.wait(60) == 0
            assert toucher.poll() is None, "it has ended too early"
        finally:
            toucher.kill()
    assert len(views) == 2
    for view in views:
        rates = {row["kind"]: row["rate"] for row in view["kinds"]}
        assert rates["user"] > 0, view
        assert 0 < view["kinds"][0]["p50_ns"] <= view["kinds"][0]["max_ns"]
        assert any(
            row["comm"] == TOUCHER and "do_user_addr_fault" in row["stack"] and row["rate"] > 0
            for row in view["stacks"]
        ), view
    assert "_bcc_" not in KPROBE_EVENTS.read_text()
