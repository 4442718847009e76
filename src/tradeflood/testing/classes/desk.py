"""The server side of the eight venues: one protocol, small and honest, and a table for what differs.

REST    GET /markets · /tickers · /candles?symbol&interval&start&end · /trades?symbol&…
        {"time": ms, "data": …}, or {"time": ms, "error": {"code": …, "message": …}}
feed    {"op": "subscribe", "topics": [...], "number": 1} is answered by {"number": 1, "done": [...]} and, of each topic
        that there is not, {"number": 1, "error": …, "topics": [...]}; rows come as {"topic": …, "rows": [...]}.

There are no limits but those of a fault: `429` and `ban` play them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar, TypeAlias

import msgspec
from attrs import evolve

from tradeflood.models import Market, Trade, interval
from tradeflood.models.time import DAY, MS, SECOND
from tradeflood.replay.desk import (
    LOOPBACK,
    Clock,
    Conversation,
    Desk,
    Frame,
    HttpAnswer,
    HttpRequest,
    Message,
    as_json,
    text_of,
)
from tradeflood.replay.source import Bar, Source
from tradeflood.testing.classes.shapes import Shape, Tape, source_number

INTERVALS = ("1m", "5m", "1h")
BARS = 500
EPOCH = 30 * SECOND
"""How long offsets are counted on before whoever subscribes anew finds them counted from nought again."""
SETTLE = 50 * MS
"""How long after its end a candle is told to be closed."""

Params: TypeAlias = Mapping[str, str]


class Wrong(Exception):
    """A request, or a topic, that is answered with an error."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status, self.said = status, {"code": code, "message": message}


