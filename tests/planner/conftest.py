"""A Binance that answers from arithmetic, and a hand that drives runs: no network, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import urlencode

import msgspec
import pytest

from tradeflood import plugins
from tradeflood.errors import TradeFloodError
from tradeflood.models import interval
from tradeflood.models.time import MS, SECOND, parse_time
from tradeflood.planner import Query, Run
from tradeflood.turns import Reply, registry

NOW = parse_time("2026-01-01")
GENESIS = parse_time("2024-01-01")
EVERY = 600 * MS  # one trade


class Venues:
    """Connectors without settings."""

    def __init__(self) -> None:
        plugins.load()
        self.registry = registry
        self._made = {}

    def connector(self, venue):
        if venue not in self._made:
            self._made[venue] = registry.connector(venue)()
        return self._made[venue]


class Answers:
    """Every market trades once each 600 ms since 2024; candles are flat. `count` is per path, `rules` come first."""

    def __init__(self, markets: int = 100, now: int = NOW) -> None:
        self.now = now
        self.symbols = [f"A{number}USDT" for number in range(markets)]
        self.count: Counter[str] = Counter()
        self.log: list[str] = []
        self.rules: list[Callable[[str, dict[str, str]], bytes | Exception | None]] = []

    def __call__(self, node) -> Reply:
        request = node.request
        params = {name: str(value) for name, value in request.params}
        self.count[request.path] += 1
        self.log.append(f"{request.path}?{urlencode(request.params)}")
        for rule in self.rules:
            told = rule(request.path, params)
            if isinstance(told, Exception):
                raise told
            if told is not None:
                return self.reply(told)
        return self.reply(msgspec.json.encode(getattr(self, request.path.rsplit("/", 1)[1])(params)))

    def reply(self, body: bytes, status: int = 200) -> Reply:
        date = format_datetime(datetime.fromtimestamp(self.now // SECOND, UTC), usegmt=True)
        return Reply(status, body, {"date": date}, self.now)

    def exchangeInfo(self, params):
        return {
            "symbols": [
                {"symbol": name, "status": "TRADING", "baseAsset": name[:-4], "quoteAsset": "USDT", "filters": []}
                for name in self.symbols
            ]
        }

    def klines(self, params):
        grid = interval(params["interval"])
        opens = list(grid.opens(int(params["startTime"]) * MS, min(int(params["endTime"]) * MS + 1, self.now)))
        return [
            [at // MS, "1.0", "2.0", "0.5", "1.5", "10.00", grid.next(at) // MS - 1, "15.0", 7, "0", "0", "0"]
            for at in opens[: int(params["limit"])]
        ]

    def aggTrades(self, params):
        last = (self.now - GENESIS) // EVERY
        if "startTime" in params:
            first = max(0, -(-(int(params["startTime"]) * MS - GENESIS) // EVERY))
        else:
            first = int(params.get("fromId", last))
        return [
            {"a": at, "p": "1.5", "q": "2", "f": at, "l": at, "T": (GENESIS + at * EVERY) // MS, "m": at % 2 == 0}
            for at in range(first, min(first + int(params["limit"]), last + 1))
        ]

    def historicalTrades(self, params):
        last = (self.now - GENESIS) // EVERY
        first = int(params["fromId"])
        return [
            {"id": at, "price": "1.5", "qty": "2", "time": (GENESIS + at * EVERY) // MS, "isBuyerMaker": at % 2 == 0}
            for at in range(first, min(first + int(params["limit"]), last + 1))
        ]


def drive(run: Run, answer) -> Run:
    """A run carried out by hand: every request answered, in the order in which the lanes give them."""
    while lanes := run.lanes():
        for lane in lanes:
            node = run.take(lane)
            try:
                reply = answer(node)
                node.bound.connector.judge(reply)
            except TradeFloodError as error:
                run.fail(node, error)
            else:
                run.feed(node, reply)
    assert run.done
    return run


@pytest.fixture
def venues():
    return Venues()


@pytest.fixture
def answers():
    return Answers()


@pytest.fixture
def go(venues, answers):
    """Queries → a finished run against `answers`."""

    def start(*queries: Query, store=None, now=NOW) -> Run:
        return drive(Run(queries, venues, now, store), answers)

    return start
