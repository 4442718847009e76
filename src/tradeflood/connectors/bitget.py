"""Bitget spot, API v2, which the venue calls classic.

Facts: bitget.com/api-doc, *Get Symbol Info*, *Get Ticker Information*, *Get Recent Trades*, *Get Market Trades*, *Get
Candlestick Data*, *Get History Candlestick Data*, *Websocket API*, *Trading Channel*, *Candlestick Channel*, read 2026-10
as mirrored of 2025; error codes as ccxt maps them, read 2026-10. Trade ids ascend and are not consecutive.

The history of trades cuts times to whole seconds (documented as "second level"); recent and live trades have
milliseconds. The id is the same, so a trade is one trade, which keeps the finer time; ranges of history are asked for
and claimed in whole seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from tradeflood.errors import PayloadChanged, Refused, Unavailable, UnknownMarket
from tradeflood.models import Candle, Market, Side, Ticker, Trade, interval
from tradeflood.models.time import DAY, MS, SECOND, days, from_ms, hours, iso, minutes, ms, seconds
from tradeflood.spans import Spans
from tradeflood.turns import (
    Acked,
    Alive,
    Ask,
    Binding,
    Budget,
    Chain,
    Connector,
    Denied,
    Event,
    Feed,
    Heartbeat,
    Numbering,
    Page,
    Recent,
    Reply,
    Request,
    Rest,
    Rows,
    Symbols,
    Windows,
    get,
    turn,
    turn_execution,
)
from tradeflood.turns.connector import not_now
from tradeflood.turns.pages import FOREVER

T = TypeVar("T")

GRANULARITIES = {
    "1m": "1min", "3m": "3min", "5m": "5min", "15m": "15min", "30m": "30min", "1h": "1h", "4h": "4h",
    "6h": "6Hutc", "12h": "12Hutc", "1d": "1Dutc", "3d": "3Dutc", "1w": "1Wutc", "1M": "1Mutc",
    "1d@+08:00": "1day", "3d@+08:00": "3day", "1w@+08:00": "1week", "1M@+08:00": "1M",
}  # fmt: skip
CHANNELS = {
    "1m": "candle1m", "5m": "candle5m", "15m": "candle15m", "30m": "candle30m", "1h": "candle1H", "4h": "candle4H",
    "6h": "candle6Hutc", "12h": "candle12Hutc", "1d": "candle1Dutc", "3d": "candle3Dutc", "1w": "candle1Wutc",
    "1M": "candle1Mutc", "1d@+08:00": "candle1D", "3d@+08:00": "candle3D", "1w@+08:00": "candle1W", "1M@+08:00": "candle1M",
}  # fmt: skip
DEPTHS = {
    "1m": days(30), "3m": days(30), "5m": days(30), "15m": days(52), "30m": days(62), "1h": days(83), "4h": days(240),
    "6h": days(360),
}  # fmt: skip
"""How far back `candles` reaches, where that is documented; beyond it `history-candles` is asked."""

NEWEST = seconds(10)
"""What lies no longer back than this is asked of the newest 500 trades, whose times have milliseconds."""

STATUSES = {"online": "trading", "halt": "halted", "offline": "closed"}
SIDES = {"buy": Side.BUY, "Buy": Side.BUY, "sell": Side.SELL, "Sell": Side.SELL}
GOOD = "00000"
UNLISTED = {"40034", "40309"}  # the parameter (a symbol) does not exist; the market has been removed
LIMITED = {"429", "1001"}
DOWN = {
    "500",
    "40015",
    "40200",
    "40308",
    "40604",
    "40725",
    "41114",
    "43115",
}  # busy, upgrade, maintenance, not open yet

# ---------------------------------------------------------------- payloads, as documented; unknown fields are tolerated

Digits = Annotated[str, Meta(pattern=r"^[0-9]{1,19}$")]


class Envelope(Struct, Generic[T]):
    """What every answer comes in."""

    data: T


class Head(Struct):
    """What every answer tells beside its data."""

    code: str
    msg: str | None = ""
    requestTime: int | None = None


class Symbol(Struct):
    """A row of `symbols`."""

    symbol: str
    baseCoin: str
    quoteCoin: str
    status: str
    pricePrecision: Digits
    quantityPrecision: Digits


class Day(Struct):
    """A row of `tickers`; a market that never traded may send empty texts."""

    symbol: str
    ts: Digits
    lastPr: str = ""
    bidPr: str = ""
    askPr: str = ""
    baseVolume: str = ""
    quoteVolume: str = ""
    open: str = ""
    high24h: str = ""
    low24h: str = ""


class Fill(Struct):
    """A row of `fills`, of `fills-history`, and of the channel `trade`."""

    tradeId: Digits
    side: Literal["buy", "sell", "Buy", "Sell"]
    price: Decimal
    size: Decimal
    ts: Digits


class Bar(Struct, array_like=True):
    """A row of `candles`, of `history-candles`, and of the channels `candle…`."""

    ts: Digits
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    usdt_volume: Decimal
    quote_volume: Decimal


class TradeArg(Struct):
    """What a message of trades is about."""

    instId: str
    channel: Literal["trade"]


class TradePush(Struct):
    """A message of trades: first a snapshot of old ones, then updates, the newest trade first."""

    arg: TradeArg
    data: list[Fill]


class CandlePush(Struct):
    """A message of candles: first a snapshot of old ones, then the running one. `ts` is the venue's time of it."""

    data: list[Bar]
    ts: int