class ClassDesk(Desk):
    """A venue of one class. A subclass that states `venue` and `shape` is one."""

    shape: ClassVar[Shape]

    def __init__(self, source: Source, clock: Clock) -> None:
        super().__init__(source, clock)
        self.tape = Tape(self.shape, self.source)

    def spell(self, market: Market) -> str:
        """BASE-QUOTE."""
        return f"{market.base}-{market.quote}"

    def answer(self, request: HttpRequest, now: int) -> HttpAnswer:
        """Data or an error, in the same envelope."""
        route = ROUTES.get(request.path)
        try:
            if route is None or request.method != "GET":
                raise Wrong("path", f"there is no {request.method} {request.path}", 404)
            return as_json({"time": now // MS, "data": route(self, request.params, now)})
        except Wrong as wrong:
            return as_json({"time": now // MS, "error": wrong.said}, status=wrong.status)

    def refusal(self, reason: str, now: int, wait: int | None = None) -> HttpAnswer:
        """The same envelope, whatever the reason."""
        status, text = {"limit": (429, "too many requests"), "ban": (403, "banned"), "error": (200, "busy")}[reason]
        headers = {} if wait is None else {"Retry-After": str(wait)}
        return as_json({"time": now // MS, "error": {"code": reason, "message": text}}, status=status, headers=headers)

    def connect(self, path: str, params: Params, now: int, client: str = LOOPBACK) -> Conversation | HttpAnswer:
        """The feed, where the class has one."""
        del params, client
        if path == "/feed" and self.shape.feed:
            return ClassFeed(self, now)
        return as_json({"time": now // MS, "error": Wrong("path", f"there is no feed at {path}").said}, status=404)

    def market_of(self, symbol: str) -> Market:
        """The market of a symbol."""
        if symbol not in self.listed:
            raise Wrong("market", f"no market {symbol!r}")
        return self.listed[symbol]


def desk_for(shape: Shape) -> type[ClassDesk]:
    """The desk of a class, defined now: within `Desk.scope()` it is forgotten again."""
    return type(f"{shape.venue.title()}Desk", (ClassDesk,), {"venue": shape.venue, "shape": shape})


# --- rows in the venue's form ---


def fill(shape: Shape, row: Trade) -> dict[str, Any]:
    """A trade as the venue writes it: ids as text, times in the venue's unit."""
    told: dict[str, Any] = {
        "time": row.venue_time // shape.grain, "price": f"{row.price:f}", "size": f"{row.size:f}",
        "side": None if row.aggressor is None else row.aggressor.value,
    }  # fmt: skip
    if shape.number is not None:
        told["id"] = str(shape.number(row))
    if row.count is not None:
        told["count"] = row.count
    return told


def candle(bar: Bar) -> dict[str, Any]:
    """A candle as the venue writes it."""
    return {
        "open_time": bar.start // MS, "open": f"{bar.open:f}", "high": f"{bar.high:f}", "low": f"{bar.low:f}",
        "close": f"{bar.close:f}", "volume": f"{bar.volume:f}", "value": f"{bar.quote_volume:f}", "trades": bar.trades,
        "closed": bar.closed,
    }  # fmt: skip


# --- what answers each path ---


def _markets(desk: ClassDesk, params: Params, now: int) -> list[Any]:
    del params, now
    finer = desk.shape.number is None  # equal fills are made in tenths of the source's lots
    return [
        {
            "symbol": market.symbol, "base": market.base, "quote": market.quote,
            "price_increment": f"{market.price_increment:f}",
            "size_increment": f"{(market.size_increment or Decimal(1)).scaleb(-1 if finer else 0):f}",
        }
        for market in desk.listed.values()
    ]  # fmt: skip


def _tickers(desk: ClassDesk, params: Params, now: int) -> list[Any]:
    del params
    return [_ticker(desk, market, now) for market in desk.listed.values()]


def _ticker(desk: ClassDesk, market: Market, now: int) -> dict[str, Any]:
    day, last = desk.source.bar(market.market, now - DAY + 1, now + 1, now), desk.tape.newest(market.market, now, 1)
    said: dict[str, Any] = {"symbol": market.symbol, "time": now // MS}
    if day is not None:
        said |= {"last": f"{day.close:f}", "volume": f"{day.volume:f}", "trades": day.trades}
    if last and desk.shape.number is not None:
        said["last_id"] = str(desk.shape.number(last[0]))
    return said


def _candles(desk: ClassDesk, params: Params, now: int) -> list[Any]:
    market, name = desk.market_of(params.get("symbol", "")), params.get("interval", "")
    if name not in INTERVALS:
        raise Wrong("parameter", f"no interval {name!r}")
    start, end = _time(params, "start"), _time(params, "end")
    bars = desk.source.bars(market.market, name, now=now, start=start, end=end, limit=BARS)
    return [candle(bar) for bar in bars]


def _trades(desk: ClassDesk, params: Params, now: int) -> list[Any]:
    market = desk.market_of(params.get("symbol", ""))
    return [fill(desk.shape, row) for row in PAGING[desk.shape.paging](desk, market.market, params, now)]


def _by_ids(desk: ClassDesk, market: str, params: Params, now: int) -> list[Trade]:
    """`at`: the first at or after a time; `low` and `high`: of these ids; neither: the newest."""
    if "at" in params:
        return desk.tape.between(market, _time(params, "at"), now + 1, now, 1)
    if "low" in params:
        return desk.tape.numbered(market, _whole(params, "low"), _whole(params, "high"), now, desk.shape.rows)
    return desk.tape.newest(market, now, 1)


def _by_cursor(desk: ClassDesk, market: str, params: Params, now: int) -> list[Trade]:
    cursor = _whole(params, "before") if "before" in params else None
    start, end = _time(params, "start"), _time(params, "end")
    return desk.tape.before(market, start, end, cursor, now, desk.shape.rows)[::-1]


def _by_time(desk: ClassDesk, market: str, params: Params, now: int) -> list[Trade]:
    return desk.tape.between(market, _time(params, "start"), _time(params, "end"), now, desk.shape.rows)


def _last(desk: ClassDesk, market: str, params: Params, now: int) -> list[Trade]:
    del params
    return desk.tape.newest(market, now, desk.shape.rows)[::-1]


PAGING: Mapping[str, Callable[[ClassDesk, str, Params, int], list[Trade]]] = {
    "ids": _by_ids,
    "cursor": _by_cursor,
    "time": _by_time,
    "last": _last,
}

ROUTES: Mapping[str, Callable[[ClassDesk, Params, int], list[Any]]] = {
    "/markets": _markets,
    "/tickers": _tickers,
    "/candles": _candles,
    "/trades": _trades,
}


def _whole(params: Params, name: str) -> int:
    text = params.get(name, "")
    if not text.isdecimal() or len(text) > 19:
        raise Wrong("parameter", f"{name} must be a whole number, not {text!r}")
    return int(text)


def _time(params: Params, name: str) -> int:
    return _whole(params, name) * MS


# --- the feed ---


class ClassFeed(Conversation):
    """One connection; what happens after a subscription is sent, a message for each trade."""

    def __init__(self, desk: ClassDesk, now: int) -> None:
        super().__init__(desk.clock, now)
        self._desk = desk
        self._since: dict[str, int] = {}

    def receive(self, message: Message, now: int) -> list[Frame]:
        """The topics that are obeyed, then each that is not."""
        if not isinstance(message, str | bytes):
            return []
        try:
            said = msgspec.json.decode(message)
            verb, topics, number = said["op"], list(map(str, said["topics"])), int(said["number"])
        except (msgspec.DecodeError, TypeError, KeyError, ValueError) as error:
            return [text_of({"error": {"code": "message", "message": f"not understood: {error!r}"}})]
        done: list[str] = []
        wrong: list[Frame] = []
        for topic in topics:
            try:
                self._obey(verb, topic, now)
            except Wrong as refused:
                wrong.append(text_of({"number": number, "error": refused.said, "topics": [topic]}))
            else:
                done.append(topic)
        return [text_of({"number": number, "done": done}), *wrong] if done else wrong

    def _obey(self, verb: str, topic: str, now: int) -> None:
        channel, _, rest = topic.partition(":")
        symbol, _, name = rest.partition(":")
        self._desk.market_of(symbol)
        known = not name if channel == "trades" else name in INTERVALS and self._desk.shape.candles
        if channel not in {"trades", "candles"} or not known:
            raise Wrong("topic", f"no topic {topic!r}")
        if verb == "subscribe":
            self._since.setdefault(topic, now)
        else:
            self._since.pop(topic, None)

    def topics(self) -> Iterable[str]:
        """Those subscribed."""
        return tuple(self._since)

    def notice(self, now: int) -> list[Frame]:
        """A message that says so."""
        del now
        return [text_of({"leaving": "this connection will be closed"})]

    def due(self, after: int, up_to: int) -> Iterator[tuple[int, Frame]]:
        """Trades as they happened, the running candle every second, the closed one a moment after its end."""
        for topic, since in self._since.items():
            if topic == self.muted:
                continue
            channel, symbol, *name = topic.split(":")
            market, begin = self._desk.listed[symbol].market, max(after, since)
            if channel == "candles":
                for time, bar in self._bars(market, name[0], begin, up_to):
                    yield time, text_of({"topic": topic, "rows": [candle(bar)]})
                continue
            counted = self._counting(market, since) if self._desk.shape.offsets else None
            for row in self._desk.tape.between(market, begin + 1, up_to + 1, up_to):
                told: dict[str, Any] = {"topic": topic, "rows": [fill(self._desk.shape, row)]}
                if counted is not None:
                    told |= {"epoch": counted[0], "offset": source_number(row) - counted[1]}
                yield row.venue_time, text_of(told)

    def _counting(self, market: str, since: int) -> tuple[str, int]:
        """The epoch of what was subscribed then, and how many trades there were before it: offsets begin with 1."""
        start = self._desk.clock.start
        number = (since - start) // EPOCH
        return f"{start // MS:x}-{number}", self._desk.tape.count_before(market, start + number * EPOCH)

    def _bars(self, market: str, name: str, after: int, up_to: int) -> Iterator[tuple[int, Bar]]:
        grid, source = interval(name), self._desk.source
        for time in range(after - after % SECOND + SECOND, up_to + 1, SECOND):
            if source.trades(market, "raw", now=time, start=time - SECOND + 1, limit=1):
                start = grid.floor(time)
                if bar := source.bar(market, start, grid.next(start), time):
                    yield time, evolve(bar, closed=False)
        for boundary in grid.opens(after - SETTLE + 1, up_to - SETTLE + 1):
            if bar := source.bar(market, grid.floor(boundary - 1), boundary, boundary + SETTLE):
                yield boundary + SETTLE, bar
