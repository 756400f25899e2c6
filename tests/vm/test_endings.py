"""What comes around a snapshot from outside: a call from before, a suspend, a reboot."""

from __future__ import annotations

import io
import json

import pytest

from tools.paths import BUILD, PYTHON
from tools.vm import GuestDied, VmConfig, run

NAME = "test-endings"
CONFIG = VmConfig(memory="1G", timeout_s=480, name=NAME)


def test_calls_from_before_a_suspend_and_a_reboot() -> None:
    out = io.BytesIO()
    with pytest.raises(GuestDied):
        run(CONFIG, [str(PYTHON), "-m", "tests.vm.endings"], stdout=out)
    seen = json.loads(out.getvalue())
    calls, suspend = seen["calls"], seen["suspend"]
    assert "somebody is in memremap_pages(), since before it was probed" in calls["refused"]
    assert (calls["during"], calls["then"]) == ("hooks", "holding")
    assert (suspend["state"], suspend["reason"]) == ("idle", "system")
    assert (suspend["verdict"], suspend["again"]) == ("complete", "holding")
    log = (BUILD / "vm" / NAME / "kernel.log").read_text()
    assert log.count("livedump: released after") == 2
    assert log.index("reboot: Restarting system") > log.rindex("livedump: released after")
