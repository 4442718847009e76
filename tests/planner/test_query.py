"""Query: what somebody wants, checked the moment it is said."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from tradeflood.errors import UsageError
from tradeflood.models import Candle, Market, Trade
from tradeflood.models.time import MINUTE, SECOND, minutes, parse_time
from tradeflood.planner import Query
from tradeflood.planner.query import DEFAULT_CANDLES, DEFAULT_RANGE, now
from tradeflood.spans import Spans

DAY = parse_time("2025-06-01")


def query(**given):
    return Query(Candle, "binance:BTC/USDT", **{"interval": "1m", "start": "2025-06-01", "end": "2025-06-02", **given})


@pytest.mark.parametrize(
    "start",
    [
        "2025-06-01",
        "2025-06-01T00:00:00Z",
        "2025-06-01T03:30:00+03:30",
        date(2025, 6, 1),
        datetime(2025, 6, 1, tzinfo=UTC),
        datetime(2025, 6, 1),  # noqa: DTZ001 - what is meant
        datetime(2025, 6, 1, 8, tzinfo=timezone(timedelta(hours=8))),
    ],
)
def test_a_moment_may_be_written_in_many_ways(start):
    assert query(start=start).start == DAY
    assert query(start=start) == query()
    assert hash(query(start=start)) == hash(query())


def test_a_range_is_what_is_said_to_the_nanosecond():
    wanted = Query(Trade, "okx:BTC/USDT", start="2025-06-01T00:00:00.000000001Z", end="2025-06-01T00:00:00.000000003Z")
    assert (wanted.start - DAY, wanted.end - DAY) == (1, 3)
    assert wanted.spans == Spans.of((DAY + 1, DAY + 3))


def test_without_an_end_it_is_now_and_without_a_start_a_sensible_while_before():
    candles = Query(Candle, "binance:BTC/USDT", interval="1m")
    assert 0 <= now() - candles.end < MINUTE
    assert candles.end - candles.start - DEFAULT_CANDLES * MINUTE < SECOND
    trades = Query(Trade, "binance:BTC/USDT")
    assert 0 <= trades.end - trades.start - DEFAULT_RANGE < SECOND


def test_candles_begin_with_the_first_that_opens_in_the_range():
    """What lies before it belongs to a candle that nobody asked for, so it is never missing."""
    wanted = query(start="2025-06-01T00:00:30Z", end="2025-06-01T00:10:30Z")
    assert wanted.spans == Spans.of((DAY + minutes(1), DAY + minutes(10) + 30 * SECOND))
    assert wanted.start == DAY + 30 * SECOND
    assert query(start="2025-06-01T00:00:30Z", end="2025-06-01T00:00:40Z").spans == Spans()


def test_a_list_has_no_range():
    assert Query(Market, "binance:*").spans == Spans()
    with pytest.raises(UsageError, match="market is a list"):
        Query(Market, "binance:*", start="2025-06-01")


def test_the_parts_of_a_variant_have_defaults_where_there_are_any():
    assert Query(Trade, "binance:BTC/USDT").variant == ("raw",)
    assert Query(Trade, "binance:BTC/USDT", kind="merged").variant == ("merged",)
    assert query().variant == ("1m", "venue")
    assert query(origin="trades") != query()


@pytest.mark.parametrize("market", ["binance:*/USDT", "binance:BTC/*", "binance:?TC/USDT", "binance:[AB]*/USDT"])
def test_a_pattern_is_told_from_a_name(market):
    assert Query(Trade, market).is_pattern
    assert not Query(Trade, "binance:BTC/USDT").is_pattern


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Query("trade", "binance:BTC/USDT"), "no model 'trade'"),
        (lambda: Query(Trade, "BTC/USDT"), "no market 'BTC/USDT'; write it VENUE:BASE/QUOTE"),
        (lambda: Query(Trade, "binance:"), "no market 'binance:'"),
        (lambda: Query(Trade, ":BTC/USDT"), "no market ':BTC/USDT'"),
        (lambda: Query(Trade, None), "no market None"),
        (
            lambda: Query(Trade, "binance:BTC/USDT", interval="1m"),
            "trade: no option 'interval'; there are start, end, kind",
        ),
        (lambda: Query(Trade, "binance:BTC/USDT", kind="fresh"), "no kind 'fresh'; there are raw, merged"),
        (lambda: Query(Candle, "binance:BTC/USDT"), "candle: say interval="),
        (lambda: query(interval="1x"), "no interval '1x'"),
        (lambda: query(start="2025-06-02"), "is not before the end"),
        (lambda: query(start="2025-06-03"), "is not before the end"),
        (lambda: query(start="yesterday"), "not a time: 'yesterday'"),
        (lambda: query(start=5), "not a time: 5"),
        (lambda: query(end="2025-13-01"), "not a time"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_line(make, says):
    with pytest.raises(UsageError) as error:
        make()
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_it_reads_as_what_it_is():
    assert repr(query()) == "<Query Candle binance:BTC/USDT 1m venue 2025-06-01T00:00:00Z … 2025-06-02T00:00:00Z>"
    assert repr(Query(Market, "binance:*")) == "<Query Market binance:*>"
