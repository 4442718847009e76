"""Twelve venues that misbehave in every way they know, a runner that collects from them, and the truth beside it.

Time is virtual and nothing goes over a wire, so that ten minutes of twelve venues take seconds. The faults last for a
while and then stop, as they do in life: what the venues still serve is to be healed by the end.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from urllib.parse import urlsplit

from attrs import define, evolve, field

from tradeflood.coverage import Dataset, Grade, State, clipped, held, stretches
from tradeflood.coverage.claims import good_enough
from tradeflood.live.freshness import GAPS, LEAST, MOST
from tradeflood.models import Candle, Trade
from tradeflood.models.time import MINUTE, SECOND, iso, parse_time
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.faults import Faults, FaultyDesk
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.flood import Flood
from tradeflood.runner.runner import Runner
from tradeflood.spans import Spans
from tradeflood.testing import FakeTransport, answers_of
from tradeflood.testing.classes import SHAPES, truth
from tradeflood.testing.classes import VENUES as SYNTHETIC
from tradeflood.testing.classes import venues as synthetic
from tradeflood.testing.virtual import VirtualClock, run, sockets_of

START = parse_time("2026-03-04T05:06:07")
HISTORY = MINUTE
TICK = SECOND // 10

MARKETS = {
    "binance": ("BTC/USDT", "ETH/USDT", "DOGE/USDT"),
    "okx": ("BTC/USDT", "ETH/USDT"),
    "nobitex": ("BTC/IRT", "USDT/IRT"),
    "bitget": ("BTC/USDT", "ETH/USDT"),
    **dict.fromkeys(SYNTHETIC, ("BTC/USDT", "ETH/USDT")),
}

FORGETFUL = {"nobitex", "last60", "offsets", "polled"}
"""Venues that serve only their newest rows: what was not had in time is lost, and must be called so."""

CANDLES = {"binance", "okx", "nobitex", "bitget", "contiguous"}
"""Venues of which minute candles are collected too."""

FAULTS = (
    "withhold=0.18", "reorder%3", "late%3", "corrupt%2", "garbage%1", "halfframe#4", "huge#1",
    "cut=150%40", "stall=30@bitget%50", "stall=30@multiplicity%50", "mute#3", "mutetopic#3", "mutelate=25#3", "shutdown=20@binance#1", "shutdown=20@okx#1", "away=2%60",
    "429=1%3", "429%1", "ban=5#2", "slow=1%3", "error200%2", "html%2", "truncated%2", "half%2", "types%2",
    "empty%2", "nothing%2", "lagging=3%8", "stepback=2@binance",
    # Where nothing tells two messages apart, one that came twice is two equal trades: nobody could know.
    *(f"duplicate@{venue}%5" for venue in MARKETS if venue != "multiplicity"),
)  # fmt: skip


@define
class Told:
    """What became of one dataset."""

    expected: int = 0
    stored: int = 0
    absent: int = 0
    doubled: int = 0
    lies: list[str] = field(factory=list)
    held: float = 0.0
    strict: str = ""
    healed: list[int] = field(factory=list)
    bound: int = MOST


@define
class Outcome:
    """What an ordeal was: the faults by kind, what became of each dataset, and how much is in which state and grade."""

    seed: int
    faults: Counter[str] = field(factory=Counter)
    told: dict[Dataset, Told] = field(factory=dict)
    spans: Counter[str] = field(factory=Counter)
    failures: int = 0

    def __str__(self) -> str:
        healed = sorted(time for part in self.told.values() for time in part.healed)
        lines = [
            f"seed {self.seed}: {self.faults.total()} faults of {len(self.faults)} kinds: "
            + ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items())),
            (
                f"  trades expected {self._sum('expected')}, stored {self._sum('stored')}, absent {self._sum('absent')} "
                f"(of venues that forget {sum(part.absent for dataset, part in self.told.items() if dataset.venue in FORGETFUL)}), "
                f"doubled {self._sum('doubled')}, absent and claimed {len(self.lies)}"
            ),
            "  spans: " + ", ".join(f"{name} {count}" for name, count in sorted(self.spans.items())),
            f"  healed {len(healed)} trades that the feeds did not bring: p50 {at(healed, 50):.1f} s, p99 {at(healed, 99):.1f} s",
        ]
        lines += [
            f"    {dataset.label}: held {part.held:.1%}, expected {part.expected}, absent {part.absent}, "
            f"healed {len(part.healed)} p99 {at(part.healed, 99):.0f} s of {part.bound // SECOND + 60} s"
            + (f"; not strict: {part.strict}" if part.strict else "")
            for dataset, part in sorted(self.told.items(), key=lambda item: item[0].label)
        ]
        return "\n".join(lines)

    @property
    def lies(self) -> list[str]:
        """What was claimed and is not true, or is there and did not happen."""
        return [lie for part in self.told.values() for lie in part.lies]

    def _sum(self, name: str) -> int:
        return sum(getattr(part, name) for dataset, part in self.told.items() if dataset.model is Trade)


def at(times: list[int], percent: int) -> float:
    """A percentile, in seconds."""
    return sorted(times)[min(len(times) - 1, len(times) * percent // 100)] / SECOND if times else 0.0


def ordeal(seed: int, rough: int, calm: int, faults: tuple[str, ...] = FAULTS) -> Outcome:
    """So many ns of faults, then so many without; what came of it."""
    with synthetic():
        return run(_ordeal(seed, rough, calm, faults))


async def _ordeal(seed: int, rough: int, calm: int, chosen: tuple[str, ...]) -> Outcome:
    random.seed(seed)
    clock = VirtualClock(START)
    faults = Faults(chosen, seed)
    source = Simulated(seed)
    desks = {
        venue: FaultyDesk(desk_of(venue), source, Clock(1, START, monotonic=clock.now), faults) for venue in MARKETS
    }
    answers = {venue: answers_of(desk, clock) for venue, desk in desks.items()}
    feeds = {venue: sockets_of(desk, clock, tick=TICK) for venue, desk in desks.items()}

    async def connect(url, listener, **how):
        return await feeds[urlsplit(url).hostname](url, listener, **how)

    names = {venue: [f"{venue}:{market}" for market in markets] for venue, markets in MARKETS.items()}
    config = {
        "store": "memory://",
        "venues": {venue: {"rest_url": f"http://{venue}", "feed_url": f"ws://{venue}"} for venue in MARKETS},
        "collect": [
            *({"model": "trade", "markets": some, "history": "1m", "kind": _kind(venue)} for venue, some in names.items()),
            *({"model": "candle", "interval": "1m", "markets": some, "history": "5m"} for venue, some in names.items() if venue in CANDLES),
        ],
    }  # fmt: skip
    first: dict[Dataset, dict[object, int]] = {}
    loop = asyncio.get_running_loop()

    def now() -> int:  # also in the thread that writes
        return START + round(loop.time() * SECOND)

    def wrote(batches, claims):
        del claims
        for row in batches.get(Trade, ()):
            seen = first.setdefault(Dataset(Trade, row.venue, row.market, (row.kind,)), {})
            seen.setdefault(_key(row.venue)(row), now())

    transport = FakeTransport(lambda call: answers[call.venue](call), clock)
    async with Flood(config, transport=transport, clock=clock) as flood:
        flood.network = evolve(flood.network, sockets=connect)
        flood.open_store().listeners.append(wrote)
        runner = Runner(flood)

        async def relent():
            await clock.sleep(rough)
            faults.chosen.clear()

        relenting = asyncio.ensure_future(relent())
        report = await runner.run(asyncio.Event(), rough + calm)
        await relenting
        out = Outcome(seed, Counter(fault.name for fault in faults.injected), failures=len(report.failures))
        for dataset in flood.store.datasets():
            for part in stretches(flood.store.claims(dataset)):
                out.spans[f"{part.state} {part.grade or ''}".strip()] += 1
            judge = _candles if dataset.model is Candle else _trades
            out.told[dataset] = judge(
                flood, dataset, desks[dataset.venue], source, first.get(dataset, {}), rough + calm
            )
        return out


def _kind(venue: str) -> str:
    return SHAPES[venue].kind if venue in SHAPES else "raw"


def _truth(dataset: Dataset, desk: FaultyDesk, source: Simulated, low: int, high: int) -> list[Trade]:
    if dataset.venue in SHAPES:
        return truth(dataset.venue, source).trades(dataset.market, low, high)
    shown = desk.inner.source
    desk.step.told(high)
    return shown.trades(dataset.market, dataset.variant[0], now=high, start=low, end=high, limit=1 << 40)


def _trades(flood, dataset, desk, source, first, length) -> Told:
    told, end = Told(), START + length
    claims = flood.store.claims(dataset)
    sure = held(claims)
    rows = flood.store.read(dataset, 0, end)  # the last pass goes on for a moment
    real = _truth(dataset, desk, source, START - 10 * MINUTE, end)
    key = _key(dataset.venue)
    have, want = Counter(map(key, rows)), Counter(map(key, real))
    told.doubled = sum((have - want).values())
    told.lies += [
        f"{dataset.label}: {row.trade_id} of {iso(row.venue_time)} is absent and claimed"
        for row in real
        if sure.touches(row.venue_time, row.venue_time + 1) and have[key(row)] < want[key(row)]
    ]
    told.lies += [f"{dataset.label}: {row} did not happen" for row in rows if have[key(row)] > want[key(row)]]
    since = [row for row in real if START - HISTORY <= row.venue_time < end - 15 * SECOND]
    told.expected, told.stored = len(since), sum(have[key(row)] > 0 for row in since)
    told.absent = told.expected - told.stored
    told.held = (sure & Spans.of((START - HISTORY, end))).size / (length + HISTORY)
    told.healed = [
        late
        for row in since
        if row.venue_time > START and (late := first.get(key(row), end) - row.venue_time) > 4 * SECOND
    ]
    gap = length // max(1, len(since))
    told.bound = min(MOST, max(LEAST, GAPS * gap))
    last = max((row.venue_time for row in since if row.venue_time < end - 2 * MINUTE), default=START)
    told.strict = _strict(claims, START - HISTORY, last)
    return told


def _candles(flood, dataset, desk, source, first, length) -> Told:
    del first
    told, end = Told(), START + length
    claims = flood.store.claims(dataset)
    sure = held(claims)
    rows = {row.open_time: row for row in flood.store.read(dataset, 0, 1 << 62)}
    if dataset.venue in SHAPES:
        real = truth(dataset.venue, source).candles(dataset.market, "1m", START - 10 * MINUTE, end)
    else:
        desk.step.told(end)
        real = desk.inner.source.candles(
            dataset.market, "1m", start=START - 10 * MINUTE, end=end, now=end, limit=1 << 40
        )
    for candle in real:
        opened = candle.open_time
        if (
            sure.touches(opened, opened + 1)
            and opened + MINUTE <= end
            and _figures(rows.get(opened)) != _figures(candle)
        ):
            told.lies.append(f"{dataset.label}: {iso(opened)} is {rows.get(opened)}, not {candle}")
    told.held = (sure & Spans.of((START - 5 * MINUTE, end))).size / (length + 5 * MINUTE)
    told.strict = _strict(
        claims, (START - 5 * MINUTE) // MINUTE * MINUTE + MINUTE, (end - 3 * MINUTE) // MINUTE * MINUTE
    )
    return told


def _strict(claims, start: int, end: int) -> str:
    """What strict would refuse of a range; nothing where it would not."""
    parts = clipped(stretches(claims), start, end)
    for part in parts:
        if part.state is not State.HELD or not good_enough(part.grade, Grade.B):
            return f"{iso(part.start)[11:]} … {iso(part.end)[11:]} {part.state} {part.grade or ''} {part.evidence}"
    for low, high in Spans.of((start, end)) - Spans.of(*((part.start, part.end) for part in parts)):
        return f"{iso(low)[11:]} … {iso(high)[11:]} unknown"
    return ""


def _figures(candle) -> object:
    return candle and (candle.open, candle.high, candle.low, candle.close, candle.volume)


def _key(venue: str):
    """What makes a trade: its id, or all it says where the source's ids are not the venue's."""
    return _equal if venue == "nobitex" else _numbered


def _numbered(row) -> object:
    return row.trade_id, row.price, row.size, row.aggressor


def _equal(row) -> object:
    return row.price.normalize(), row.size.normalize(), row.aggressor, row.venue_time
