"""Nobitex spot, Tehran.

Facts: github.com/nobitex/docs-api, `market-data.md`, `websocket.md`, `general-notes.md`, `other.md` (state of 2025-11
and 2026, read 2026-10); issue 58 there shows that `to` is inclusive and that candles are in toman, issue 178 that
quiet bars are absent, issue 90 that prices of nought mean none.

- Symbols say IRT (toman) and most prices are rial: `UNITS` says which, per turn. Ours are toman. Sizes are never scaled.
- There are no trade ids; `/v2/trades` gives the recent rows only, and no document says how many.
- Bars of a day open at Tehran midnight. So, by the rows that the venue gave on 2026-07-25, do those of four hours
  (00:30 UTC and on), which is no `4h`: bars of an hour and more below a day are therefore not offered. Where bars of two
  and three days begin is told nowhere: rows that open off our boundaries are refused, not stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Context, Decimal
from typing import Any

import msgspec
from msgspec import Raw, Struct

from tradeflood.errors import PayloadChanged, Refused, UnknownMarket
from tradeflood.models import Candle, Market, Side, Ticker, Trade, interval
from tradeflood.models.identity import digits
from tradeflood.models.time import DAY, MS, SECOND, from_ms, from_seconds, iso, minutes, seconds
from tradeflood.turns import (
    Acked,
    Alive,
    Answer,
    Ask,
    Binding,
    Budget,
    Connector,
    Denied,
    Event,
    Feed,
    Heartbeat,
    Leaving,
    Numbering,
    Page,
    Recent,
    Reply,
    Request,
    Rest,
    Rows,
    Step,
    Symbols,
    Windows,
    both,
    get,
    turn,
    turn_execution,
)
from tradeflood.turns.connector import not_now

UNITS = {  # of prices against the Iranian currency, per turn; the venue's page for candles, recordings for the others
    "stats": "rial",
    "options": "rial",
    "books": "rial",
    "book": "rial",
    "trades": "rial",
    "live_trades": "rial",
    "history": "toman",
    "live_candles": "toman",
}
EXPONENTS = {"rial": -1, "toman": 0}  # a rial is a tenth of a toman
RESOLUTIONS = {
    "1m": "1", "5m": "5", "15m": "15", "30m": "30",
    "1h@Asia/Tehran": "60", "3h@Asia/Tehran": "180", "4h@Asia/Tehran": "240", "6h@Asia/Tehran": "360",
    "12h@Asia/Tehran": "720",
    "1d@Asia/Tehran": "D", "2d@Asia/Tehran": "2D", "3d@Asia/Tehran": "3D",
}  # fmt: skip
QUOTES = {"rls": "IRT"}  # the venue's word for the quote in `stats`
UNKNOWN_MARKET = {"InvalidSymbol", "InvalidMarketPair"}
SIDES = {"buy": Side.BUY, "sell": Side.SELL}

RECENT_ROWS = 20  # that `/v2/trades` gives; not published, so taken for as few as any venue gives
FRESH = DAY  # candles younger than this are compared with the book's last price
_EXACT = Context(prec=100)  # the usual context would round to 28 digits

# ---------------------------------------------------------------- payloads, as documented; unknown fields are tolerated


class Stat(Struct):
    """What `stats` says of a market; a closed one may leave anything out."""

    isClosed: bool | None = None
    bestSell: Decimal | None = None
    bestBuy: Decimal | None = None
    volumeSrc: Decimal | None = None
    volumeDst: Decimal | None = None
    latest: Decimal | None = None
    dayLow: Decimal | None = None
    dayHigh: Decimal | None = None
    dayOpen: Decimal | None = None


class Stats(Struct):
    """The answer of `stats`: keys such as `btc-rls`."""

    stats: dict[str, Stat]


class Listed(Struct):
    """A market of `stats` with its names."""

    symbol: str
    base: str
    quote: str
    stat: Stat


class Precisions(Struct):
    """The part of `options` that is read: steps by symbol."""

    pricePrecisions: dict[str, Decimal] = {}
    amountPrecisions: dict[str, Decimal] = {}


class Options(Struct):
    """The answer of `options`."""

    nobitex: Precisions


class Book(Struct):
    """The parts of an order book that are read: its time and the price of the last trade, which may be left out."""

    lastUpdate: int
    lastTradePrice: Decimal | None = None
    symbol: str = ""


class TradeRow(Struct):
    """A row of `trades` and the data of `public:trades-…`."""

    time: int
    price: Decimal
    volume: Decimal
    type: str


class TradeRows(Struct):
    """The answer of `trades`, newest first."""

    trades: list[TradeRow]


class Bar(Struct):
    """The data of `public:candle-…`, and one line across the columns of `history`."""

    t: int
    o: Decimal
    h: Decimal
    l: Decimal  # noqa: E741 - the venue's word
    c: Decimal
    v: Decimal


class History(Struct):
    """The answer of `history`: columns, or none at all."""

    s: str
    t: list[int] = []
    o: list[Decimal] = []
    h: list[Decimal] = []
    l: list[Decimal] = []  # noqa: E741
    c: list[Decimal] = []
    v: list[Decimal] = []


class Fault(Struct):
    """The body of an error, in both of the venue's manners; any answer fits it."""

    status: str = ""
    code: str = ""
    message: str = ""
    backOff: int | None = None
    s: str = ""
    errmsg: str = ""


