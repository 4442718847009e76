"""One connector of each class of venue, and the bindings that make trades, candles, markets and tickers of them.

They differ in how a trade is numbered and in how the past is asked for, and in nothing else. They are defined inside a
scope of the registry, so importing this module registers nothing: `tradeflood.testing.classes.venues()` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from tradeflood.errors import RateLimited, Refused, Unavailable, UnknownMarket
from tradeflood.models import Candle, Market, Side, Ticker, Trade
from tradeflood.models.identity import digits
from tradeflood.models.time import HOUR, MS, SECOND, ms
from tradeflood.testing.classes.shapes import SHAPES
from tradeflood.turns import (
    Acked,
    Ask,
    Binding,
    Budget,
    Chain,
    Connector,
    Denied,
    Event,
    Feed,
    Leaving,
    Numbering,
    Page,
    Recent,
    Reply,
    Request,
    Rest,
    Rows,
    Symbols,
    Windows,
    both,
    get,
    ids_of,
    registry,
    turn,
    turn_execution,
)
from tradeflood.turns.connector import retry_after

T = TypeVar("T")

INTERVALS = ("1m", "5m", "1h")
FEED = Feed("ws://synthetic.invalid", "/feed", streams=50, messages=(50, SECOND))
BRACKET = (2 * SECOND, HOUR)
FEW = 64  # ids before the first of a range among which there is one that was given, where some are left out
"""How far beyond what is wanted an answer is asked for, so that a row on either side is seen: at first, and at most."""

# ---------------------------------------------------------------- payloads


class Problem(Struct):
    """What was wrong."""

    code: str
    message: str = ""


class Answer(Struct, Generic[T]):
    """The envelope of every answer: the venue's time in ms, and what was asked for."""

    time: int
    data: T


class Head(Struct):
    """The part of an answer that is read before its data are."""

    time: int = 0
    error: Problem | None = None


class Fill(Struct):
    """A trade: its time in the venue's unit, its id where it has one, how many raw trades it stands for."""

    time: int
    price: Decimal
    size: Decimal
    side: Side
    id: str = ""
    count: int | None = None

    @property
    def number(self) -> int:
        """The id as a number."""
        return int(self.id)

    @property
    def first(self) -> int:
        """The first of the ids that it stands for."""
        return int(self.id) - (self.count or 1) + 1


class Bar(Struct):
    """A candle."""

    open_time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    value: Decimal
    trades: int
    closed: bool


class Listed(Struct):
    """A market."""

    symbol: str
    base: str
    quote: str
    price_increment: Decimal
    size_increment: Decimal


class Day(Struct):
    """A ticker."""

    symbol: str
    time: int
    last: Decimal | None = None
    volume: Decimal | None = None
    trades: int | None = None
    last_id: str | None = None


class Message(Struct):
    """Everything that the feed says."""

    topic: str = ""
    rows: Raw = Raw(b"[]")
    offset: int | None = None
    epoch: str | None = None
    number: int | None = None
    done: tuple[str, ...] = ()
    error: Problem | None = None
    topics: tuple[str, ...] = ()
    leaving: str | None = None


_head = msgspec.json.Decoder(Head)
_message = msgspec.json.Decoder(Message)
_fills = msgspec.json.Decoder(list[Fill])
_bars = msgspec.json.Decoder(list[Bar])


def _time(row: Fill) -> int:
    return row.time * MS


def _second(row: Fill) -> int:
    return row.time * SECOND


def _id(row: Fill) -> int:
    return row.number


def _opened(row: Bar) -> int:
    return row.open_time * MS


def _oldest_id(rows: Sequence[Fill]) -> int:
    return min(map(_id, rows))


def _newest_time(rows: Sequence[Fill]) -> int:
    return max(row.time for row in rows)


