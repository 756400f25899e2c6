"""What is asked of the kernel about losses, with a BCC and a tracefs that are not real."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from livedump.trace import maps
from livedump.trace.data import LossRow
from livedump.trace.layout import SPILLED
from livedump.trace.options import Options
from livedump.trace.probes import Attach, Plan, Probe

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
            name: SimpleNamespace(fd=fd) for fd, name in enumerate((maps.REFUSED, b"ld_program"))
        }

    def __getitem__(self, table: bytes) -> Any:
        """Only the window is written."""
        assert table == b"window"
        return self

    def __setitem__(self, key: object, value: object) -> None:
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


def programs(
    monkeypatch: pytest.MonkeyPatch,
    misses: Mapping[int, int | None],
    fake: FakeBpf | None = None,
    plan: Plan = STOP,
) -> maps.BccPrograms:
    """Programs after asking and after the end, with the kernel's counts by file descriptor."""
    monkeypatch.setattr(maps, "recursion_misses", misses.get)
    found = maps.BccPrograms(fake or FakeBpf(), plan, Options())
    found.ask_kernel()
    found.end()
    found.losses()
    return found


def test_kernel_that_counts_skipped_events(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeBpf()
    found = programs(monkeypatch, {0: 1, 1: 4}, fake)
    assert fake.calls[:3] == [
        "attach ld_refused to array_map_update_elem",
        "update",
        "detach array_map_update_elem",
    ]
    assert not found._unmeasured
    assert found.losses() == [LossRow("ld_program", "program skipped: another one was running", 4)]


@pytest.mark.parametrize("misses", [0, None])
def test_kernel_that_does_not(monkeypatch: pytest.MonkeyPatch, misses: int | None) -> None:
    found = programs(monkeypatch, {0: misses, 1: 0})
    assert list(found._unmeasured) == [maps.UNCOUNTED_SKIPS]


def test_kernel_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = programs(monkeypatch, {0: 1, 1: 0}, FakeBpf(attachable=False))
    assert list(found._unmeasured) == [maps.UNCOUNTED_SKIPS]


def test_count_of_skipped_events_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    found = programs(monkeypatch, {0: 1, 1: None})
    assert list(found._unmeasured) == [maps.UNREAD_SKIPS]


def test_fdinfo(tmp_path: Path) -> None:
    assert maps.recursion_misses(-1) is None
    with (tmp_path / "plain").open("w") as plain:
        assert maps.recursion_misses(plain.fileno()) is None


def test_missed_returns(tmp_path: Path) -> None:
    profile = tmp_path / "kprobe_profile"
    profile.write_text(PROFILE.format(misses=9))
    assert maps.missed_returns(profile, os.getpid()) == [
        LossRow("handle_mm_fault", "kprobe missed by the kernel", 9)
    ]
    profile.write_text(PROFILE.format(misses=0))
    assert maps.missed_returns(profile, os.getpid()) == []


@pytest.mark.parametrize("text", [None, "", "  mine 1 3\n"])
def test_missed_returns_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    profile = tmp_path / "kprobe_profile"
    if text is not None:
        profile.write_text(text)
    monkeypatch.setattr(maps, "KPROBE_PROFILE", profile)
    counts = {0: 1, 1: 0}
    assert programs(monkeypatch, counts, plan=USER)._unmeasured == {maps.UNREAD_RETURNS: None}
    assert programs(monkeypatch, counts, plan=STOP)._unmeasured == {}


def test_spilled_stacks_are_walked_in_their_own_map() -> None:
    class Walker:
        def __init__(self, name: str) -> None:
            self.name = name

        def walk(self, number: int) -> list[int]:
            """Where and what was asked."""
            return [len(self.name), number]

    tables: Any = {b"stacks": Walker("stacks"), b"spilled": Walker("spilled")}
    found = maps.BccPrograms(tables, STOP, Options())
    assert found.addresses(5) == (len("stacks"), 5)
    assert found.addresses(SPILLED | 5) == (len("spilled"), 5)
    assert found.addresses(-1) == ()
