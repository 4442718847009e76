"""Spans are sets of integers: every operation agrees with Python's own sets."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tradeflood.spans import EMPTY, Spans
from tradeflood.testing.strategies import spans


def numbers(some):
    """The integers of spans, one by one."""
    return {number for start, end in some for number in range(start, end)}


def is_proper(some):
    """Disjoint, ascending, none empty, none touching the next."""
    flat = [end for span in some for end in span]
    return isinstance(some, Spans) and all(one < other for one, other in pairwise(flat))


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), max_size=8))
def test_of_is_the_union_of_its_pairs(pairs):
    made = Spans.of(*pairs)
    assert is_proper(made)
    assert numbers(made) == {number for start, end in pairs for number in range(start, end)}


@given(spans(), spans())
def test_operations_are_those_of_sets(one, other):
    for got, expected in (
        (one | other, numbers(one) | numbers(other)),
        (one & other, numbers(one) & numbers(other)),
        (one - other, numbers(one) - numbers(other)),
    ):
        assert is_proper(got)
        assert numbers(got) == expected


@given(spans(), spans(), spans())
def test_union_is_associative_commutative_and_idempotent(one, other, third):
    assert (one | other) | third == one | (other | third)
    assert one | other == other | one
    assert one | one == one
    assert one | EMPTY == one


@given(spans(), spans())
def test_equal_spans_cover_the_same_and_hash_alike(one, other):
    assert (one == other) == (numbers(one) == numbers(other))
    assert one != other or hash(one) == hash(other)


@given(spans())
def test_size_bounds_and_truth(one):
    inside = numbers(one)
    assert one.size == len(inside)
    assert one.bounds == ((min(inside), max(inside) + 1) if inside else (0, 0))
    assert bool(one) == bool(inside)


@given(spans(), st.integers(-60, 60), st.integers(0, 20))
def test_touches_is_a_common_integer(one, start, length):
    assert one.touches(start, start + length) == bool(numbers(one) & set(range(start, start + length)))


@given(spans(), spans())
def test_covers_is_a_superset(one, other):
    assert one.covers(other) == (numbers(one) >= numbers(other))


@given(spans())
def test_repr_is_the_value(one):
    assert eval(repr(one), {"Spans": Spans}) == one
