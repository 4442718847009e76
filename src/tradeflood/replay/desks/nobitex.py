"""Nobitex spot, server side: https://github.com/nobitex/docs-api (market-data.md, websocket.md, general-notes.md).

Not told by any document, and chosen here: how many rows `/v2/trades` gives, how many levels a book has here (one), where
bars of two and three days begin, and what a bar of a quiet ten seconds looks like on the feed (the last one again).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import groupby
from typing import Any, ClassVar, TypeAlias

import msgspec
from attrs import frozen

from tradeflood.models import Interval, Market, Side, Trade, interval
from tradeflood.models.identity import digits
from tradeflood.models.time import DAY, HOUR, MINUTE, MS, SECOND
from tradeflood.replay.desk import (
    LOOPBACK,
    Clock,
    Close,
    Conversation,
    Desk,
    Frame,
    HttpAnswer,
    HttpRequest,
    Message,
    Ping,
    Pong,
    as_json,
    text_of,
)
from tradeflood.replay.limits import Window
from tradeflood.replay.source import Bar, Source

RESOLUTIONS = {
    "1": "1m", "5": "5m", "15": "15m", "30": "30m", "60": "1h@Asia/Tehran", "180": "3h@Asia/Tehran",
    "240": "4h@Asia/Tehran", "360": "6h@Asia/Tehran", "720": "12h@Asia/Tehran",
    "D": "1d@Asia/Tehran", "2D": "2d@Asia/Tehran", "3D": "3d@Asia/Tehran",
}  # fmt: skip
MIDNIGHT = interval("1d@Asia/Tehran")
BARS = 500
RECENT = 30
CHANNELS = 300
EPOCH = "xGPg"
KEPT, KEPT_FOR = 10, 10 * MINUTE  # published messages that can be asked for again
PUSH_EVERY = 10 * SECOND  # candles
PING_EVERY = PONG_WITHIN = 25 * SECOND
LIMITS = {"options": 20, "stats": 20, "trades": 60, "history": 60, "orderbook": 300}  # per minute and client

Params: TypeAlias = Mapping[str, str]

_exact = msgspec.json.Encoder(decimal_format="number")


class Wrong(Exception):
    """A request that Nobitex answers with an error body."""

    def __init__(self, code: str, text: str, status: int = 200) -> None:
        super().__init__(text)
        self.answer = as_json({"status": "failed", "code": code, "message": text}, status=status)


class Unread(Exception):
    """A request that the chart answers with an error body of its own manner."""


@frozen
class Route:
    """One path, what it counts against, and what answers it; a group of the path is a symbol."""

    path: re.Pattern[str]
    budget: str
    answer: Callable[[Nobitex, str, Params, int], HttpAnswer]


@frozen
class Grid:
    """Where the bars of a resolution open: hours are counted from Tehran midnight, as days are."""

    whole: Interval
    hours: int = 0

    def floor(self, time: int) -> int:
        """The open time of the bar in which a time lies."""
        if not self.hours:
            return self.whole.floor(time)
        midnight = MIDNIGHT.floor(time)
        return midnight + (time - midnight) // (self.hours * HOUR) * self.hours * HOUR

    def next(self, time: int) -> int:
        """The first open time after a time."""
        if not self.hours:
            return self.whole.next(time)
        return min(self.floor(time) + self.hours * HOUR, MIDNIGHT.next(time))


def grid_of(resolution: str) -> Grid | None:
    """The grid of a resolution, None where the venue has no such one."""
    name = RESOLUTIONS.get(resolution)
    if name is None:
        return None
    grid = interval(name)
    return Grid(grid, grid.count if grid.unit == "h" else 0)


class Nobitex(Desk):
    venue = "nobitex"
    quotes = frozenset({"USDT", "IRT"})
    routes: ClassVar[tuple[Route, ...]] = ()

    def __init__(self, source: Source, clock: Clock) -> None:
        super().__init__(source, clock)
        self._budgets = {name: Window(limit, MINUTE) for name, limit in LIMITS.items()}

    def answer(self, request: HttpRequest, now: int) -> HttpAnswer:
        found = next(((route, match) for route in self.routes if (match := route.path.fullmatch(request.path))), None)
        if found is None:
            return HttpAnswer(404, {"Content-Type": "text/html"}, b"<h1>Not Found</h1>")
        if request.method not in {"GET", "HEAD"}:
            return as_json({"detail": f'Method "{request.method}" not allowed.'}, status=405)
        route, match = found
        paced, window = self.clock.paced(now), self._budgets[route.budget]
        if window.spend(request.client, 1, paced) > window.limit:
            return _too_many(-(-window.left(paced) // SECOND), window.limit)
        try:
            return route.answer(self, match[1] if match.groups() else "", request.params, now)
        except Wrong as wrong:
            return wrong.answer
        except Unread as wrong:
            return as_json({"s": "error", "errmsg": str(wrong)})

    def refusal(self, reason: str, now: int, wait: int | None = None) -> HttpAnswer:
        del now
        if reason == "limit":
            return _too_many(wait, min(LIMITS.values()))
        status, code = {"ban": (403, "Forbidden"), "error": (200, "UnexpectedError")}[reason]
        return as_json({"status": "failed", "code": code, "message": "An error occurred."}, status=status)

    def connect(self, path: str, params: Params, now: int, client: str = LOOPBACK) -> Conversation | HttpAnswer:
        del params, client
        if path != "/connection/websocket":
            return HttpAnswer(404, {"Content-Type": "text/plain"}, b"404 page not found\n")
        return NobitexFeed(self, now)

    def market(self, symbol: str) -> Market:
        """The market of a symbol, in whatever case."""
        if symbol.upper() not in self.listed:
            raise Wrong("InvalidSymbol", f'The symbol "{symbol}" is not a valid market pair.')
        return self.listed[symbol.upper()]

    def last_bar(self, market: Market, grid: Grid, now: int) -> Bar | None:
        """The newest bar in which anything traded."""
        last = self.source.last_trade(market.market, "raw", now)
        if last is None:
            return None
        start = grid.floor(last.venue_time)
        return self.source.bar(market.market, start, grid.next(start), now)


def _too_many(wait: int | None, limit: int) -> HttpAnswer:
    told = {} if wait is None else {"backOff": wait}
    text = "تعداد درخواست شما بیش از حد معمول تشخیص داده شده."
    return as_json({"status": "failed", "code": "TooManyRequests", "message": text, **told, "limit": limit}, status=429)


def _rial(market: Market, number: Decimal) -> Decimal:
    """A price or a sum of money as most of the venue's answers have it: rial where our markets say toman."""
    return number.scaleb(1) if market.quote == "IRT" else number