class Arg(Struct):
    """What a message is about."""

    channel: str = ""
    instId: str = ""

    @property
    def topic(self) -> str:
        """The text by which the library knows it."""
        return f"{self.channel}:{self.instId}"


class Control(Struct):
    """Every other message."""

    event: str = ""
    arg: Arg | None = None
    code: int | str | None = None
    msg: str | None = ""
    data: msgspec.Raw = msgspec.Raw()


_head = msgspec.json.Decoder(Head)
_trades = msgspec.json.Decoder(TradePush)
_candles = msgspec.json.Decoder(CandlePush)
_control = msgspec.json.Decoder(Control)


def _at(row: Fill | Bar) -> int:
    """The time of a row in ns."""
    return from_ms(row.ts)


# ---------------------------------------------------------------- what can be asked

TRADES = Budget("trades", 10, per=seconds(1))


class Bitget(Connector):
    """Bitget spot: REST on api.bitget.com, live on ws.bitget.com."""

    venue = "bitget"
    symbols = Symbols("{base}{quote}", capitals=True)
    envelope = Envelope
    rest = Rest("https://api.bitget.com", Budget("requests", 20, per=seconds(1)))
    feed = Feed(
        "wss://ws.bitget.com",
        path="/v2/ws/public",
        streams=50,  # 1,000 are allowed; the venue advises fewer than 50
        messages=(10, seconds(1)),
        subscriptions=(240, hours(1)),
        connections=100,
        attempts=(300, minutes(5)),
        topics_per_message=40,
        bytes_per_message=4096,
        lifetime=hours(24),
        heartbeat=Heartbeat(every=seconds(30), send="ping"),
    )

    @turn(list[Symbol])
    def markets(self) -> Request:
        """The venue's list of markets, closed ones too."""
        return get("/api/v2/spot/public/symbols")

    @turn(list[Day], symbols=100_000, by=lambda row: row.symbol)
    def tickers(self, page: Page) -> Request:
        """Rolling 24 hours of one market, or of all."""
        return get("/api/v2/spot/market/tickers", symbol=page.symbols[0] if len(page.symbols) == 1 else None)

    @turn(list[Fill], pages=Recent(reached=_at), budget=TRADES)
    def newest(self, page: Page, symbol: str) -> Request:
        """The newest 500 trades, to the millisecond."""
        del page
        return get("/api/v2/spot/market/fills", symbol=symbol, limit=500)

    @turn(
        list[Fill],
        pages=Chain(
            1000, reached=_at, cursor=lambda rows: min(int(row.tradeId) for row in rows), back=True, every=days(7),
            grain=SECOND, bracket=(seconds(10), days(1)),
        ),
        budget=TRADES,
    )  # fmt: skip
    def old_trades(self, page: Page, symbol: str) -> Request:
        """Trades from new to old, to the second. Whether its edges are inclusive does not matter within the margin."""
        return get(
            "/api/v2/spot/market/fills-history", symbol=symbol, limit=1000, idLessThan=page.cursor,
            startTime=ms(page.low), endTime=ms(page.high) - 1,
        )  # fmt: skip

    @turn(list[Bar], pages=Windows(1000, per="interval", at=_at))
    def candles(self, page: Page, symbol: str, interval: str) -> Request:
        """Candles of the documented depth, the running one included."""
        return get(
            "/api/v2/spot/market/candles", symbol=symbol, granularity=GRANULARITIES[interval], limit=1000,
            startTime=_boundary(interval, page.start), endTime=_boundary(interval, page.end),
        )  # fmt: skip

    @turn(list[Bar], pages=Windows(200, per="interval", at=_at, back=True))
    def old_candles(self, page: Page, symbol: str, interval: str) -> Request:
        """Candles that close at or before the end: users found that `endTime` acts on the close."""
        return get(
            "/api/v2/spot/market/history-candles", symbol=symbol, granularity=GRANULARITIES[interval], limit=200,
            endTime=_boundary(interval, page.end),
        )  # fmt: skip

    @turn(Fill, live=True)
    def live_trades(self, symbol: str) -> str:
        """Trades as they happen, after some that have happened."""
        return f"trade:{symbol}"

    @turn(CandlePush, live=True)
    def live_candles(self, symbol: str, interval: str) -> str:
        """The running candle."""
        return f"{CHANNELS[interval]}:{symbol}"

    def judge(self, reply: Reply) -> None:
        """Every answer has a code, 00000 where it is good; errors come with HTTP 400 and with 200."""
        try:
            head = _head.decode(reply.body)
        except msgspec.MsgspecError:
            return super().judge(reply)
        if head.code == GOOD:
            return super().judge(reply)
        text = f"bitget: {head.msg} (code {head.code}, HTTP {reply.status})"
        if head.code in LIMITED or reply.status == 429:
            raise not_now(text, reply)
        if head.code in UNLISTED:
            raise UnknownMarket(text)
        if head.code in DOWN:
            raise Unavailable(text)
        if reply.status in {403, 408} or reply.status >= 500:
            return super().judge(reply)
        raise Refused(text)

    def clock(self, reply: Reply) -> int:
        """`requestTime`, the moment at which the venue took the request."""
        try:
            time = _head.decode(reply.body).requestTime
        except msgspec.MsgspecError:
            time = None
        return super().clock(reply) if time is None else from_ms(time)

    def say(self, verb: str, topics: Sequence[str], number: int) -> Iterable[str]:
        """One message for all topics; the venue's acknowledgements carry no number."""
        del number
        args = [
            {"instType": "SPOT", "channel": channel, "instId": symbol}
            for channel, _, symbol in (topic.partition(":") for topic in topics)
        ]
        return (msgspec.json.encode({"op": verb, "args": args}).decode(),)

    def hear(self, frame: bytes) -> Iterable[Event]:
        """Data name their channel; the answer to a ping is no JSON."""
        if frame == b"pong":
            return (Alive(),)
        try:
            push = _trades.decode(frame)
        except msgspec.ValidationError as error:
            return self._hear_other(frame, error)
        return (Rows(f"trade:{push.arg.instId}", push.data[::-1]),)

    def _hear_other(self, frame: bytes, error: msgspec.ValidationError) -> Iterable[Event]:
        control = _control.decode(frame)
        topics = (control.arg.topic,) if control.arg else ()
        if control.event == "error":
            return (Denied(f"{control.msg} (code {control.code})", topics),)
        if control.event == "subscribe" and topics:
            return (Acked(topics),)
        if control.event or control.arg is None or control.data == msgspec.Raw():
            return (Alive(),)
        if control.arg.channel == "trade":
            raise error
        if control.arg.channel.startswith("candle"):
            return (Rows(control.arg.topic, (_candles.decode(frame),)),)
        return (Alive(),)


