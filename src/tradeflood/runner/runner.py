"""The main job: collect what is configured into the store, live and back to where its history begins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from attrs import define, field, frozen

from tradeflood.config import Collect
from tradeflood.coverage import Dataset, Frame, Stretch, held, stretches
from tradeflood.errors import TradeFloodError, TransportError, Unavailable, UsageError, VenueError
from tradeflood.models import Candle, Model, interval
from tradeflood.models.time import HOUR, SECOND, iso, parse_duration
from tradeflood.planner import Query
from tradeflood.runner.backlog import WIDEST, Backlog
from tradeflood.runner.flood import Flood
from tradeflood.runner.keeper import Keeper
from tradeflood.runner.stream import Stream
from tradeflood.spans import Spans
from tradeflood.store import Store
from tradeflood.turns import Ask, Binding

log = logging.getLogger("tradeflood")

BATCH_AGE = SECOND
PASS_EVERY = 5 * SECOND
LIST_EVERY = 60 * SECOND  # of lists, such as tickers and markets
EDGE_GRACE = 2 * SECOND  # what a stream may still be bringing when a witness is asked
CANDLE_GRACE = 7 * SECOND  # how long after its end a closed candle may come live, before it is asked for
SETTLE_WITHIN = 15.0  # seconds that the last pass may take
REMEMBERED = 200  # failures that a report tells: the newest
HISTORY = "10m"

DEFAULT_COLLECT = [
    Collect(model, [f"{venue}:{market}" for market in markets], HISTORY, interval)
    for venue, markets in {
        "binance": ("BTC/USDT", "ETH/USDT"),
        "okx": ("BTC/USDT", "ETH/USDT"),
        "nobitex": ("BTC/IRT", "USDT/IRT"),
        "bitget": ("BTC/USDT", "ETH/USDT"),
    }.items()
    for model, interval in (("trade", None), ("candle", "1m"))
]
"""What `run` collects where nothing is configured: two markets a venue, trades and minute candles."""


@frozen
class Collected:
    """One line of the report: a dataset, what is stored of it, how many of that came now, and its coverage."""

    dataset: Dataset
    rows: int
    new: int
    first: int
    last: int
    parts: tuple[Stretch, ...]


@define
class Report:
    """What a run did: its datasets, and what failed on the way, one line each."""

    collected: list[Collected] = field(factory=list)
    failures: list[str] = field(factory=list)
    began: int = 0
    ended: int = 0


@frozen
class Target:
    """One dataset that is collected, and since when."""

    ask: Ask
    since: int

    def query(self, start: int, end: int) -> Query[Any]:
        """The question for a part of it."""
        ask = self.ask
        variant = {part.name: value for part, value in zip(ask.model.variants(), ask.variant, strict=True)}
        return Query(ask.model, f"{ask.venue}:{ask.market}", start=iso(start), end=iso(end), **variant)


class Runner:
    """Live streams, passes over the holes, and the store, in one process.

    Streams come first. Then, again and again, what coverage lacks is asked for: history once, holes as they show,
    the right edge of what is not streamed or whose silence is suspicious. The last pass settles every edge.
    """

    def __init__(self, flood: Flood) -> None:
        self._flood, self._clock = flood, flood.clock
        self._wants = list(_wants(flood))
        self._targets: dict[Dataset, Target] = {}
        self._lists: dict[Query[Any], int] = {}
        self._backlogs: dict[Dataset, Backlog] = {}
        self._behind = False
        self._failures: dict[str, TradeFloodError] = {}
        self._unfound: list[tuple[Query[Any], int]] = []
        self._searched = 0
        self._heard = False
        self.stream: Stream[Any] | None = None

    async def run(self, stop: asyncio.Event, duration: int | None = None) -> Report:
        """Collect until told to stop, or for so many ns; then flush, settle the edges, and report.

        Raises TransportError where no venue answers at all.
        """
        store = await asyncio.to_thread(self._flood.open_store)
        before = {summary.dataset: summary.rows for summary in await asyncio.to_thread(store.summary)}
        began = self._clock.now()
        self._unfound = [(query, began - (parse_duration(history) if history else 0)) for query, history in self._wants]
        await self._find()
        live = asyncio.create_task(self._live(store))
        ender = asyncio.create_task(self._end(stop, duration))
        try:
            await self._passes(store, stop, live)
        finally:
            live.cancel()
            ender.cancel()
            with suppress(asyncio.CancelledError):
                await live
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_WITHIN):
                self._heard |= await self._pass(store, settle=True)
        if not self._is_heard():
            raise self._nobody()
        return await asyncio.to_thread(self._report, store, before, began)

    async def _end(self, stop: asyncio.Event, duration: int | None) -> None:
        if duration is not None:
            await self._clock.sleep(duration)
            stop.set()

    async def _find(self) -> None:
        """Resolve what is wanted into datasets; a venue whose list fails is named, and tried again later."""
        todo, self._unfound = self._unfound, []
        self._searched = self._clock.now()
        for query, since in todo:
            if query.model.time is None:
                self._lists[query] = 0
                continue
            try:
                asks = await self._flood.asks([query])
            except (VenueError, TransportError) as error:
                if isinstance(error, UsageError):  # the venue knows no such market
                    raise
                self._fail(error)
                self._unfound.append((query, since))
                continue
            for ask in asks:
                self._targets.setdefault(ask.dataset, Target(ask, since))
                self._backlogs.setdefault(ask.dataset, Backlog(WIDEST if issubclass(ask.model, Candle) else HOUR))

    # ---------------------------------------------------------------- passes over what is missing

    async def _passes(self, store: Store, stop: asyncio.Event, live: asyncio.Task[None]) -> None:
        stopping = asyncio.create_task(stop.wait())
        while not stop.is_set():
            if live.done() and not live.cancelled() and (error := live.exception()) is not None:
                raise error
            if self._unfound and self._searched + LIST_EVERY <= self._clock.now():
                await self._find()
            passing = asyncio.create_task(self._pass(store))
            try:
                await asyncio.wait({passing, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not passing.done():
                    return  # the last pass asks for the edges; what lies further back waits for the next run
            finally:
                passing.cancel()
                await asyncio.wait({passing})
            self._heard |= passing.result()
            if not self._is_heard():
                raise self._nobody()
            if not self._behind:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), PASS_EVERY / SECOND)

    async def _pass(self, store: Store, *, settle: bool = False) -> bool:
        """Ask for what coverage lacks, a portion of each dataset; whether anything answered. `settle` asks every right edge."""
        now = self._clock.now()
        held_now = await asyncio.to_thread(self._held, store)
        suspects: dict[Dataset, int] = {}
        portions: list[tuple[Dataset, Query[Any]]] = []
        self._behind = False
        for dataset, target in self._targets.items():
            have, backlog = held_now[dataset], self._backlogs[dataset]
            end = now if settle else self._edge(target, have, now, suspects)
            missing = Spans.of((target.since, end)) - have
            spans = backlog.portions(missing, now)
            portions += [(dataset, target.query(*span)) for span in spans]
            self._behind |= backlog.is_behind(missing - Spans.of(*spans), now)
        lists = [query for query, asked in self._lists.items() if asked + LIST_EVERY <= now]
        self._lists |= dict.fromkeys(lists, now)
        if not portions and not lists:
            return not self._unfound or bool(self._targets)
        run = await self._flood.fetch(self._flood.plan(*(query for _, query in portions), *lists))
        answered = any(self._answered(run.frame(query)) for query in lists)
        for dataset, query in portions:
            frame = run.frame(query)
            answered |= self._answered(frame)
            self._learn(dataset, frame)
            if dataset in suspects and not frame.failures:
                self._witness(dataset, frame, suspects[dataset], now)
        return answered

    def _answered(self, frame: Frame[Any]) -> bool:
        """Whether a venue said anything at all; what failed is named."""
        unreachable = 0
        for failure in frame.failures:
            unreachable += isinstance(failure.error, TransportError | Unavailable)
            self._fail(failure.error)
        return bool(frame) or unreachable < len(frame.failures) or not frame.failures

    def _learn(self, dataset: Dataset, frame: Frame[Any]) -> None:
        """The market's rate, from what came: for the width of portions, and for how long a silence is believed."""
        self._backlogs[dataset].came(len(frame))
        time = dataset.model.time
        if self.stream is not None and len(frame) > 1 and time is not None:
            self.stream.expect(dataset, (getattr(frame[-1], time) - getattr(frame[0], time)) // (len(frame) - 1))

    def _held(self, store: Store) -> dict[Dataset, Spans]:
        return {dataset: held(store.claims(dataset)) for dataset in self._targets}

    def _edge(self, target: Target, have: Spans, now: int, suspects: dict[Dataset, int]) -> int:
        """Up to where a dataset should be held by now, without asking what a fresh stream is about to bring."""
        ask = target.ask
        if issubclass(ask.model, Candle):
            return interval(ask.interval).floor(now - CANDLE_GRACE)
        if self.stream is not None and self._binding(ask).consecutive:
            if self.stream.is_fresh(ask.dataset, now):
                return max((end for _, end in have), default=target.since)
            if self.stream.is_suspicious(ask.dataset, now):
                suspects[ask.dataset] = have.bounds[1]
        return now

    def _witness(self, dataset: Dataset, frame: Frame[Any], since: int, now: int) -> None:
        """The answer to a suspicious silence: rows that the stream did not bring make it mute, none make it quiet."""
        if self.stream is None:
            return
        time = dataset.model.time or ""
        settled = now - EDGE_GRACE
        if any(since < getattr(row, time) < settled for row in frame):
            self.stream.mute(dataset, now)
        else:
            self.stream.quiet(dataset, now)

    def _binding(self, ask: Ask) -> type[Binding[Any]]:
        connector = self._flood.venues.connector(ask.venue)
        return self._flood.venues.registry.binding(type(connector), ask.model, ask.variant)

    def _fail(self, error: TradeFloodError) -> None:
        text = str(error)
        if text not in self._failures:
            self._failures[text] = error
            log.warning("%s", text)
            if len(self._failures) > REMEMBERED:
                del self._failures[next(iter(self._failures))]

    def _is_heard(self) -> bool:
        """Whether any venue has ever said anything."""
        return self._heard or any(health.opened for health in self._health())

    def _nobody(self) -> TransportError:
        """The error that nothing answers, with each reason once."""
        reasons = "; ".join(dict.fromkeys(str(error.__cause__ or error) for error in self._failures.values()))
        why = f" ({reasons})" if reasons else ""
        return TransportError(f"no venue answers{why}; check the network, or see it work with: tradeflood run --replay")

    def _health(self) -> Any:
        return self.stream.health.values() if self.stream else ()

    # ---------------------------------------------------------------- live

    async def _live(self, store: Store) -> None:
        """Take rows as they come, write them with their claims, batch by batch; the rest when it is ended."""
        asks = [target.ask for target in self._targets.values() if self._binding(target.ask).has_live()]
        if not asks:
            return
        self.stream = stream = self._flood.stream_of(asks)
        keeper = Keeper(self._flood.venues, store, self._fail)
        writing: asyncio.Future[None] | None = None
        try:
            await stream.begin()
            while True:
                await self._clock.sleep(BATCH_AGE)
                writing = asyncio.ensure_future(asyncio.to_thread(keeper.write, stream.take()))
                await asyncio.shield(writing)
                if stream.failed is not None:
                    raise stream.failed
        finally:
            if writing is not None:
                await asyncio.wait([writing])  # one batch after the other, also at the end
            await stream.close()
            await asyncio.to_thread(keeper.close, stream.take())

    # ---------------------------------------------------------------- the report

    def _report(self, store: Store, before: dict[Dataset, int], began: int) -> Report:
        collected = [
            Collected(
                summary.dataset, summary.rows, summary.rows - before.get(summary.dataset, 0), summary.first, summary.last,
                tuple(stretches(store.claims(summary.dataset))),
            )
            for summary in store.summary()
            if summary.dataset in self._targets
        ]  # fmt: skip
        return Report(collected, list(self._failures), began, self._clock.now())


def _wants(flood: Flood) -> Iterator[tuple[Query[Any], str | None]]:
    """What is configured, as queries with their history.

    Raises UsageError that names the entry which cannot be collected.
    """
    for number, want in enumerate(flood.config.collect or known_defaults(flood)):
        try:
            queries = [Query(Model.named(want.model), market, **want.variant) for market in want.markets]
            flood.check(*queries)
            if not queries:
                raise UsageError("no markets; name some, such as binance:BTC/USDT")
        except UsageError as error:
            raise UsageError(f"collect[{number}]: {error}") from error
        yield from ((query, want.history) for query in queries)


def known_defaults(flood: Flood) -> list[Collect]:
    """The default wants, of the venues that are there."""
    found = [want for want in DEFAULT_COLLECT if want.venue in flood.venues.registry.connectors]
    if not found:
        raise UsageError("nothing to collect; write a [[collect]] table into tradeflood.toml")
    return found
