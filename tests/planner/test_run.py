"""Runs against a venue whose truth is known: whatever is asked, in whatever order, coverage never says more than is so."""

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood import plugins
from tradeflood.coverage import Grade, State, clipped, held, stretches
from tradeflood.models import Candle, Trade
from tradeflood.models.time import MS, SECOND
from tradeflood.spans import EMPTY, Spans
from tradeflood.turns import registry

from . import toy
from .toy import BASE, CANDLES, SETTLE, SLOW, TRADES, Desk, Truth, Venue, candles, dataset_of, lies, trades


@pytest.fixture(autouse=True, scope="module")
def venues():
    plugins.load()
    with registry.scope():
        toy.define_venues()
        yield


# ---------------------------------------------------------------- truths and questions, at random

gaps = st.sampled_from([0, 0, 0, 1, 1, 7, 30, 130, 900])
jumps = st.sampled_from([1, 1, 1, 1, 2, 9])


def some_trades(jumps=jumps, delay=SETTLE // MS - 1):
    """Trades with quiet stretches, with several in one millisecond, with ids that jump; shown late."""
    steps = st.lists(st.tuples(gaps, jumps, st.integers(0, delay)), max_size=40)
    return steps.map(
        lambda rows: Truth(
            list(
                zip(
                    accumulate((jump for _, jump, _ in rows), initial=996),
                    accumulate((gap for gap, _, _ in rows), initial=100),
                    (delay for *_, delay in rows),
                    strict=False,
                )
            )
        )
    )


some_bars = st.lists(
    st.tuples(st.integers(0, 25), st.integers(5, 9), st.integers(0, SLOW // MS - 1)), unique_by=lambda bar: bar[0]
).map(lambda bars: Truth(bars=sorted(bars)))


def some_questions(whole):
    """Ranges in any order, the time that passes before each, and the numbers of the requests that fail."""
    ends = st.lists(st.integers(-500, whole), min_size=2, max_size=2, unique=True).map(sorted)
    failing = st.just(frozenset()) | st.frozensets(st.integers(1, 12), max_size=4)
    return st.lists(st.tuples(ends, st.sampled_from([0, 1, 150, 1_000]), failing), min_size=1, max_size=5)


def carry(desk, queries_of, questions):
    """Ask one after the other, and after each look for lies, and for questions about what was held."""
    for (first, last), passed, failing in questions:
        desk.venue.clock += passed * MS
        desk.venue.log.clear()
        desk.venue.failing = failing
        queries = queries_of(first, last)
        before = {dataset_of(query): held(desk.store.claims(dataset_of(query))) for query in queries}
        run = desk.ask(*queries)
        for dataset, spans in toy.ASKED:
            assert not spans & before.get(dataset, EMPTY), "what is held was asked again"
        for query in queries:
            assert lies(desk, dataset_of(query)) == []
            told = Spans.of(*((part.start, part.end) for part in clipped(run.frame(query).coverage.parts.get(dataset_of(query), ()), query.start, query.end)))
            assert Spans.of((query.start, query.end)).covers(told)
        yield run


@pytest.mark.parametrize("venue", TRADES)
@given(
    truth=some_trades(), questions=some_questions(4_000), now=st.integers(0, 4_500), pace=st.sampled_from([0, 0, 40]),
    clamp=st.integers(2, 4), skew=st.sampled_from([-5_000, 0, 5_000]),
)  # fmt: skip
def test_trades_that_are_called_held_are_there(venue, truth, questions, now, pace, clamp, skew):
    desk = Desk(Venue(truth, BASE + now * MS, pace * MS, clamp), skew=skew * MS)
    for _ in carry(desk, lambda first, last: [trades(venue, first, last)], questions):
        pass


@pytest.mark.parametrize("venue", CANDLES)
@given(
    truth=some_bars, questions=some_questions(26_000), now=st.integers(0, 27_000), pace=st.sampled_from([0, 0, 400]),
    clamp=st.integers(1, 4), skew=st.sampled_from([-60_000, 0, 60_000]),
)  # fmt: skip
def test_candles_that_are_called_held_are_there_and_final(venue, truth, questions, now, pace, clamp, skew):
    desk = Desk(Venue(truth, BASE + now * MS, pace * MS, clamp), skew=skew * MS)
    for _ in carry(desk, lambda first, last: [candles(venue, first, last)], questions):
        pass


@pytest.mark.parametrize("venue", ["counting", "older"])
@given(truth=some_trades(), questions=some_questions(4_000), now=st.integers(0, 4_500), random=st.randoms())
def test_candles_made_of_trades_are_held_no_further_than_their_trades(venue, truth, questions, now, random):
    desk = Desk(Venue(truth, BASE + now * MS))

    def both(first, last):
        queries = [trades(venue, first, last), candles(venue, first, last, "trades")]
        return random.sample(queries, random.randint(1, 2))

    for run in carry(desk, both, questions):
        of_candles = held(desk.store.claims(dataset_of(candles(venue, 0, 1, "trades"))))
        of_trades = held(desk.store.claims(dataset_of(trades(venue, 0, 1))))
        assert of_trades.covers(of_candles)
        del run


def told(desk, query):
    """The coverage of a query as (first ms, last ms, state, grade), asked again: nothing is requested."""
    desk.venue.log.clear()
    run = desk.ask(query)
    parts = clipped(stretches(desk.store.claims(dataset_of(query))), query.start, query.end)
    del run
    return [(*toy.in_ms([(part.start, part.end)])[0], str(part.state), part.grade and str(part.grade)) for part in parts]


@pytest.mark.parametrize("venue", ["counting", "older"])
@given(truth=some_trades(), first=st.integers(-500, 3_000), wide=st.integers(1, 3_000), clamp=st.integers(2, 4))
def test_a_settled_range_is_held_throughout_and_asked_once(venue, truth, first, wide, clamp):
    """Liveness: without failures, and long after, nothing of a range is left unknown."""
    desk = Desk(Venue(truth, clamp=clamp))
    query = trades(venue, first, first + wide)
    desk.ask(query)
    assert held(desk.store.claims(dataset_of(query))).covers(query.spans)
    desk.venue.log.clear()
    desk.ask(query)
    assert desk.venue.log == []


@pytest.mark.parametrize("venue", CANDLES)
@given(truth=some_bars, first=st.integers(-500, 20_000), wide=st.integers(1, 6_000), clamp=st.integers(1, 4))
def test_a_settled_range_of_candles_is_held_throughout_and_asked_once(venue, truth, first, wide, clamp):
    """Also where it begins and ends between two candles: there is nothing to be known before the first open."""
    desk = Desk(Venue(truth, BASE + 60 * SECOND, clamp=clamp))
    query = candles(venue, first, first + wide)
    desk.ask(query)
    desk.venue.log.clear()
    desk.ask(query)
    assert desk.venue.log == []
