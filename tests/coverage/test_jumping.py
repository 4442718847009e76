"""Ids of which a venue leaves some out: believed where two answers say the same, joined wherever such parts meet."""

from decimal import Decimal
from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from tradeflood.coverage import Dataset, Grade, State, held
from tradeflood.coverage.claims import settled, solid
from tradeflood.coverage.compact import beyond, compacted
from tradeflood.coverage.evidence import JUMPED, JUMPED_TWICE, Link, in_sequence
from tradeflood.coverage.jumping import asked_twice
from tradeflood.coverage.refute import refuted
from tradeflood.models import Side, Trade
from tradeflood.spans import Spans

TRADES = Dataset(Trade, "x", "A/B", ("raw",))
ONE = Decimal(1)


def trade(number, time):
    return Trade("x", "A/B", "raw", str(number), ONE, ONE, Side.BUY, time)


class Kept:
    """A store of one dataset: rows and claims, each answer taken in as a session does it."""

    def __init__(self):
        self.rows, self.claims, self.said = {}, [], []

    def live(self, *rows):
        self.claims += refuted(self.claims, [row for row in rows if row.trade_id not in self.rows])
        self.rows |= {row.trade_id: row for row in rows}

    def answer(self, history, start, end, clock, *, without=(), reach=None):
        """Take in an answer to [start, end) that shows nothing after `reach`, and not those `without`."""
        there = [row for row in history if row.venue_time < (clock if reach is None else reach)]
        first = next((int(row.trade_id) for row in there if row.venue_time >= start), None)
        after = next((int(row.trade_id) for row in there if row.venue_time >= end), None)
        if first is None:
            return
        high = int(there[-1].trade_id) + 1 if after is None else after + 1
        shown = [row for row in there if first <= int(row.trade_id) < high and row.trade_id not in without]
        links = [Link(int(row.trade_id), int(row.trade_id) + 1, row) for row in shown]
        ids = [((first, high), (start, end), after is not None, True)]
        made = list(in_sequence(TRADES, ids, Spans.of((first, high)), links, clock, 5, "p", jumps=True))
        self.said.append(held(claim for claim in made if claim.evidence == JUMPED))
        against = list(refuted(self.claims, [row for row in shown if row.trade_id not in self.rows]))
        before = [*self.claims, *against]
        new = beyond(made, solid(self.claims), shown)
        self.claims += [*against, *asked_twice(new, before, shown, self.read)]
        self.rows |= {row.trade_id: row for row in shown}

    def read(self, start, end):
        return [row for row in self.rows.values() if start <= row.venue_time < end]


histories = st.lists(st.tuples(st.sampled_from([1, 1, 2, 5]), st.sampled_from([0, 1, 3, 8])), min_size=1, max_size=30).map(
    lambda steps: [
        trade(number, time)
        for number, time in zip(
            accumulate(step[0] for step in steps), accumulate(step[1] for step in steps), strict=True
        )
    ]
)  # fmt: skip
questions = st.lists(st.tuples(st.integers(-5, 60), st.integers(1, 60), st.integers(0, 60)), min_size=1, max_size=6)


@given(histories, questions, st.data())
def test_what_joins_claims_no_more_than_two_answers_said(history, asked, data):
    """Each row is withheld by one answer at most: then no moment that is believed lacks one."""
    kept, clock = Kept(), 30
    names = [row.trade_id for row in history]
    withheld = data.draw(st.dictionaries(st.sampled_from(names), st.integers(0, len(asked) - 1)))
    for number, (start, wide, wait) in enumerate(asked):
        clock += wait + 1
        without = {name for name, place in withheld.items() if place == number}
        kept.answer(history, start, min(start + wide, clock), clock, without=without)
        if data.draw(st.booleans()):
            kept.live(data.draw(st.sampled_from([row for row in history if row.venue_time < clock] or history[:1])))
    few = compacted(kept.claims)
    sure = solid(kept.claims)
    assert (held(few), settled(few), solid(few)) == (held(kept.claims), settled(kept.claims), sure)
    for start, end in sure:
        for moment in range(start, end):
            assert sum(said.touches(moment, moment + 1) for said in kept.said) >= 2
        assert {row.trade_id for row in history if start <= row.venue_time < end} <= kept.rows.keys()
    for claim in few:
        if claim.evidence == JUMPED_TWICE and claim.state is State.HELD:
            assert claim.grade is Grade.B
            assert claim.count <= len([row for row in history if claim.start <= row.venue_time < claim.end])


@given(histories, st.lists(st.integers(0, 100), min_size=1, max_size=8).map(sorted))
def test_whatever_two_answers_say_alike_becomes_one_claim(history, cuts):
    """Asked for in portions that meet, each with a little of the one before it, and all of it twice."""
    kept, last = Kept(), history[-1].venue_time
    edges = [-5, *sorted({cut for cut in cuts if cut < last}), last]
    for clock in (200, 300):
        for place, (start, end) in enumerate(pairwise(edges)):
            kept.answer(history, start, end, clock + place)
    few = [claim for claim in compacted(kept.claims) if claim.evidence == JUMPED_TWICE]
    assert len(few) == len(solid(kept.claims)) <= 1
    for claim in few:
        assert claim.count == len([row for row in history if claim.start <= row.venue_time < claim.end])


def test_one_answer_is_one_claim_of_grade_d_and_a_second_one_makes_it_b():
    history = [trade(number, 10 * number) for number in (1, 2, 5, 6, 9)]
    kept = Kept()
    kept.answer(history, 15, 85, 200)
    (claim,) = kept.claims
    assert (claim.start, claim.end, claim.grade, claim.evidence, claim.count) == (15, 85, Grade.D, JUMPED, 3)
    kept.answer(history, 15, 85, 200)  # the same answer, taken in again
    assert {claim.grade for claim in kept.claims} == {Grade.D}
    kept.answer(history, 15, 85, 220)
    (claim,) = compacted(kept.claims)
    assert (claim.start, claim.end, claim.grade, claim.evidence, claim.count) == (15, 85, Grade.B, JUMPED_TWICE, 3)


def test_an_answer_that_lacks_what_is_stored_is_no_second_one():
    history = [trade(number, 10 * number) for number in (1, 2, 5, 6, 9)]
    kept = Kept()
    kept.answer(history, 15, 85, 200)
    kept.answer(history, 15, 85, 220, without={"5"})
    assert not solid(kept.claims)
    kept.answer(history, 15, 85, 240)
    assert solid(kept.claims) == Spans.of((15, 85))


def test_an_answer_that_brings_what_the_first_one_lacked_is_the_first_one():
    history = [trade(number, 10 * number) for number in (1, 2, 5, 6, 9)]
    kept = Kept()
    kept.answer(history, 15, 85, 200, without={"5"})
    kept.answer(history, 15, 85, 220)
    assert not solid(kept.claims)
    kept.answer(history, 15, 85, 240)
    assert solid(kept.claims) == Spans.of((15, 85))


def test_what_has_not_settled_is_open():
    history = [trade(number, 10 * number) for number in (1, 2, 5)]
    kept = Kept()
    kept.answer(history, 5, 60, 52)
    assert [(claim.start, claim.end, claim.state) for claim in kept.claims] == [
        (5, 47, State.HELD),
        (47, 52, State.OPEN),
    ]