def _boundary(text: str, time: int) -> int:
    """The first open time at or after a time, in ms: right whether a bound is meant for opens or for closes."""
    return ms(interval(text).ceil(time))


# ---------------------------------------------------------------- how models are made


def _number(text: str) -> Decimal | None:
    """The number of a text; nothing where it is empty.

    Raises PayloadChanged where it is no number.
    """
    try:
        return msgspec.convert(text, Decimal) if text else None
    except msgspec.ValidationError as error:
        raise PayloadChanged(f"bitget: {text!r} is no number") from error


def _digits(count: str) -> Decimal:
    """The increment of so many digits after the point."""
    return Decimal(1).scaleb(-int(count))


def _opened(row: Bar, text: str) -> int:
    """The open time of a candle.

    Raises PayloadChanged where the interval has no such boundary: how three-day bars are counted is not documented.
    """
    time = _at(row)
    if interval(text).floor(time) != time:
        raise PayloadChanged(f"bitget: a candle of {text} opens at {iso(time)}, which is no boundary of that interval")
    return time


class BitgetMarkets(Binding[Market], connector=Bitget):
    """Markets from `symbols`."""

    def __call__(self, venue: Bitget, ask: Ask) -> Any:
        del ask
        return self.pack(venue.markets())

    @turn_execution
    def pack(self, rows: list[Symbol]) -> Iterator[Market]:
        """One market per symbol. `minTradeAmount` and `openTime` are documented as obsolete and not read."""
        for row in rows:
            yield Market(
                "bitget", f"{row.baseCoin}/{row.quoteCoin}", row.symbol, row.baseCoin, row.quoteCoin, "spot",
                STATUSES.get(row.status, row.status.lower()), _digits(row.pricePrecision), _digits(row.quantityPrecision),
            )  # fmt: skip


