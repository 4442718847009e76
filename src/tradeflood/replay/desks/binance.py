"""Binance spot, server side: https://github.com/binance/binance-spot-api-docs (rest-api.md, web-socket-streams.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar, TypeAlias

import msgspec
from attrs import evolve, frozen

from tradeflood.models import Market, Side, Trade, interval
from tradeflood.models.time import DAY, HOUR, MINUTE, MS, SECOND, US
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

INTERVALS = "1s 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w 1M".split()
WEIGHT_LIMIT = 6_000
PATIENCE = 10  # requests after a 429, in one minute, before the ban
BAN = 120  # seconds of a first ban
STREAMS = 1_024
MESSAGES = 5
ATTEMPTS = 300
PING_EVERY, PONG_WITHIN = 20 * SECOND, 60 * SECOND
LIFETIME = 24 * HOUR
SETTLE = 50 * MS  # how long after the boundary the closing frame of a candle is sent
ROWS = 1_000

_NAME = "^[A-Z0-9-_.]{1,20}$"
_DIGITS = "^[0-9]{1,20}$"

Params: TypeAlias = Mapping[str, str]


class Wrong(Exception):
    """A request that Binance answers with an error body."""

    def __init__(self, code: int, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.answer = as_json({"code": code, "msg": text}, status=status)


@frozen
class Route:
    """One path: what answers it, which parameters it reads, and what it weighs."""

    answer: Callable[[Binance, Params, int], Any]
    reads: frozenset[str]
    weight: Callable[[Params], int]


class Binance(Desk):
    venue = "binance"
    routes: ClassVar[dict[str, Route]] = {}

    def __init__(self, source: Source, clock: Clock) -> None:
        super().__init__(source, clock)
        self._weights = Window(WEIGHT_LIMIT, MINUTE)
        self._refused = Window(PATIENCE, MINUTE)
        self._attempts = Rolling(ATTEMPTS, 5 * MINUTE)
        self._banned: dict[str, int] = {}

    def answer(self, request: HttpRequest, now: int) -> HttpAnswer:
        paced = self.clock.paced(now)
        route = self.routes.get(request.path)
        used = self._weights.spend(request.client, route.weight(request.params) if route else 1, paced)
        answer = self._breach(request.client, used, paced)
        if answer is None:
            try:
                answer = as_json(self._value(route, request, now))
            except Wrong as wrong:
                answer = wrong.answer
        return evolve(
            answer, headers={**answer.headers, "X-MBX-USED-WEIGHT": str(used), "X-MBX-USED-WEIGHT-1M": str(used)}
        )

    def _value(self, route: Route | None, request: HttpRequest, now: int) -> Any:
        if route is None:
            raise Wrong(-1000, f"No path {request.path}", 404)
        if request.method not in {"GET", "HEAD"}:
            raise Wrong(-1000, f"Request method '{request.method}' not supported", 405)
        known = len(route.reads & request.params.keys())
        if known < len(request.params):
            raise Wrong(
                -1104,
                f"Not all sent parameters were read; read '{known}' parameter(s) but was sent '{len(request.params)}'.",
            )
        return route.answer(self, request.params, now)

    def _breach(self, client: str, used: int, paced: int) -> HttpAnswer | None:
        """The answer to a client that is banned or has spent its minute."""
        until = self._banned.get(client, 0)
        if until <= paced and used > WEIGHT_LIMIT:
            if self._refused.spend(client, 1, paced) <= PATIENCE:
                return self.refusal("limit", paced, -(-self._weights.left(paced) // SECOND))
            self._banned[client] = until = paced + BAN * SECOND
        return self.refusal("ban", paced, -(-(until - paced) // SECOND)) if until > paced else None

    def refusal(self, reason: str, now: int, wait: int | None = None) -> HttpAnswer:
        advice = "Please use WebSocket Streams for live updates to avoid"
        until = now // MS + 1_000 * (BAN if wait is None else wait)
        status, code, text = {
            "limit": (429, -1003, f"Too much request weight used; current limit is {WEIGHT_LIMIT} request weight per 1 MINUTE. {advice} polling the API."),
            "ban": (418, -1003, f"Way too much request weight used; IP banned until {until}. {advice} bans."),
            "error": (200, -1000, "An unknown error occurred while processing the request."),
        }[reason]  # fmt: skip
        return as_json(
            {"code": code, "msg": text}, status=status, headers={} if wait is None else {"Retry-After": str(wait)}
        )

    def connect(self, path: str, params: Params, now: int, client: str = LOOPBACK) -> Conversation | HttpAnswer:
        if not self._attempts.allows(client, self.clock.paced(now)):
            return self.refusal("limit", self.clock.paced(now), 300)
        root, _, names = path.lstrip("/").partition("/")
        if root not in {"ws", "stream"}:
            return HttpAnswer(404, {"Content-Type": "text/plain"}, b"Not found\n")
        streams = [name for name in (names if root == "ws" else params.get("streams", "")).split("/") if name]
        return BinanceFeed(self, now, streams, combined=root == "stream")

    def wanted(self, params: Params) -> Market:
        """The market that `symbol` names."""
        symbol = params.get("symbol", "")
        if not symbol:
            raise Wrong(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        return self.market(symbol)

    def market(self, symbol: str, name: str = "symbol") -> Market:
        """The market of a symbol, checked as the venue checks it."""
        if not re.fullmatch(_NAME, symbol):
            raise Wrong(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{_NAME}'.")
        if symbol not in self.listed:
            raise Wrong(-1121, "Invalid symbol.")
        return self.listed[symbol]

    def several(self, params: Params) -> list[Market] | None:
        """The markets of `symbol` or `symbols`; None where neither is sent, which means all."""
        if "symbol" in params and "symbols" in params:
            raise Wrong(-1128, "Combination of optional parameters invalid.")
        if "symbol" in params:
            return [self.wanted(params)]
        if "symbols" not in params:
            return None
        legal = r'^\["[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}\]$'
        if not re.fullmatch(legal, params["symbols"]):
            raise Wrong(-1100, f"Illegal characters found in parameter 'symbols'; legal range is '{legal}'.")
        return [self.market(symbol, "symbols") for symbol in msgspec.json.decode(params["symbols"], type=list[str])]

    # --- rows in the venue's form ---

    def bars(self, market: Market, name: str, opens: list[int], now: int) -> Iterator[Bar]:
        """A bar for every open time; one without trades is flat at the close before it, none before the first trade."""
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

    def mini(self, market: Market, now: int) -> dict[str, Any] | None:
        """The rolling day of a market as a stream sends it."""
        bar = self.source.bar(market.market, now - DAY + 1, now + 1, now)
        return None if bar is None else {
            "e": "24hrMiniTicker", "E": now // MS, "s": market.symbol, "c": _text(bar.close), "o": _text(bar.open),
            "h": _text(bar.high), "l": _text(bar.low), "v": _text(bar.volume), "q": _text(bar.quote_volume),
        }  # fmt: skip


def _text(number: Decimal) -> str:
    """Eight decimals, as the venue writes every number."""
    return f"{number:.8f}"


def _flat(start: int, end: int, price: Decimal, now: int) -> Bar:
    nought = Decimal()
    return Bar(start, end, price, price, price, price, nought, nought, nought, nought, "-1", "-1", 0, end <= now)


def _whole(params: Params, name: str) -> int | None:
    """A whole number, None where it is not sent."""
    if name not in params:
        return None
    if not re.fullmatch(_DIGITS, params[name]):
        raise Wrong(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{_DIGITS}'.")
    return int(params[name])


def _limit(params: Params) -> int:
    limit = _whole(params, "limit")
    if limit == 0:
        raise Wrong(-1130, "Data sent for parameter 'limit' is not valid.")
    return 500 if limit is None else min(limit, ROWS)


def _moment(params: Params, name: str) -> int | None:
    """A time in ns; the venue takes milliseconds and microseconds."""
    number = _whole(params, name)
    return None if number is None else number * (US if number >= 10**14 else MS)


def _until(params: Params) -> int | None:
    """The exclusive end of `endTime`, which the venue includes."""
    end = _moment(params, "endTime")
    return None if end is None else end + 1


def _trade(row: Trade) -> dict[str, Any]:
    return {
        "id": int(row.trade_id), "price": _text(row.price), "qty": _text(row.size), "quoteQty": _text(row.price * row.size),
        "time": row.venue_time // MS, "isBuyerMaker": row.aggressor is Side.SELL, "isBestMatch": True,
    }  # fmt: skip


def _merged(row: Trade) -> dict[str, Any]:
    return {
        "a": int(row.trade_id), "p": _text(row.price), "q": _text(row.size), "f": int(row.first_id or 0), "l": int(row.last_id or 0),
        "T": row.venue_time // MS, "m": row.aggressor is Side.SELL, "M": True,
    }  # fmt: skip


def _kline(bar: Bar) -> list[Any]:
    return [
        bar.start // MS, _text(bar.open), _text(bar.high), _text(bar.low), _text(bar.close), _text(bar.volume),
        bar.end // MS - 1, _text(bar.quote_volume), bar.trades, _text(bar.bought), _text(bar.bought_quote), "0",
    ]  # fmt: skip


# --- what answers each path ---


def _ping(desk: Binance, params: Params, now: int) -> Any:
    del desk, params, now
    return {}


def _server_time(desk: Binance, params: Params, now: int) -> Any:
    del desk, params
    return {"serverTime": now // MS}


def _exchange_info(desk: Binance, params: Params, now: int) -> Any:
    status = params.get("symbolStatus", "TRADING")
    markets = [market for market in desk.several(params) or desk.listed.values() if status == "TRADING"]
    limits = [("REQUEST_WEIGHT", "MINUTE", 1, WEIGHT_LIMIT), ("RAW_REQUESTS", "MINUTE", 5, 61_000)]
    return {
        "timezone": "UTC",
        "serverTime": now // MS,
        "rateLimits": [{"rateLimitType": kind, "interval": unit, "intervalNum": count, "limit": limit} for kind, unit, count, limit in limits],
        "exchangeFilters": [],
        "symbols": [_listing(market, sets=params.get("showPermissionSets", "true") == "true") for market in markets],
    }  # fmt: skip


def _listing(market: Market, *, sets: bool) -> dict[str, Any]:
    tick, step = market.price_increment or Decimal("1e-8"), market.size_increment or Decimal("1e-8")
    return {
        "symbol": market.symbol, "status": "TRADING",
        "baseAsset": market.base, "baseAssetPrecision": 8, "quoteAsset": market.quote, "quotePrecision": 8, "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8, "quoteCommissionPrecision": 8, "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "icebergAllowed": True, "ocoAllowed": True, "otoAllowed": True, "quoteOrderQtyMarketAllowed": True, "allowTrailingStop": True,
        "cancelReplaceAllowed": True, "amendAllowed": True, "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": _text(tick), "maxPrice": _text(tick * 10**8), "tickSize": _text(tick)},
            {"filterType": "LOT_SIZE", "minQty": _text(step), "maxQty": _text(step * 10**8), "stepSize": _text(step)},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True, "maxNotional": "9000000.00000000", "applyMaxToMarket": False, "avgPriceMins": 5},
        ],
        "permissions": [], "permissionSets": [["SPOT"]] if sets else [],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER", "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }  # fmt: skip


def _recent_trades(desk: Binance, params: Params, now: int) -> Any:
    market = desk.wanted(params)
    return [_trade(row) for row in desk.source.trades(market.market, "raw", now=now, limit=_limit(params), newest=True)]


def _old_trades(desk: Binance, params: Params, now: int) -> Any:
    market, first = desk.wanted(params), _whole(params, "fromId")
    rows = desk.source.trades(market.market, "raw", now=now, from_id=first, limit=_limit(params), newest=first is None)
    return [_trade(row) for row in rows]


def _agg_trades(desk: Binance, params: Params, now: int) -> Any:
    market, limit = desk.wanted(params), _limit(params)
    first, start, end = _whole(params, "fromId"), _moment(params, "startTime"), _until(params)
    if first is not None and (start is not None or end is not None):
        raise Wrong(-1128, "Combination of optional parameters invalid.")
    newest = first is None and start is None
    rows = desk.source.trades(
        market.market, "merged", now=now, start=start, end=end, from_id=first, limit=limit, newest=newest
    )
    return [_merged(row) for row in rows]


def _klines(desk: Binance, params: Params, now: int) -> Any:
    market, limit, name = desk.wanted(params), _limit(params), params.get("interval", "")
    if not name:
        raise Wrong(-1102, "Mandatory parameter 'interval' was not sent, was empty/null, or malformed.")
    if name not in INTERVALS:
        raise Wrong(-1120, "Invalid interval.")
    zone = params.get("timeZone", "0")
    if zone not in {"0", "0:00", "00:00", "+00:00"}:
        raise Wrong(-1102, "This desk serves UTC candles only; leave timeZone out.")
    return [_kline(bar) for bar in desk.bars(market, name, _opens(desk, market, name, params, limit, now), now)]


def _opens(desk: Binance, market: Market, name: str, params: Params, limit: int, now: int) -> list[int]:
    """The open times of a page of candles: from the start on where it is sent, up to the end otherwise."""
    grid, start, end = interval(name), _moment(params, "startTime"), _until(params)
    if desk.source.recorded:
        rows = desk.source.bars(market.market, name, now=now, start=start, end=end, limit=limit, newest=start is None)
        return [bar.start for bar in rows]
    first = desk.source.trades(market.market, "raw", now=now, limit=1)
    if not first:
        return []
    low = max(grid.floor(first[0].venue_time), grid.ceil(start or 0))
    high = min(now + 1, now + 1 if end is None else end)
    opens: list[int] = []
    time = low if start is not None else grid.floor(high - 1)
    while len(opens) < limit and low <= time < high:
        opens.append(time)
        time = grid.next(time) if start is not None else grid.floor(time - 1)
    return opens if start is not None else opens[::-1]


def _day(desk: Binance, params: Params, now: int) -> Any:
    kind = params.get("type", "FULL")
    if kind not in {"FULL", "MINI"}:
        raise Wrong(-1100, "Illegal characters found in parameter 'type'; legal range is 'FULL, MINI'.")
    markets = desk.several(params)
    found = [_ticker(desk, market, now, full=kind == "FULL") for market in markets or desk.listed.values()]
    return found[0] if "symbol" in params else found


def _ticker(desk: Binance, market: Market, now: int, *, full: bool) -> dict[str, Any]:
    start = now - DAY + 1
    before = desk.source.last_trade(market.market, "raw", start - 1)
    last = desk.source.last_trade(market.market, "raw", now)
    bar = desk.source.bar(market.market, start, now + 1, now) or _flat(
        start, now + 1, last.price if last else Decimal(), now
    )
    mini = {
        "symbol": market.symbol, "openPrice": _text(bar.open), "highPrice": _text(bar.high), "lowPrice": _text(bar.low), "lastPrice": _text(bar.close),
        "volume": _text(bar.volume), "quoteVolume": _text(bar.quote_volume), "openTime": start // MS, "closeTime": now // MS,
        "firstId": int(bar.first_id), "lastId": int(bar.last_id), "count": bar.trades,
    }  # fmt: skip
    if not full:
        return mini
    tick = market.price_increment or Decimal()
    change = bar.close - bar.open
    percent = change / bar.open * 100 if bar.open else Decimal()
    bid = bar.close - tick if last is None or last.aggressor is Side.BUY else bar.close
    return {
        **mini,
        "priceChange": _text(change), "priceChangePercent": f"{percent:.3f}",
        "weightedAvgPrice": _text(bar.quote_volume / bar.volume if bar.volume else Decimal()),
        "prevClosePrice": _text(before.price if before else bar.open), "lastQty": _text(last.size if last else Decimal()),
        "bidPrice": _text(bid), "bidQty": "1.00000000", "askPrice": _text(bid + tick), "askQty": "1.00000000",
    }  # fmt: skip


def _price(desk: Binance, params: Params, now: int) -> Any:
    found = [
        {"symbol": market.symbol, "price": _text(last.price)}
        for market in desk.several(params) or desk.listed.values()
        if (last := desk.source.last_trade(market.market, "raw", now))
    ]
    return found[0] if "symbol" in params else found


def _constant(weight: int) -> Callable[[Params], int]:
    return lambda _: weight


def _by_count(one: int, steps: tuple[tuple[int, int], ...], every: int) -> Callable[[Params], int]:
    """Weight by how many symbols are asked: `steps` are (at most so many, weight); all of them weigh `every`."""

    def weight(params: Params) -> int:
        if "symbol" in params:
            return one
        count = params["symbols"].count(",") + 1 if "symbols" in params else 1 << 30
        return next((weight for most, weight in steps if count <= most), every)

    return weight


def _reads(names: str = "") -> frozenset[str]:
    return frozenset(names.split())


Binance.routes = {
    "/api/v3/ping": Route(_ping, _reads(), _constant(1)),
    "/api/v3/time": Route(_server_time, _reads(), _constant(1)),
    "/api/v3/exchangeInfo": Route(_exchange_info, _reads("symbol symbols permissions showPermissionSets symbolStatus"), _constant(20)),
    "/api/v3/trades": Route(_recent_trades, _reads("symbol limit"), _constant(25)),
    "/api/v3/historicalTrades": Route(_old_trades, _reads("symbol limit fromId"), _constant(25)),
    "/api/v3/aggTrades": Route(_agg_trades, _reads("symbol fromId startTime endTime limit"), _constant(4)),
    "/api/v3/klines": Route(_klines, _reads("symbol interval startTime endTime timeZone limit"), _constant(2)),
    "/api/v3/ticker/24hr": Route(_day, _reads("symbol symbols type"), _by_count(2, ((20, 2), (100, 40)), 80)),
    "/api/v3/ticker/price": Route(_price, _reads("symbol symbols"), _by_count(2, (), 4)),
}  # fmt: skip


# --- the feed ---

_METHODS = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"


class Unsaid(Exception):
    """A message that Binance answers with an error frame."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class BinanceFeed(Conversation):
    """One connection: raw payloads under /ws, wrapped in {stream, data} under /stream.

    A stream that does not exist is acknowledged and stays silent, as on the venue.
    """

    def __init__(self, desk: Binance, now: int, streams: Iterable[str], *, combined: bool) -> None:
        super().__init__(desk.clock, now)
        self._desk = desk
        self._combined = combined
        self._streams: dict[str, int] = dict.fromkeys(streams, now)  # with the moment from which each is owed
        self._messages = Rolling(MESSAGES, SECOND)
        self._opened = self._pinged = self._heard = self.clock.paced(now)

    def receive(self, message: Message, now: int) -> list[Frame]:
        paced = self.clock.paced(now)
        if not self._messages.allows("", paced):
            return [Close(1008, "Too many requests")]
        if isinstance(message, Pong):
            self._heard = paced
        if isinstance(message, (Ping, Pong)):
            return []
        number: Any = None
        try:
            said = _said(message)
            number = _number(said)
            result = self._obey(said, now)
        except Unsaid as wrong:
            return [text_of({"code": wrong.code, "msg": str(wrong), **({} if number is None else {"id": number})})]
        over = [Close(1008, "Too many streams")] if len(self._streams) > STREAMS else []
        return [text_of({"result": result, "id": number}), *over]

    def topics(self) -> Iterable[str]:
        return tuple(self._streams)

    def _obey(self, said: dict[str, Any], now: int) -> Any:
        """Does what a well-formed message wants and returns the result of its acknowledgement."""
        params = said.get("params", [])
        if not isinstance(params, list):
            raise Unsaid(2, "Invalid request: params must be an array")
        match said.get("method"):
            case None:
                raise Unsaid(2, "Invalid request: missing field `method` at line 1 column 73")
            case "SUBSCRIBE":
                for name in _names(params):
                    self._streams.setdefault(name, now)
            case "UNSUBSCRIBE":
                for name in _names(params):
                    self._streams.pop(name, None)
            case "LIST_SUBSCRIPTIONS":
                return list(self._streams)
            case "SET_PROPERTY":
                if params[:1] != ["combined"]:
                    raise Unsaid(0, "Unknown property")
                if len(params) != 2 or not isinstance(params[1], bool):
                    raise Unsaid(1, "Invalid value type: expected Boolean")
                self._combined = params[1]
            case "GET_PROPERTY":
                if params[:1] != ["combined"]:
                    raise Unsaid(0, "Unknown property")
                return self._combined
            case other:
                raise Unsaid(
                    2, f"Invalid request: unknown variant `{other}`, expected one of {_METHODS} at line 1 column 28"
                )
        return None

    def notice(self, now: int) -> list[Frame]:
        said = {"e": "serverShutdown", "E": now // MS}
        return [text_of({"stream": "!serverShutdown", "data": said} if self._combined else said)]

    def control(self, now: int) -> list[Frame]:
        paced = self.clock.paced(now)
        if paced - self._opened >= LIFETIME:
            return [Close(1001, "the connection has lived for 24 hours")]
        if paced - self._pinged >= PING_EVERY:
            if paced - self._heard >= PONG_WITHIN + PING_EVERY:
                return [Close(1008, "Pong timeout")]
            self._pinged = paced
            return [Ping(str(now // MS).encode())]
        return []

    def due(self, after: int, up_to: int) -> Iterator[tuple[int, Frame]]:
        for name, since in self._streams.items():
            if name == self.muted:
                continue
            for time, payload in self._stream(name, max(after, since), up_to):
                yield time, text_of({"stream": name, "data": payload} if self._combined else payload)

    def _stream(self, name: str, after: int, up_to: int) -> Iterator[tuple[int, Any]]:
        symbol, _, channel = name.partition("@")
        if name == "!miniTicker@arr":
            return self._minis(list(self._desk.listed.values()), after, up_to)
        market = self._desk.listed.get(symbol.upper()) if symbol == symbol.lower() else None
        if market is None:
            return iter(())
        if channel == "trade":
            return self._trades(market, after, up_to)
        if channel == "aggTrade":
            return self._merged(market, after, up_to)
        if channel == "miniTicker":
            return ((time, rows[0]) for time, rows in self._minis([market], after, up_to))
        if channel.startswith("kline_") and channel[6:] in INTERVALS:
            return self._klines(market, channel[6:], after, up_to)
        return iter(())

    def _trades(self, market: Market, after: int, up_to: int) -> Iterator[tuple[int, Any]]:
        for row in self._desk.source.trades_between(market.market, "raw", after, up_to):
            yield row.venue_time, {
                "e": "trade", "E": row.venue_time // MS, "s": market.symbol, "t": int(row.trade_id), "p": _text(row.price),
                "q": _text(row.size), "T": row.venue_time // MS, "m": row.aggressor is Side.SELL, "M": True,
            }  # fmt: skip

    def _merged(self, market: Market, after: int, up_to: int) -> Iterator[tuple[int, Any]]:
        for row in self._desk.source.trades_between(market.market, "merged", after, up_to):
            yield row.venue_time, {"e": "aggTrade", "E": row.venue_time // MS, "s": market.symbol, **_merged(row)}

    def _klines(self, market: Market, name: str, after: int, up_to: int) -> Iterator[tuple[int, Any]]:
        """Running bars every two seconds where something traded, at odd seconds so that none falls on a boundary."""
        grid = interval(name)
        every, shift = (SECOND, SECOND // 2) if name == "1s" else (2 * SECOND, SECOND)
        for time in _ticks(after, up_to, every, shift):
            start = grid.floor(time)
            if self._desk.source.bar(market.market, max(start, time - every + 1), time + 1, time):
                yield from self._bar(market, name, start, time)
        for boundary in grid.opens(after - SETTLE + 1, up_to - SETTLE + 1):
            yield from self._bar(market, name, grid.floor(boundary - 1), boundary + SETTLE)

    def _bar(self, market: Market, name: str, start: int, time: int) -> Iterator[tuple[int, Any]]:
        for bar in self._desk.bars(market, name, [start], time):
            yield time, {
                "e": "kline", "E": time // MS, "s": market.symbol,
                "k": {
                    "t": bar.start // MS, "T": bar.end // MS - 1, "s": market.symbol, "i": name, "f": int(bar.first_id), "L": int(bar.last_id),
                    "o": _text(bar.open), "c": _text(bar.close), "h": _text(bar.high), "l": _text(bar.low), "v": _text(bar.volume), "n": bar.trades,
                    "x": bar.closed, "q": _text(bar.quote_volume), "V": _text(bar.bought), "Q": _text(bar.bought_quote), "B": "0",
                },
            }  # fmt: skip

    def _minis(self, markets: list[Market], after: int, up_to: int) -> Iterator[tuple[int, Any]]:
        """Every second, the markets that traded in it."""
        source = self._desk.source
        for time in _ticks(after, up_to, SECOND, 0):
            moved = [market for market in markets if source.bar(market.market, time - SECOND + 1, time + 1, time)]
            if rows := [row for market in moved if (row := self._desk.mini(market, time))]:
                yield time, rows


def _ticks(after: int, up_to: int, every: int, shift: int) -> range:
    """The times in (after, up_to] that are `shift` past a multiple of `every`."""
    return range(after - (after - shift) % every + every, up_to + 1, every)


def _said(message: str | bytes) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(message)
    except msgspec.DecodeError as error:
        raise Unsaid(3, "Invalid JSON: expected value at line 1 column 1") from error
    if not isinstance(said, dict):
        raise Unsaid(2, "Invalid request: expected an object")
    return said


def _number(said: dict[str, Any]) -> int | str | None:
    number = said.get("id")
    if isinstance(number, bool) or not isinstance(number, (int, str, type(None))) or len(str(number)) > 36:
        raise Unsaid(2, "Invalid request: request ID must be an unsigned integer")
    return number


def _names(params: list[Any]) -> list[str]:
    if not params or not all(isinstance(name, str) for name in params):
        raise Unsaid(2, "Invalid request: property name must be a string")
    return params