with registry.scope():  # what is defined here is registered by `venues()`, for as long as that is open
    # ------------------------------------------------------------ what all have in common

    class Synthetic(Connector):
        """Addresses, envelope, lists and candles, and the words of the feed."""

        rest = Rest("http://synthetic.invalid", Budget("requests", 100, per=SECOND))
        symbols = Symbols("{base}-{quote}")
        envelope = Answer

        @turn(list[Listed])
        def markets(self) -> Request:
            """Every market."""
            return get("/markets")

        @turn(list[Day], symbols=1000, by=lambda day: day.symbol)
        def tickers(self, page: Page) -> Request:
            """Every market's last day, in one answer."""
            del page
            return get("/tickers")

        @turn(list[Bar], pages=Windows(500, per="interval", at=_opened))
        def candles(self, page: Page, symbol: str, interval: str) -> Request:
            """Candles from old to new, the running one included."""
            return get("/candles", symbol=symbol, interval=interval, start=ms(page.start), end=ms(page.end))

        @turn(Fill, live=True)
        def live_trades(self, symbol: str) -> str:
            """Trades as they happen."""
            return f"trades:{symbol}"

        @turn(Bar, live=True)
        def live_candles(self, symbol: str, interval: str) -> str:
            """The running candle, and each once it is closed."""
            return f"candles:{symbol}:{interval}"

        def judge(self, reply: Reply) -> None:
            """Errors come in the envelope, whatever the status."""
            try:
                error = _head.decode(reply.body).error
            except msgspec.MsgspecError:
                error = None
            if error is None:
                return super().judge(reply)
            text = f"{self.venue}: {error.message} (code {error.code}, HTTP {reply.status})"
            if error.code == "limit":
                raise RateLimited(text, until=retry_after(reply))
            if error.code in {"ban", "error"}:
                raise Unavailable(text)
            raise UnknownMarket(text) if error.code == "market" else Refused(text)

        def clock(self, reply: Reply) -> int:
            """The time in the envelope."""
            try:
                return _head.decode(reply.body).time * MS or super().clock(reply)
            except msgspec.MsgspecError:
                return super().clock(reply)

        def say(self, verb: str, topics: Sequence[str], number: int) -> Iterable[str]:
            """One message for all topics."""
            return (msgspec.json.encode({"op": verb, "topics": topics, "number": number}).decode(),)

        def hear(self, frame: bytes) -> Iterable[Event]:
            """Rows name their topic; answers the number of the message that they answer."""
            told = _message.decode(frame)
            if told.topic:
                decoder = _bars if told.topic.startswith("candles:") else _fills
                return (Rows(told.topic, decoder.decode(told.rows), told.offset, told.epoch),)
            if told.error is not None:
                why = f"{told.error.message} (code {told.error.code})"
                return (Denied(why, told.topics, None if told.topics else told.number),)
            return (Acked(told.done),) if told.leaving is None else (Leaving(told.leaving),)

    class SyntheticMarkets(Binding[Market], connector=Synthetic):
        """Markets."""

        def __call__(self, venue: Synthetic, ask: Ask) -> Any:
            """From the list."""
            return self.pack(venue.markets(), ask.venue)

        @turn_execution
        def pack(self, rows: list[Listed], venue: str) -> Iterator[Market]:
            """A market each, all trading."""
            for row in rows:
                yield Market(
                    venue, f"{row.base}/{row.quote}", row.symbol, row.base, row.quote, "spot", "trading",
                    row.price_increment, row.size_increment,
                )  # fmt: skip

    class SyntheticTickers(Binding[Ticker], connector=Synthetic):
        """Tickers, with the last trade's id where trades have ids."""

        def __call__(self, venue: Synthetic, ask: Ask) -> Any:
            """From the list of all."""
            return self.pack(venue.tickers().of(ask.symbol), ask.venue, ask.market)

        @turn_execution
        def pack(self, rows: list[Day], venue: str, market: str) -> Iterator[Ticker]:
            """A ticker each."""
            for row in rows:
                yield Ticker(
                    venue, market, row.time * MS, row.last, volume=row.volume, trades=row.trades, last_trade_id=row.last_id
                )  # fmt: skip

    class SyntheticCandles(Binding[Candle], connector=Synthetic, interval=INTERVALS):
        """Candles; where nothing traded there is none."""

        def __call__(self, venue: Synthetic, ask: Ask) -> Any:
            """By their open times."""
            return self.pack(
                venue.candles(ask.symbol, ask.interval).over(ask.spans), ask.venue, ask.market, ask.interval
            )

        @turn_execution
        def pack(self, rows: list[Bar], venue: str, market: str, interval: str) -> Iterator[Candle]:
            """A candle each; the venue says whether it is closed."""
            for row in rows:
                yield Candle(
                    venue, market, interval, "venue", row.open_time * MS, row.open, row.high, row.low, row.close,
                    row.volume, row.value, row.trades, row.closed,
                )  # fmt: skip

    class LiveCandles(SyntheticCandles):
        """Candles that the feed has too."""

        def live(self, venue: Synthetic, ask: Ask) -> Any:
            """The same rows."""
            return self.pack(venue.live_candles(ask.symbol, ask.interval), ask.venue, ask.market, ask.interval)

    class SyntheticTrades(Binding[Trade]):
        """Trades, live by the feed."""

        def live(self, venue: Any, ask: Ask) -> Any:
            """The same rows as in answers."""
            return self.pack(venue.live_trades(ask.symbol), ask.venue, ask.market, ask.kind)

        @turn_execution
        def pack(self, rows: list[Fill], venue: str, market: str, kind: Any, unit: int = MS) -> Iterator[Trade]:
            """A trade each. Where there is no id, it is what the venue says of the trade, in one spelling."""
            for row in rows:
                time = row.time * unit
                trade_id = row.id or f"{time // MS}:{row.side.value}:{digits(row.price)}:{digits(row.size)}"
                first, last = (None, None) if row.count is None else (str(row.first), row.id)
                yield Trade(
                    venue, market, kind, trade_id, row.price, row.size, row.side, time, None, first, last, row.count
                )  # fmt: skip

    # ------------------------------------------------------------ pages by id: ids that ascend, with or without a hole

    class ById(Synthetic):
        """The past by id; where the ids of a time begin is looked up first."""

        feed = FEED

        @turn(list[Fill])
        def first_at(self, symbol: str, time: int) -> Request:
            """The first trade at or after a time."""
            return get("/trades", symbol=symbol, at=ms(time))

        @turn(list[Fill])
        def newest(self, symbol: str) -> Request:
            """The last trade there is."""
            return get("/trades", symbol=symbol)

        @turn(list[Fill], pages=Windows(500, at=_id))
        def trades(self, page: Page, symbol: str) -> Request:
            """Trades of some ids; of a merged trade the last of its ids counts."""
            return get("/trades", symbol=symbol, low=page.start, high=page.end)

    class TradesById(SyntheticTrades):
        """Trades by id."""

        async def __call__(self, venue: ById, ask: Ask) -> Any:
            """The ids at both ends of every span, then all between them; nothing has happened after now."""
            ends = [time for span in ask.spans for time in span]
            told = iter(await both(*(venue.first_at(ask.symbol, time) for time in ends if time < ask.now)))
            found = [next(told) if time < ask.now else [] for time in ends]
            newest = [] if all(found) else await venue.newest(ask.symbol)
            firsts = [rows[0].first if rows else None for rows in found]
            seen = [rows[0].time * MS if rows else None for rows in found]
            ids = ids_of(
                firsts,
                ask.spans,
                newest[0].number + 1 if newest else 0,
                seen=seen,
                back=1 if self.numbering.is_linked else FEW,
            )
            return self.pack(venue.trades(ask.symbol).over(ids), ask.venue, ask.market, ask.kind)

    class Contiguous(ById):
        """Ids follow one another without a hole."""

        venue = "contiguous"

    class ContiguousTrades(TradesById, connector=Contiguous, kind="raw"):
        """A missing id is a missing trade, live as in answers."""

        numbering = Numbering.CONTIGUOUS

    class ContiguousCandles(LiveCandles, connector=Contiguous):
        """Live too."""

    class Chained(ById):
        """One row per taker order: the last of its raw ids, and how many there are."""

        venue = "chained"

    class ChainedTrades(TradesById, connector=Chained, kind="merged"):
        """A row begins where the one before it ended: id less count."""

        numbering = Numbering.CHAINED

    class ChainedCandles(LiveCandles, connector=Chained):
        """Live too."""

    class Jumping(ById):
        """Ids ascend, and the venue leaves some out."""

        venue = "jumping"

    class JumpingTrades(TradesById, connector=Jumping, kind="raw"):
        """A missing id may never have been."""

        numbering = Numbering.JUMPING

    class JumpingCandles(LiveCandles, connector=Jumping):
        """Live too."""

    # ------------------------------------------------------------ back from a cursor: ids that tell their time

    class Snowflake(Synthetic):
        """Ids are unique and tell their millisecond, no more; pages go back from an id."""

        venue = "snowflake"
        feed = FEED

        @turn(list[Fill], pages=Chain(500, reached=_time, cursor=_oldest_id, back=True, grain=MS, bracket=BRACKET))
        def trades(self, page: Page, symbol: str) -> Request:
            """Trades of a range of time with ids below the cursor, from new to old."""
            return get("/trades", symbol=symbol, start=ms(page.low), end=ms(page.high), before=page.cursor)

    class SnowflakeTrades(SyntheticTrades, connector=Snowflake, kind="raw"):
        """An answer with a row on either side is complete."""

        numbering = Numbering.SNOWFLAKE

        def __call__(self, venue: Snowflake, ask: Ask) -> Any:
            """Page by page, bracketed."""
            return self.pack(venue.trades(ask.symbol).over(ask.spans), ask.venue, ask.market, ask.kind)

    # ------------------------------------------------------------ the newest rows and no more

    class Latest(Synthetic):
        """The newest rows, without pages."""

        feed = FEED

        @turn(list[Fill], pages=Recent(reached=_time))
        def trades(self, page: Page, symbol: str) -> Request:
            """As many as the venue gives, from new to old."""
            del page
            return get("/trades", symbol=symbol)

    class LatestTrades(SyntheticTrades):
        """What was not had in time is gone."""

        def __call__(self, venue: Latest, ask: Ask) -> Any:
            """One answer."""
            return self.pack(venue.trades(ask.symbol).over(ask.spans), ask.venue, ask.market, ask.kind)

    class Last60(Latest):
        """The last sixty rows, with ids that follow one another."""

        venue = "last60"

    class Last60Trades(LatestTrades, connector=Last60, kind="raw"):
        """A missing id is a missing trade; what is older than sixty cannot be asked for."""

        numbering = Numbering.CONTIGUOUS
        horizon_rows = SHAPES["last60"].rows

    class Offsets(Latest):
        """No ids; the feed counts its messages, from nought again in every epoch."""

        venue = "offsets"

    class OffsetsTrades(LatestTrades, connector=Offsets, kind="raw"):
        """A missing offset is a missing message."""

        numbering = Numbering.NONE
        horizon_rows = SHAPES["offsets"].rows

    class Polled(Synthetic):
        """No feed, no ids, and times to the second."""

        venue = "polled"

        @turn(list[Fill], pages=Recent(reached=_second), every=2 * SECOND)
        def trades(self, page: Page, symbol: str) -> Request:
            """As many as the venue gives, from new to old."""
            del page
            return get("/trades", symbol=symbol)

    class PolledTrades(SyntheticTrades, connector=Polled, kind="raw"):
        """Asked for again and again, as history and as live."""

        numbering = Numbering.NONE
        horizon_rows = SHAPES["polled"].rows

        def __call__(self, venue: Polled, ask: Ask) -> Any:
            """One answer."""
            return self.pack(venue.trades(ask.symbol).over(ask.spans), ask.venue, ask.market, ask.kind, SECOND)

        def live(self, venue: Polled, ask: Ask) -> Any:
            """The same answer, asked for in turn."""
            return self.pack(venue.trades(ask.symbol), ask.venue, ask.market, ask.kind, SECOND)

    # ------------------------------------------------------------ on from a time, without ids

    class Multiplicity(Synthetic):
        """No ids at all, and equal trades are real; pages go on from a time, which they begin with once more."""

        venue = "multiplicity"
        feed = FEED

        @turn(list[Fill], pages=Chain(500, reached=_time, cursor=_newest_time, grain=MS, bracket=BRACKET))
        def trades(self, page: Page, symbol: str) -> Request:
            """Trades of a range of time, from old to new."""
            start = ms(page.low) if page.cursor is None else page.cursor
            return get("/trades", symbol=symbol, start=start, end=ms(page.high))

    class MultiplicityTrades(SyntheticTrades, connector=Multiplicity, kind="raw"):
        """Of equal trades, as many as some answer showed."""

        numbering = Numbering.NONE

        def __call__(self, venue: Multiplicity, ask: Ask) -> Any:
            """Page by page, bracketed."""
            return self.pack(venue.trades(ask.symbol).over(ask.spans), ask.venue, ask.market, ask.kind)


CONNECTORS: tuple[type[Synthetic], ...] = (
    Contiguous, Chained, Jumping, Snowflake, Last60, Offsets, Polled, Multiplicity,
)  # fmt: skip

BINDINGS: tuple[type[Binding[Any]], ...] = (
    SyntheticMarkets, SyntheticTickers, SyntheticCandles, ContiguousTrades, ContiguousCandles, ChainedTrades,
    ChainedCandles, JumpingTrades, JumpingCandles, SnowflakeTrades, Last60Trades, OffsetsTrades, PolledTrades,
    MultiplicityTrades,
)  # fmt: skip