class BitgetTickers(Binding[Ticker], connector=Bitget):
    """Tickers from `tickers`."""

    def __call__(self, venue: Bitget, ask: Ask) -> Any:
        return self.pack(venue.tickers().of(ask.symbol), ask.market)

    @turn_execution
    def pack(self, rows: list[Day], market: str) -> Iterator[Ticker]:
        """One ticker per symbol; it tells neither a count nor an id of trades."""
        for row in rows:
            yield Ticker(
                "bitget", market, from_ms(row.ts), _number(row.lastPr), _number(row.bidPr), _number(row.askPr),
                _number(row.baseVolume), _number(row.quoteVolume), _number(row.open), _number(row.high24h),
                _number(row.low24h),
            )  # fmt: skip


class BitgetTrades(Binding[Trade], connector=Bitget, kind="raw"):
    """Trades of 30 days: the history to the second, the last ten seconds to the millisecond; and live."""

    horizon = days(30)
    numbering = Numbering.SNOWFLAKE

    def __call__(self, venue: Bitget, ask: Ask) -> Any:
        late = Spans(span for span in ask.spans if span[0] >= ask.now - NEWEST)
        turns = (venue.old_trades(ask.symbol).over(ask.spans - late), venue.newest(ask.symbol).over(late))
        return tuple(self.pack(asked, ask.market) for asked in turns if asked.spans)

    def live(self, venue: Bitget, ask: Ask) -> Any:
        return self.pack(venue.live_trades(ask.symbol), ask.market)

    @turn_execution
    def pack(self, rows: list[Fill], market: str) -> Iterator[Trade]:
        """The side is taken for the taker's, as the channel pushes taker orders; its spelling varies."""
        for row in rows:
            yield Trade("bitget", market, "raw", row.tradeId, row.price, row.size, SIDES[row.side], from_ms(row.ts))


class _Candles(Binding[Candle]):
    def __call__(self, venue: Bitget, ask: Ask) -> Any:
        reach = FOREVER
        if ask.interval in DEPTHS:  # a day is left so that the edge does not pass while we ask
            reach = interval(ask.interval).ceil(ask.now - DEPTHS[ask.interval] + DAY)
        old = ask.spans - Spans.of((reach, FOREVER))
        turns = (
            venue.old_candles(ask.symbol, ask.interval).over(old),
            venue.candles(ask.symbol, ask.interval).over(ask.spans - old),
        )
        return tuple(self.pack(asked, ask.market, ask.interval) for asked in turns if asked.spans)

    @turn_execution
    def pack(self, rows: list[Bar], market: str, interval: str) -> Iterator[Candle]:
        """Rows carry no closed flag: the run sets it from the venue's clock."""
        for row in rows:
            yield Candle(
                "bitget", market, interval, "venue", _opened(row, interval), row.open, row.high, row.low, row.close,
                row.volume, row.quote_volume,
            )  # fmt: skip


class BitgetCandles(_Candles, connector=Bitget, interval=tuple(CHANNELS)):
    """Candles of the intervals that are live too."""

    def live(self, venue: Bitget, ask: Ask) -> Any:
        return self.pack_live(venue.live_candles(ask.symbol, ask.interval), ask.market, ask.interval)

    @turn_execution
    def pack_live(self, rows: list[CandlePush], market: str, interval: str) -> Iterator[Candle]:
        """A candle whose end the message's own time has not reached is not closed. No message says that one is."""
        for push in rows:
            for row in push.data:
                opened = _opened(row, interval)
                yield Candle(
                    "bitget", market, interval, "venue", opened, row.open, row.high, row.low, row.close, row.volume,
                    row.quote_volume, None, False if push.ts * MS < _end(interval, opened) else None, from_ms(push.ts),
                )  # fmt: skip


class BitgetOtherCandles(_Candles, connector=Bitget, interval=tuple(GRANULARITIES.keys() - CHANNELS.keys())):
    """Candles of the intervals that have no channel."""


def _end(text: str, opened: int) -> int:
    return interval(text).next(opened)
