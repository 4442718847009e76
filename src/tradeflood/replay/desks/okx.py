"""OKX spot, server side: https://www.okx.com/docs-v5/en/ (overview, market data, error codes), state of 2026-06-15."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import count
from typing import Any, ClassVar, TypeAlias

import msgspec
from attrs import frozen

from tradeflood.models import Market, Side, Trade, interval
from tradeflood.models.time import DAY, HOUR, MS, SECOND
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
from tradeflood.replay.limits import Rolling
from tradeflood.replay.source import Bar, Source

BARS = {
    "1s": "1s", "1m": "1m", "3m": "3m", "5m": "5m", "15m": "15m", "30m": "30m", "1H": "1h", "2H": "2h", "4H": "4h",
    "6Hutc": "6h", "12Hutc": "12h", "1Dutc": "1d", "1Wutc": "1w", "1Mutc": "1M",
    "1D": "1d@+08:00", "1W": "1w@+08:00", "1M": "1M@+08:00",
}  # fmt: skip
HORIZON = 90 * DAY  # of trades and of bars of one second
RECENT_BARS = 1_440
WINDOW = 2 * SECOND
CONNECTS = 3  # a second
REQUESTS = 480  # an hour and connection
SILENCE = 30 * SECOND
SETTLE = 50 * MS  # how long after the boundary the closing frame of a candle is sent
LENGTH = 65_536  # of the arguments of one message

Params: TypeAlias = Mapping[str, str]


class Wrong(Exception):
    """A request that OKX answers with an error body."""

    def __init__(self, code: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.answer = as_json({"code": code, "msg": text, "data": []}, status=status)


@frozen
class Route:
    """One path: what answers it, and how many requests of one address it takes in two seconds."""

    answer: Callable[[OKX, Params, int], list[Any]]
    limit: int


class OKX(Desk):
    venue = "okx"
    routes: ClassVar[dict[str, Route]] = {}

    def __init__(self, source: Source, clock: Clock) -> None:
        super().__init__(source, clock)
        self._spent = {path: Rolling(route.limit, WINDOW) for path, route in self.routes.items()}
        self._connects = Rolling(CONNECTS, SECOND)
        self.numbers = count(1)

    def spell(self, market: Market) -> str:
        return f"{market.base}-{market.quote}"

    def answer(self, request: HttpRequest, now: int) -> HttpAnswer:
        route = self.routes.get(request.path)
        if route is None:
            return as_json({"code": "404", "msg": "Not Found", "data": []}, status=404)
        if request.method not in {"GET", "HEAD"}:
            return Wrong("50115", "Invalid request method.", 405).answer
        if not self._spent[request.path].allows(request.client, self.clock.paced(now)):
            return self.refusal("limit", now)
        try:
            return as_json({"code": "0", "msg": "", "data": route.answer(self, request.params, now)})
        except Wrong as wrong:
            return wrong.answer

    def refusal(self, reason: str, now: int, wait: int | None = None) -> HttpAnswer:
        del now
        if reason == "ban":
            return HttpAnswer(403, {"Content-Type": "text/html"}, b"<html><body>Access denied</body></html>")
        if reason == "limit":
            headers = {} if wait is None else {"Retry-After": str(wait)}
            return as_json({"msg": "Too Many Requests", "code": "50011"}, status=429, headers=headers)
        text = "Rate limit reached. Please refer to API documentation and throttle requests accordingly."
        return as_json({"code": "50011", "msg": text, "data": []})

    def connect(self, path: str, params: Params, now: int, client: str = LOOPBACK) -> Conversation | HttpAnswer:
        del params
        if path not in CHANNELS:
            return HttpAnswer(404, {"Content-Type": "text/plain"}, b"Not found\n")
        if not self._connects.allows(client, self.clock.paced(now)):
            return self.refusal("limit", now)
        return OKXFeed(self, now, path)

    def wanted(self, params: Params) -> Market:
        """The market that `instId` names."""
        symbol = _sent(params, "instId")
        if symbol not in self.listed:
            raise Wrong("51001", "Instrument ID, Instrument ID code or Spread ID doesn't exist.", 200)
        return self.listed[symbol]

    def bars(self, market: Market, name: str, opens: list[int], now: int) -> Iterator[Bar]:
        """A bar for every open time, ascending; a quiet one repeats the close before it."""
        if not opens:
            return
        grid = interval(name)
        end = grid.next(opens[-1])
        full = {
            bar.start: bar
            for bar in self.source.bars(market.market, name, now=now, start=opens[0], end=end, limit=len(opens))
        }
        last = self.source.last_trade(market.market, "raw", opens[0] - 1)
        close = last.price if last else None
        for start in opens:
            bar = full.get(start) or (None if close is None else _flat(start, grid.next(start), close, now))
            if bar:
                close = bar.close
                yield bar


# --- rows in the venue's form ---


def _text(number: Decimal) -> str:
    return f"{number:f}"


def _flat(start: int, end: int, price: Decimal, now: int) -> Bar:
    nought = Decimal()
    return Bar(start, end, price, price, price, price, nought, nought, nought, nought, "", "", 0, end <= now)


def _fill(symbol: str, row: Trade) -> dict[str, Any]:
    return {
        "instId": symbol, "side": "buy" if row.aggressor is Side.BUY else "sell", "sz": _text(row.size), "source": "0",
        "px": _text(row.price), "tradeId": row.last_id or row.trade_id, "ts": str(row.venue_time // MS),
    }  # fmt: skip


def _candle(bar: Bar) -> list[str]:
    quote = _text(bar.quote_volume)
    return [
        str(bar.start // MS), _text(bar.open), _text(bar.high), _text(bar.low), _text(bar.close), _text(bar.volume),
        quote, quote, "1" if bar.closed else "0",
    ]  # fmt: skip


# --- parameters ---


def _sent(params: Params, name: str) -> str:
    text = params.get(name, "")
    if not text:
        raise Wrong("50014", f"Parameter {name} can not be empty.")
    return text


def _whole(params: Params, name: str) -> int | None:
    """A whole number, None where it is not sent."""
    text = params.get(name, "")
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,20}", text):
        raise Wrong("51000", f"Parameter {name} error")
    return int(text)


def _limit(params: Params, most: int) -> int:
    limit = _whole(params, "limit")
    if limit == 0:
        raise Wrong("51000", "Parameter limit error")
    return min(100 if limit is None else limit, most)


# --- what answers each path ---


def _server_time(desk: OKX, params: Params, now: int) -> list[Any]:
    del desk, params
    return [{"ts": str(now // MS)}]


def _instruments(desk: OKX, params: Params, now: int) -> list[Any]:
    del now
    kind = _sent(params, "instType")
    if kind not in {"SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION", "EVENTS"}:
        raise Wrong("51000", "Parameter instType error")
    if kind != "SPOT":
        return []
    markets = [desk.wanted(params)] if params.get("instId") else list(desk.listed.values())
    return [_listing(market) for market in markets]


def _listing(market: Market) -> dict[str, Any]:
    tick, lot, least = (
        _text(number or Decimal("1e-8"))
        for number in (market.price_increment, market.size_increment, market.minimum_size)
    )
    return {
        "alias": "", "auctionEndTime": "", "baseCcy": market.base, "category": "1", "contTdSwTime": "", "ctMult": "",
        "ctType": "", "ctVal": "", "ctValCcy": "", "expTime": "", "futureSettlement": False, "groupId": "1",
        "instCategory": "1", "instFamily": "", "instId": market.symbol, "instIdCode": None, "instType": "SPOT",
        "lever": "", "listTime": str((market.listed_at or 0) // MS), "lotSz": lot, "maxIcebergSz": "9999999999",
        "maxLmtAmt": "1000000", "maxLmtSz": "9999999999", "maxMktAmt": "1000000", "maxMktSz": "1000000",
        "maxStopSz": "1000000", "maxTriggerSz": "9999999999", "maxTwapSz": "9999999999", "minSz": least, "openType": "",
        "optType": "", "preMktSwTime": "", "quoteCcy": market.quote, "ruleType": "normal", "settleCcy": "",
        "state": "live", "stk": "", "tickSz": tick, "tradeQuoteCcyList": [market.quote], "uly": "", "upcChg": [],
    }  # fmt: skip


def _tickers(desk: OKX, params: Params, now: int) -> list[Any]:
    kind = _sent(params, "instType")
    return [_day(desk, market, now) for market in desk.listed.values()] if kind == "SPOT" else []


def _ticker(desk: OKX, params: Params, now: int) -> list[Any]:
    return [_day(desk, desk.wanted(params), now)]


def _day(desk: OKX, market: Market, now: int) -> dict[str, Any]:
    source, name = desk.source, market.market
    last = source.last_trade(name, "raw", now)
    price = last.price if last else Decimal()
    bar = source.bar(name, now - DAY + 1, now + 1, now) or _flat(now - DAY + 1, now + 1, price, now)
    tick = market.price_increment or Decimal()
    bid = price - tick if last is None or last.aggressor is Side.BUY else price
    starts = (interval(text).floor(now) for text in ("1d", "1d@+08:00"))
    days = [source.bar(name, start, now + 1, now) for start in starts]
    utc, hong_kong = (_text(day.open if day else price) for day in days)
    return {
        "instType": "SPOT", "instId": market.symbol, "last": _text(price), "lastSz": _text(last.size) if last else "0",
        "askPx": _text(bid + tick), "askSz": "1", "bidPx": _text(bid), "bidSz": "1", "open24h": _text(bar.open),
        "high24h": _text(bar.high), "low24h": _text(bar.low), "volCcy24h": _text(bar.quote_volume),
        "vol24h": _text(bar.volume), "sodUtc0": utc, "sodUtc8": hong_kong, "ts": str(now // MS),
    }  # fmt: skip


def _recent_trades(desk: OKX, params: Params, now: int) -> list[Any]:
    market = desk.wanted(params)
    rows = desk.source.trades(market.market, "raw", now=now, limit=_limit(params, 500), newest=True)
    return [_fill(market.symbol, row) for row in reversed(rows)]


def _old_trades(desk: OKX, params: Params, now: int) -> list[Any]:
    """`after` is older than, `before` newer than, both without the row they name; a full page is the newest of it."""
    market, limit, kind = desk.wanted(params), _limit(params, 100), params.get("type") or "1"
    if kind not in {"1", "2"}:
        raise Wrong("51000", "Parameter type error")
    after, before = _whole(params, "after"), _whole(params, "before")
    by_time = kind == "2"
    if by_time and before is not None:
        raise Wrong("50039", 'Parameter "before" isn\'t supported for timestamp pagination', 200)
    rows = desk.source.trades(
        market.market, "raw", now=now, limit=limit, newest=True, start=now - HORIZON,
        end=after * MS if by_time and after is not None else None,
        from_id=None if before is None else before + 1,
        to_id=None if by_time else after,
    )  # fmt: skip
    return [_fill(market.symbol, row) for row in reversed(rows)]


def _recent_candles(desk: OKX, params: Params, now: int) -> list[Any]:
    name = _bar(params, without={"1s"})
    grid, low = interval(name), now
    for _ in range(RECENT_BARS):
        low = grid.floor(low) - 1
    return _candles(desk, params, now, name, grid.next(low))


def _old_candles(desk: OKX, params: Params, now: int) -> list[Any]:
    name = _bar(params)
    return _candles(desk, params, now, name, now - HORIZON if name == "1s" else 0)


def _bar(params: Params, without: Iterable[str] = ()) -> str:
    """Our name for the bar that is wanted."""
    bar = params.get("bar") or "1m"
    if bar not in BARS or bar in without:
        raise Wrong("51000", "Parameter bar error")
    return BARS[bar]


def _candles(desk: OKX, params: Params, now: int, name: str, floor: int) -> list[Any]:
    """The newest bars that open after `before` and before `after`, the running one included, newest first."""
    market, limit, grid = desk.wanted(params), _limit(params, 300), interval(name)
    after, before = _whole(params, "after"), _whole(params, "before")
    if desk.source.recorded:
        rows = desk.source.bars(
            market.market, name, now=now, start=max(floor, 0 if before is None else before * MS + 1),
            end=None if after is None else after * MS, limit=limit, newest=True,
        )  # fmt: skip
        return [_candle(bar) for bar in reversed(rows)]
    first = desk.source.trades(market.market, "raw", now=now, limit=1)
    if not first:
        return []
    low = max(floor, grid.floor(first[0].venue_time), 0 if before is None else before * MS + 1)
    opens: list[int] = []
    time = grid.floor(min(now, now if after is None else after * MS - 1))
    while len(opens) < limit and time >= low:
        opens.append(time)
        time = grid.floor(time - 1)
    return [_candle(bar) for bar in desk.bars(market, name, opens[::-1], now)][::-1]


OKX.routes = {
    "/api/v5/public/time": Route(_server_time, 10),
    "/api/v5/public/instruments": Route(_instruments, 20),
    "/api/v5/market/tickers": Route(_tickers, 20),
    "/api/v5/market/ticker": Route(_ticker, 20),
    "/api/v5/market/trades": Route(_recent_trades, 100),
    "/api/v5/market/history-trades": Route(_old_trades, 20),
    "/api/v5/market/candles": Route(_recent_candles, 40),
    "/api/v5/market/history-candles": Route(_old_candles, 20),
}


# --- the feed ---

CHANNELS = {
    "/ws/v5/public": frozenset({"trades"}),
    "/ws/v5/business": frozenset({"trades-all", *(f"candle{bar}" for bar in BARS)}),
}
"""Which channels live on which path."""


class Unsaid(Exception):
    """A message that OKX answers with an error frame."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class OKXFeed(Conversation):
    """One connection. Every channel of a message is acknowledged, or refused, on its own."""

    def __init__(self, desk: OKX, now: int, path: str) -> None:
        super().__init__(desk.clock, now)
        self._desk = desk
        self._channels = CHANNELS[path]
        self._wanted: dict[tuple[str, str], int] = {}  # with the moment from which each is owed
        self._requests = Rolling(REQUESTS, HOUR)
        self._pushed = now
        self._name = f"{next(desk.numbers):08x}"

    def receive(self, message: Message, now: int) -> list[Frame]:
        if isinstance(message, (Ping, Pong)):
            return []
        self._pushed = now  # whatever was said, an answer follows
        if message in {"ping", b"ping"}:
            return ["pong"]
        number: dict[str, str] = {}
        try:
            said = _said(message)
            if isinstance(said.get("id"), str):
                number = {"id": said["id"]}
            verb, wanted = self._understood(said, message, now)
        except Unsaid as wrong:
            return [self._error(wrong, number)]
        return [self._obeyed(verb, channel, symbol, number, now) for channel, symbol in wanted]

    def _understood(self, said: dict[str, Any], message: str | bytes, now: int) -> tuple[str, list[tuple[str, str]]]:
        """The verb of a message, and the channels it is about."""
        verb, wanted = said.get("op"), said.get("args")
        if verb not in {"subscribe", "unsubscribe"}:
            raise Unsaid("60019", f"Invalid op: {verb}")
        if not isinstance(wanted, list) or not wanted or len(message) > LENGTH:
            raise Unsaid("60013", "Invalid args")
        if not self._requests.allows("", self.clock.paced(now)):
            raise Unsaid("60014", "Requests too frequent")
        if not all(isinstance(arg, dict) and isinstance(arg.get("channel"), str) for arg in wanted):
            raise Unsaid("60013", "Invalid args")
        return verb, [(arg["channel"], str(arg.get("instId", ""))) for arg in wanted]

    def _obeyed(self, verb: str, channel: str, symbol: str, number: dict[str, str], now: int) -> str:
        if channel not in self._channels or symbol not in self._desk.listed:
            text = f"Wrong URL or channel:{channel},instId:{symbol} doesn't exist. Please use the correct URL, channel"
            return self._error(Unsaid("60018", f"{text} and parameters referring to API document."), number)
        if verb == "subscribe":
            self._wanted.setdefault((channel, symbol), now)
        else:
            self._wanted.pop((channel, symbol), None)
        arg = {"channel": channel, "instId": symbol}
        return text_of({**number, "event": verb, "arg": arg, "connId": self._name})

    def notice(self, now: int) -> list[Frame]:
        del now
        text = "The connection will soon be closed for a service upgrade. Please reconnect."
        return [text_of({"event": "notice", "code": "64008", "msg": text, "connId": self._name})]

    def topics(self) -> Iterable[str]:
        return tuple(f"{channel}:{symbol}" for channel, symbol in self._wanted)

    def _error(self, wrong: Unsaid, number: dict[str, str]) -> str:
        return text_of({**number, "event": "error", "code": wrong.code, "msg": str(wrong), "connId": self._name})

    def advance(self, now: int) -> list[Frame]:
        """What is due, and once there is no more of it the end of a connection on which too little was said."""
        frames = super().advance(now)
        if not frames and self.clock.paced(now) - self.clock.paced(self._pushed) >= SILENCE:
            return [Close(4004, "No data received in 30s")]
        return frames

    def due(self, after: int, up_to: int) -> Iterator[tuple[int, Frame]]:
        for (channel, symbol), since in self._wanted.items():
            if f"{channel}:{symbol}" == self.muted:
                continue
            market = self._desk.listed[symbol]
            for time, row in self._rows(channel, market, max(after, since), up_to):
                self._pushed = max(self._pushed, time)
                yield time, text_of({"arg": {"channel": channel, "instId": symbol}, "data": [row]})

    def _rows(self, channel: str, market: Market, after: int, up_to: int) -> Iterator[tuple[int, Any]]:
        source = self._desk.source
        if channel == "trades-all":
            for row in source.trades_between(market.market, "raw", after, up_to):
                yield row.venue_time, _fill(market.symbol, row)
        elif channel == "trades":
            for row in source.trades_between(market.market, "merged", after, up_to):
                extra = {"count": str(row.count or 1), "seqId": int(row.trade_id)}
                yield row.venue_time, {**_fill(market.symbol, row), **extra}
        else:
            yield from self._bars(market, BARS[channel.removeprefix("candle")], after, up_to)

    def _bars(self, market: Market, name: str, after: int, up_to: int) -> Iterator[tuple[int, Any]]:
        """The running bar every second in which something traded, between whole seconds, and every bar once closed."""
        grid, source = interval(name), self._desk.source
        half = SECOND // 2
        for time in range(after - (after - half) % SECOND + SECOND, up_to + 1, SECOND):
            start = grid.floor(time)
            if source.bar(market.market, max(start, time - SECOND + 1), time + 1, time):
                for bar in self._desk.bars(market, name, [start], time):
                    yield time, _candle(bar)
        for boundary in grid.opens(after - SETTLE + 1, up_to - SETTLE + 1):
            for bar in self._desk.bars(market, name, [grid.floor(boundary - 1)], boundary + SETTLE):
                yield boundary + SETTLE, _candle(bar)


def _said(message: str | bytes) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = message if isinstance(message, str) else message.decode("utf-8", "replace")
        raise Unsaid("60012", f"Invalid request: {text}") from error
    if not isinstance(said, dict):
        raise Unsaid("60012", "Invalid request")
    return said
