"""The matrix is as small as it may be and no smaller."""

from __future__ import annotations

import itertools
import platform
import re
import subprocess

import pytest

from livedump.tested import TESTED
from tools.paths import ROOT
from tools.userland.root import RELEASES
from tools.vm.machines import (
    DEEP,
    FULL,
    SERIES,
    SMOKE,
    USERLANDS,
    Machine,
    every,
    pairwise,
    userland,
)


def _values(machine: Machine) -> tuple[object, ...]:
    return (machine.kernel, machine.la57, machine.pti, machine.preempt_full, machine.cpus)


def test_every_combination_is_there_once() -> None:
    assert len(every()) == len(set(every())) == 2 * 2 * 2 * 2 * 3


def test_every_two_values_meet() -> None:
    chosen = pairwise()
    assert len(chosen) < 12
    for one, other in itertools.combinations(range(5), 2):
        wanted = {(_values(m)[one], _values(m)[other]) for m in every()}
        assert {(_values(m)[one], _values(m)[other]) for m in chosen} == wanted


def test_make_asks_the_table() -> None:
    show = "show:;@echo $(FULL) $(SMOKE) $(DEEP)"
    command = ["make", "-s", "-f", "Makefile", f"--eval={show}", "show"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.split() == [FULL, SMOKE, DEEP]
    assert {FULL, SMOKE} == set(SERIES)


def test_each_userland_has_one_series_in_full() -> None:
    for release in USERLANDS:
        rows = [row for row in TESTED if row.userland == release]
        assert [row.full for row in rows] == [True, False]
        assert sum(row.deep for row in rows) == 1
    assert set(USERLANDS) == set(RELEASES)


def test_readme_says_the_same() -> None:
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| (.*?) \|", text, re.M)
    how = {
        (True, True): "in full, races, oracle",
        (True, False): "in full",
        (False, True): "short, races, oracle",
        (False, False): "short",
    }
    assert rows == [(row.userland, row.series, how[row.full, row.deep]) for row in TESTED]


@pytest.mark.parametrize(
    "release, found",
    [
        ({"ID": "debian", "VERSION_ID": "12"}, "12"),
        ({"ID": "debian", "VERSION_ID": "13"}, "13"),
        ({"ID": "debian"}, USERLANDS[-1]),  # testing has no number
        ({"ID": "ubuntu", "VERSION_ID": "12"}, USERLANDS[-1]),
    ],
)
def test_userland(monkeypatch: pytest.MonkeyPatch, release: dict[str, str], found: str) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    assert userland() == found


def test_names_tell_machines_apart() -> None:
    assert len({machine.name for machine in every()}) == len(every())
    machine = Machine("6.1", False, True, True, 4)
    assert machine.name == "6.1-4l-pti-full-4"
    assert machine.kernel_args == ("pti=on", "preempt=full")
