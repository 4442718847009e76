"""Candles from trades, against a fold that is written differently."""

from decimal import Decimal
from fractions import Fraction

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.coverage.candles import candles_of
from tradeflood.models import Side, Trade, interval
from tradeflood.models.time import MINUTE, SECOND, parse_time

START = parse_time("2024-02-28T23:58:00")


def trade(offset, price="1", size="1", count=None, number=0):
    return Trade(
        "binance", "BTC/USDT", "raw", str(number), Decimal(price), Decimal(size), Side.BUY, START + offset, count=count
    )


decimals = st.decimals(min_value=Decimal("1e-18"), max_value=10**15, allow_nan=False, places=18)
many = st.lists(
    st.tuples(st.integers(0, 3 * 24 * 3600), decimals, decimals, st.none() | st.integers(1, 9)), max_size=30
)


@given(many, st.sampled_from(["1s", "1m", "7m", "1h", "1d@Asia/Tehran", "1w", "1M"]))
def test_it_is_the_exact_fold_on_any_grid(drawn, text):
    rows = [trade(offset * SECOND, *rest) for offset, *rest in sorted(drawn, key=lambda row: row[0])]
    groups = {}
    for row in rows:
        groups.setdefault(interval(text).floor(row.venue_time), []).append(row)
    made = list(candles_of(rows, text))
    assert [candle.open_time for candle in made] == sorted(groups)
    for candle in made:
        group = groups[candle.open_time]
        prices = [row.price for row in group]
        assert (candle.open, candle.high, candle.low, candle.close) == (prices[0], max(prices), min(prices), prices[-1])
        assert Fraction(candle.volume) == sum(Fraction(row.size) for row in group)
        assert Fraction(candle.quote_volume) == sum(Fraction(row.price) * Fraction(row.size) for row in group)
        assert candle.trades == sum(row.count or 1 for row in group)
        assert (candle.origin, candle.closed, candle.interval) == ("trades", None, text)


def test_nothing_makes_no_candle_and_a_quiet_interval_is_absent():
    assert list(candles_of([], "1m")) == []
    made = candles_of([trade(0), trade(2 * MINUTE - 1, "3"), trade(5 * MINUTE, "2")], "2m")
    assert [(row.open_time - START, row.open, row.close) for row in made] == [(0, 1, 3), (4 * MINUTE, 2, 2)]


def test_the_order_of_equal_times_is_the_order_in_which_they_come():
    (candle,) = candles_of([trade(0, "5"), trade(0, "4"), trade(0, "6")], "1m")
    assert (candle.open, candle.close) == (5, 6)


@pytest.mark.parametrize("change", [{"market": "ETH/USDT"}, {"venue": "okx"}])
@pytest.mark.parametrize("offset", [0, 10 * MINUTE])
def test_trades_of_another_market_are_refused(change, offset):
    with pytest.raises(ValueError, match="among those of"):
        list(candles_of([trade(0), evolve(trade(offset), **change)], "1m"))


def test_going_back_is_refused():
    with pytest.raises(ValueError, match="before"):
        list(candles_of([trade(2 * MINUTE), trade(0)], "1m"))
