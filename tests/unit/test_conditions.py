"""Conditions as users write them."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from livedump.conditions import COMPARED, NOW, Condition, ConditionError, Form, parse
from livedump.metrics import quantile

KINDS = ("user", "cow", "stop")

#: What a unit test of the grammar needs.
ANY = Form("something else", relative=None, hold=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p99(user)>2ms", ("p99", "user", ">", 2e6, False, 0.0)),
        ("p99(user) > 2ms for 1s", ("p99", "user", ">", 2e6, False, 1.0)),
        (" p99.9( cow )>=+20% ", ("p99.9", "cow", ">=", 0.2, True, 0.0)),
        ("mean(cow)<-12.5%", ("mean", "cow", "<", -0.125, True, 0.0)),
        ("rate(user)>5000/s for 300ms", ("rate", "user", ">", 5000.0, False, 0.3)),
        ("rate(user)>5 for 1.5m", ("rate", "user", ">", 5.0, False, 90.0)),
        ("rate(user)>5 for 5", ("rate", "user", ">", 5.0, False, 5.0)),
        ("rate(user)>5 for 1h", ("rate", "user", ">", 5.0, False, 3600.0)),
        ("count(stop)>0", ("count", "stop", ">", 0.0, False, 0.0)),
        ("max(stop)<=500us", ("max", "stop", "<=", 5e5, False, 0.0)),
        ("stalled(user)>1.5s", ("stalled", "user", ">", 1.5e9, False, 0.0)),
    ],
)
def test_what_is_read(text: str, expected: tuple[object, ...]) -> None:
    found = parse(text, KINDS, ANY)
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
        ("", "is no condition. Write something else"),
        ("p99 user > 2ms", "is no condition"),
        ("p99(user)=2ms", "is no condition"),
        ("p99(user)>2ms for ever", "is no condition"),
        ("p99(users)>2ms", "no kind users"),
        ("p100(user)>2ms", "no metric p100"),
        ("p0(user)>2ms", "no metric p0"),
        ("median(user)>2ms", "no metric median"),
        ("p99(user)>2", "is a time"),
        ("p99(user)>20%", "a change has a sign and %"),
        ("p99(user)>+2ms", "a change has a sign and %"),
        ("count(user)>2ms", "count is not in ms. Write 2.$"),
        ("rate(user)>2.5s", "rate is not in s. Write 2.5/s.$"),
    ],
)
def test_what_cannot_be_read(text: str, words: str) -> None:
    with pytest.raises(ConditionError, match=words):
        parse(text, KINDS, ANY)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p99(cow)>+5%", "a value like 2ms"),
        ("p99(user)>20%", "a value like 2ms"),
        ("p99(user)<-1ms", "a value like 2ms"),
        ("foo", r"Write METRIC\(KIND\)>LIMIT \[for TIME\], e.g. p99\(user\)>2ms for 1s; TIME is"),
        ("p99(user)>2ms for 500us", "TIME is 500ms, 5s, 1m or 1h"),
        ("p99(user)>5", "Add ns, us, ms, s.$"),
    ],
)
def test_a_remedy_is_taken_where_it_is_given(text: str, words: str) -> None:
    """Where values alone are, no change is proposed."""
    with pytest.raises(ConditionError, match=words) as caught:
        parse(text, KINDS, NOW)
    assert "%" not in str(caught.value).replace(text, "")


def test_where_it_stands() -> None:
    for text in ("p99(cow)>+5%", "p99(cow)>5us"):
        parse(text, KINDS)
    with pytest.raises(ConditionError, match="no 'for' here"):
        parse("p99(cow)>5us for 1s", KINDS)
    with pytest.raises(ConditionError, match="a change like"):
        parse("p99(cow)>5us", KINDS, Form("", relative=True, hold=False))


@pytest.mark.parametrize("form", [NOW, COMPARED])
def test_examples_are_taken(form: Form) -> None:
    _, _, examples = form.grammar.partition("e.g. ")
    conditions, _, times = examples.partition("; TIME is ")
    for text in conditions.split(" or "):
        parse(text, KINDS, form)
    for time in filter(None, re.split(", | or ", times)):
        assert parse(f"rate(user)>5 for {time}", KINDS, form).hold_s > 0


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
        ("p99(kernel)>1ms", "counted, not timed. Use rate.kernel."),
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
    with pytest.raises(ConditionError, match=words):
        parse(text, (*KINDS, "kernel"), ANY)


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
    parse(text, (*KINDS, "kernel"), ANY)
