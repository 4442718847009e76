"""The laws of merging: associative, commutative, idempotent; requests are a function of what is wanted."""

from hypothesis import given
from hypothesis import strategies as st

from tradeflood.models import Candle, Trade
from tradeflood.models.time import iso, minutes, parse_time
from tradeflood.planner import Plan, Query

from .conftest import NOW, Answers, Venues, drive

START = parse_time("2025-06-01")
VENUES = Venues()


@st.composite
def queries(draw):
    first = draw(st.integers(0, 30))
    last = draw(st.integers(first + 1, first + 25))
    market = f"binance:A{draw(st.integers(0, 2))}/USDT"
    span = {"start": iso(START + minutes(first)), "end": iso(START + minutes(last))}
    if draw(st.booleans()):
        return Query(Candle, market, interval=draw(st.sampled_from(["1s", "1m"])), **span)
    return Query(Trade, market, kind=draw(st.sampled_from(["raw", "merged"])), **span)


def plans():
    return st.lists(queries(), max_size=5).map(lambda made: Plan(made, VENUES, at=NOW))


@given(plans(), plans(), plans())
def test_merging_is_associative(a, b, c):
    """(a | b) | c asks what a | (b | c) asks."""
    assert ((a | b) | c).requests == (a | (b | c)).requests


@given(plans(), plans())
def test_merging_is_commutative(a, b):
    """a | b asks what b | a asks."""
    assert (a | b).requests == (b | a).requests


@given(plans())
def test_merging_is_idempotent(a):
    """a | a asks what a asks."""
    assert (a | a).requests == a.requests


@given(plans(), plans())
def test_merging_never_asks_more(a, b):
    """Together it is never more than one by one."""
    assert len((a | b).requests) <= len(a.requests) + len(b.requests)


@given(plans())
def test_order_is_stable(a):
    """Equal input gives equal requests in equal order."""
    again = Plan(a.queries, VENUES, at=NOW)
    assert list(a.start().nodes) == list(again.start().nodes)


@given(st.lists(queries(), min_size=1, max_size=4))
def test_every_query_gets_exactly_its_rows(wanted):
    """However queries are merged, each gets the rows of its own range, all of them, once; and says that it holds them."""
    answers = Answers(3)
    together = drive(Plan(wanted, VENUES, at=NOW).start(), answers)
    for query in wanted:
        frame = together.frame(query)
        alone = drive(Plan([query], VENUES, at=NOW).start(), Answers(3)).frame(query)
        assert list(frame) == list(alone)
        positions = [row.position for row in frame]
        assert len(set(positions)) == len(positions)
        assert not frame.failures
        (dataset,) = frame.coverage.parts
        whole = (query.start, query.end)
        assert frame.coverage.held(dataset) == (whole,)
