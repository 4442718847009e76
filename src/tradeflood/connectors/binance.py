"""Binance spot.

Facts: github.com/binance/binance-spot-api-docs, `rest-api.md`, `web-socket-streams.md`, `enums.md`, `errors.md`,
state of 2026-07-21, read 2026-10. Raw trade ids are consecutive per symbol in practice (9,757 of 9,757 in a recording
of 2024-08-08); the venue does not promise it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from tradeflood.errors import Refused, Unavailable, UnknownMarket
from tradeflood.models import Candle, Market, Side, Ticker, Trade
from tradeflood.models.time import MS, from_ms, hours, minutes, ms, seconds
from tradeflood.turns import (
    Acked,
    Alive,
    Ask,
    Binding,
    Budget,
    Connector,
    Denied,
    Event,
    Feed,
    Frames,
    Ids,
    Leaving,
    Numbering,
    Page,
    Reply,
    Request,
    Rest,
    Rows,
    Symbols,
    Windows,
    both,
    get,
    ids_of,
    turn,
    turn_execution,
)
from tradeflood.turns.connector import not_now, retry_after

INTERVALS = "1s 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w 1M".split()
STATUSES = {"TRADING": "trading", "HALT": "halted", "BREAK": "halted", "CANCEL_ONLY": "halted"}

# ---------------------------------------------------------------- payloads, as documented; unknown fields are tolerated


class Filter(Struct):
    """A trading rule of a symbol; only the two increments are read."""

    filterType: str
    tickSize: Decimal | None = None
    stepSize: Decimal | None = None
    minQty: Decimal | None = None


class Symbol(Struct):
    """A row of `exchangeInfo`."""

    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str
    filters: list[Filter] = []


class ExchangeInfo(Struct):
    """The answer of `exchangeInfo`."""

    symbols: list[Symbol]


class Kline(Struct, array_like=True):
    """A row of `klines`."""

    open_time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    close_time: int
    quote_volume: Decimal
    trades: int


class OldTrade(Struct, gc=False):
    """A row of `trades` and of `historicalTrades`."""

    id: int
    price: Decimal
    qty: Decimal
    time: int
    isBuyerMaker: bool


class AggRow(Struct, gc=False):
    """A row of `aggTrades`: a merged trade."""

    a: int
    p: Decimal
    q: Decimal
    f: int
    l: int  # noqa: E741 - the venue's word
    T: int
    m: bool


class AggTrade(AggRow, tag_field="e", tag="aggTrade", gc=False):
    """A frame of `@aggTrade`: the same fields."""


class RawTrade(Struct, tag_field="e", tag="trade", gc=False):
    """A frame of `@trade`."""

    t: int
    p: Decimal
    q: Decimal
    T: int
    m: bool


class LiveKline(Struct):
    """The candle inside a frame of `@kline_…`."""

    t: int
    o: Decimal
    h: Decimal
    l: Decimal  # noqa: E741
    c: Decimal
    v: Decimal
    q: Decimal
    n: int
    x: bool


class KlineFrame(Struct, tag_field="e", tag="kline"):
    """A frame of `@kline_…`."""

    E: int
    k: LiveKline


class Day(Struct):
    """A row of `ticker/24hr`."""

    symbol: str
    lastPrice: Decimal
    bidPrice: Decimal
    askPrice: Decimal
    openPrice: Decimal
    highPrice: Decimal
    lowPrice: Decimal
    volume: Decimal
    quoteVolume: Decimal
    closeTime: int
    lastId: int
    count: int


class Fault(Struct):
    """The body of an error."""

    code: int
    msg: str = ""


class Data(Struct, gc=False):
    """A data frame of the combined stream."""

    stream: str
    data: RawTrade | AggTrade | KlineFrame


class Control(Struct):
    """Every other frame: acknowledgements, errors, notices."""

    stream: str = ""
    e: str = ""
    id: int | None = None
    code: int | None = None
    msg: str = ""
    error: Fault | None = None


_data = msgspec.json.Decoder(Data)
_control = msgspec.json.Decoder(Control)
_fault = msgspec.json.Decoder(Fault)
_until = re.compile(r"\bbanned until (\d{13})\b")

# ---------------------------------------------------------------- what can be asked


class Binance(Connector):
    """Binance spot: REST on api.binance.com, live on the combined stream."""

    venue = "binance"
    symbols = Symbols("{base}{quote}", capitals=True)
    rest = Rest("https://api.binance.com", Budget("weight", 6000, per=minutes(1)))
    feed = Feed(
        "wss://stream.binance.com:9443",
        path="/stream",
        streams=1024,
        messages=(5, seconds(1)),
        pongs=1,
        attempts=(300, minutes(5)),
        lifetime=hours(24),
        others=("wss://stream.binance.com:443", "wss://data-stream.binance.vision"),
        refuses=False,  # an unknown stream is acknowledged like any other
    )

    frames = Frames(Data, topic="stream", row="data")

    @turn(ExchangeInfo, rows=lambda info: info.symbols, weight=20)
    def markets(self) -> Request:
        """The venue's list of symbols, those without trading permissions left out by the venue."""
        return get("/api/v3/exchangeInfo", showPermissionSets="false")

    @turn(list[Kline], pages=Windows(1000, per="interval", at=lambda row: row.open_time * MS), weight=2)
    def klines(self, page: Page, symbol: str, interval: str) -> Request:
        """Candles whose open time lies in the page."""
        return get(
            "/api/v3/klines", symbol=symbol, interval=interval, limit=1000,
            startTime=ms(page.start), endTime=ms(page.end) - 1,
        )  # fmt: skip

    @turn(list[AggRow], weight=4)
    def trade_at(self, symbol: str, time: int) -> Request:
        """The first merged trade at or after a time, or nothing."""
        return get("/api/v3/aggTrades", symbol=symbol, startTime=ms(time), limit=1)

    @turn(list[AggRow], weight=4)
    def newest(self, symbol: str) -> Request:
        """The newest merged trade."""
        return get("/api/v3/aggTrades", symbol=symbol, limit=1)

    @turn(list[OldTrade], pages=Windows(1000, per=1, at=lambda row: row.id), weight=25)
    def old_trades(self, page: Page, symbol: str) -> Request:
        """Raw trades by id; `fromId` is inclusive."""
        return get("/api/v3/historicalTrades", symbol=symbol, fromId=page.start, limit=page.end - page.start)

    @turn(list[AggRow], pages=Windows(1000, per=1, at=lambda row: row.a), weight=4)
    def merged_trades(self, page: Page, symbol: str) -> Request:
        """Merged trades by their own id; `fromId` is inclusive."""
        return get("/api/v3/aggTrades", symbol=symbol, fromId=page.start, limit=page.end - page.start)

    @turn(list[Day], symbols=100_000, by=lambda row: row.symbol)
    def days(self, page: Page) -> Request:
        """Rolling 24 hours of some symbols. Weight 2 up to 20, 40 up to 100; beyond that all of them, at 80."""
        few = len(page.symbols)
        if few > 100:
            return get("/api/v3/ticker/24hr").weighing(80)
        names = msgspec.json.encode(page.symbols).decode()
        return get("/api/v3/ticker/24hr", symbols=names).weighing(2 if few <= 20 else 40)

    @turn(RawTrade, live=True)
    def live_trades(self, symbol: str) -> str:
        """Raw trades as they happen."""
        return f"{symbol.lower()}@trade"

    @turn(AggTrade, live=True)
    def live_merged(self, symbol: str) -> str:
        """Merged trades as they happen."""
        return f"{symbol.lower()}@aggTrade"

    @turn(KlineFrame, live=True)
    def live_klines(self, symbol: str, interval: str) -> str:
        """The running candle, every second or two, and once more when it is closed."""
        return f"{symbol.lower()}@kline_{interval}"

    def judge(self, reply: Reply) -> None:
        """Errors come as HTTP 4xx with a code and a message; a code inside HTTP 200 is an error all the same."""
        if reply.body.startswith(b'{"code":'):
            try:
                fault = _fault.decode(reply.body)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                return super().judge(reply)
            text = f"binance: {fault.msg} (code {fault.code}, HTTP {reply.status})"
            if fault.code in {-1003, -1015} or reply.status in {418, 429}:
                raise not_now(text, reply, retry_after(reply) or self._banned_until(fault, reply))
            if fault.code == -1121:  # errors.md: invalid symbol
                raise UnknownMarket(text)
            if fault.code in {-1000, -1001, -1006, -1007, -1008, -1016}:
                raise Unavailable(text)
            raise Refused(text)
        return super().judge(reply)

    def _banned_until(self, fault: Fault, reply: Reply) -> int | None:
        """The end of a ban by our clock, as its words tell it in ms by the venue's."""
        told = _until.search(fault.msg)
        return None if told is None else from_ms(int(told[1])) + reply.received_at - self.clock(reply)

    def spent(self, reply: Reply) -> int | None:
        """The weight used in this minute, from a header."""
        used = reply.headers.get("x-mbx-used-weight-1m", "")
        return int(used) if used.isdecimal() else None

    def say(self, verb: str, topics: Sequence[str], number: int) -> Iterable[str]:
        """One message for all topics."""
        return (msgspec.json.encode({"method": verb.upper(), "params": list(topics), "id": number}).decode(),)

    def hear(self, frame: bytes) -> Iterable[Event]:
        """Data frames name their stream; everything else has an id, a code or an event name."""
        try:
            try:
                data = _data.decode(frame)
            except msgspec.ValidationError as error:
                return self._hear_control(frame, error)
        except UnicodeDecodeError as error:
            raise msgspec.DecodeError(f"binance: a frame that is no UTF-8: {error}") from error
        return (Rows(data.stream, (data.data,)),)

    def _hear_control(self, frame: bytes, error: msgspec.ValidationError) -> Iterable[Event]:
        control = _control.decode(frame)
        if control.error is not None or control.code is not None:
            why = control.error or Fault(control.code or 0, control.msg)
            return (Denied(f"{why.msg} (code {why.code})", number=control.id),)
        if control.id is not None:
            return (Acked(number=control.id),)
        if control.e == "serverShutdown" or control.stream == "!serverShutdown":
            return (Leaving("the venue shuts this server down"),)
        if "`$.data" in str(error) and not str(error).startswith("Invalid value"):
            raise error  # a data frame of a known kind whose shape has changed
        return (Alive(),)


