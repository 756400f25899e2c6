"""Kernel lockdown, which cannot be lifted again: a boot of its own."""

from __future__ import annotations

import io

from tools.vm import VmConfig, run

CONFIG = VmConfig(timeout_s=480, name="test-lockdown")

#: Prints of each command its status and its errors.
_SCRIPT = """
try() { echo "$1:$(shift; said=$("$@" 2>&1); echo "$? $(echo "$said" | grep -e error: -e FAIL)")"; }
lock() { echo $1 > /sys/kernel/security/lockdown || exit 1; }

mountpoint -q /sys/kernel/security || mount -t securityfs none /sys/kernel/security || exit 1
try load livedump load
try hold livedump snapshot
lock integrity
try record-integrity livedump-trace record -o /tmp/recording --kind stop -- true
lock confidentiality
try record livedump-trace record -o /tmp/refused -- true
try top livedump-trace top -n 1
try dump livedump dump /tmp/vmcore
try status livedump status
try release livedump release
try snapshot livedump snapshot
try unload livedump unload
try load-again livedump load
try doctor livedump doctor
ls /tmp/refused /tmp/vmcore
"""

_DONE = {"load", "hold", "record-integrity", "status", "release", "unload"}
_REFUSED = {
    "record": "kernel lockdown (confidentiality) forbids kprobes",
    "top": "kernel lockdown (confidentiality) forbids kprobes",
    "dump": "and without kernel lockdown",
    "snapshot": "and without kernel lockdown",
    "load-again": "unsigned module loading is restricted",
    "doctor": "kernel memory must not be read",
}


def test_what_lockdown_forbids_is_said_and_the_rest_works() -> None:
    """Under `integrity` recording works. Under `confidentiality` a snapshot that is held already
    can be released, though not be read."""
    out, err = io.BytesIO(), io.BytesIO()
    run(CONFIG, ["bash", "-c", _SCRIPT], stdout=out, stderr=err)
    said = dict(line.split(":", 1) for line in out.getvalue().decode().splitlines())
    assert {name for name, words in said.items() if words.startswith("0 ")} == _DONE, said
    assert said.keys() == _DONE | _REFUSED.keys(), "something was written"
    for name, words in _REFUSED.items():
        assert words in said[name], said
        assert "Traceback" not in said[name] and said[name].count("error:") <= 1