class Why(Struct):
    """Code and reason of an error or an end, as Centrifugo writes them."""

    code: int = 0
    message: str = ""
    reason: str = ""


class Publication(Struct):
    """One publication; `data` is JSON, or JSON text inside JSON."""

    data: Raw
    offset: int | None = None


class Push(Struct):
    """What the server says unasked."""

    channel: str = ""
    pub: Publication | None = None
    unsubscribe: Why | None = None
    disconnect: Why | None = None


class Subscribed(Struct):
    """The answer to a subscription: the epoch in which it counts, and what was missed where that was asked for."""

    epoch: str | None = None
    publications: list[Publication] = []


class Message(Struct):
    """One line of a frame; an empty one is a ping."""

    id: int | None = None
    error: Why | None = None
    push: Push | None = None
    subscribe: Subscribed | None = None


_messages = msgspec.json.Decoder(Message)
_books = msgspec.json.Decoder(dict[str, Raw])
_book = msgspec.json.Decoder(Book)
_fault = msgspec.json.Decoder(Fault)
_text = msgspec.json.Decoder(str)


def _listed(stats: Stats) -> list[Listed]:
    """The markets of `stats`, their keys taken apart: `1m_pepe-rls` is 1M_PEPE/IRT, spelt 1M_PEPEIRT."""
    found = []
    for key, stat in stats.stats.items():
        source, _, destination = key.rpartition("-")
        base, quote = source.upper(), QUOTES.get(destination, destination.upper())
        found.append(Listed(base + quote, base, quote, stat))
    return found


def _all_books(books: dict[str, Raw]) -> list[Book]:
    """The books of `/v3/orderbook/all`, which stand beside `status`."""
    found = []
    for symbol, raw in books.items():
        if bytes(raw).lstrip()[:1] == b"{":
            book = _book.decode(raw)
            book.symbol = symbol
            found.append(book)
    return found


def _bars(history: History) -> list[Bar]:
    """One bar per line across the columns; columns of unequal length are an error."""
    columns = zip(history.t, history.o, history.h, history.l, history.c, history.v, strict=True)
    return [Bar(*line) for line in columns]


# ---------------------------------------------------------------- what can be asked


