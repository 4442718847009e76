"""Candles from trades: exact, in any order of arrival."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tradeflood.coverage.candles import candles_of
from tradeflood.models import Side, Trade
from tradeflood.models.time import MINUTE


def trade(number, time, price="1", size="1", **more):
    return Trade("x", "A/B", "raw", str(number), Decimal(price), Decimal(size), Side.BUY, time, **more)


def test_a_candle_is_what_its_trades_say():
    """First, greatest, least and last price; sums of size and of price times size; the count."""
    (candle,) = candles_of([trade(1, 5, "10", "2"), trade(2, 6, "12", "1"), trade(3, 7, "9", "0.5")], "1m")
    assert (candle.open, candle.high, candle.low, candle.close) == (10, 12, 9, 9)
    assert (candle.volume, candle.quote_volume, candle.trades) == (Decimal("3.5"), Decimal("36.5"), 3)
    assert (candle.open_time, candle.origin, candle.interval) == (0, "trades", "1m")


def test_equal_times_are_ordered_by_number_not_by_text():
    """Trade 999 comes before 1000 in the same millisecond."""
    (candle,) = candles_of([trade(1000, 5, "2"), trade(999, 5, "1")], "1m")
    assert (candle.open, candle.close) == (1, 2)


def test_a_quiet_interval_has_no_candle():
    """Nothing is invented for a minute without a trade."""
    assert [c.open_time for c in candles_of([trade(1, 0), trade(2, 2 * MINUTE)], "1m")] == [0, 2 * MINUTE]


def test_merged_trades_count_what_was_merged():
    """A taker order of three fills counts three."""
    (candle,) = candles_of([trade(9, 5, count=3), trade(10, 6)], "1m")
    assert candle.trades == 4


def test_sums_keep_every_digit():
    """Beyond the 28 digits of the usual decimal context."""
    big, small = "12345678901234567890", "0.000000000000000001"
    (candle,) = candles_of([trade(1, 0, "1", big), trade(2, 1, "1", small)], "1m")
    assert candle.volume == Decimal("12345678901234567890.000000000000000001")


@given(st.lists(st.tuples(st.integers(0, 10 * MINUTE), st.integers(1, 9), st.integers(1, 9)), max_size=30), st.randoms())
def test_any_order_of_arrival_gives_the_same(rows, random):
    """Candles do not depend on the order in which trades come."""
    trades = [trade(number, time, price, size) for number, (time, price, size) in enumerate(rows)]
    mixed = random.sample(trades, len(trades))
    assert candles_of(mixed, "1m") == candles_of(trades, "1m")
    assert sum(c.volume for c in candles_of(mixed, "3m")) == sum(t.size for t in trades)
