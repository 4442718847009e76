"""Bitget spot v2, server side: https://www.bitget.com/api-doc (classic: spot market endpoints, WebSocket API)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import groupby
from typing import Any, ClassVar, TypeAlias

import msgspec
from attrs import frozen

from tradeflood.models import Market, Side, Trade, interval
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
from tradeflood.replay.limits import Rolling, Window
from tradeflood.replay.source import Bar, Source

GRANULARITIES = {
    "1min": "1m", "3min": "3m", "5min": "5m", "15min": "15m", "30min": "30m", "1h": "1h", "4h": "4h",
    "6Hutc": "6h", "12Hutc": "12h", "1Dutc": "1d", "3Dutc": "3d", "1Wutc": "1w", "1Mutc": "1M",
    "1day": "1d@+08:00", "3day": "3d@+08:00", "1week": "1w@+08:00", "1M": "1M@+08:00",
}  # fmt: skip
CHANNELS = {
    "1m": "1m", "5m": "5m", "15m": "15m", "30m": "30m", "1H": "1h", "4H": "4h", "6Hutc": "6h", "12Hutc": "12h",
    "1Dutc": "1d", "3Dutc": "3d", "1Wutc": "1w", "1Mutc": "1M", "1D": "1d@+08:00", "3D": "3d@+08:00",
    "1W": "1w@+08:00", "1M": "1M@+08:00",
}  # fmt: skip
DEPTHS = {
    "1m": 30, "3m": 30, "5m": 30, "15m": 52, "30m": 62, "1h": 83, "4h": 240, "6h": 360,
}  # fmt: skip
LONGER = 1_440  # bars of the lengths for which no depth is documented: as many as of four and six hours
TRADE_DEPTH, WIDEST = 90 * DAY, 7 * DAY
STREAMS = 1_000
MESSAGES = 10
SUBSCRIPTIONS = 240
ATTEMPTS = 300
BYTES = 4_096
SILENCE = 2 * MINUTE
LIFETIME = 24 * HOUR
SNAPSHOT = 50  # rows with which a channel begins
SETTLE = 50 * MS  # how long after the boundary the last state of a candle is sent

Params: TypeAlias = Mapping[str, str]


class Wrong(Exception):
    """A request that Bitget answers with an error body."""

    def __init__(self, code: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code, self.status = code, status


@frozen
class Route:
    """One path: what answers it, and how often a second."""

    answer: Callable[[Bitget, Params, int], Any]
    limit: int = 20


class Bitget(Desk):
    venue = "bitget"
    routes: ClassVar[dict[str, Route]] = {}

    def __init__(self, source: Source, clock: Clock) -> None:
        super().__init__(source, clock)
        self._used = {path: Window(route.limit, SECOND) for path, route in self.routes.items()}
        self._attempts = Rolling(ATTEMPTS, 5 * MINUTE)

    def answer(self, request: HttpRequest, now: int) -> HttpAnswer:
        try:
            return _enveloped("00000", "success", self._value(request, now), now)
        except Wrong as wrong:
            return _enveloped(wrong.code, str(wrong), None, now, wrong.status)

    def _value(self, request: HttpRequest, now: int) -> Any:
        route = self.routes.get(request.path)
        if route is None or request.method not in {"GET", "HEAD"}:
            raise Wrong("40404", "Request URL NOT FOUND", 404)
        if self._used[request.path].spend(request.client, 1, self.clock.paced(now)) > route.limit:
            raise Wrong("429", "Too Many Requests", 429)
        return route.answer(self, request.params, now)

    def refusal(self, reason: str, now: int, wait: int | None = None) -> HttpAnswer:
        status, code, text = {
            "limit": (429, "429", "Too Many Requests"),
            "ban": (403, "403", "Access prohibited"),
            "error": (200, "40725", "service return an error"),
        }[reason]
        return _enveloped(code, text, None, now, status, {} if wait is None else {"Retry-After": str(wait)})

    def connect(self, path: str, params: Params, now: int, client: str = LOOPBACK) -> Conversation | HttpAnswer:
        del params
        if not self._attempts.allows(client, self.clock.paced(now)):
            return self.refusal("limit", now)
        if path != "/v2/ws/public":
            return HttpAnswer(404, {"Content-Type": "text/plain"}, b"Not found\n")
        return BitgetFeed(self, now)

    def wanted(self, params: Params) -> Market:
        """The market that `symbol` names."""
        symbol = _needed(params, "symbol")
        if symbol not in self.listed:
            raise Wrong("40034", f"Parameter {symbol} does not exist")
        return self.listed[symbol]

    def several(self, params: Params) -> list[Market]:
        """The market that `symbol` names, all where it is not sent."""
        return [self.wanted(params)] if params.get("symbol") else list(self.listed.values())

    def bars(self, market: Market, name: str, opens: list[int], now: int) -> Iterator[Bar]:
        """A bar for every open time; one without trades is flat at the close before it, none before the first trade."""
        if not opens:
            return
        grid = interval(name)
        rows = self.source.bars(
            market.market, name, now=now, start=opens[0], end=grid.next(opens[-1]), limit=len(opens)
        )
        full = {bar.start: bar for bar in rows}
        last = self.source.last_trade(market.market, "raw", opens[0] - 1)
        close = last.price if last else None
        for start in opens:
            bar = full.get(start) or (None if close is None else _flat(start, grid.next(start), close, now))
            if bar:
                close = bar.close
                yield bar

    def opens(self, market: Market, name: str, low: int, end: int | None, limit: int, now: int) -> list[int]:
        """The newest open times at or after a time whose bars end at or before another; the running one is one too."""
        grid = interval(name)
        if self.source.recorded:
            last = None if end is None else grid.floor(end)
            rows = self.source.bars(market.market, name, now=now, start=low, end=last, limit=limit, newest=True)
            return [bar.start for bar in rows]
        first = self.source.trades(market.market, "raw", now=now, limit=1)
        if not first:
            return []
        low = max(low, grid.floor(first[0].venue_time))
        time = grid.floor(now)
        if end is not None:
            time = min(time, grid.floor(grid.floor(end) - 1))
        opens: list[int] = []
        while len(opens) < limit and time >= low:
            opens.append(time)
            time = grid.floor(time - 1)
        return opens[::-1]


def _enveloped(
    code: str, text: str, data: Any, now: int, status: int = 200, headers: Mapping[str, str] | None = None
) -> HttpAnswer:
    body = {"code": code, "msg": text, "requestTime": now // MS, "data": data}
    return as_json(body, status=status, headers=headers)


def _needed(params: Params, name: str) -> str:
    if not params.get(name):
        raise Wrong("40019", f"Parameter {name} cannot be empty")
    return params[name]


def _whole(params: Params, name: str) -> int | None:
    text = params.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise Wrong("40017", f"Parameter verification failed {name}")
    return int(text)


def _limit(params: Params, default: int, most: int) -> int:
    limit = _whole(params, "limit")
    return default if limit is None else max(1, min(limit, most))


def _granularity(params: Params) -> str:
    name = _needed(params, "granularity")
    if name not in GRANULARITIES:
        raise Wrong("40020", "Parameter granularity error")
    return GRANULARITIES[name]


def _text(number: Decimal) -> str:
    """The shortest digits, as the venue writes numbers."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _flat(start: int, end: int, price: Decimal, now: int) -> Bar:
    nought = Decimal()
    return Bar(start, end, price, price, price, price, nought, nought, nought, nought, "", "", 0, end <= now)