class Nobitex(Connector):
    """Nobitex spot: REST on apiv2.nobitex.ir with a budget per call, live on a Centrifugo server."""

    venue = "nobitex"
    symbols = Symbols("{base}{quote}", capitals=True)
    rest = Rest(
        "https://apiv2.nobitex.ir",
        Budget("options", 20, per=minutes(1)),  # not published: as low as the lowest that is
        headers=(("User-Agent", "TraderBot/TradeFlood"),),
    )
    feed = Feed(
        "wss://ws.nobitex.ir",
        path="/connection/websocket",
        streams=300,
        connections=100,
        topics_per_message=1,  # an answer names its message by number, so each topic has a message of its own
        heartbeat=Heartbeat(seconds(25)),  # the server's pings: nothing is sent of our own accord
        headers=(("User-Agent", "TraderBot/TradeFlood"),),
    )

    @turn(Options, rows=lambda options: options.nobitex)
    def options(self) -> Request:
        """The steps of price and size by symbol."""
        return get("/v2/options")

    @turn(Stats, rows=_listed, symbols=100_000, by=lambda row: row.symbol, budget=Budget("stats", 20, per=minutes(1)))
    def stats(self, page: Page) -> Request:
        """The rolling day of every market; the venue gives all for the price of one."""
        del page
        return get("/market/stats")

    @turn(Stats, rows=_listed, budget=Budget("stats", 20, per=minutes(1)))
    def listing(self) -> Request:
        """The same answer as a list of the markets there are."""
        return get("/market/stats")

    @turn(
        dict[str, Raw], rows=_all_books, symbols=100_000, by=lambda row: row.symbol,
        budget=Budget("orderbook", 300, per=minutes(1)),
    )  # fmt: skip
    def books(self, page: Page) -> Request:
        """When each market's book last moved, and its last price where the venue says it."""
        del page
        return get("/v3/orderbook/all")

    @turn(Book, budget=Budget("orderbook", 300, per=minutes(1)))
    def book(self, symbol: str) -> Request:
        """When the book last moved, and the price of the last trade."""
        return get(f"/v3/orderbook/{symbol}")

    @turn(
        TradeRows, rows=lambda page: page.trades, pages=Recent(reached=lambda row: row.time * MS),
        budget=Budget("trades", 60, per=minutes(1)), every=seconds(5),
    )  # fmt: skip
    def trades(self, page: Page, symbol: str) -> Request:
        """The recent trades, newest first. No parameters, no paging."""
        del page
        return get(f"/v2/trades/{symbol}")

    @turn(
        History, rows=_bars, pages=Windows(500, per="interval", at=lambda row: row.t * SECOND),
        budget=Budget("history", 60, per=minutes(1)),
    )  # fmt: skip
    def history(self, page: Page, symbol: str, interval: str) -> Request:
        """Candles whose open time lies in the page; `from` and `to` are whole seconds, both inclusive."""
        start, end = -(-page.start // SECOND), -(-page.end // SECOND) - 1
        times = {"from": start, "to": max(start, end)}
        return get("/market/udf/history", symbol=symbol, resolution=RESOLUTIONS[interval], **times)

    @turn(TradeRow, live=True)
    def live_trades(self, symbol: str) -> str:
        """Trades as they happen."""
        return f"public:trades-{symbol}"

    @turn(Bar, live=True)
    def live_candles(self, symbol: str, interval: str) -> str:
        """The running candle about every ten seconds; nothing says that it is closed."""
        return f"public:candle-{symbol}-{RESOLUTIONS[interval]}"

    def judge(self, reply: Reply) -> None:
        """Errors come with HTTP 4xx or inside HTTP 200: `status` failed, or in the chart's manner `s` error."""
        try:
            fault = _fault.decode(reply.body)
        except msgspec.MsgspecError:
            return super().judge(reply)
        if fault.code == "TooManyRequests" or reply.status == 429:
            until = None if fault.backOff is None else reply.received_at + fault.backOff * SECOND
            text = f"nobitex: {fault.code or 'too many requests'} (HTTP {reply.status})"
            raise not_now(text, reply, until)
        if fault.status == "failed" and reply.status < 500:
            text = f"nobitex: {fault.code}: {fault.message} (HTTP {reply.status})"
            raise UnknownMarket(text) if fault.code in UNKNOWN_MARKET else Refused(text)
        if fault.s == "error" and reply.status < 500:
            text = f"nobitex: {fault.errmsg} (HTTP {reply.status})"
            raise UnknownMarket(text) if "symbol" in fault.errmsg.lower() else Refused(text)
        return super().judge(reply)

    # ------------------------------------------------------------ live: Centrifugo's JSON protocol

    def say(self, verb: str, topics: Sequence[str], number: int) -> Iterable[str]:
        """A message per topic, numbered on from `number`; before the first of a connection, the handshake.

        Ids of subscriptions are even, so that the handshake's, which is 1, is nobody's.
        """
        if number == 1 and verb == "subscribe":
            yield '{"id":1,"connect":{}}'
        for count, topic in enumerate(topics):
            yield msgspec.json.encode({"id": 2 * (number + count), verb: {"channel": topic}}).decode()

    def resume(self, topic: str, offset: int, epoch: str, number: int) -> Iterable[str]:
        """The subscription of a topic with what was missed since an offset: the venue keeps ten messages for ten minutes."""
        if number == 1:
            yield '{"id":1,"connect":{}}'
        since = {"channel": topic, "recover": True, "offset": offset, "epoch": epoch}
        yield msgspec.json.encode({"id": 2 * number, "subscribe": since}).decode()

    def hear(self, frame: bytes) -> Iterable[Event]:
        """Several messages may stand in one frame, a line each."""
        return [event for message in _messages.decode_lines(frame) for event in self._all_heard(message)]

    def _all_heard(self, message: Message) -> Iterator[Event]:
        """What a message says; the answer to a subscription may bring what was missed."""
        yield self._heard(message)
        if message.subscribe is not None and message.id is not None:
            for pub in message.subscribe.publications:
                yield Rows("", _unwrapped(pub.data), pub.offset, number=message.id // 2)

    def _heard(self, message: Message) -> Event:
        push, error = message.push, message.error
        if push is not None:
            if push.pub is not None:
                return Rows(push.channel, _unwrapped(push.pub.data), push.pub.offset)
            if push.unsubscribe is not None:
                return Denied(_why(push.unsubscribe), topics=(push.channel,))
            return Alive() if push.disconnect is None else Leaving(_why(push.disconnect))
        if message.id is None:
            return Answer("{}") if error is None else Denied(_why(error))
        if message.id % 2:  # the handshake's: refused, it refuses all that was asked
            return Alive() if error is None else Denied(_why(error))
        if error is not None:
            return Denied(_why(error), number=message.id // 2)
        return Acked(number=message.id // 2, epoch=message.subscribe.epoch if message.subscribe is not None else None)


def _unwrapped(data: Raw) -> Raw:
    """JSON out of its text, where it comes as JSON text inside JSON."""
    return Raw(_text.decode(data).encode()) if bytes(data).lstrip()[:1] == b'"' else data


def _why(why: Why) -> str:
    return f"{why.message or why.reason or 'no reason given'} (code {why.code})"


# ---------------------------------------------------------------- money


def in_quote(price: Decimal, market: str, unit: str) -> Decimal:
    """A price or a sum of money in the market's quote, exactly: toman for IRT, as it is for everything else."""
    return price.scaleb(EXPONENTS[unit], _EXACT) if market.endswith("/IRT") else price


def check_unit(turn: str, market: str, price: Decimal, last_trade_price: Decimal) -> None:
    """Nothing, where a price of a turn fits the book's last trade price, both read in their declared units.

    Raises PayloadChanged where they differ by more than the square root of ten: then one of the units is not what
    is declared, and neither is guessed.
    """
    ours = in_quote(price, market, UNITS[turn])
    theirs = in_quote(last_trade_price, market, UNITS["book"])
    if ours > 0 and theirs > 0 and not _near(ours, theirs):
        raise PayloadChanged(
            f"nobitex.{turn}: {market} at {ours} where the last trade was at {theirs}; {UNITS[turn]} is declared"
        )


def check_volume(market: str, low: Decimal, high: Decimal, volume: Decimal, quote_volume: Decimal) -> None:
    """Nothing, where typical price times volume is about the quote volume, all in our units.

    Raises PayloadChanged where it is off by more than the square root of ten: then a unit was scaled that is none.
    """
    if volume > 0 and quote_volume > 0 and not _near((low + high) / 2 * volume, quote_volume):
        raise PayloadChanged(f"nobitex: {market} traded {volume} between {low} and {high} for {quote_volume}")


def _near(one: Decimal, other: Decimal) -> bool:
    """Whether they are nearer to each other than to a tenth or to ten times."""
    return one * one < 10 * other * other and other * other < 10 * one * one


def _some(price: Decimal | None, market: str, unit: str) -> Decimal | None:
    """A price in the market's quote; nought is the venue's word for none."""
    return in_quote(price, market, unit) if price else None


# ---------------------------------------------------------------- how models are made


class NobitexMarkets(Binding[Market], connector=Nobitex):
    """Markets from `stats`, their increments from `options`."""

    async def __call__(self, venue: Nobitex, ask: Ask) -> Any:  # noqa: ARG002 - there is one list
        listing, options = await both(venue.listing(), venue.options())
        return _markets(listing, options)


def _markets(rows: Iterable[Listed], steps: Precisions) -> list[Market]:
    """One market per key; a minimum is not told in the base asset, so there is none."""
    made = []
    for row in rows:
        name, closed = f"{row.base}/{row.quote}", row.stat.isClosed
        made.append(
            Market(
                "nobitex", name, row.symbol, row.base, row.quote, "spot",
                None if closed is None else "closed" if closed else "trading",
                _some(steps.pricePrecisions.get(row.symbol), name, UNITS["options"]),
                steps.amountPrecisions.get(row.symbol),
                price_unit=UNITS["trades"] if row.quote == "IRT" else None,
            )
        )  # fmt: skip
    return made


class NobitexTickers(Binding[Ticker], connector=Nobitex):
    """Tickers from `stats`, which tells no time: that is the book's, and so is the last price where the book has it."""

    async def __call__(self, venue: Nobitex, ask: Ask) -> Any:
        stats, books = await both(venue.stats().of(ask.symbol), venue.books().of(ask.symbol))
        return _tickers(stats, books, ask.market)


def _tickers(stats: Iterable[Listed], books: Iterable[Book], market: str) -> list[Ticker]:
    """One ticker per market of which there is both; the sum of money is in the unit of the prices, the volume in none."""
    unit, made = UNITS["stats"], []
    moved = {book.symbol: book for book in books}
    for row in stats:
        stat, book = row.stat, moved.get(row.symbol)
        if book is None:
            continue
        low, high, money = (_some(price, market, unit) for price in (stat.dayLow, stat.dayHigh, stat.volumeDst))
        if low is not None and high is not None and money is not None and stat.volumeSrc is not None:
            check_volume(market, low, high, stat.volumeSrc, money)
        made.append(
            Ticker(
                "nobitex", market, from_ms(book.lastUpdate), _some(book.lastTradePrice or stat.latest, market, unit),
                _some(stat.bestBuy, market, unit),
                _some(stat.bestSell, market, unit), stat.volumeSrc,
                None if stat.volumeDst is None else in_quote(stat.volumeDst, market, unit),
                _some(stat.dayOpen, market, unit), high, low,
            )
        )  # fmt: skip
    return made


class NobitexTrades(Binding[Trade], connector=Nobitex, kind="raw"):
    """The recent trades, and live. What was not collected in time cannot be asked for."""

    numbering = Numbering.NONE
    horizon_rows = RECENT_ROWS

    def __call__(self, venue: Nobitex, ask: Ask) -> Any:
        return self.pack(venue.trades(ask.symbol).over(ask.spans), ask.market, UNITS["trades"])

    def live(self, venue: Nobitex, ask: Ask) -> Any:
        return self.pack(venue.live_trades(ask.symbol), ask.market, UNITS["live_trades"])

    def fallback(self, venue: Nobitex, ask: Ask) -> Step[Trade]:
        """The polled step that serves where the feed does not: the same rows, the same ids."""
        return self.pack(venue.trades(ask.symbol), ask.market, UNITS["trades"])

    @turn_execution
    def pack(self, rows: list[TradeRow], market: str, unit: str) -> Iterator[Trade]:
        """Rows of `trades` and of the feed. The id is what is sent, in one spelling, with the price in our unit."""
        for row in rows:
            price = in_quote(row.price, market, unit)
            said = f"{row.time}:{row.type}:{digits(price)}:{digits(row.volume)}"
            yield Trade("nobitex", market, "raw", said, price, row.volume, SIDES[row.type], from_ms(row.time))


class NobitexCandles(Binding[Candle], connector=Nobitex, interval=tuple(RESOLUTIONS)):
    """Candles from `history` (minutes since 2022-03-21), and live. Young ones are held against the book's last price."""

    def __call__(self, venue: Nobitex, ask: Ask) -> Any:
        fresh = ask.market.endswith("/IRT") and ask.spans.bounds[1] > ask.now - FRESH
        return self._checked(venue, ask) if fresh else self._plain(venue, ask)

    def _plain(self, venue: Nobitex, ask: Ask, last: Decimal | None = None, since: int = 0) -> Step[Candle]:
        candles = venue.history(ask.symbol, ask.interval).over(ask.spans)
        return self.pack(candles, ask.market, ask.interval, UNITS["history"], last, since)

    async def _checked(self, venue: Nobitex, ask: Ask) -> Step[Candle]:
        book: Book = await venue.book(ask.symbol)
        return self._plain(venue, ask, book.lastTradePrice, from_ms(book.lastUpdate) - FRESH)

    def live(self, venue: Nobitex, ask: Ask) -> Any:
        return self.pack(venue.live_candles(ask.symbol, ask.interval), ask.market, ask.interval, UNITS["live_candles"])

    @turn_execution
    def pack(
        self, rows: list[Bar], market: str, name: str, unit: str, last: Decimal | None = None, since: int = 0
    ) -> Iterator[Candle]:
        """Rows of `history` and of the feed, without a closed flag. `last` is a price to hold rows after `since` against.

        Raises PayloadChanged where a row opens on no boundary of its interval.
        """
        grid = interval(name)
        for row in rows:
            opened = from_seconds(row.t)
            if grid.floor(opened) != opened:
                raise PayloadChanged(f"nobitex: a candle opens at {iso(opened)}, which is no boundary of {name}")
            if last is not None and opened >= since:
                check_unit("history", market, row.c, last)
            yield Candle(
                "nobitex", market, name, "venue", opened, in_quote(row.o, market, unit), in_quote(row.h, market, unit),
                in_quote(row.l, market, unit), in_quote(row.c, market, unit), row.v,
            )  # fmt: skip
