"""The matrix is as small as it may be and no smaller."""

from __future__ import annotations

import itertools

from tools.matrix.machines import Machine, every, pairwise


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


def test_names_tell_machines_apart() -> None:
    assert len({machine.name for machine in every()}) == len(every())
    machine = Machine("6.1", False, True, True, 4)
    assert machine.name == "6.1-4l-pti-full-4"
    assert machine.kernel_args == ("pti=on", "preempt=full")