# ---------------------------------------------------------------- how models are made


SIDES = {True: Side.SELL, False: Side.BUY}
"""The taker's side by the venue's flag: where the buyer was the maker, the taker sold."""


class BinanceMarkets(Binding[Market], connector=Binance):
    """Markets from `exchangeInfo`."""

    def __call__(self, venue: Binance, ask: Ask) -> Any:
        del ask
        return self.pack(venue.markets())

    @turn_execution
    def pack(self, rows: list[Symbol]) -> Iterator[Market]:
        """One market per symbol; the increments stand in the filters."""
        for row in rows:
            rules = {rule.filterType: rule for rule in row.filters}
            price, lot = rules.get("PRICE_FILTER"), rules.get("LOT_SIZE")
            yield Market(
                "binance", f"{row.baseAsset}/{row.quoteAsset}", row.symbol, row.baseAsset, row.quoteAsset, "spot",
                STATUSES.get(row.status, row.status.lower()), price.tickSize if price else None,
                lot.stepSize if lot else None, lot.minQty if lot else None,
            )  # fmt: skip


class BinanceTickers(Binding[Ticker], connector=Binance):
    """Tickers from `ticker/24hr`."""

    def __call__(self, venue: Binance, ask: Ask) -> Any:
        return self.pack(venue.days().of(ask.symbol), ask.market)

    @turn_execution
    def pack(self, rows: list[Day], market: str) -> Iterator[Ticker]:
        """One ticker per symbol; `closeTime` is the venue's time of it."""
        for row in rows:
            yield Ticker(
                "binance", market, from_ms(row.closeTime), row.lastPrice, row.bidPrice, row.askPrice, row.volume,
                row.quoteVolume, row.openPrice, row.highPrice, row.lowPrice, row.count,
                str(row.lastId) if row.lastId >= 0 else None,
            )  # fmt: skip


