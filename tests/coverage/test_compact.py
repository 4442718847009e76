"""Fewer claims that say the same: the laws of compaction."""

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.coverage import Claim, Dataset, Grade, State, held, stretches
from tradeflood.coverage.claims import settled, solid
from tradeflood.coverage.compact import compacted, grown
from tradeflood.models import Trade
from tradeflood.testing.strategies import claims

DATASET = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
anything = claims(st.just(DATASET), st.integers(0, 20), st.none() | st.sampled_from(["3", "7", "t5"]))
by_id = claims(st.just(DATASET), st.integers(0, 20), st.integers(1, 7).map(str)).map(
    lambda claim: evolve(claim, evidence="consecutive ids")
)
some_claims = st.lists(anything, max_size=9) | st.lists(by_id, max_size=9)


def claim(start, end, state=State.HELD, grade=Grade.A, evidence="ids", **more):
    return Claim(DATASET, start, end, state, grade, evidence, **more)


@given(some_claims)
def test_what_is_held_and_lost_stays_so(some):
    few = compacted(some)
    for what in (held, settled, solid):
        assert what(few) == what(some)
    assert len(few) <= len(set(some))


@given(some_claims)
def test_no_moment_is_told_of_better_or_worse(some):
    """State and grade of every moment are what they were."""

    def told(claims):
        return {
            moment: (part.state, part.grade) for part in stretches(claims) for moment in range(part.start, part.end)
        }

    before, after = told(some), told(compacted(some))
    final = {State.HELD, State.LOST}
    assert {at: says for at, says in before.items() if says[0] in final} == {
        at: says for at, says in after.items() if says[0] in final
    }
    assert before.keys() == after.keys()


@given(some_claims)
def test_compacting_twice_changes_nothing_more(some):
    few = compacted(some)
    assert set(compacted(few)) == set(few)


@given(some_claims, some_claims)
def test_whatever_comes_later_no_more_is_held_than_without_compaction(some, later):
    """Nothing is held that would not have been: what joined is refuted as soon as a part of it is."""
    assert not held([*compacted(some), *later]) - held([*some, *later])


def test_live_claims_of_a_day_become_one():
    day = [claim(at, at + 1, left=str(at), right=str(at + 1), count=1, digest=f"{at:x}") for at in range(5_000)]
    (one,) = compacted(day)
    assert (one.start, one.end, one.count, one.left, one.right) == (0, 5_000, 5_000, "0", "5000")


def test_a_hole_that_was_filled_joins_what_lies_on_its_two_sides():
    """Its answer begins with the row before it and ends with the row behind it, which the neighbours count too."""
    sides = [
        claim(0, 10, evidence="consecutive ids", count=5, left="100", right="105", digest="1"),
        claim(10, 20, evidence="consecutive ids", count=4, left="104", right="108", digest="2"),
        claim(20, 40, evidence="consecutive ids", count=9, left="106", right="115", digest="4"),
    ]
    (one,) = compacted(sides)
    assert (one.start, one.end, one.count, one.left, one.right, one.digest) == (0, 40, 15, "100", "115", "")
    assert len(compacted([sides[0], sides[2]])) == 2
    assert len(compacted([sides[0], claim(10, 20, evidence="consecutive ids", left="106", right="108")])) == 2


def test_bracketed_pages_that_saw_beyond_their_common_edge_become_one():
    pages = [claim(at, at + 10, grade=Grade.B, left=f"t{at}", right=f"t{at + 10}") for at in range(0, 100, 10)]
    (one,) = compacted(pages)
    assert (one.start, one.end) == (0, 100)
    apart = [claim(0, 10, grade=Grade.B), claim(10, 20, grade=Grade.B)]
    assert set(compacted(apart)) == set(apart)


def test_an_open_edge_goes_when_more_is_known():
    assert compacted([claim(0, 10), claim(4, 10, State.OPEN, None)]) == [claim(0, 10)]


def test_lost_goes_where_all_of_it_is_held_since():
    lost = claim(0, 10, State.LOST, None, "gone", as_of=7)
    assert {part.state for part in compacted([lost, claim(0, 6), claim(5, 10)])} == {State.HELD}
    assert set(compacted([lost, claim(0, 6)])) == {lost, claim(0, 6)}


def test_a_dispute_goes_once_something_newer_is_held_there():
    old, late = claim(0, 10, as_of=10), claim(3, 5, State.DISPUTED, None, "late", as_of=10, refutes=10)
    assert set(compacted([old, late])) == {old, late}
    new = claim(0, 12, as_of=20)
    assert compacted([old, late, new]) == [new]


def test_a_claim_that_grew_is_refuted_where_either_part_would_be():
    assert grown(claim(0, 5, as_of=7, digest="1"), claim(5, 9, as_of=12, digest="3")).as_of == 7