def _row(market: Market, trade: Trade) -> dict[str, Any]:
    return {
        "time": trade.venue_time // MS, "price": digits(_rial(market, trade.price)), "volume": digits(trade.size),
        "type": "sell" if trade.aggressor is Side.SELL else "buy",
    }  # fmt: skip


def _bar(bar: Bar) -> dict[str, Any]:
    """The columns of a bar, as the floats that the venue writes: toman, as they are."""
    point = Decimal("0.0")
    prices = {"o": bar.open, "h": bar.high, "l": bar.low, "c": bar.close}
    return {"t": bar.start // SECOND, **{name: price + point for name, price in prices.items()}, "v": bar.volume}


# --- what answers each path ---


def _options(desk: Nobitex, name: str, params: Params, now: int) -> HttpAnswer:
    del name, params, now
    listed = desk.listed.values()
    return as_json({
        "status": "ok",
        "features": {"fcmEnabled": True, "enabledFeatures": ["PriceAlert", "StopLoss", "OCO"], "betaFeatures": []},
        "coins": [],
        "nobitex": {
            "allCurrencies": ["rls", *sorted({market.base.lower() for market in listed})],
            "minOrders": {"rls": "3000000", "usdt": "11", "2": "3000000", "13": "11"},
            "amountPrecisions": {m.symbol: digits(m.size_increment) for m in listed if m.size_increment},
            "pricePrecisions": {m.symbol: digits(_rial(m, m.price_increment)) for m in listed if m.price_increment},
        },
    })  # fmt: skip


def _stats(desk: Nobitex, name: str, params: Params, now: int) -> HttpAnswer:
    del name
    wanted = [params[key].lower().split(",") if params.get(key) else None for key in ("srcCurrency", "dstCurrency")]
    found = {}
    for market in desk.listed.values():
        pair = market.base.lower(), "rls" if market.quote == "IRT" else market.quote.lower()
        if all(names is None or coin in names for names, coin in zip(wanted, pair, strict=True)):
            found["-".join(pair)] = _stat(desk, market, now)
    return as_json({"status": "ok", "stats": found, "global": {"binance": {}}})


def _stat(desk: Nobitex, market: Market, now: int) -> dict[str, Any]:
    bar = desk.source.bar(market.market, now - DAY + 1, now + 1, now)
    if bar is None:
        return {"isClosed": True, "isClosedReason": "NoData"}
    prices = {"dayLow": bar.low, "dayHigh": bar.high, "dayOpen": bar.open, "dayClose": bar.close, "latest": bar.close}
    ask, bid = _quotes(desk, market, now)
    change = (bar.close - bar.open) / bar.open * 100 if bar.open else Decimal()
    return {
        "isClosed": False, "bestSell": ask, "bestBuy": bid, "volumeSrc": digits(bar.volume),
        "volumeDst": digits(_rial(market, bar.quote_volume)), "mark": digits(_rial(market, bar.close)),
        **{name: digits(_rial(market, price)) for name, price in prices.items()}, "dayChange": f"{change:.2f}",
    }  # fmt: skip


def _quotes(desk: Nobitex, market: Market, now: int) -> tuple[str, str]:
    """The best ask and bid: a tick on both sides of the last price."""
    last = desk.source.last_trade(market.market, "raw", now)
    price, tick = last.price if last else Decimal(), market.price_increment or Decimal()
    return digits(_rial(market, price + tick)), digits(_rial(market, price - tick))


def _book(desk: Nobitex, market: Market, now: int) -> dict[str, Any]:
    last = desk.source.last_trade(market.market, "raw", now)
    ask, bid = _quotes(desk, market, now)
    moved = (now if last is None else last.venue_time) // MS
    price = digits(_rial(market, last.price)) if last else "0"
    return {"lastUpdate": moved, "lastTradePrice": price, "asks": [[ask, "1"]], "bids": [[bid, "1"]]}


def _orderbook(desk: Nobitex, name: str, params: Params, now: int) -> HttpAnswer:
    del params
    if name == "all":
        return as_json({"status": "ok", **{m.symbol: _book(desk, m, now) for m in desk.listed.values()}})
    return as_json({"status": "ok", **_book(desk, desk.market(name), now)})


def _trades(desk: Nobitex, name: str, params: Params, now: int) -> HttpAnswer:
    del params
    market = desk.market(name)
    rows = desk.source.trades(market.market, "raw", now=now, limit=RECENT, newest=True)
    return as_json({"status": "ok", "trades": [_row(market, row) for row in reversed(rows)]})


def _history(desk: Nobitex, name: str, params: Params, now: int) -> HttpAnswer:
    """Bars that open in [from, to], the oldest first, quiet ones absent; `countback` counts back from `to` instead."""
    del name
    market, grid = desk.listed.get(params.get("symbol", "").upper()), grid_of(params.get("resolution", ""))
    if market is None:
        raise Unread("Invalid symbol!")
    if grid is None:
        raise Unread("Invalid resolution!")
    numbers = {key: params.get(key, "") for key in ("from", "to", "countback", "page")}
    if any(text and not re.fullmatch("[0-9]{1,12}", text) for text in numbers.values()) or not numbers["to"]:
        raise Unread("Invalid parameters!")
    to, page = int(numbers["to"]) * SECOND, int(numbers["page"] or 1)
    if numbers["countback"]:
        rows = _back(desk, market, grid, min(to, now), now, int(numbers["countback"]))[:BARS]
    else:
        start = int(numbers["from"]) * SECOND if numbers["from"] else to
        rows = list(_on(desk, market, grid, start, min(to, now), now, page * BARS))[(page - 1) * BARS :]
    if not rows:
        return as_json({"s": "no_data"})
    columns = [_bar(row) for row in rows]
    value = {"s": "ok", **{name: [column[name] for column in columns] for name in "tohlcv"}}
    return HttpAnswer(200, {"Content-Type": "application/json"}, _exact.encode(value))


def _on(desk: Nobitex, market: Market, grid: Grid, start: int, to: int, now: int, most: int) -> Iterator[Bar]:
    """At most so many bars that open in [start, to]."""
    if desk.source.recorded:
        yield from desk.source.bars(market.market, grid.whole.text, now=now, start=start, end=to + 1, limit=most)
        return
    first = desk.source.trades(market.market, "raw", now=now, limit=1)
    if not first:
        return
    time = max(grid.floor(first[0].venue_time), grid.floor(start) if grid.floor(start) == start else grid.next(start))
    while time <= to and most:
        if bar := desk.source.bar(market.market, time, grid.next(time), now):
            most -= 1
            yield bar
        time = grid.next(time)


def _back(desk: Nobitex, market: Market, grid: Grid, to: int, now: int, count: int) -> list[Bar]:
    """The bars of the last so many opens at or before `to`."""
    if desk.source.recorded:
        most = min(count, BARS)
        return desk.source.bars(market.market, grid.whole.text, now=now, end=to + 1, limit=most, newest=True)
    time, found = grid.floor(to), []
    for _ in range(min(count, BARS)):
        if bar := desk.source.bar(market.market, time, grid.next(time), now):
            found.append(bar)
        time = grid.floor(time - 1)
    return found[::-1]


Nobitex.routes = (
    Route(re.compile("/v2/options"), "options", _options),
    Route(re.compile("/market/stats"), "stats", _stats),
    Route(re.compile("/v3/orderbook/([^/]+)"), "orderbook", _orderbook),
    Route(re.compile("/v2/trades/([^/]+)"), "trades", _trades),
    Route(re.compile("/market/udf/history"), "history", _history),
)


# --- the feed: Centrifugo ---


class NobitexFeed(Conversation):
    """One connection: `connect` first, then `subscribe`; `{}` now and then, which wants `{}` back."""

    def __init__(self, desk: Nobitex, now: int) -> None:
        super().__init__(desk.clock, now)
        self._desk = desk
        self._connected = False
        self._channels: dict[str, tuple[int, Market, Grid | None]] = {}  # with the moment from which each is owed
        self._pinged = self.clock.paced(now)
        self._owed = False

    def receive(self, message: Message, now: int) -> list[Frame]:
        if isinstance(message, (Ping, Pong)):
            return []
        try:
            commands = [msgspec.json.decode(line) for line in _text(message).splitlines() if line.strip()]
        except (msgspec.DecodeError, UnicodeDecodeError):
            return [Close(3501, "bad request")]
        answers: list[Frame] = []
        for command in commands:
            if command == {}:
                self._owed = False
                continue
            answer = self._obey(command, now)
            if answer is None:
                return [*answers, Close(3501, "bad request")]
            answers.append(text_of({"id": command["id"], **answer}))
        return answers

    def _obey(self, command: Any, now: int) -> dict[str, Any] | None:
        """The reply to a command, None where it ends the connection."""
        number = command.get("id") if isinstance(command, dict) else None
        if not isinstance(number, int) or isinstance(number, bool) or number <= 0:
            return None
        if "connect" in command:
            if self._connected:
                return None
            self._connected = True
            return {"connect": {"client": "5d1a7c0e", "version": "5.4.9", "ping": 25, "pong": True}}
        verb = next((verb for verb in ("subscribe", "unsubscribe") if isinstance(command.get(verb), dict)), None)
        if not self._connected or verb is None:
            return None
        channel = command[verb].get("channel")
        if not isinstance(channel, str):
            return None
        if verb == "unsubscribe":
            self._channels.pop(channel, None)
            return {"unsubscribe": {}}
        answer = self._subscribe(channel, now)
        if command[verb].get("recover") is True and "subscribe" in answer:
            answer["subscribe"] |= self._missed(channel, command[verb], now)
        return answer

    def _missed(self, channel: str, asked: dict[str, Any], now: int) -> dict[str, Any]:
        """What was published since an offset, where the venue still has all of it: ten messages, for ten minutes."""
        _, market, grid = self._channels[channel]
        offset, none = asked.get("offset"), {"was_recovering": True, "recovered": False}
        if asked.get("epoch") != EPOCH or not isinstance(offset, int) or grid is not None:
            return none
        rows = self._desk.source.trades(market.market, "raw", now=now, from_id=offset + 1, limit=KEPT + 1)
        if len(rows) > KEPT or any(row.venue_time <= now - KEPT_FOR for row in rows):
            return none
        missed = [_publication(_row(market, row), int(row.trade_id)) for row in rows]
        return {"was_recovering": True, "recovered": True, "publications": missed}

    def _subscribe(self, channel: str, now: int) -> dict[str, Any]:
        namespace, _, name = channel.partition(":")
        kind, _, rest = name.partition("-")
        symbol, _, resolution = rest.partition("-")
        market = self._desk.listed.get(symbol)
        grid = grid_of(resolution) if kind == "candle" else None
        known = grid is not None if kind == "candle" else kind == "trades" and not resolution
        if namespace != "public" or market is None or not known:
            return {"error": {"code": 102, "message": "unknown channel"}}
        if channel in self._channels:
            return {"error": {"code": 105, "message": "already subscribed"}}
        if len(self._channels) >= CHANNELS:
            return {"error": {"code": 106, "message": "limit exceeded"}}
        self._channels[channel] = (now, market, grid)
        return {"subscribe": {"recoverable": True, "epoch": EPOCH, "positioned": True}}

    def topics(self) -> Iterable[str]:
        return tuple(self._channels)

    def control(self, now: int) -> list[Frame]:
        paced = self.clock.paced(now)
        if not self._connected or paced - self._pinged < PING_EVERY:
            return []
        if self._owed:
            return [Close(3012, "no pong")]
        self._pinged, self._owed = paced, True
        return ["{}"]

    def due(self, after: int, up_to: int) -> Iterator[tuple[int, Frame]]:
        """What happened at one moment comes in one frame, a line per message."""
        published = (
            event
            for channel, (since, market, grid) in self._channels.items()
            if channel != self.muted
            for event in self._published(channel, market, grid, max(after, since), up_to)
        )
        events = sorted(published, key=_moment)  # stable: publications of one channel keep their order
        for time, group in groupby(events, key=_moment):
            yield time, "\n".join(text for _, text in group)

    def _published(
        self, channel: str, market: Market, grid: Grid | None, after: int, up_to: int
    ) -> Iterable[tuple[int, str]]:
        if grid is None:
            for row in self._desk.source.trades_between(market.market, "raw", after, up_to):
                yield row.venue_time, _push(channel, _row(market, row), int(row.trade_id))
            return
        for time in range(after - after % PUSH_EVERY + PUSH_EVERY, up_to + 1, PUSH_EVERY):
            if bar := self._desk.last_bar(market, grid, time):
                yield time, _push(channel, _bar(bar), time // PUSH_EVERY)


def _push(channel: str, data: dict[str, Any], offset: int) -> str:
    """A publication as it is pushed."""
    return text_of({"push": {"channel": channel, "pub": _publication(data, offset)}})


def _publication(data: dict[str, Any], offset: int) -> dict[str, Any]:
    """A publication: its data are JSON text inside JSON."""
    return {"data": _exact.encode(data).decode(), "offset": offset}


def _moment(event: tuple[int, str]) -> int:
    return event[0]


def _text(message: str | bytes) -> str:
    return message if isinstance(message, str) else message.decode()
