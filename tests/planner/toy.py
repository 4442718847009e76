"""A venue whose truth is known: it answers honestly, in pages, as late as it may, and fails when it is told to.

One venue per page style. Trades have a time in whole milliseconds; the venue shows each after a delay shorter than
its settle time. Candles are wrong until they have settled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

import msgspec
from attrs import define, field
from msgspec import Struct

from tradeflood.coverage import Dataset, State, held
from tradeflood.errors import TradeFloodError, TransportError
from tradeflood.models import Candle, Side, Trade
from tradeflood.models.time import MS, SECOND, iso, ms, parse_time
from tradeflood.planner import Query, Run
from tradeflood.runner.flood import HeldRows, keep
from tradeflood.spans import Spans
from tradeflood.store import Store
from tradeflood.store.memory import MemoryStore
from tradeflood.turns import (
    Binding,
    Budget,
    Chain,
    Connector,
    Numbering,
    Recent,
    Reply,
    Request,
    Rest,
    Windows,
    both,
    get,
    ids_of,
    registry,
    turn,
    turn_execution,
)

BASE = parse_time("2025-06-01")
SETTLE = 200 * MS
SLOW = 1_500 * MS
"""The settle time of the venues that give candles: longer than one of them."""
PAGE = 4
LAST = 6
"""How many rows the venue without pages shows."""
COARSE = 10 * MS
"""To what the venue cuts the times that it sends of its history."""


class Row(Struct):
    id: int
    t: int


class Bar(Struct):
    t: int
    v: int


def _id(row: Row) -> int:
    return row.id


def _time(row: Row | Bar) -> int:
    return row.t * MS


@define
class Truth:
    """What happened: (id, ms, delay in ms) by id, in the order of their times; and (second, final volume, delay)."""

    trades: list[tuple[int, int, int]] = field(factory=list)
    bars: list[tuple[int, int, int]] = field(factory=list)

    def shown(self, clock: int, *, in_order: bool) -> list[Row]:
        """What the venue has shown by now: a counting venue shows no trade before those that came earlier."""
        rows, blocked = [], False
        for number, at, delay in self.trades:
            late = BASE + (at + delay) * MS > clock
            blocked |= late
            if not (blocked if in_order else late):
                rows.append(Row(number, BASE // MS + at))
        return rows

    def bars_shown(self, clock: int) -> list[Bar]:
        """The bars that have begun, each short of its last trade until it has settled."""
        return [
            Bar(BASE // MS + at * 1_000, volume - (BASE + (at * 1_000 + 1_000 + delay) * MS > clock))
            for at, volume, delay in self.bars
            if BASE + at * SECOND <= clock
        ]


class Toy(Connector):
    """What the venues below have in common: the clock in a header, and few rows in an answer."""

    rest = Rest("http://toy", Budget("all", 100, per=SECOND), settle=SETTLE)

    def clock(self, reply: Reply) -> int:
        return int(reply.headers["clock"])


ASKED: list[tuple[Dataset, Spans]] = []
"""Every ask that a binding was called with."""


class ToyTrades(Binding[Trade]):
    @turn_execution
    def pack(self, rows: list[Row], venue: str) -> Iterator[Trade]:
        for row in rows:
            yield Trade(venue, "A/B", "raw", str(row.id), Decimal(1), Decimal(1), Side.BUY, row.t * MS)


class ToyCandles(Binding[Candle]):
    def __call__(self, venue, ask):
        ASKED.append((ask.dataset, ask.spans))
        return self.pack(venue.bars(ask.symbol, ask.interval).over(ask.spans), ask.venue, ask.interval)

    @turn_execution
    def pack(self, rows: list[Bar], venue: str, interval: str) -> Iterator[Candle]:
        for row in rows:
            yield Candle(venue, "A/B", interval, "venue", row.t * MS, *[Decimal(1)] * 4, Decimal(row.v))


def define_venues() -> None:
    """The venues are there until the scope of the registry ends."""

    class Forward(Toy):
        venue = "forward"
        rest = Rest("http://toy", Budget("all", 100, per=SECOND), settle=SLOW)

        @turn(list[Bar], pages=Windows(PAGE, per="interval", at=_time))
        def bars(self, page, symbol, interval) -> Request:
            return get("/bars", first=ms(page.start), last=ms(page.end) - 1)

    class ForwardCandles(ToyCandles, Binding[Candle], connector=Forward, interval="1s"):
        pass

    class Backward(Toy):
        venue = "backward"
        rest = Rest("http://toy", Budget("all", 100, per=SECOND), settle=SLOW)

        @turn(list[Bar], pages=Windows(PAGE, per="interval", at=_time, back=True))
        def bars(self, page, symbol, interval) -> Request:
            return get("/bars-before", last=ms(page.end) - 1)

    class BackwardCandles(ToyCandles, Binding[Candle], connector=Backward, interval="1s"):
        pass

    class Counting(Toy):
        venue = "counting"

        @turn(list[Row])
        def first_at(self, symbol, time) -> Request:
            return get("/first-at", time=ms(time))

        @turn(list[Row])
        def newest(self, symbol) -> Request:
            return get("/newest")

        @turn(list[Row], pages=Windows(PAGE, per=1, at=_id))
        def by_id(self, page, symbol) -> Request:
            return get("/from-id", id=page.start, limit=page.end - page.start)

    class CountingTrades(ToyTrades, Binding[Trade], connector=Counting, kind="raw"):
        numbering = Numbering.CONTIGUOUS

        async def __call__(self, venue, ask):
            ASKED.append((ask.dataset, ask.spans))
            found = await both(*(venue.first_at(ask.symbol, time) for span in ask.spans for time in span))
            newest = [] if all(found) else await venue.newest(ask.symbol)
            firsts = [rows[0].id if rows else None for rows in found]
            seen = [rows[0].t * MS if rows else None for rows in found]
            ids = ids_of(firsts, ask.spans, newest[0].id + 1 if newest else 0, seen=seen)
            return self.pack(venue.by_id(ask.symbol).over(ids), ask.venue)

    class Older(Toy):
        venue = "older"

        @turn(
            list[Row],
            pages=Chain(
                PAGE, reached=_time, cursor=lambda rows: min(map(_id, rows)), back=True, every=2 * SECOND, grain=COARSE,
                bracket=(20 * MS, 500 * MS),
            ),
        )  # fmt: skip
        def before(self, page, symbol) -> Request:
            return get("/before", first=ms(page.low), last=ms(page.high) - 1, cursor=page.cursor)

    class OlderTrades(ToyTrades, Binding[Trade], connector=Older, kind="raw"):
        def __call__(self, venue, ask):
            ASKED.append((ask.dataset, ask.spans))
            return self.pack(venue.before(ask.symbol).over(ask.spans), ask.venue)

    class Newer(Toy):
        venue = "newer"

        @turn(list[Row], pages=Chain(PAGE, reached=_time, cursor=lambda rows: max(map(_time, rows))))
        def after(self, page, symbol) -> Request:
            return get("/after", first=ms(page.low if page.cursor is None else page.cursor), last=ms(page.high) - 1)

    class NewerTrades(ToyTrades, Binding[Trade], connector=Newer, kind="raw"):
        def __call__(self, venue, ask):
            ASKED.append((ask.dataset, ask.spans))
            return self.pack(venue.after(ask.symbol).over(ask.spans), ask.venue)

    class Latest(Toy):
        venue = "latest"

        @turn(list[Row], pages=Recent(reached=_time))
        def recent(self, page, symbol) -> Request:
            return get("/recent")

    class LatestTrades(ToyTrades, Binding[Trade], connector=Latest, kind="raw"):
        def __call__(self, venue, ask):
            ASKED.append((ask.dataset, ask.spans))
            return self.pack(venue.recent(ask.symbol).over(ask.spans), ask.venue)


TRADES = ("counting", "older", "newer", "latest")
CANDLES = ("forward", "backward")


@define
class Venue:
    """A truth that answers. `clamp` is its real limit, `clock` moves by `pace` with each answer; `failing` are the numbers
    of the requests that fail."""

    truth: Truth
    clock: int = BASE + 10 * SECOND
    pace: int = 0
    clamp: int = PAGE
    failing: frozenset[int] = frozenset()
    log: list[str] = field(factory=list)

    def __call__(self, node) -> Reply:
        self.clock += self.pace
        request = node.request
        asked = dict(request.params)
        self.log.append(f"{node.key[0]}{request.path} {asked}")
        if len(self.log) in self.failing:
            raise TransportError(f"request {len(self.log)} was lost")
        rows = self.rows(request.path, asked, self.truth.shown(self.clock, in_order=node.key[0] == "counting"))
        return Reply(200, msgspec.json.encode(rows), {"clock": str(self.clock)}, self.clock)

    def rows(self, path: str, asked: dict[str, int], shown: list[Row]) -> list[Row] | list[Bar]:
        if path.startswith("/bars"):
            bars = [bar for bar in self.truth.bars_shown(self.clock) if asked.get("first", 0) <= bar.t <= asked["last"]]
            return bars[-self.clamp :] if path == "/bars-before" else bars[: self.clamp]
        if path == "/first-at":
            return [row for row in shown if row.t >= asked["time"]][:1]
        if path == "/newest":
            return shown[-1:]
        if path == "/from-id":
            return [row for row in shown if row.id >= asked["id"]][: min(self.clamp, asked["limit"])]
        if path == "/recent":
            return sorted(shown, key=lambda row: row.t)[-LAST:][::-1]
        within = [row for row in shown if asked["first"] <= row.t <= asked["last"]]
        if path == "/after":
            return within[:PAGE]
        older = [row for row in within if row.id < asked.get("cursor", 1 << 62)]
        return [Row(row.id, row.t // 10 * 10) for row in older[-PAGE:][::-1]]


class Venues:
    """The toy connectors, one of each."""

    def __init__(self) -> None:
        self.registry = registry
        self._made = {}

    def connector(self, venue: str):
        if venue not in self._made:
            self._made[venue] = registry.connector(venue)()
        return self._made[venue]


def drive(run: Run, answer) -> Run:
    """A run carried out by hand."""
    while lanes := run.lanes():
        for lane in lanes:
            node = run.take(lane)
            try:
                run.feed(node, answer(node))
            except TradeFloodError as error:
                run.fail(node, error)
    assert run.done
    return run


@define
class Desk:
    """Somebody who asks: a store, and runs one after the other."""

    venue: Venue
    store: Store = field(factory=MemoryStore)
    venues: Venues = field(factory=Venues)
    skew: int = 0
    """How far our own clock is off."""

    def ask(self, *queries: Query) -> Run:
        """A finished run, its rows and claims in the store."""
        ASKED.clear()
        run = drive(Run(queries, self.venues, self.venue.clock + self.skew, HeldRows(self.store)), self.venue)
        keep(run, self.store)
        return run


def trades(venue: str, first: int, last: int) -> Query:
    """Trades of [first, last) ms."""
    return Query(Trade, f"{venue}:A/B", start=iso(BASE + first * MS), end=iso(BASE + last * MS))


def candles(venue: str, first: int, last: int, origin: str = "venue") -> Query:
    """Candles of a second, of [first, last) ms."""
    span = {"start": iso(BASE + first * MS), "end": iso(BASE + last * MS)}
    return Query(Candle, f"{venue}:A/B", interval="1s", origin=origin, **span)


def dataset_of(query: Query) -> Dataset:
    return Dataset(query.model, query.venue, query.pattern, query.variant)


def in_ms(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in ms since BASE, for messages that can be read."""
    return [((low - BASE) // MS, -(-(high - BASE) // MS)) for low, high in spans]


def lies(desk: Desk, dataset: Dataset) -> list[str]:
    """Everything that the store says of a dataset and that is not so."""
    claims = desk.store.claims(dataset)
    sure = held(claims)
    stored = desk.store.read(dataset, 0, 1 << 62)
    wrong = []
    if dataset.model is Trade:
        grain = COARSE if dataset.venue == "older" else MS
        truth = {str(number): (BASE + at * MS) // grain * grain for number, at, _ in desk.venue.truth.trades}
        have = {row.trade_id: row.venue_time // grain * grain for row in stored}
        if len(have) != len(stored):
            wrong.append("a trade is there twice")
        if not have.items() <= truth.items():
            wrong.append("a trade is stored that never was")
        wrong += [
            f"trade {number} of {(at - BASE) // MS} ms is not there, and held is {in_ms(sure)}"
            for number, at in truth.items()
            if number not in have and sure.touches(at, at + 1)
        ]
    else:
        if dataset.variant[1] == "trades":
            counts: dict[int, int] = {}
            for _, at, _ in desk.venue.truth.trades:
                counts[BASE + at // 1_000 * SECOND] = counts.get(BASE + at // 1_000 * SECOND, 0) + 1
            bars = counts
        else:
            bars = {BASE + at * SECOND: volume for at, volume, _ in desk.venue.truth.bars}
        have_bars = {row.open_time: int(row.volume) for row in stored}
        wrong += [
            f"candle {(at - BASE) // MS} ms is {have_bars.get(at)}, not {volume}, and held is {in_ms(sure)}"
            for at, volume in bars.items()
            if sure.touches(at, at + 1) and have_bars.get(at) != volume
        ]
        wrong += [f"candle {at} is stored that never was" for at in have_bars.keys() - bars.keys()]
    for claim in claims:
        settle = desk.venues.connector(dataset.venue).rest.settle
        early = claim.as_of - settle
        if dataset.model is Candle:
            early = early // SECOND * SECOND
        if claim.state is State.OPEN and not (early <= claim.start and claim.end <= claim.as_of):
            wrong.append(f"{claim} is open, and not at the right edge")
        if claim.as_of > desk.venue.clock:
            wrong.append(f"{claim} is from the future")
    if sure and sure.bounds[1] > desk.venue.clock:
        wrong.append(f"held reaches beyond the venue's clock: {in_ms(sure)}")
    return wrong