def _bar(bar: Bar) -> list[str]:
    quote = _text(bar.quote_volume)
    prices = (_text(price) for price in (bar.open, bar.high, bar.low, bar.close))
    return [str(bar.start // MS), *prices, _text(bar.volume), quote, quote]


def _fill(row: Trade, time: int) -> dict[str, str]:
    assert row.aggressor is not None
    return {
        "ts": str(time // MS), "price": _text(row.price), "size": _text(row.size), "side": row.aggressor.value,
        "tradeId": row.trade_id,
    }  # fmt: skip


# --- what answers each path ---


def _server_time(desk: Bitget, params: Params, now: int) -> Any:
    del desk, params
    return {"serverTime": str(now // MS)}


def _symbols(desk: Bitget, params: Params, now: int) -> Any:
    del now
    return [
        {
            "symbol": market.symbol, "baseCoin": market.base, "quoteCoin": market.quote, "minTradeAmount": "0",
            "maxTradeAmount": "900000000000000000000", "takerFeeRate": "0.002", "makerFeeRate": "0.002",
            "pricePrecision": _places(market.price_increment), "quantityPrecision": _places(market.size_increment),
            "quotePrecision": "8", "status": "online", "minTradeUSDT": "1", "buyLimitPriceRatio": "0.05",
            "sellLimitPriceRatio": "0.05", "areaSymbol": "no", "orderQuantity": "200", "openTime": "", "offTime": "",
        }
        for market in desk.several(params)
    ]  # fmt: skip


def _places(increment: Decimal | None) -> str:
    """How many digits after the point an increment has."""
    exponent = increment.as_tuple().exponent if increment is not None else 0
    return str(max(0, -exponent)) if isinstance(exponent, int) else "0"


def _lent(desk: Bitget, params: Params, now: int) -> Any:
    """What can be borrowed: nothing here. Readers of other makes ask for it along with the markets."""
    del desk, params, now
    return []


def _tickers(desk: Bitget, params: Params, now: int) -> Any:
    return [_ticker(desk, market, now) for market in desk.several(params)]


def _ticker(desk: Bitget, market: Market, now: int) -> dict[str, str]:
    last = desk.source.last_trade(market.market, "raw", now)
    start = now - DAY + 1
    bar = desk.source.bar(market.market, start, now + 1, now)
    bar = bar or _flat(start, now + 1, last.price if last else Decimal(), now)
    tick = market.price_increment or Decimal()
    bid = bar.close - tick if last is None or last.aggressor is Side.BUY else bar.close
    quote = _text(bar.quote_volume)
    return {
        "symbol": market.symbol, "high24h": _text(bar.high), "open": _text(bar.open), "low24h": _text(bar.low),
        "lastPr": _text(bar.close), "quoteVolume": quote, "baseVolume": _text(bar.volume), "usdtVolume": quote,
        "bidPr": _text(bid), "askPr": _text(bid + tick), "bidSz": "1", "askSz": "1", "openUtc": _text(bar.open),
        "ts": str(now // MS), "changeUtc24h": "0", "change24h": "0",
    }  # fmt: skip


def _recent_fills(desk: Bitget, params: Params, now: int) -> Any:
    market = desk.wanted(params)
    rows = desk.source.trades(market.market, "raw", now=now, limit=_limit(params, 100, 500), newest=True)
    return [{"symbol": market.symbol, **_fill(row, row.venue_time)} for row in reversed(rows)]


def _old_fills(desk: Bitget, params: Params, now: int) -> Any:
    """Newest first, `idLessThan` exclusive, both times inclusive; times cut to seconds, sides with a capital."""
    market = desk.wanted(params)
    start, end = _whole(params, "startTime"), _whole(params, "endTime")
    high = now + 1 if end is None else (end + 1) * MS
    low = high - WIDEST if start is None else start * MS
    if low >= high:
        raise Wrong("40707", "Start time is greater than end time")
    if high - low > WIDEST:
        raise Wrong("40705", "The start and end time cannot exceed 7 days")
    rows = desk.source.trades(
        market.market, "raw", now=now, start=max(low, now - TRADE_DEPTH), end=high,
        to_id=_whole(params, "idLessThan"), limit=_limit(params, 500, 1000), newest=True,
    )  # fmt: skip
    return [
        {"symbol": market.symbol, **_fill(row, time), "side": _fill(row, time)["side"].capitalize()}
        for row in reversed(rows)
        for time in (row.venue_time // SECOND * SECOND,)
    ]


def _candles(desk: Bitget, params: Params, now: int) -> Any:
    market, name = desk.wanted(params), _granularity(params)
    start, end = _whole(params, "startTime"), _whole(params, "endTime")
    depth = DEPTHS[name] * DAY if name in DEPTHS else LONGER * interval(name).step
    low = max((start or 0) * MS, now - depth)
    opens = desk.opens(market, name, low, None if end is None else end * MS, _limit(params, 100, 1000), now)
    return [_bar(bar) for bar in desk.bars(market, name, opens, now)]


def _old_candles(desk: Bitget, params: Params, now: int) -> Any:
    market, name = desk.wanted(params), _granularity(params)
    _needed(params, "endTime")
    end = _whole(params, "endTime")
    opens = desk.opens(market, name, 0, (end or 0) * MS, _limit(params, 100, 200), now)
    return [_bar(bar) for bar in desk.bars(market, name, opens, now)]


Bitget.routes = {
    "/api/v2/public/time": Route(_server_time),
    "/api/v2/spot/public/symbols": Route(_symbols),
    "/api/v2/margin/currencies": Route(_lent, 10),
    "/api/v2/spot/market/tickers": Route(_tickers),
    "/api/v2/spot/market/fills": Route(_recent_fills, 10),
    "/api/v2/spot/market/fills-history": Route(_old_fills, 10),
    "/api/v2/spot/market/candles": Route(_candles),
    "/api/v2/spot/market/history-candles": Route(_old_candles),
}


# --- the feed ---


class Arg(msgspec.Struct, frozen=True):
    """What is subscribed to."""

    instType: str = ""
    channel: str = ""
    instId: str = ""


class Said(msgspec.Struct):
    """What a client says."""

    op: str
    args: list[Arg]


class BitgetFeed(Conversation):
    """One connection. Every channel begins with a snapshot of what has happened."""

    def __init__(self, desk: Bitget, now: int) -> None:
        super().__init__(desk.clock, now)
        self._desk = desk
        self._topics: dict[Arg, int] = {}  # with the moment from which each is owed
        self._new: dict[Arg, int] = {}  # those whose snapshot is owed
        self._messages = Rolling(MESSAGES, SECOND)
        self._subscriptions = Rolling(SUBSCRIPTIONS, HOUR)
        self._opened = self._heard = self.clock.paced(now)

    def receive(self, message: Message, now: int) -> list[Frame]:
        if isinstance(message, (Ping, Pong)):
            return []
        paced = self.clock.paced(now)
        if not self._messages.allows("", paced):
            return [Close(1008, "Too many messages")]
        if message in {"ping", b"ping"}:
            self._heard = paced
            return ["pong"]
        assert isinstance(message, (str, bytes))
        try:
            said = msgspec.json.decode(message, type=Said)
        except msgspec.MsgspecError:
            return [_error(30016, "Param error")]
        if len(message) > BYTES or said.op not in {"subscribe", "unsubscribe"}:
            return [_error(30016, "Param error")]
        if said.op == "subscribe" and not self._subscriptions.allows("", paced):
            return [_error(30006, "request too many")]
        return [self._obey(said.op, arg, now) for arg in said.args]

    def _obey(self, op: str, arg: Arg, now: int) -> Frame:
        if arg.instType != "SPOT" or arg.instId not in self._desk.listed or not _known(arg.channel):
            what = f"instType:{arg.instType},channel:{arg.channel},instId:{arg.instId} doesn't exist"
            return _error(30001, what, arg, op)
        if op == "unsubscribe":
            self._topics.pop(arg, None)
            self._new.pop(arg, None)
        elif len(self._topics) >= STREAMS and arg not in self._topics:
            return _error(30006, "request too many", arg, op)
        elif arg not in self._topics:
            self._topics[arg] = self._new[arg] = now
        return text_of({"event": op, "arg": arg})

    def topics(self) -> Iterable[str]:
        return tuple(f"{arg.channel}:{arg.instId}" for arg in self._topics)

    def control(self, now: int) -> list[Frame]:
        paced = self.clock.paced(now)
        if paced - self._heard >= SILENCE:
            return [Close(1000, "no ping")]
        return [Close(1000, "24 hours")] if paced - self._opened >= LIFETIME else []

    def due(self, after: int, up_to: int) -> Iterator[tuple[int, Frame]]:
        for arg, since in self._topics.items():
            if f"{arg.channel}:{arg.instId}" == self.muted:
                continue
            market = self._desk.listed[arg.instId]
            if self._new.pop(arg, None) is not None:
                yield since, _push("snapshot", arg, self._snapshot(arg, market, since), since)
            rows = self._trades if arg.channel == "trade" else self._candles
            for time, data in rows(arg, market, max(after, since), up_to):
                yield time, _push("update", arg, data, time)

    def _snapshot(self, arg: Arg, market: Market, now: int) -> list[Any]:
        if arg.channel == "trade":
            rows = self._desk.source.trades(market.market, "raw", now=now, limit=SNAPSHOT, newest=True)
            return [_fill(row, row.venue_time) for row in reversed(rows)]
        name = CHANNELS[arg.channel.removeprefix("candle")]
        opens = self._desk.opens(market, name, 0, None, SNAPSHOT, now)
        return [_bar(bar) for bar in self._desk.bars(market, name, opens, now)]

    def _trades(self, arg: Arg, market: Market, after: int, up_to: int) -> Iterator[tuple[int, list[Any]]]:
        """What happened at one moment comes in one message, the newest trade first."""
        del arg
        rows = self._desk.source.trades_between(market.market, "raw", after, up_to)
        for time, group in groupby(rows, lambda row: row.venue_time):
            yield time, [_fill(row, time) for row in group][::-1]

    def _candles(self, arg: Arg, market: Market, after: int, up_to: int) -> Iterator[tuple[int, list[Any]]]:
        """The running bar every second in which something traded; its last state, then the new one, at the boundary."""
        name = CHANNELS[arg.channel.removeprefix("candle")]
        grid, half = interval(name), SECOND // 2
        for time in range(after - (after - half) % SECOND + SECOND, up_to + 1, SECOND):
            start = grid.floor(time)
            if self._desk.source.bar(market.market, max(start, time - SECOND + 1), time + 1, time):
                yield from self._bars(market, name, start, time)
        for boundary in grid.opens(after - SETTLE + 1, up_to - SETTLE + 1):
            for start in (grid.floor(boundary - 1), boundary):
                yield from self._bars(market, name, start, boundary + SETTLE)

    def _bars(self, market: Market, name: str, start: int, time: int) -> Iterator[tuple[int, list[Any]]]:
        for bar in self._desk.bars(market, name, [start], time):
            yield time, [_bar(bar)]


def _known(channel: str) -> bool:
    return channel == "trade" or (channel.startswith("candle") and channel.removeprefix("candle") in CHANNELS)


def _push(action: str, arg: Arg, data: list[Any], time: int) -> str:
    return text_of({"action": action, "arg": arg, "data": data, "ts": time // MS})


def _error(code: int, text: str, arg: Arg | None = None, op: str | None = None) -> str:
    said: dict[str, Any] = {"event": "error", "code": code, "msg": text}
    return text_of(said if arg is None else {**said, "arg": arg, "op": op})
