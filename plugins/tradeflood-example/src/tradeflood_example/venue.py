"""Example: an exchange that does not exist, with an interface as many have it.

REST below /v1; every answer is {"data": …} or {"error": {"code", "message"}}, the latter also with HTTP 200.

| path | parameters | data |
|---|---|---|
| markets | | the list of markets |
| candles | market, interval, start, end, limit ≤ 500 | candles that open in [start, end), times in seconds |
| trades | market, from_id, limit ≤ 500 | trades from an id on |
| trades/first | market, at | the id of the first trade at or after a time in milliseconds |

Live on /v1/live: {"do": "subscribe", "topics": ["trades.BTC_USDT"], "n": 1} is answered by {"n": 1, "ok": true};
rows come as {"topic": "trades.BTC_USDT", "data": […]}, a heartbeat as {"beat": 1700000000000}.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from tradeflood import (
    Acked,
    Alive,
    Ask,
    Binding,
    Budget,
    Candle,
    Connector,
    Denied,
    Feed,
    Market,
    Numbering,
    Page,
    RateLimited,
    Refused,
    Reply,
    Request,
    Rest,
    Rows,
    Side,
    Symbols,
    Trade,
    Unavailable,
    UnknownMarket,
    Windows,
    both,
    get,
    hours,
    ids_of,
    minutes,
    ms,
    seconds,
    turn,
    turn_execution,
)
from tradeflood.models.time import MS, SECOND
from tradeflood.turns import Event
from tradeflood.turns.connector import retry_after

INTERVALS = ("1m", "5m", "1h", "1d")
T = TypeVar("T")

# ---------------------------------------------------------------- payloads: what is read of each, exactly


class Envelope(Struct, Generic[T]):
    """What every answer comes in."""

    data: T


class Listing(Struct):
    """A row of `markets`."""

    symbol: str
    base: str
    quote: str
    state: str
    tick: Decimal
    lot: Decimal


class Row(Struct, gc=False):
    """A trade, in `trades` and live. `taker` is the side of the taker already."""

    id: int
    price: Decimal
    size: Decimal
    taker: str
    time: int


class Bar(Struct, gc=False):
    """A candle, in `candles` and live; only the live one says whether it is final."""

    opens: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    value: Decimal
    count: int
    final: bool | None = None


class First(Struct):
    """The answer of `trades/first`: an id, and whether that trade has happened yet."""

    id: int
    happened: bool


class Fault(Struct):
    """An error."""

    code: str
    message: str = ""


class Failed(Struct):
    """An answer that is an error."""

    error: Fault


class Heard(Struct):
    """Any live frame."""

    topic: str | None = None
    data: list[msgspec.Raw] = []
    n: int | None = None
    ok: bool = True
    why: str = ""


_failed = msgspec.json.Decoder(Failed)
_heard = msgspec.json.Decoder(Heard)

# ---------------------------------------------------------------- what can be asked: it reads like a table


class Example(Connector):
    """Example: REST and live on one host."""

    venue = "example"
    symbols = Symbols("{base}_{quote}")
    envelope = Envelope
    rest = Rest("https://api.example.com", Budget("requests", 1200, per=minutes(1)))
    feed = Feed("wss://api.example.com", path="/v1/live", streams=50, messages=(10, seconds(1)), lifetime=hours(12))

    @turn(list[Listing])
    def markets(self) -> Request:
        """Every market."""
        return get("/v1/markets")

    @turn(list[Bar], pages=Windows(500, per="interval", at=lambda bar: bar.opens * SECOND))
    def candles(self, page: Page, symbol: str, interval: str) -> Request:
        """Candles that open in the page."""
        start, end = -(-page.start // SECOND), -(-page.end // SECOND)
        return get("/v1/candles", market=symbol, interval=interval, start=start, end=end, limit=500)

    @turn(First)
    def first_trade(self, symbol: str, time: int) -> Request:
        """Where the trades of a time begin."""
        return get("/v1/trades/first", market=symbol, at=ms(time))

    @turn(list[Row], pages=Windows(500, at=lambda row: row.id))
    def trades(self, page: Page, symbol: str) -> Request:
        """Trades by their ids."""
        return get("/v1/trades", market=symbol, from_id=page.start, limit=page.end - page.start)

    @turn(Row, live=True)
    def live_trades(self, symbol: str) -> str:
        """Trades as they happen."""
        return f"trades.{symbol}"

    @turn(Bar, live=True)
    def live_candles(self, symbol: str, interval: str) -> str:
        """The running candle every two seconds, and once more when it is final."""
        return f"candles.{interval}.{symbol}"

    def judge(self, reply: Reply) -> None:
        """Errors have a body of their own, whatever the status says."""
        if not reply.body.startswith(b'{"error"'):
            return super().judge(reply)
        try:
            error = _failed.decode(reply.body).error
        except msgspec.MsgspecError:
            return super().judge(reply)
        text = f"example: {error.message or error.code}"
        match error.code:
            case "slow_down":
                raise RateLimited(text, until=retry_after(reply))
            case "no_market":
                raise UnknownMarket(text)
            case "down":
                raise Unavailable(text)
        raise Refused(text)

    def spent(self, reply: Reply) -> int | None:
        """The requests of this minute, as the venue counts them."""
        used = reply.headers.get("x-used", "")
        return int(used) if used.isdecimal() else None

    def say(self, verb: str, topics: Sequence[str], number: int) -> Iterable[str]:
        """One message for all topics."""
        return (msgspec.json.encode({"do": verb, "topics": list(topics), "n": number}).decode(),)

    def hear(self, frame: bytes) -> Iterable[Event]:
        """Rows name their topic, acknowledgements the message; anything else is a heartbeat."""
        heard = _heard.decode(frame)
        if heard.topic is not None:
            return [Rows(heard.topic, row) for row in heard.data]
        if heard.n is not None:
            return (Acked(number=heard.n),) if heard.ok else (Denied(heard.why, number=heard.n),)
        return (Alive(),)


# ---------------------------------------------------------------- how models are made


class ExampleMarkets(Binding[Market], connector=Example):
    """Markets from the list."""

    def __call__(self, venue: Example, ask: Ask) -> Any:
        return self.pack(venue.markets())

    @turn_execution
    def pack(self, rows: list[Listing]) -> Iterator[Market]:
        """One market per row."""
        for row in rows:
            status = "trading" if row.state == "open" else row.state
            yield Market(
                "example", f"{row.base}/{row.quote}", row.symbol, row.base, row.quote, "spot", status, row.tick, row.lot
            )


class ExampleCandles(Binding[Candle], connector=Example, interval=INTERVALS):
    """Candles, from the first there is, and live."""

    def __call__(self, venue: Example, ask: Ask) -> Any:
        return self.pack(venue.candles(ask.symbol, ask.interval).over(ask.spans), ask.market, ask.interval)

    def live(self, venue: Example, ask: Ask) -> Any:
        return self.pack(venue.live_candles(ask.symbol, ask.interval), ask.market, ask.interval)

    @turn_execution
    def pack(self, rows: list[Bar], market: str, interval: str) -> Iterator[Candle]:
        """Where `final` is not said, the run tells from the venue's clock."""
        for row in rows:
            yield Candle(
                "example", market, interval, "venue", row.opens * SECOND, row.open, row.high, row.low, row.close,
                row.volume, row.value, row.count, row.final,
            )  # fmt: skip


class ExampleTrades(Binding[Trade], connector=Example, kind="raw"):
    """Trades by id: where the ids of a time begin is looked up first."""

    numbering = Numbering.CONTIGUOUS

    async def __call__(self, venue: Example, ask: Ask) -> Any:
        found = await both(*(venue.first_trade(ask.symbol, time) for span in ask.spans for time in span))
        firsts = [first.id if first.happened else None for first in found]
        return self.pack(venue.trades(ask.symbol).over(ids_of(firsts, ask.spans, found[-1].id)), ask.market)

    def live(self, venue: Example, ask: Ask) -> Any:
        return self.pack(venue.live_trades(ask.symbol), ask.market)

    @turn_execution
    def pack(self, rows: list[Row], market: str) -> Iterator[Trade]:
        """One trade per row."""
        for row in rows:
            yield Trade("example", market, "raw", str(row.id), row.price, row.size, Side(row.taker), row.time * MS)
