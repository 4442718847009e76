"""Example, server side: what `tradeflood replay` serves. The protocol is told at the top of `venue.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from attrs import evolve

from tradeflood.models import Market, Trade, interval
from tradeflood.models.time import MINUTE, MS, SECOND
from tradeflood.replay.desk import (
    LOOPBACK,
    Clock,
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

INTERVALS = ("1m", "5m", "1h", "1d")
LIMIT, ROWS = 1_200, 500
BEAT = 10 * SECOND


class Wrong(Exception):
    """A request that is answered with an error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ExampleDesk(Desk):
    """REST and live of the exchange, out of whatever source it is given."""

    venue = "example"

    def __init__(self, source: Source, clock: Clock) -> None:
        super().__init__(source, clock)
        self._requests = Window(LIMIT, MINUTE)

    def spell(self, market: Market) -> str:
        """As in BTC_USDT."""
        return f"{market.base}_{market.quote}"

    def answer(self, request: HttpRequest, now: int) -> HttpAnswer:
        """The data of a path, or an error."""
        paced = self.clock.paced(now)
        used = self._requests.spend(request.client, 1, paced)
        if used > LIMIT:
            return self.refusal("limit", now, -(-self._requests.left(paced) // SECOND))
        try:
            answer = as_json({"data": self._data(request.path, request.params, now)})
        except Wrong as wrong:
            answer = _error(wrong.code, str(wrong))
        return evolve(answer, headers={**answer.headers, "X-Used": str(used)})

    def refusal(self, reason: str, now: int, wait: int | None = None) -> HttpAnswer:
        """Too many requests, or out of order."""
        del now
        code, status = ("down", 200) if reason == "error" else ("slow_down", 429)
        return _error(code, status=status, headers={} if wait is None else {"Retry-After": str(wait)})

    def connect(
        self, path: str, params: Mapping[str, str], now: int, client: str = LOOPBACK
    ) -> Conversation | HttpAnswer:
        """The feed has one path."""
        del params, client
        return ExampleFeed(self, now) if path == "/v1/live" else _error("no_path", f"no path {path}", status=404)

    def _data(self, path: str, params: Mapping[str, str], now: int) -> Any:
        if path == "/v1/markets":
            return [_listing(market) for market in self.listed.values()]
        market = self.listed.get(params.get("market", ""))
        if market is None:
            raise Wrong("no_market", f"no market {params.get('market')!r}")
        limit = min(_whole(params, "limit", ROWS), ROWS)
        match path:
            case "/v1/candles":
                if params.get("interval") not in INTERVALS:
                    raise Wrong("no_interval", f"no interval {params.get('interval')!r}")
                start, end = (
                    _whole(params, name, other) * SECOND for name, other in (("start", 0), ("end", now // SECOND + 1))
                )
                found = self.source.bars(market.market, params["interval"], now=now, start=start, end=end, limit=limit)
                return [_bar(bar) for bar in found]
            case "/v1/trades":
                first = _whole(params, "from_id", 1)
                return [
                    _trade(row) for row in self.source.trades(market.market, "raw", now=now, from_id=first, limit=limit)
                ]
            case "/v1/trades/first":
                start = _whole(params, "at", 0) * MS
                rows = self.source.trades(market.market, "raw", now=now, start=start, limit=1)
                if rows:
                    return {"id": int(rows[0].trade_id), "happened": True}
                last = self.source.last_trade(market.market, "raw", now)
                return {"id": int(last.trade_id) + 1 if last else 1, "happened": False}
        raise Wrong("no_path", f"no path {path}")


class ExampleFeed(Conversation):
    """One live connection."""

    def __init__(self, desk: ExampleDesk, now: int) -> None:
        super().__init__(desk.clock, now)
        self._desk = desk
        self._topics: dict[str, int] = {}  # with the moment from which each is owed
        self._beat = self.clock.paced(now)

    def receive(self, message: Message, now: int) -> list[Frame]:
        """The acknowledgement of a subscription."""
        if isinstance(message, Ping | Pong):
            return []
        try:
            said = msgspec.json.decode(message)
            verb, topics, number = said["do"], list(said["topics"]), int(said["n"])
        except (msgspec.DecodeError, LookupError, TypeError, ValueError):
            return [text_of({"n": 0, "ok": False, "why": "not understood"})]
        if strangers := [topic for topic in topics if not self._known(topic)]:
            return [text_of({"n": number, "ok": False, "why": f"no topic {strangers[0]}"})]
        for topic in topics:
            if verb == "subscribe":
                self._topics.setdefault(topic, now)
            else:
                self._topics.pop(topic, None)
        return [text_of({"n": number, "ok": True})]

    def _known(self, topic: object) -> bool:
        match str(topic).split("."):
            case ["trades", symbol]:
                return symbol in self._desk.listed
            case ["candles", name, symbol]:
                return symbol in self._desk.listed and name in INTERVALS
        return False

    def control(self, now: int) -> list[Frame]:
        """A heartbeat now and then."""
        paced = self.clock.paced(now)
        if paced - self._beat < BEAT:
            return []
        self._beat = paced
        return [text_of({"beat": now // MS})]

    def due(self, after: int, up_to: int) -> Iterator[tuple[int, Frame]]:
        """What each topic owes."""
        for topic, since in self._topics.items():
            for time, row in self._rows(topic, max(after, since), up_to):
                yield time, text_of({"topic": topic, "data": [row]})

    def _rows(self, topic: str, after: int, up_to: int) -> Iterator[tuple[int, Any]]:
        match topic.split("."):
            case ["trades", symbol]:
                return self._trades(self._desk.listed[symbol].market, after, up_to)
            case [_, name, symbol]:
                return self._bars(self._desk.listed[symbol].market, name, after, up_to)
        return iter(())

    def _trades(self, market: str, after: int, up_to: int) -> Iterator[tuple[int, Any]]:
        for row in self._desk.source.trades_between(market, "raw", after, up_to):
            yield row.venue_time, _trade(row)

    def _bars(self, market: str, name: str, after: int, up_to: int) -> Iterator[tuple[int, Any]]:
        """The running bar at odd seconds; each bar once more, final, when it is over."""
        grid, every = interval(name), 2 * SECOND
        first = (after - SECOND) // every * every + 3 * SECOND
        times = [(time, grid.floor(time)) for time in range(first, up_to + 1, every)]
        times += [(time, grid.floor(time - 1)) for time in grid.opens(after + 1, up_to + 1)]
        for time, start in times:
            if bar := self._desk.source.bar(market, start, grid.next(start), time):
                yield time, _bar(bar) | {"final": bar.closed}


def _error(code: str, message: str = "", *, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    return as_json({"error": {"code": code, "message": message}}, status=status, headers=headers)


def _whole(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name, str(default))
    if not text.isdecimal():
        raise Wrong("not_a_number", f"{name} is {text!r}")
    return int(text)


def _listing(market: Market) -> dict[str, str]:
    return {
        "symbol": market.symbol, "base": market.base, "quote": market.quote, "state": "open",
        "tick": f"{market.price_increment or 0:f}", "lot": f"{market.size_increment or 0:f}",
    }  # fmt: skip


def _trade(row: Trade) -> dict[str, Any]:
    taker = row.aggressor.value if row.aggressor else ""
    return {
        "id": int(row.trade_id), "price": f"{row.price:f}", "size": f"{row.size:f}", "taker": taker,
        "time": row.venue_time // MS,
    }  # fmt: skip


def _bar(bar: Bar) -> dict[str, Any]:
    return {
        "opens": bar.start // SECOND, "open": f"{bar.open:f}", "high": f"{bar.high:f}", "low": f"{bar.low:f}",
        "close": f"{bar.close:f}", "volume": f"{bar.volume:f}", "value": f"{bar.quote_volume:f}", "count": bar.trades,
    }  # fmt: skip
