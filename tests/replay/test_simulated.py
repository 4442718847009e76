"""The simulated market: pure, contiguous, closed in form, and candles that are exactly its trades."""

import os
import subprocess
import sys
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.models import interval
from tradeflood.models.time import DAY, HOUR, MINUTE, MS, SECOND, parse_time
from tradeflood.replay.simulated import GENESIS, LISTINGS, Simulated

MARKET = Simulated(seed=5, venue="binance")
NAMES = [listing.market for listing in LISTINGS]
NOW = parse_time("2026-03-04T05:06:07.089")

moments = st.integers(GENESIS // MS, NOW // MS).map(lambda time: time * MS)

DIGEST = """
import hashlib
from tradeflood.models.time import parse_time
from tradeflood.replay.simulated import LISTINGS, Simulated
source = Simulated(5, "binance")
now = parse_time("2026-03-04T05:06:07.089")
rows = []
for listing in LISTINGS[::{step}]:
    rows += [
        (listing.market, source.trades(listing.market, "raw", now=now, limit=50, newest=True),
         source.candles(listing.market, "1d", now=now, limit=2, newest=True),
         source.trades(listing.market, "merged", now=now, from_id=70_000, limit=50))
    ]
print(hashlib.sha256(repr(sorted(rows, key=lambda row: row[0])).encode()).hexdigest())
"""


def test_the_same_rows_in_every_process_and_in_any_order():
    """Purity: two interpreters with other hash seeds, asking in opposite order, print the same digest."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", DIGEST.format(step=step)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for step, seed in ((1, "1"), (-1, "2"))
    ]
    digests = {child.communicate(timeout=60)[0] for child in children}
    assert len(digests) == 1
    assert all(child.returncode == 0 for child in children)


def test_nothing_is_remembered_between_questions():
    """Asking for something else first changes nothing."""
    fresh, used = Simulated(5, "binance"), Simulated(5, "binance")
    used.candles("BTC/USDT", "1w", now=NOW - 300 * DAY, limit=3)
    assert fresh.trades("BTC/USDT", "raw", now=NOW, limit=20) == used.trades("BTC/USDT", "raw", now=NOW, limit=20)


@pytest.mark.parametrize("market", NAMES)
def test_raw_ids_are_contiguous_from_genesis_and_times_do_not_fall(market):
    rows = MARKET.trades(market, "raw", now=NOW, start=GENESIS, limit=9_000)
    assert [row.trade_id for row in rows] == [str(number) for number in range(1, 9_001)]
    assert all(left.venue_time <= right.venue_time for left, right in pairwise(rows))
    assert all(row.venue_time % MS == 0 for row in rows)


@pytest.mark.parametrize("listing", LISTINGS, ids=NAMES)
def test_prices_and_sizes_lie_on_their_increments_and_are_positive(listing):
    market = next(market for market in MARKET.markets() if market.market == listing.market)
    assert market.price_increment == Decimal(1).scaleb(-listing.price_digits)
    for row in MARKET.trades(listing.market, "raw", now=NOW, limit=500, newest=True):
        assert row.price > 0 < row.size
        assert row.price.as_tuple().exponent == -listing.price_digits
        assert row.size.as_tuple().exponent == -listing.size_digits


@pytest.mark.parametrize("market", NAMES)
def test_a_merged_row_is_the_fills_of_one_taker_order(market):
    """The chain of first and last ids has no gap; each row's fills share millisecond, price and side, and sum up."""
    merged = MARKET.trades(market, "merged", now=NOW, limit=200, newest=True)
    first, last = int(merged[0].first_id), int(merged[-1].last_id)
    raw = {
        int(row.trade_id): row
        for row in MARKET.trades(market, "raw", now=NOW, from_id=first, to_id=last + 1, limit=900)
    }
    assert sorted(raw) == list(range(first, last + 1))
    assert all(int(left.last_id) + 1 == int(right.first_id) for left, right in pairwise(merged))
    assert {row.count for row in merged} >= {1, 2}
    for row in merged:
        fills = [raw[number] for number in range(int(row.first_id), int(row.last_id) + 1)]
        assert len(fills) == row.count
        assert {(fill.price, fill.venue_time, fill.aggressor) for fill in fills} == {
            (row.price, row.venue_time, row.aggressor)
        }
        assert sum(fill.size for fill in fills) == row.size


@given(st.sampled_from(NAMES), st.sampled_from(["raw", "merged"]), moments)
def test_id_and_time_find_each_other(market, kind, moment):
    """The first trade at or after a time is the one whose id says so, and the one before it is earlier."""
    rows = MARKET.trades(market, kind, now=NOW + DAY, start=moment, limit=1)
    assert rows[0].venue_time >= moment
    number = int(rows[0].trade_id)
    assert MARKET.trades(market, kind, now=NOW + DAY, from_id=number, to_id=number + 1) == rows
    assert all(
        row.venue_time < moment for row in MARKET.trades(market, kind, now=NOW, to_id=number, limit=1, newest=True)
    )


@given(st.sampled_from(NAMES), st.sampled_from(["raw", "merged"]), moments)
def test_nothing_later_than_now_is_visible(market, kind, now):
    """Whatever is asked, the newest row is not later than now, and the next one is."""
    last = MARKET.last_trade(market, kind, now)
    if last is not None:
        assert last.venue_time <= now
    following = MARKET.trades(market, kind, now=now + 2 * DAY, from_id=int(last.trade_id) + 1 if last else 1, limit=1)
    assert following[0].venue_time > now
    assert not MARKET.trades(market, kind, now=now, start=now + 1, end=now + HOUR)


@given(st.sampled_from(NAMES), moments, st.lists(st.integers(1, 10**10), min_size=1, max_size=4))
def test_a_feed_cut_anywhere_owes_each_trade_once(market, begin, steps):
    """trades_between over abutting spans is trades over the whole."""
    cuts = [begin]
    for step in steps:
        cuts.append(cuts[-1] + step)
    parts = [row for after, up_to in pairwise(cuts) for row in MARKET.trades_between(market, "raw", after, up_to)]
    assert parts == MARKET.trades(market, "raw", now=cuts[-1], start=begin + 1, limit=1 << 40)


def folded(rows):
    prices = [row.price for row in rows]
    bought = [row for row in rows if row.aggressor == "buy"]
    return (
        prices[0], max(prices), min(prices), prices[-1], sum(row.size for row in rows), sum(row.price * row.size for row in rows),
        sum(row.size for row in bought), sum(row.price * row.size for row in bought), rows[0].trade_id, rows[-1].trade_id, len(rows),
    )  # fmt: skip


def told(bar):
    return (
        bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume, bar.bought, bar.bought_quote,
        bar.first_id, bar.last_id, bar.trades,
    )  # fmt: skip


@given(st.sampled_from(NAMES), moments, st.integers(1, 3 * HOUR // MS), st.integers(0, 3 * HOUR // MS))
def test_a_bar_of_any_span_is_the_fold_of_its_trades(market, start, length, sight):
    """Also where `now` lies inside the span, and where the span is cut across minutes and hours."""
    end, now = start + length * MS, start + sight * MS
    rows = MARKET.trades(market, "raw", now=now, start=start, end=end, limit=1 << 40)
    bar = MARKET.bar(market, start, end, now)
    if not rows:
        assert bar is None
        return
    assert told(bar) == folded(rows)
    assert bar.closed == (end <= now)


@pytest.mark.parametrize(
    ("market", "text"),
    [
        ("DOGE/USDT", "1M"),
        ("DOGE/USDT", "1w"),
        ("BTC/IRT", "1d"),
        ("SOL/USDT", "4h"),
        ("BTC/USDT", "1h"),
        ("BTC/USDT", "1s"),
    ],
)
def test_candles_of_every_length_are_the_fold_of_their_trades(market, text):
    """The newest three, the running one with them, on the grid of the interval."""
    bars = MARKET.bars(market, text, now=NOW, limit=3, newest=True)
    candles = MARKET.candles(market, text, now=NOW, limit=3, newest=True)
    grid = interval(text)
    for bar, candle in zip(bars, candles, strict=True):
        assert grid.floor(bar.start) == bar.start == candle.open_time
        rows = MARKET.trades(market, "raw", now=NOW, start=bar.start, end=grid.next(bar.start), limit=1 << 40)
        assert told(bar) == folded(rows)
        assert candle.quote_volume == bar.quote_volume
        assert candle.closed == (bar.end <= NOW)
    assert text == "1s" or not bars[-1].closed


def test_candles_page_from_either_end_and_start_with_the_first_trade():
    every = MARKET.candles("DOGE/USDT", "1M", now=NOW, limit=500)
    assert every[0].open_time == GENESIS
    assert len(every) == 75
    assert (
        MARKET.candles("DOGE/USDT", "1M", now=NOW, start=every[3].open_time, end=every[9].open_time, limit=4)
        == every[3:7]
    )
    assert MARKET.candles("DOGE/USDT", "1M", now=NOW, end=every[9].open_time, limit=4, newest=True) == every[5:9]
    assert MARKET.candles("DOGE/USDT", "1w", now=NOW, start=0, limit=1)[0].open_time == parse_time("2019-12-30")


def test_the_quiet_market_has_whole_minutes_without_trades_and_they_have_no_candle():
    start = NOW // HOUR * HOUR - HOUR
    candles = MARKET.candles("DOGE/USDT", "1m", now=NOW, start=start, end=start + HOUR)
    assert 5 < len(candles) < 55
    assert all(candle.trades for candle in candles)


def test_seeds_and_venues_differ_while_venues_share_the_price_level():
    others = [Simulated(6, "binance"), MARKET.at("okx")]
    mine = MARKET.trades("BTC/USDT", "raw", now=NOW, limit=5)
    assert all(other.trades("BTC/USDT", "raw", now=NOW, limit=5)[0].price != mine[0].price for other in others)
    here, there = (source.last_trade("BTC/USDT", "raw", NOW).price for source in (MARKET, MARKET.at("okx")))
    assert abs(here - there) / here < Decimal("0.01")


def test_rates_are_modest_and_exact_for_every_hour():
    """Bitcoin: two raw trades a second; every hour holds the same number."""
    for hour in range(3):
        start = NOW // HOUR * HOUR - 500 * hour * HOUR - HOUR
        assert MARKET.bar("BTC/USDT", start, start + HOUR, NOW).trades == 7_200
    assert MARKET.bar("BTC/USDT", GENESIS, GENESIS + SECOND * 60 * 60, NOW).first_id == "1"
    assert MARKET.bar("BTC/USDT", GENESIS - DAY, GENESIS - MINUTE, NOW) is None
