"""Claims: coverage follows from a set of them, whatever their order and however often they come."""

from decimal import Decimal
from itertools import pairwise

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.coverage import Claim, Dataset, Grade, State, Stretch, clipped, digest_of, held, stretches
from tradeflood.coverage.claims import good_enough, settled
from tradeflood.models import Candle, Side, Trade
from tradeflood.spans import Spans
from tradeflood.testing.strategies import claims, rows

DATASET = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
some_claims = st.lists(
    claims(st.just(DATASET), st.integers(0, 20), st.none() | st.sampled_from(["3", "7"])), max_size=7
)


def claim(start, end, state=State.HELD, grade=Grade.A, evidence="ids", **more):
    return Claim(DATASET, start, end, state, grade, evidence, **more)


@given(some_claims, st.randoms(use_true_random=False))
def test_stretches_do_not_depend_on_the_order(some, random):
    shuffled = list(some)
    random.shuffle(shuffled)
    assert stretches(shuffled) == stretches(some)


@given(some_claims)
def test_a_claim_said_twice_says_nothing_more(some):
    assert stretches(some + some) == stretches(some)


@given(some_claims)
def test_stretches_are_ascending_and_disjoint_and_cover_every_claim(some):
    parts = stretches(some)
    assert all(part.start < part.end for part in parts)
    assert all(one.end <= other.start for one, other in pairwise(parts))
    assert Spans.of(*((p.start, p.end) for p in parts)) == Spans.of(*((c.start, c.end) for c in some))


@given(some_claims)
def test_held_is_what_the_stretches_call_held(some):
    assert held(some) == Spans.of(*((p.start, p.end) for p in stretches(some) if p.state is State.HELD))


@given(some_claims)
def test_no_stretch_says_more_than_a_claim_that_covers_it(some):
    for part in stretches(some):
        for moment in range(part.start, part.end):
            assert any(
                c.start <= moment < c.end and (c.state, c.grade, c.evidence) == (part.state, part.grade, part.evidence)
                for c in some
            )


@given(some_claims, st.integers(0, 20), st.integers(0, 20))
def test_clipped_keeps_what_lies_inside(some, start, end):
    parts = clipped(stretches(some), start, end)
    inside = Spans.of((start, end))
    assert Spans.of(*((p.start, p.end) for p in parts)) == Spans.of(*((c.start, c.end) for c in some)) & inside


@given(st.permutations(list(State)))
def test_the_strongest_state_wins(states):
    (part,) = stretches([claim(0, 10, state) for state in states])
    assert part.state is State.DISPUTED
    (part,) = stretches([claim(0, 10, state) for state in states if state is not State.DISPUTED])
    assert part.state is State.HELD


def test_neighbours_join_only_where_they_are_linked():
    apart = [claim(0, 5), claim(5, 9)]
    assert len(stretches(apart)) == 2
    linked = [claim(0, 5, right="8"), claim(5, 9, left="8")]
    assert stretches(linked) == [Stretch(0, 9, State.HELD, Grade.A, "ids")]
    broken = [claim(0, 5, right="8"), claim(5, 9, left="9")]
    assert len(stretches(broken)) == 2


def test_neighbours_that_say_different_things_stay_apart():
    parts = stretches([claim(0, 5, right="8"), claim(5, 9, grade=Grade.D, left="8")])
    assert [(part.end, part.grade) for part in parts] == [(5, Grade.A), (9, Grade.D)]


@pytest.mark.parametrize("grade", list(Grade))
def test_what_was_lost_is_held_once_an_answer_brings_it(grade):
    """Whatever the order in which the two were made, and on any evidence; what it did not bring stays lost."""
    lost = claim(0, 10, State.LOST, None, "gone", as_of=7)
    for as_of in (3, 9):
        some = [lost, claim(4, 8, grade=grade, as_of=as_of)]
        assert held(some) == Spans.of((4, 8))
        assert [part.state for part in stretches(some)] == [State.LOST, State.HELD, State.LOST]
        assert settled(some) == Spans.of((0, 10))


def test_a_dispute_takes_its_part_out_of_what_is_held():
    some = [claim(0, 10), claim(3, 4, State.DISPUTED, None, "late row")]
    assert held(some) == Spans.of((0, 3), (4, 10))
    assert [part.state for part in stretches(some)] == [State.HELD, State.DISPUTED, State.HELD]


@pytest.mark.parametrize(
    ("grade", "least", "enough"),
    [
        (Grade.A, Grade.B, True),
        (Grade.B, Grade.B, True),
        (Grade.C, Grade.B, False),
        (Grade.D, Grade.E, False),
        (None, Grade.D, False),
    ],
)
def test_which_grades_are_good_enough(grade, least, enough):
    assert good_enough(grade, least) is enough


@given(st.lists(rows(Candle), max_size=5, unique_by=repr), st.randoms(use_true_random=False))
def test_a_digest_does_not_depend_on_order_or_on_when_rows_were_received(some, random):
    shuffled = [evolve(row, received_at=None) for row in some]
    random.shuffle(shuffled)
    assert digest_of(shuffled) == digest_of(evolve(row, received_at=1) for row in some)


@given(st.lists(rows(Trade), max_size=6), st.integers(0, 6))
def test_the_digests_of_two_sets_of_rows_give_that_of_both(some, at):
    first, second = (int(digest_of(part), 16) for part in (some[:at], some[at:]))
    assert first ^ second == int(digest_of(some), 16)


def test_a_digest_sees_every_value_and_what_two_rows_exchange():
    one = Trade("v", "A/B", "raw", "1", Decimal("64123.45"), Decimal("0.5"), Side.BUY, 5)
    two = evolve(one, trade_id="2", price=Decimal("64123.46"), size=Decimal("0.7"), venue_time=6)
    exchanged = [
        [evolve(one, **{name: getattr(two, name)}), evolve(two, **{name: getattr(one, name)})]
        for name in ("price", "size", "venue_time")
    ]
    changed = [
        [one, evolve(two, **values)]
        for values in (
            {"trade_id": "3"}, {"price": Decimal(1)}, {"size": Decimal(1)}, {"aggressor": Side.SELL}, {"aggressor": None},
            {"venue_time": 7}, {"first_id": "2"}, {"last_id": "2"}, {"count": 1},
        )
    ]  # fmt: skip
    told = [digest_of(some) for some in ([one, two], *exchanged, *changed)]
    assert len(set(told)) == len(told)


def test_rows_that_no_store_can_hold_have_a_digest_too():
    row = Trade("v", "A/B", "raw", "\ud800", Decimal(1), Decimal(1), None, 1 << 70)
    assert digest_of([row]) != digest_of([evolve(row, trade_id="1")])