class BinanceCandles(Binding[Candle], connector=Binance, interval=INTERVALS):
    """Candles of every interval, from the first the venue has, and live."""

    def __call__(self, venue: Binance, ask: Ask) -> Any:
        return self.pack(venue.klines(ask.symbol, ask.interval).over(ask.spans), ask.market, ask.interval)

    def live(self, venue: Binance, ask: Ask) -> Any:
        return self.pack_live(venue.live_klines(ask.symbol, ask.interval), ask.market, ask.interval)

    @turn_execution
    def pack(self, rows: list[Kline], market: str, interval: str) -> Iterator[Candle]:
        """REST rows carry no closed flag: the run sets it from the venue's clock."""
        for row in rows:
            yield Candle(
                "binance", market, interval, "venue", from_ms(row.open_time), row.open, row.high, row.low, row.close,
                row.volume, row.quote_volume, row.trades,
            )  # fmt: skip

    @turn_execution
    def pack_live(self, rows: list[KlineFrame], market: str, interval: str) -> Iterator[Candle]:
        """Frames say in `x` whether the candle is final."""
        for row in rows:
            k = row.k
            yield Candle(
                "binance", market, interval, "venue", from_ms(k.t), k.o, k.h, k.l, k.c, k.v, k.q, k.n, k.x, from_ms(row.E)
            )  # fmt: skip


