"""OKX spot, API v5.

Facts: the pages `overview-websocket-connect`, `overview-websocket-notification`, `error-code-rest-api`,
`error-code-websocket-public`, `public-data-rest-api-get-instruments`, `order-book-trading-market-data-…` (`get-tickers`,
`get-trades`, `get-trades-history`, `get-candlesticks-history`, `ws-trades-channel`, `ws-all-trades-channel`,
`ws-candlesticks-channel`) of https://www.okx.com/docs-v5/en/, state of 2026-06-15, read 2026-11.

Note [cursors]. `after` means older than, `before` newer than, both without the row that is named; rows come newest
first, and a page of both bounds is filled from its new end. So [start, end) is after=end, before=start - 1. Trades are
paged by id (`type=1`) or by time (`type=2`, which takes no `before`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from tradeflood.errors import PayloadChanged, Refused, Unavailable, UnknownMarket
from tradeflood.models import Candle, Market, Side, Ticker, Trade
from tradeflood.models.time import MS, days, from_ms, hours, ms, seconds
from tradeflood.spans import Span, Spans
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
    turn,
    turn_execution,
)
from tradeflood.turns.connector import not_now

# Our interval → the venue's bar. A plain bar of six hours and more opens at UTC+8. `6H` and `12H` of UTC+8 are no
# intervals of ours; where bars of 2 and 3 days and of 3 months open is not documented, so they are not offered.
BARS = {
    "1s": "1s", "1m": "1m", "3m": "3m", "5m": "5m", "15m": "15m", "30m": "30m", "1h": "1H", "2h": "2H", "4h": "4H",
    "6h": "6Hutc", "12h": "12Hutc", "1d": "1Dutc", "1w": "1Wutc", "1M": "1Mutc",
    "1d@+08:00": "1D", "1w@+08:00": "1W", "1M@+08:00": "1M",
}  # fmt: skip
SHORT = ("1s",)  # bars with a horizon
LONG = tuple(name for name in BARS if name not in SHORT)
HORIZON = days(90)  # of raw trades and of bars of one second: "the last 3 months"
STATES = {"live": "trading", "suspend": "halted"}

BUSINESS = "/ws/v5/business"
WINDOW = seconds(2)  # every REST budget counts per endpoint and address in windows of this length

LIMITED = {"50011", "50040"}
DOWN = {"1", "50001", "50004", "50013", "50026", "50046"}
UNLISTED = {"51001"}
UPGRADE = "64008"

# ---------------------------------------------------------------- payloads, as documented; unknown fields are tolerated

T = TypeVar("T")


class Answer(Struct, Generic[T]):
    """What every answer comes in."""

    code: str
    data: T
    msg: str = ""


class Instrument(Struct):
    """A row of `public/instruments`; before a listing, texts may still be empty."""

    instId: str
    state: str
    baseCcy: str = ""
    quoteCcy: str = ""
    tickSz: str = ""
    lotSz: str = ""
    minSz: str = ""
    listTime: str = ""


class Day(Struct):
    """A row of `market/tickers`; a side of the book without orders is an empty text."""

    instId: str
    ts: str
    last: str = ""
    bidPx: str = ""
    askPx: str = ""
    open24h: str = ""
    high24h: str = ""
    low24h: str = ""
    vol24h: str = ""
    volCcy24h: str = ""


class Fill(Struct):
    """A row of `history-trades`, `trades` and both live channels; only the channel `trades` has a count."""

    tradeId: str
    px: Decimal
    sz: Decimal
    side: Literal["buy", "sell"]
    ts: str
    count: str = "1"


class Bar(Struct, array_like=True):
    """A row of `history-candles` and of the live channels."""

    ts: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    vol: Decimal
    volCcy: Decimal
    volCcyQuote: Decimal
    confirm: Literal["0", "1"]


class Arg(Struct):
    """What a frame is about."""

    channel: str
    instId: str = ""


class Data(Struct):
    """A data frame."""

    arg: Arg
    data: msgspec.Raw


class Control(Struct):
    """Every other frame: acknowledgements, errors, notices."""

    event: str
    arg: Arg | None = None
    id: str = ""
    code: str = ""
    msg: str = ""


class Fault(Struct):
    """The part of an answer that says whether it is one."""

    code: str
    msg: str = ""


_data = msgspec.json.Decoder(Data)
_fills = msgspec.json.Decoder(list[Fill])
_bars = msgspec.json.Decoder(list[Bar])
_control = msgspec.json.Decoder(Control)
_fault = msgspec.json.Decoder(Fault)
_ours = re.compile("[0-9]{1,18}")  # the numbers that we gave to messages
_named = re.compile(r"channel:([^,\s]+),instId:(\S+) doesn't exist")

# ---------------------------------------------------------------- what can be asked


def _id(row: Fill) -> int:
    return _whole(row.tradeId, "tradeId")


def _time(row: Fill | Bar) -> int:
    return from_ms(_whole(row.ts, "ts"))


def _whole(text: str, name: str) -> int:
    if not text.isdecimal() or len(text) > 19:
        raise PayloadChanged(f"okx: {name} is {text[:40]!r}, no whole number", path=f"$.data[...].{name}")
    return int(text)


class OKX(Connector):
    """OKX spot: REST on openapi.okx.com; merged trades on the public feed, raw trades and candles on the business feed."""

    venue = "okx"
    symbols = Symbols("{base}-{quote}", capitals=True)
    envelope = Answer
    rest = Rest("https://openapi.okx.com", Budget("any", 20, per=WINDOW))
    feed = Feed(
        "wss://ws.okx.com:8443",
        path="/ws/v5/public",
        streams=200,  # the venue has a maximum and does not publish it
        subscriptions=(480, hours(1)),
        attempts=(3, seconds(1)),
        topics_per_message=500,
        bytes_per_message=64_000,
        heartbeat=Heartbeat(seconds(25), send="ping"),
    )

    @turn(list[Instrument], budget=Budget("instruments", 20, per=WINDOW))
    def markets(self) -> Request:
        """The venue's list of spot markets, those not yet open included."""
        return get("/api/v5/public/instruments", instType="SPOT")

    @turn(list[Day], symbols=100_000, by=lambda row: row.instId, budget=Budget("tickers", 20, per=WINDOW))
    def days(self, page: Page) -> Request:
        """Rolling 24 hours of one market, or of all of them at the same cost."""
        if len(page.symbols) == 1:
            return get("/api/v5/market/ticker", instId=page.symbols[0])
        return get("/api/v5/market/tickers", instType="SPOT")

    @turn(
        list[Bar],
        pages=Windows(300, per="interval", at=_time, back=True),
        budget=Budget("history-candles", 20, per=WINDOW),
    )
    def candles(self, page: Page, symbol: str, interval: str) -> Request:
        """Candles whose open time lies in the page, see Note [cursors]."""
        return get(
            "/api/v5/market/history-candles", instId=symbol, bar=BARS[interval], limit=300,
            after=ms(page.end), before=ms(page.start) - 1,
        )  # fmt: skip

    @turn(list[Fill], budget=Budget("trades", 100, per=WINDOW), every=seconds(1))
    def recent_trades(self, symbol: str) -> Request:
        """The newest 500 trades: minutes of a busy market."""
        return get("/api/v5/market/trades", instId=symbol, limit=500)

    @turn(list[Fill], budget=Budget("history-trades", 20, per=WINDOW))
    def trades_before(self, symbol: str, time: int) -> Request:
        """The newest raw trades before a time."""
        return get("/api/v5/market/history-trades", instId=symbol, type=2, after=ms(time), limit=100)

    @turn(list[Fill], budget=Budget("history-trades", 20, per=WINDOW))
    def trades_after(self, symbol: str, last: int) -> Request:
        """The raw trades that follow an id, and older ones where fewer than a page have happened since."""
        return get("/api/v5/market/history-trades", instId=symbol, type=1, after=last + 101, limit=100)

    @turn(
        list[Fill],
        pages=Windows(100, per=1, at=_id, back=True),
        budget=Budget("history-trades", 20, per=WINDOW),
    )
    def trades(self, page: Page, symbol: str) -> Request:
        """Raw trades by id: as many as the page is wide, below its end."""
        return get("/api/v5/market/history-trades", instId=symbol, type=1, after=page.end, limit=page.end - page.start)

    @turn(
        list[Fill],
        pages=Chain(100, reached=_time, cursor=lambda rows: min(map(_id, rows)), back=True),
        budget=Budget("history-trades", 20, per=WINDOW),
    )
    def trades_back(self, page: Page, symbol: str) -> Request:
        """Raw trades from new to old, where no trade before the first is known: by time once, then by id; 100 unless told."""
        by_time = page.cursor is None
        return get(
            "/api/v5/market/history-trades", instId=symbol, type=2 if by_time else 1,
            after=ms(page.end) if by_time else page.cursor,
        )  # fmt: skip

    @turn(Fill, live=True, path=BUSINESS)
    def live_trades(self, symbol: str) -> str:
        """Raw trades as they happen."""
        return f"trades-all:{symbol}"

    @turn(Fill, live=True)
    def live_merged(self, symbol: str) -> str:
        """Trades as they happen, one row per taker order, price and source."""
        return f"trades:{symbol}"

    @turn(Bar, live=True, path=BUSINESS)
    def live_candles(self, symbol: str, interval: str) -> str:
        """The running candle, at most once a second, and once more when it is closed."""
        return f"candle{BARS[interval]}:{symbol}"

    def judge(self, reply: Reply) -> None:
        """Every answer has a code, 0 where it is good; bad ones come with HTTP 200 as well as with 4xx and 5xx."""
        try:
            fault = _fault.decode(reply.body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return super().judge(reply)
        if fault.code == "0":
            return super().judge(reply)
        text = f"okx: {fault.msg} (code {fault.code}, HTTP {reply.status})"
        if fault.code in LIMITED:
            raise not_now(text, reply)
        if fault.code in UNLISTED:
            raise UnknownMarket(text)
        if fault.code in DOWN:
            raise Unavailable(text)
        if reply.status == 429 or reply.status >= 500:
            return super().judge(reply)
        raise Refused(text)

    def say(self, verb: str, topics: Sequence[str], number: int) -> Iterable[str]:
        """One message for all topics."""
        args = [dict(zip(("channel", "instId"), topic.split(":", 1), strict=True)) for topic in topics]
        return (msgspec.json.encode({"id": str(number), "op": verb, "args": args}).decode(),)

    def hear(self, frame: bytes) -> Iterable[Event]:
        """Data frames have no event; everything else has one, but for the answer to our ping."""
        try:
            data = _data.decode(frame)
            channel = data.arg.channel
            rows: Any = (_bars if channel.startswith("candle") else _fills).decode(data.data)
        except msgspec.MsgspecError as error:
            return self._hear_control(frame, error)
        except UnicodeDecodeError as error:
            raise msgspec.DecodeError(f"okx: a frame that is no UTF-8: {error}") from error
        return (Rows(f"{channel}:{data.arg.instId}", rows),)

    def _hear_control(self, frame: bytes, error: msgspec.MsgspecError) -> Iterable[Event]:
        if frame.strip() == b"pong":
            return (Alive(),)
        try:
            control = _control.decode(frame)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise error from None  # neither: what is wrong with it as a data frame says more
        number = int(control.id) if _ours.fullmatch(control.id) else None
        if control.event == "error":
            named = _named.search(control.msg)
            topics = (f"{named[1]}:{named[2]}",) if named else ()
            return (Denied(f"{control.msg} (code {control.code})", topics, None if named else number),)
        if control.event == "subscribe" and control.arg is not None:
            return (Acked((f"{control.arg.channel}:{control.arg.instId}",)),)  # one for each topic of a message
        if control.event == "unsubscribe":
            return (Acked(number=number),)
        if control.event == "notice" and control.code == UPGRADE:
            return (Leaving(control.msg),)
        return (Alive(),)


# ---------------------------------------------------------------- how models are made


def _number(text: str) -> Decimal | None:
    """A number, None where the venue has none to tell."""
    return Decimal(text) if text else None


class OKXMarkets(Binding[Market], connector=OKX):
    """Markets from `public/instruments`."""

    def __call__(self, venue: OKX, ask: Ask) -> Any:
        del ask
        return self.pack(venue.markets())

    @turn_execution
    def pack(self, rows: list[Instrument]) -> Iterator[Market]:
        """One market per instrument; until its assets are told, its symbol names them."""
        for row in rows:
            base, _, quote = row.instId.partition("-")
            base, quote = row.baseCcy or base, row.quoteCcy or quote
            yield Market(
                "okx", f"{base}/{quote}", row.instId, base, quote, "spot", STATES.get(row.state, row.state.lower()),
                _number(row.tickSz), _number(row.lotSz), _number(row.minSz),
                listed_at=from_ms(row.listTime) if row.listTime else None,
            )  # fmt: skip


class OKXTickers(Binding[Ticker], connector=OKX):
    """Tickers from `market/tickers`."""

    def __call__(self, venue: OKX, ask: Ask) -> Any:
        return self.pack(venue.days().of(ask.symbol), ask.market)

    @turn_execution
    def pack(self, rows: list[Day], market: str) -> Iterator[Ticker]:
        """One ticker per row; of spot markets `vol24h` is in the base and `volCcy24h` in the quote asset."""
        for row in rows:
            yield Ticker(
                "okx", market, from_ms(row.ts), _number(row.last), _number(row.bidPx), _number(row.askPx),
                _number(row.vol24h), _number(row.volCcy24h), _number(row.open24h), _number(row.high24h),
                _number(row.low24h),
            )  # fmt: skip


class _Candles(Binding[Candle]):
    """Candles, from the first the venue has or from its horizon on, and live."""

    def __call__(self, venue: OKX, ask: Ask) -> Any:
        return self.pack(venue.candles(ask.symbol, ask.interval).over(ask.spans), ask.market, ask.interval)

    def live(self, venue: OKX, ask: Ask) -> Any:
        return self.pack(venue.live_candles(ask.symbol, ask.interval), ask.market, ask.interval)

    @turn_execution
    def pack(self, rows: list[Bar], market: str, interval: str) -> Iterator[Candle]:
        """Rows of both ways are the same; `confirm` says whether the candle is final."""
        for row in rows:
            yield Candle(
                "okx", market, interval, "venue", from_ms(row.ts), row.open, row.high, row.low, row.close, row.vol,
                row.volCcyQuote, closed=row.confirm == "1",
            )  # fmt: skip


class OKXCandles(_Candles, connector=OKX, interval=LONG):
    """Candles of a minute and longer."""


class OKXSeconds(_Candles, connector=OKX, interval=SHORT):
    """Candles of one second, which the venue keeps for three months."""

    horizon = HORIZON


def _range(span: Span, before: int, rows: Sequence[Fill]) -> tuple[Span, bool]:
    """The ids of a span of time, and whether a trade after it proves where they end.

    `before` is the last id before the span; `rows` reach from its last id on, as far as trades have happened.
    """
    beyond = [_id(row) for row in rows if _time(row) >= span[1]]
    end = min(beyond) if beyond else max(map(_id, rows), default=before) + 1
    return (before + 1, end), bool(beyond)


class OKXTrades(Binding[Trade], connector=OKX, kind="raw"):
    """Raw trades by id: which id was the last before a time is looked up first."""

    numbering = Numbering.CONTIGUOUS
    horizon = HORIZON

    async def __call__(self, venue: OKX, ask: Ask) -> Any:
        times = [time for span in ask.spans for time in span]
        found = await both(*(venue.trades_before(ask.symbol, time) for time in times))
        lasts = [
            max((_id(row) for row in rows if _time(row) < time), default=None)
            for rows, time in zip(found, times, strict=True)
        ]
        known: list[tuple[Span, int, int]] = []
        unknown: list[Span] = []  # nothing before its start: a new market, or the venue has forgotten what came before
        for span, before, last in zip(ask.spans, lasts[::2], lasts[1::2], strict=True):
            if before is None or last is None:
                unknown.append(span)
            else:
                known.append((span, before, last))
        steps = []
        if unknown:
            steps.append(self.pack(venue.trades_back(ask.symbol).over(Spans(unknown)), ask.market))
        if known:
            following = await both(*(venue.trades_after(ask.symbol, last) for _, _, last in known))
            ids = [_range(span, before, rows) for (span, before, _), rows in zip(known, following, strict=True)]
            spans = tuple(span for span, _, _ in known)
            found_ids = Ids(tuple(i for i, _ in ids), spans, tuple(b for _, b in ids), (True,) * len(ids))
            steps.append(self.pack(venue.trades(ask.symbol).over(found_ids), ask.market))
        return tuple(steps)

    def live(self, venue: OKX, ask: Ask) -> Any:
        return self.pack(venue.live_trades(ask.symbol), ask.market)

    @turn_execution
    def pack(self, rows: list[Fill], market: str) -> Iterator[Trade]:
        """Rows of `history-trades` and of `trades-all` have the same fields; `side` is the taker's."""
        for row in rows:
            yield Trade("okx", market, "raw", row.tradeId, row.px, row.sz, Side(row.side), int(row.ts) * MS)


class OKXMergedTrades(Binding[Trade], connector=OKX, kind="merged"):
    """Merged trades, which the venue has on its feed only: one row per taker order, price and source."""

    numbering = Numbering.CHAINED

    def live(self, venue: OKX, ask: Ask) -> Any:
        return self.pack(venue.live_merged(ask.symbol), ask.market)

    @turn_execution
    def pack(self, rows: list[Fill], market: str) -> Iterator[Trade]:
        """The id of a row is that of its last raw trade; `count` says how many there are, one after the other."""
        for row in rows:
            count = int(row.count)
            yield Trade(
                "okx", market, "merged", row.tradeId, row.px, row.sz, Side(row.side), int(row.ts) * MS, None,
                str(int(row.tradeId) - count + 1), row.tradeId, count,
            )  # fmt: skip
