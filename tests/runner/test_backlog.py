"""Portions of a backlog: oldest first, recent always, bounded, and none is stuck on what cannot be filled."""

from hypothesis import given
from hypothesis import strategies as st

from tradeflood.models.time import HOUR, MINUTE
from tradeflood.runner.backlog import NARROWEST, RECENT, ROWS, WIDEST, Backlog
from tradeflood.spans import EMPTY, Spans

NOW = 1_000 * HOUR


def test_nothing_missing_is_nothing_to_ask():
    assert Backlog().portions(EMPTY, NOW) == []


def test_the_oldest_hole_comes_with_what_is_recent():
    missing = Spans.of((0, 10 * HOUR), (NOW - MINUTE, NOW))
    assert Backlog().portions(missing, NOW) == [(0, HOUR), (NOW - MINUTE, NOW)]


def test_a_hole_that_cannot_be_filled_is_passed_over_and_comes_again():
    backlog, missing = Backlog(), Spans.of((0, HOUR), (5 * HOUR, 6 * HOUR))
    firsts = [backlog.portions(missing, NOW)[0] for _ in range(3)]
    assert firsts == [(0, HOUR), (5 * HOUR, 6 * HOUR), (0, HOUR)]


def test_portions_follow_the_rate_of_the_market():
    backlog = Backlog()
    backlog.came(ROWS * 3)
    assert backlog.wide == HOUR // 2
    for _ in range(40):
        backlog.came(0)
    assert backlog.wide == WIDEST
    for _ in range(40):
        backlog.came(ROWS * 3)
    assert backlog.wide == NARROWEST


def test_a_quiet_market_is_widened_fast_and_a_portion_that_is_far_too_large_is_cut_anew():
    backlog = Backlog(MINUTE, rows=1_000, widest=10 * HOUR)
    backlog.came(0)
    assert backlog.wide == 8 * MINUTE
    backlog.came(400)
    assert backlog.wide == 16 * MINUTE
    for _ in range(5):
        backlog.came(0)
    assert backlog.wide == 10 * HOUR
    assert not backlog.is_overfull(4_000)
    assert backlog.is_overfull(4_001)
    backlog.narrow()
    assert backlog.wide == 10 * HOUR // 16
    for _ in range(5):
        backlog.narrow()
    assert backlog.wide == NARROWEST
    assert not backlog.is_overfull(1 << 30), "a narrower one cannot be had"


@given(st.integers(1, 2000), st.integers(1, 60))
def test_a_backlog_that_can_be_filled_is_filled(first, wide):
    """Portion by portion, everything is asked for, once but for the recent part."""
    missing, asked = Spans.of((NOW - first * MINUTE, NOW)), 0
    backlog = Backlog(wide * MINUTE)
    for _ in range(10_000):
        if not missing:
            break
        for portion in backlog.portions(missing, NOW):
            asked += portion[1] - portion[0]
            missing -= Spans.of(portion)
    assert not missing
    assert asked <= first * MINUTE + RECENT
