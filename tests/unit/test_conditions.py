"""Conditions as users write them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from livedump.conditions import Condition, ConditionError, parse, quantile

KINDS = ("user", "cow", "stop")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p99(user)>2ms", ("p99", "user", ">", 2e6, False, 0.0)),
        ("p99(user) > 2ms for 1s", ("p99", "user", ">", 2e6, False, 1.0)),
        (" p99.9( cow )>=+20% ", ("p99.9", "cow", ">=", 0.2, True, 0.0)),
        ("mean(cow)<-12.5%", ("mean", "cow", "<", -0.125, True, 0.0)),
        ("rate(user)>5000/s for 300ms", ("rate", "user", ">", 5000.0, False, 0.3)),
        ("count(stop)>0", ("count", "stop", ">", 0.0, False, 0.0)),
        ("max(stop)<=500us", ("max", "stop", "<=", 5e5, False, 0.0)),
        ("stalled(user)>1.5s", ("stalled", "user", ">", 1.5e9, False, 0.0)),
    ],
)
def test_what_is_read(text: str, expected: tuple[object, ...]) -> None:
    found = parse(text, KINDS)
    assert (
        found.metric,
        found.kind,
        found.op,
        pytest.approx(found.limit),
        found.relative,
        pytest.approx(found.hold_s),
    ) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no condition"),
        ("p99 user > 2ms", "is no condition"),
        ("p99(user)=2ms", "is no condition"),
        ("p99(user)>2ms for ever", "is no condition"),
        ("p99(users)>2ms", "no kind users"),
        ("p100(user)>2ms", "no metric p100"),
        ("p0(user)>2ms", "no metric p0"),
        ("median(user)>2ms", "no metric median"),
        ("p99(user)>2", "is a time"),
        ("p99(user)>20%", "needs its sign"),
        ("p99(user)>+2ms", "a change is in %"),
        ("count(user)>2ms", "count is not in ms"),
        ("rate(user)>2s", "rate is not in s"),
    ],
)
def test_what_cannot_be_read(text: str, words: str) -> None:
    with pytest.raises(ConditionError, match=words):
        parse(text, KINDS)


def test_where_it_stands() -> None:
    change, value = parse("p99(cow)>+5%", KINDS), parse("p99(cow)>5us for 1s", KINDS)
    change.check(relative=True, hold=False)
    change.check(relative=None, hold=False)
    value.check(relative=False, hold=True)
    with pytest.raises(ConditionError, match="a value like 2ms"):
        change.check(relative=False, hold=True)
    with pytest.raises(ConditionError, match="a change like"):
        value.check(relative=True, hold=True)
    with pytest.raises(ConditionError, match="no 'for' here"):
        value.check(relative=None, hold=False)


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [(">", 2, False), (">=", 2, True), ("<", 1, True), ("<=", 2.5, False)],
)
def test_it_holds(op: str, value: float, expected: bool) -> None:
    assert Condition("", "count", "cow", op, 2, False).holds(value) is expected


def test_quantiles() -> None:
    assert quantile("p99.9") == Fraction(999, 1000)
    assert quantile("mean") is quantile("p100") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p99(kernel)>1ms", "counted, not timed.*count.kernel."),
        ("stalled(kernel)>+10%", "counted, not timed"),
        ("count(user)<0", "holds never"),
        ("p50(user)<0ms for 1s", "holds never"),
        ("rate(cow)>=0/s", "holds always"),
        ("p99(user)<-200%", "holds never"),
        ("p99(user)<-100%", "holds never"),
        ("count(user)<=-100.1%", "holds never"),
        ("rate(cow)>=-100%", "holds always"),
        ("p50(cow)>-150%", "holds always"),
    ],
)
def test_conditions_that_nothing_can_change(text: str, words: str) -> None:
    condition = parse(text, (*KINDS, "kernel"))
    with pytest.raises(ConditionError, match=words):
        condition.check(relative=None, hold=True)


@pytest.mark.parametrize(
    "text",
    [
        "rate(kernel)>5/s",
        "count(user)<=0",
        "p99(user)>=+0%",
        "max(user)>=0ns",
        "p99(user)<-99.9%",
        "rate(user)<=-100%",
        "rate(user)>-100%",
        "p99(user)>+200%",
    ],
)
def test_conditions_at_the_edge(text: str) -> None:
    parse(text, (*KINDS, "kernel")).check(relative=None, hold=True)
