"""Candles of a stream of trades: the last word on each is the exact fold, and `closed` is said only where it is so."""

from decimal import Decimal

import pytest
from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st

from tradeflood.coverage import following
from tradeflood.coverage.candles import candles_of, place_of
from tradeflood.coverage.following import Follower
from tradeflood.models import Side, Trade
from tradeflood.models.time import MINUTE, SECOND, parse_time

START = parse_time("2026-03-04T05:00:00")


def trade(number, at, price=1, size=1):
    return Trade("binance", "BTC/USDT", "raw", str(number), Decimal(price), Decimal(size), Side.BUY, START + at)


def minutes(candles):
    return [((row.open_time - START) // MINUTE, row.trades, row.closed) for row in candles]


many = st.lists(st.tuples(st.integers(0, 240), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=30)


@given(many, st.lists(st.integers(1, 6), min_size=1), st.randoms(), st.booleans(), st.data())
def test_the_last_word_on_each_candle_is_the_exact_fold(drawn, sizes, random, contiguous, data):
    """Late, twice, in any order; a candle that is called closed has every trade that its interval ever had."""
    drawn.sort()
    all_rows = [trade(100 + n, at * SECOND, price, size) for n, (at, price, size) in enumerate(drawn)]
    lost = data.draw(st.sets(st.integers(0, len(all_rows) - 1), max_size=3))
    rows = [row for n, row in enumerate(all_rows) if n not in lost]
    assume(rows)
    late = sorted(rows, key=lambda row: int(row.trade_id) + random.choice([0, 0, 0, 9]))
    come = late + random.sample(late, len(late) // 3)
    follower, last = Follower("1m", contiguous=contiguous), {}
    while come:
        size = sizes[len(come) % len(sizes)]
        batch, come = come[:size], come[size:]
        for candle in follower(batch):
            last[candle.open_time] = candle
    assert [evolve(row, closed=None) for _, row in sorted(last.items())] == list(
        candles_of(sorted(rows, key=place_of), "1m")
    )
    whole = {row.open_time: row for row in candles_of(all_rows, "1m")}
    newest = max(row.venue_time for row in rows)
    for at, candle in last.items():
        assert (candle.closed is False) == (newest < at + MINUTE)
        if candle.closed:
            assert contiguous
            assert evolve(candle, closed=None) == whole[at]


def test_a_candle_runs_closes_and_is_amended():
    """The first one may have begun before us; one with a hole is not called whole until the late trade is there."""
    follow = Follower("1m", contiguous=True)
    assert minutes(follow([trade(1, 0), trade(2, 30 * SECOND)])) == [(0, 2, False)]
    assert minutes(follow([trade(3, 61 * SECOND)])) == [(0, 2, None), (1, 1, False)]
    assert minutes(follow([trade(5, 121 * SECOND)])) == [(1, 1, None), (2, 1, False)]
    assert minutes(follow([trade(6, 181 * SECOND)])) == [(2, 1, None), (3, 1, False)]
    assert minutes(follow([trade(4, 62 * SECOND, 9)])) == [(1, 2, True), (2, 1, True)]
    assert follow([trade(4, 62 * SECOND, 9)]) == []


def test_without_numbers_that_follow_nothing_is_called_closed():
    follow = Follower("1m", contiguous=False)
    follow([trade(1, 0)])
    assert minutes(follow([trade(2, 61 * SECOND), trade(3, 121 * SECOND)])) == [
        (0, 1, None),
        (1, 1, None),
        (2, 1, False),
    ]


def test_what_is_too_late_is_counted(monkeypatch):
    monkeypatch.setattr(following, "FOLDS", 3)
    follow = Follower("1m", contiguous=True)
    follow([trade(n, n * MINUTE) for n in range(1, 8)])
    assert follow([trade(0, 0)]) == []
    assert follow.too_late == 1


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("limit", [2, 5])
def test_memory_is_bounded(monkeypatch, limit, step):
    """Also where every other trade is missing, so that no two numbers follow one another."""
    monkeypatch.setattr(following, "FOLDS", limit)
    monkeypatch.setattr(following, "REMEMBERED", limit)
    follow = Follower("1s", contiguous=True)
    for n in range(200):
        follow([trade(n * step, n * SECOND)])
    assert len(follow._folds) <= limit
    assert len(follow._known) <= limit
    assert len(follow._numbers) <= (1 if step == 1 else limit)
    assert len(follow._open) <= limit
