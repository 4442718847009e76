"""Ids where a venue has none: one spelling per value, ordinals that do not depend on the order."""

from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.models import Side, Trade
from tradeflood.models.identity import digits, number_equals
from tradeflood.testing.strategies import decimals


def trade(said: str) -> Trade:
    return Trade("nobitex", "BTC/IRT", "raw", said, Decimal(1), Decimal(2), Side.BUY, 0)


def ids(rows) -> list[str]:
    return [row.trade_id for row in rows]


said = st.lists(st.sampled_from(["a", "b", "c"]), max_size=20)


@pytest.mark.parametrize(
    ("text", "spelt"),
    [("0.0020", "0.002"), ("1470000110", "1470000110"), ("1.47E+9", "1470000000"), ("0E-10", "0"), ("-0.0", "0"),
     ("12345678901234567890123456789012345.10", "12345678901234567890123456789012345.1")],
)  # fmt: skip
def test_a_number_has_one_spelling(text, spelt):
    assert digits(Decimal(text)) == spelt


@given(decimals())
def test_a_spelling_keeps_the_value_and_says_nothing_of_its_zeros(number):
    assert Decimal(digits(number)) == number
    assert digits(number) == digits(Decimal(format(number, "f") + ("0" if "." in format(number, "f") else ".0")))


def test_equal_rows_are_numbered_and_others_too():
    assert ids(number_equals([trade("a"), trade("b"), trade("a")])) == ["a:0", "b:0", "a:1"]


def test_no_rows_give_none():
    assert number_equals([]) == []


def test_nothing_but_the_position_changes_and_the_row_itself_does_not():
    row = trade("a")
    [numbered] = number_equals([row])
    assert row == trade("a")
    assert numbered == trade("a:0")


@given(said, st.randoms(use_true_random=False))
def test_the_set_of_ids_does_not_depend_on_the_order(texts, random):
    """Of k equal rows they are x:0 … x:k-1, whichever way the page is turned."""
    shuffled = random.sample(texts, len(texts))
    expected = {f"{text}:{n}" for text, count in Counter(texts).items() for n in range(count)}
    assert set(ids(number_equals(map(trade, texts)))) == expected
    assert set(ids(number_equals(map(trade, shuffled)))) == expected


@given(said, said)
def test_a_session_in_parts_numbers_as_in_one_go(first, second):
    """`before` is what has been, so a live session may be cut anywhere."""
    whole = number_equals(map(trade, first + second))
    parts = number_equals(map(trade, first)) + number_equals(map(trade, second), Counter(first))
    assert parts == whole


@given(said, said)
def test_two_observations_unite_to_the_larger_count(first, second):
    """Maximum per group, never the sum."""
    united = set(ids(number_equals(map(trade, first)))) | set(ids(number_equals(map(trade, second))))
    assert len(united) == sum((Counter(first) | Counter(second)).values())
