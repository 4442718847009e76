"""Type-checked, never run: what people write against the public names keeps its types under mypy strict.

`make check` reads this file. A line that must be refused carries an ignore, and an ignore that is not needed is an
error itself.
"""

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import assert_type

from attrs import define
from msgspec import Struct

import tradeflood as tf
from tradeflood.connectors.binance import Binance
from tradeflood.testing.venues import venues_here

# --- asking -----------------------------------------------------------------------------------------------------------


def asking() -> None:
    """A frame knows its model."""
    candles = tf.collect(tf.Candle, "binance:BTC/USDT", interval="1m", start="2024-01-01", end=date(2024, 1, 2))
    assert_type(candles, tf.Frame[tf.Candle])
    assert_type(candles[0], tf.Candle)
    assert_type(candles[0].close, Decimal)
    assert_type(candles[0].open_time, int)
    assert_type([row.volume for row in candles], list[Decimal])
    assert_type(len(candles), int)
    assert_type(candles.coverage, tf.Coverage)
    assert_type(candles.failures, tuple[tf.Failure, ...])
    trades = tf.collect(tf.Trade, "okx:BTC/USDT", "okx:ETH/USDT", start=datetime(2024, 1, 1), kind="raw", strict=True)  # noqa: DTZ001
    assert_type(trades[-1].aggressor, tf.Side | None)
    for part in candles.coverage.parts.values():
        assert_type(part[0].state, tf.State)
        assert_type(part[0].grade, tf.Grade | None)


def planning() -> None:
    """Queries of different models make one plan."""
    plan = tf.plan(tf.Query(tf.Candle, "binance:*/USDT", interval="1m"), tf.Query(tf.Market, "okx:*"))
    assert_type(plan, tf.Plan)
    assert_type(plan.run(), tf.Result)
    assert_type(str(plan.explain()), str)


async def session() -> None:
    """The verbs of a session have the types of the module's, awaited."""
    async with tf.Flood({"store": "memory://"}) as flood:
        assert_type(flood, tf.Flood)
        assert_type(await flood.collect(tf.Ticker, "binance:BTC/USDT"), tf.Frame[tf.Ticker])
        assert_type(await flood.run(flood.plan(tf.Query(tf.Market, "okx:*"))), tf.Result)
        async for trade in flood.stream(tf.Trade, "binance:BTC/USDT"):
            assert_type(trade, tf.Trade)
        async for batch in flood.stream(tf.Candle, "binance:BTC/USDT", interval="1m").batches():
            assert_type(batch, list[tf.Candle])


def mistakes() -> None:
    """What a type checker can see, it refuses."""
    tf.collect("candle", "binance:BTC/USDT")  # type: ignore[arg-type]
    tf.collect(tf.Candle, "binance:BTC/USDT", interval=60)  # type: ignore[arg-type]
    tf.collect(tf.Candle, "binance:BTC/USDT", start=1704067200)  # type: ignore[arg-type]
    tf.plan("candle")  # type: ignore[arg-type]


def helpers() -> None:
    """What stands beside."""
    assert_type(tf.ms(1), int)
    assert_type(tf.minutes(1) + tf.hours(1) + tf.seconds(1), int)
    assert_type(tf.Spans.of((0, 10)) - tf.Spans.of((3, 4)), tf.Spans)
    with venues_here("binance", speed="1.5") as served:
        assert_type(served.settings(), dict[str, dict[str, str]])


def errors(error: tf.TradeFloodError) -> None:
    """Errors tell what to do next."""
    assert_type(error.remedy, str)
    if isinstance(error, tf.RateLimited):
        assert_type(error.until, int | None)
    if isinstance(error, tf.PayloadChanged):
        assert_type(error.path, str)


# --- a venue and a model of one's own ---------------------------------------------------------------------------------


class Row(Struct, array_like=True):
    """A payload."""

    time: int
    price: Decimal


class Listing(Struct):
    """A payload with its rows inside."""

    rows: list[Row]


class Shop(tf.Connector):
    """Turns are typed from the declaration to the answer."""

    venue = "shop"
    rest = tf.Rest("https://example.com", tf.Budget("requests", 10, per=tf.seconds(1)))
    feed = tf.Feed("wss://example.com")

    @tf.turn(list[Row], pages=tf.Windows(100, per="interval"), weight=2)
    def bars(self, page: tf.Page, symbol: str, interval: str) -> tf.Request:
        """A paged turn: the caller does not pass the page."""
        return tf.get("/bars", symbol=symbol, interval=interval, start=tf.ms(page.start), limit=None)

    @tf.turn(Listing, rows=lambda listing: listing.rows)
    def listing(self) -> tf.Request:
        """A turn whose rows are inside its answer."""
        return tf.get("/list")

    @tf.turn(Row, live=True)
    def live(self, symbol: str) -> str:
        """A topic."""
        return f"rows@{symbol}"


@tf.turn(list[Row])
def newest(venue: Binance, symbol: str) -> tf.Request:
    """A turn outside the class of its connector."""
    return tf.get("/newest", symbol=symbol)


def turns(shop: Shop, binance: Binance, spans: tf.Spans) -> None:
    """Calling a turn makes a value that knows what its answer will be."""
    assert_type(shop.bars("BTCUSDT", "1m"), tf.Turn[list[Row]])
    assert_type(shop.bars("BTCUSDT", "1m").over(spans), tf.Turn[list[Row]])
    assert_type(shop.listing(), tf.Turn[list[Row]])
    assert_type(shop.live("BTCUSDT"), tf.Turn[list[Row]])
    assert_type(newest.on(binance)("BTCUSDT"), tf.Turn[list[Row]])
    shop.bars("BTCUSDT")  # type: ignore[call-arg]
    shop.bars("BTCUSDT", 60)  # type: ignore[arg-type]


@define
class Level(tf.Model, key=("venue", "market", "at"), time="at"):
    """A model."""

    venue: str
    market: str
    at: tf.Time
    price: Decimal


class Levels(tf.Binding[Level], connector=Shop):
    """A binding: `pack` takes the rows of the turn that it is called with, and nothing else."""

    async def __call__(self, venue: Shop, ask: tf.Ask) -> object:
        """Awaited turns are their rows, awaited models are frames."""
        assert_type(await venue.listing(), list[Row])
        frame = await ask.other(tf.Candle, interval="1m")
        assert_type(frame.coverage, tf.Coverage)
        self.pack(venue.listing(), 7)  # type: ignore[arg-type]
        return self.pack(venue.bars(ask.symbol, "1m").over(ask.spans), ask.market)

    @tf.turn_execution
    def pack(self, rows: list[Row], market: str) -> Iterator[Level]:
        """Rows to models."""
        for row in rows:
            yield Level("shop", market, row.time, row.price)


def packing(rows: list[Row]) -> None:
    """Tried out without a turn."""
    assert_type(Levels.pack.pure(rows, "BTC/USDT"), list[Level])
