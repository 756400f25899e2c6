"""The matrix is as small as it may be and no smaller."""

from __future__ import annotations

import itertools
import re

from tools.paths import ROOT
from tools.vm.machines import FULL, SERIES, Machine, every, pairwise


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


def test_make_has_the_same_kernels() -> None:
    said = dict(re.findall(r"^(FULL|SMOKE) := (\S+)$", (ROOT / "Makefile").read_text(), re.M))
    assert said == {"FULL": FULL, "SMOKE": SERIES[-1]}


def test_names_tell_machines_apart() -> None:
    assert len({machine.name for machine in every()}) == len(every())
    machine = Machine("6.1", False, True, True, 4)
    assert machine.name == "6.1-4l-pti-full-4"
    assert machine.kernel_args == ("pti=on", "preempt=full")
