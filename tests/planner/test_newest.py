"""The newest candle of an answer, which a replica that lags behind may show before it is final."""

from decimal import Decimal

import pytest
from attrs import define, evolve, field
from hypothesis import given
from hypothesis import strategies as st

from tradeflood import plugins
from tradeflood.coverage import State
from tradeflood.coverage.claims import Grade, good_enough
from tradeflood.models import Candle
from tradeflood.models.time import MINUTE, MS, SECOND
from tradeflood.planner.newest import BEHIND, as_asked, balanced, unproven, witnessed
from tradeflood.turns import Page, Windows, registry

from . import toy
from .test_run import some_bars, told
from .toy import BASE, Desk, Truth, Venue, candles, dataset_of

ONE = Decimal(1)
NOW = BASE // MINUTE * MINUTE + 10_000 * MINUTE + 7 * SECOND
FULL = NOW // MINUTE * MINUTE
THOUSAND = Windows(1_000, per="interval")


@pytest.fixture(autouse=True, scope="module")
def venues():
    plugins.load()
    with registry.scope():
        toy.define_venues()
        yield


def candle(number, closed=None, volume=1):
    opened = FULL + number * MINUTE
    return Candle("x", "A/B", "1m", "venue", opened, ONE, ONE, ONE, ONE, Decimal(volume), closed=closed)


def numbers(opens):
    return sorted((opened - FULL) // MINUTE for opened in opens)


def test_a_candle_is_final_where_a_later_one_has_traded():
    assert numbers(unproven([candle(-3), candle(-2), candle(-1)], NOW)) == [-1]
    assert numbers(unproven([candle(-2), candle(-1), candle(0)], NOW)) == [0]


def test_a_candle_is_final_where_the_venue_says_so():
    assert not unproven([candle(-2, closed=True), candle(-1, closed=True)], NOW)


def test_candles_in_which_nothing_traded_are_no_witnesses():
    assert numbers(unproven([candle(-3), candle(-2), candle(-1, volume=0), candle(0, volume=0)], NOW)) == [-1, 0]


def test_what_ended_long_ago_is_final():
    assert not unproven([candle(-8), candle(-7)], NOW)
    assert numbers(unproven([candle(at, volume=0) for at in range(-8, 0)], NOW)) == [-1]


def test_a_page_that_ends_near_the_present_is_asked_for_with_one_more_where_it_has_room():
    near, full, old = (
        Page(FULL - minutes * MINUTE, end) for minutes, end in ((10, FULL), (1_000, FULL), (20, FULL - BEHIND - MINUTE))
    )
    assert as_asked(witnessed(near, THOUSAND, "1m", NOW)) == Page(near.start, FULL + MINUTE)
    assert as_asked(witnessed(full, THOUSAND, "1m", NOW)) == full
    assert as_asked(witnessed(old, THOUSAND, "1m", NOW)) == old


def test_two_pages_that_meet_near_the_present_meet_earlier():
    pages = [Page(FULL - 1_000 * MINUTE, FULL), Page(FULL, FULL + MINUTE)]
    one, other = balanced(pages, THOUSAND, "1m", NOW)
    assert (one.start, other.end) == (FULL - 1_000 * MINUTE, FULL + MINUTE)
    assert one.end == other.start == FULL - BEHIND
    long_ago = [Page(0, 1_000 * MINUTE), Page(1_000 * MINUTE, 1_500 * MINUTE)]
    assert list(balanced(long_ago, THOUSAND, "1m", NOW)) == long_ago


def test_the_newest_candle_takes_no_more_requests_and_no_row_beyond_what_was_asked():
    """Four candles are a page; three, and the running one as a witness, are one as well."""
    desk = Desk(Venue(Truth(bars=[(at, 9, 0) for at in range(9)]), BASE + 8_500 * MS))
    query = candles("forward", 3_000, 6_000)
    run = desk.ask(query)
    assert len(desk.venue.log) == 1
    assert told(desk, query) == [(3_000, 6_000, "held", "A")]
    assert len(run.frame(query)) == len(desk.store.read(dataset_of(query), 0, 1 << 62)) == 3


def test_the_newest_candle_of_a_full_page_waits_for_the_next_answer():
    desk = Desk(Venue(Truth(bars=[(at, 9, 0) for at in range(9)]), BASE + 8_500 * MS))
    query = candles("forward", 2_000, 6_000)
    desk.ask(query)
    assert len(desk.venue.log) == 1
    assert told(desk, query) == [(2_000, 5_000, "held", "A"), (5_000, 6_000, "held", "D")]


@define
class Lagging(Venue):
    """A venue some of whose answers come from replicas that are behind, by up to so many ns, and say so nowhere."""

    behind: list[int] = field(factory=list)

    def rows(self, path, asked, shown):
        lag = self.behind[len(self.log) % len(self.behind)]
        return Venue.rows(evolve(self, clock=self.clock - lag), path, asked, shown)


at_once = some_bars.map(lambda truth: Truth(bars=[(at, volume, 0) for at, volume, _ in truth.bars]))
"""Bars that are whole when they end: each replica shows what happened in its order."""


@pytest.mark.parametrize("venue", ["forward", "backward"])
@given(
    truth=at_once,
    questions=st.lists(st.tuples(st.integers(-2, 28), st.integers(1, 4), st.integers(0, 9)), min_size=1, max_size=6),
    behind=st.lists(st.sampled_from([0, 0, 700, 4_000, 30_000]).map(lambda lag: lag * MS), min_size=1, max_size=5),
)  # fmt: skip
def test_no_candle_of_grade_b_or_better_is_not_final(venue, truth, questions, behind):
    """Whichever replica answers a page: the venue gives its bars no flag, and its running ones other figures."""
    desk = Desk(Lagging(truth, BASE + 5 * SECOND, behind=behind))
    volumes = {BASE + at * SECOND: volume for at, volume, _ in truth.bars}
    for first, wide, passed in questions:
        desk.venue.clock += passed * SECOND
        query = candles(venue, first * 1_000, (first + wide) * 1_000)
        desk.ask(query)
        stored = {row.open_time: int(row.volume) for row in desk.store.read(dataset_of(query), 0, 1 << 62)}
        for claim in desk.store.claims(dataset_of(query)):
            if claim.state is State.HELD and good_enough(claim.grade, Grade.B):
                for opened, volume in volumes.items():
                    if claim.start <= opened < claim.end:
                        assert stored.get(opened) == volume
