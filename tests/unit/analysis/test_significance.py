"""Levels, p-values, and many tests at once."""

from __future__ import annotations

import math

import numpy
import pytest

from livedump.analysis import student
from livedump.analysis.ogive import Ogive
from livedump.analysis.significance import ALPHA, LEAST_P, Span, benjamini_hochberg, holm
from livedump.metrics import Bucket

#: Of Benjamini and Hochberg's own example (1995).
PS = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
PS += [0.4262, 0.5719, 0.6528, 0.7590, 1.0]


def test_corrections_find_what_their_authors_found() -> None:
    assert benjamini_hochberg(PS, 0.05) == [True] * 4 + [False] * 11
    assert holm(PS, 0.05) == [True] * 3 + [False] * 12
    assert benjamini_hochberg([]) == [] == holm([])


def test_order_does_not_matter() -> None:
    assert holm([0.5, 0.001, 0.0001], 0.01) == [False, True, True]
    assert holm([0.004, 0.5, 0.02], 0.01) == [False, False, False]
    assert benjamini_hochberg([0.01, 0.006, 0.5], 0.01) == [False, False, False]
    assert benjamini_hochberg([0.006, 0.5, 0.006], 0.01) == [True, False, True]


def test_equal_ps_are_not_all_found_when_one_is() -> None:
    """Two at just above the half: Holm's first step fails for both."""
    assert holm([0.006, 0.006], 0.01) == [False, False]
    assert holm([0.005, 0.005], 0.01) == [True, True]


def span(change: float, error: float, freedom: float = 10) -> Span:
    """Of an estimate."""

    def bounds(level: float) -> tuple[float, float]:
        reach = student.two_sided(level, freedom) * error
        return change - reach, change + reach

    return Span(change, bounds)


def test_p_is_the_level_whose_interval_ends_at_the_limit() -> None:
    assert span(4.0, 1.0).p(0.0) == pytest.approx(0.002518, rel=1e-3)  # t tables
    assert span(4.0, 1.0).p(8.0) == span(4.0, 1.0).p(0.0)
    assert span(1.0, 1.0).p(0.0) == 1.0
    assert span(1.0, 0.0).p(0.0) == pytest.approx(LEAST_P, rel=1e-3)
    low, high = span(1.0, 1.0).interval
    assert (high - 1, 1 - low) == pytest.approx((3.1693, 3.1693), rel=1e-4)


def test_what_is_no_number_is_not_significant() -> None:
    assert Span(1.0, lambda _level: (math.nan, math.nan)).p(0.2) == 1.0
    assert Span(1.0, lambda _level: (0.5, math.inf)).p(0.2) < 1e-9


@pytest.mark.parametrize(
    ("freedom", "table"), [(1, 63.6567), (2, 9.9248), (3, 5.8409), (9, 3.2498), (58, 2.6633)]
)
def test_student_has_the_tables_values(freedom: int, table: float) -> None:
    assert student.two_sided(ALPHA, freedom) == pytest.approx(table, rel=1e-4)


@pytest.mark.parametrize("freedom", [2.5, 4, 29])
@pytest.mark.parametrize("alpha", [0.5, 1e-3, 1e-9])
def test_student_leaves_so_much_in_the_tails(freedom: float, alpha: float) -> None:
    """By integrating the density, from t on, over u = t / x."""
    t = student.two_sided(alpha, freedom)
    u = (numpy.arange(100_000) + 0.5) / 100_000
    power = (1 + (t / u) ** 2 / freedom) ** (-(freedom + 1) / 2)
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2)
    tail = scale / math.sqrt(freedom * math.pi) * float((power * t / u**2).mean())
    assert 2 * tail == pytest.approx(alpha, rel=1e-3)


def test_a_quantile_is_taken_inside_its_bucket() -> None:
    ogive = Ogive([Bucket(16, 18, 10), Bucket(18, 20, 10), Bucket(20, 22, 10)])
    assert math.exp(ogive.place(0.5).log) == pytest.approx(19)
    assert math.exp(ogive.place(0.35).log) == pytest.approx(18.1)
    assert ogive.place(0.5).bucket == 1 and ogive.place(0.5).inside == pytest.approx(0.5)
    assert ogive.place(0.5).loose == (0, 0), "the neighbours hold as much"


def test_a_bucket_without_neighbours_says_nothing_of_its_inside() -> None:
    apart = Ogive([Bucket(1, 2, 10), Bucket(18, 20, 10), Bucket(40, 44, 10)])
    assert apart.place(0.5).loose == pytest.approx((math.log(19 / 18), math.log(20 / 19)))
    half = Ogive([Bucket(16, 18, 5), Bucket(18, 20, 10), Bucket(20, 22, 5)])
    assert half.place(0.5).loose[0] == pytest.approx(math.log(19 / 18) / 2)


def test_a_quantile_in_a_gap_is_of_one_side() -> None:
    modes = Ogive([Bucket(10, 11, 990), Bucket(1000, 1010, 10)])
    assert math.exp(modes.place(0.98).log) < 11 < 1000 < math.exp(modes.place(0.995).log)
    assert math.exp(modes.place(0.99).log) == pytest.approx(11)