async def _ends(venue: Binance, ask: Ask, first: Callable[[AggRow], int], after: Callable[[AggRow], int]) -> Ids:
    """The ids of what is asked, from the first at or after each start and end; the newest is asked for where one has none."""
    found = await both(*(venue.trade_at(ask.symbol, time) for span in ask.spans for time in span))
    newest = [] if all(found) else await venue.newest(ask.symbol)
    firsts = [first(rows[0]) if rows else None for rows in found]
    seen = [from_ms(rows[0].T) if rows else None for rows in found]
    return ids_of(firsts, ask.spans, after(newest[0]) if newest else 0, seen=seen)


class BinanceTrades(Binding[Trade], connector=Binance, kind="raw"):
    """Raw trades by id: where the ids of a time lie is looked up first, through the merged trades."""

    numbering = Numbering.CONTIGUOUS

    async def __call__(self, venue: Binance, ask: Ask) -> Any:
        ids = await _ends(venue, ask, lambda row: row.f, lambda row: row.l + 1)
        return self.pack(venue.old_trades(ask.symbol).over(ids), ask.market)

    def live(self, venue: Binance, ask: Ask) -> Any:
        return self.pack_live(venue.live_trades(ask.symbol), ask.market)

    @turn_execution
    def pack(self, rows: list[OldTrade], market: str) -> Iterator[Trade]:
        """Rows of `trades` and `historicalTrades`."""
        for row in rows:
            yield Trade(
                "binance", market, "raw", str(row.id), row.price, row.qty, SIDES[row.isBuyerMaker], from_ms(row.time)
            )

    @turn_execution
    def pack_live(self, rows: list[RawTrade], market: str) -> list[Trade]:
        """Frames of `@trade`."""
        sell, buy = Side.SELL, Side.BUY
        return [
            Trade("binance", market, "raw", str(row.t), row.p, row.q, sell if row.m else buy, row.T * MS)
            for row in rows
        ]


class BinanceMergedTrades(Binding[Trade], connector=Binance, kind="merged"):
    """Merged trades (one per taker order and price) by their own id."""

    numbering = Numbering.CONTIGUOUS

    async def __call__(self, venue: Binance, ask: Ask) -> Any:
        ids = await _ends(venue, ask, lambda row: row.a, lambda row: row.a + 1)
        return self.pack(venue.merged_trades(ask.symbol).over(ids), ask.market)

    def live(self, venue: Binance, ask: Ask) -> Any:
        return self.pack(venue.live_merged(ask.symbol), ask.market)

    @turn_execution
    def pack(self, rows: list[Any], market: str) -> list[Trade]:
        """Rows of `aggTrades` and frames of `@aggTrade` have the same fields."""
        sell, buy = Side.SELL, Side.BUY
        return [
            Trade(
                "binance", market, "merged", str(row.a), row.p, row.q, sell if row.m else buy, row.T * MS, None,
                first := str(row.f), first if row.l == row.f else str(row.l), row.l - row.f + 1,
            )
            for row in rows
        ]  # fmt: skip
