"""What is asked of the kernel about events that no program saw, with a BCC and a tracefs that are
not real."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from livedump.recording.rows import LossRow
from livedump.trace.probe import missed
from livedump.trace.probe.missed import Missed
from livedump.trace.probe.points import Attach, Plan, Probe

USER = Plan(
    ("user",), (Probe("user_latency", "user", Attach.KPROBE_PAIR, "handle_mm_fault", "why"),)
)
STOP = Plan(("stop",), (Probe("stop_machine", "stop", Attach.KPROBE_PAIR, "stop_machine", "why"),))

PROFILE = f"""\
  r_handle_mm_fault_bcc_{os.getpid()}                  5000               {{misses}}
  r_handle_mm_fault_bcc_1{os.getpid()}                  5000              77
  mine                                              1               3
"""


class FakeBpf:
    """As much of bcc.BPF as asking takes."""

    def __init__(self, *, attachable: bool = True) -> None:
        self.attachable = attachable
        self.calls: list[str] = []
        self.funcs = {
            name: SimpleNamespace(fd=fd) for fd, name in enumerate((missed.REFUSED, b"ld_program"))
        }

    def update(self) -> None:
        """Counted."""
        self.calls.append("update")

    def attach_kprobe(self, event: bytes, fn_name: bytes) -> None:
        """Counted."""
        if not self.attachable:
            raise Exception("no")
        self.calls.append(f"attach {fn_name.decode()} to {event.decode()}")

    def detach_kprobe(self, event: bytes) -> None:
        """Counted."""
        self.calls.append(f"detach {event.decode()}")


def asked(
    monkeypatch: pytest.MonkeyPatch,
    misses: Mapping[int, int | None],
    fake: FakeBpf | None = None,
    plan: Plan = STOP,
) -> tuple[list[LossRow], list[str]]:
    """What was missed and what is not told, with the kernel's counts by file descriptor."""
    monkeypatch.setattr(missed, "recursion_misses", misses.get)
    fake = fake or FakeBpf()
    found = Missed(fake, plan)
    found.ask(fake.update)
    return found.rows(), found.unmeasured


@pytest.mark.parametrize(
    ("function", "point"),
    [
        (b"tracepoint__livedump__livedump_fault", "livedump:livedump_fault"),
        (b"raw_tracepoint__page_fault_user", "page_fault_user"),
        (b"ld_stop_machine_entry", "ld_stop_machine_entry"),
    ],
)
def test_a_skipped_program_has_its_tracepoint_s_name(function: bytes, point: str) -> None:
    assert missed._point(function) == point


def test_kernel_that_counts_skipped_events(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeBpf()
    rows, unmeasured = asked(monkeypatch, {0: 1, 1: 4}, fake)
    assert fake.calls == [
        "attach ld_refused to array_map_update_elem",
        "update",
        "detach array_map_update_elem",
    ]
    assert not unmeasured
    assert rows == [LossRow("ld_program", "program skipped: another one was running", 4)]


@pytest.mark.parametrize("misses", [0, None])
def test_kernel_that_does_not(monkeypatch: pytest.MonkeyPatch, misses: int | None) -> None:
    assert asked(monkeypatch, {0: misses, 1: 0})[1] == [missed.UNCOUNTED_SKIPS]


def test_kernel_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, {0: 1, 1: 0}, FakeBpf(attachable=False))[1] == [
        missed.UNCOUNTED_SKIPS
    ]


def test_count_of_skipped_events_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, {0: 1, 1: None})[1] == [missed.UNREAD_SKIPS]


def test_fdinfo(tmp_path: Path) -> None:
    assert missed.recursion_misses(-1) is None
    with (tmp_path / "plain").open("w") as plain:
        assert missed.recursion_misses(plain.fileno()) is None


def test_missed_returns(tmp_path: Path) -> None:
    profile = tmp_path / "kprobe_profile"
    profile.write_text(PROFILE.format(misses=9))
    assert missed.missed_returns(profile, os.getpid()) == [
        LossRow("handle_mm_fault", "kprobe missed by the kernel", 9)
    ]
    profile.write_text(PROFILE.format(misses=0))
    assert missed.missed_returns(profile, os.getpid()) == []


@pytest.mark.parametrize("text", [None, "", "  mine 1 3\n"])
def test_missed_returns_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    profile = tmp_path / "kprobe_profile"
    if text is not None:
        profile.write_text(text)
    monkeypatch.setattr(missed, "KPROBE_PROFILE", profile)
    counts = {0: 1, 1: 0}
    assert asked(monkeypatch, counts, plan=USER)[1] == [missed.UNREAD_RETURNS]
    assert asked(monkeypatch, counts, plan=STOP)[1] == []
