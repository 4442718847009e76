"""The main job: collect what is configured into the store, live and back to where its history begins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from attrs import define, field, frozen

from tradeflood.config import Collect
from tradeflood.coverage import Dataset, Stretch, stretches
from tradeflood.errors import TradeFloodError, TransportError, Unavailable, UsageError
from tradeflood.models import Model
from tradeflood.models.time import SECOND, iso, parse_duration
from tradeflood.planner import Query
from tradeflood.runner.flood import Flood
from tradeflood.runner.keeper import Keeper
from tradeflood.runner.stream import Stream
from tradeflood.store import Store

log = logging.getLogger("tradeflood")

BATCH_AGE = SECOND
PASS_EVERY = 15 * SECOND
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


class Runner:
    """Live streams, passes over the holes, and the store, in one process.

    Streams come first; then what coverage lacks is asked for, from the beginning of the history up to now, again
    and again, and once more at the end, so that the right edge is settled.
    """

    def __init__(self, flood: Flood, say: Callable[[str], None] = log.info) -> None:
        self._flood, self._say = flood, say
        self._clock = flood.clock
        self._wanted = [
            (Query(Model.named(want.model), market, **want.variant), want.history)
            for want in flood.config.collect or known_defaults(flood)
            for market in want.markets
        ]
        self._failures: dict[str, TradeFloodError] = {}
        self.stream: Stream[Any] | None = None

    async def run(self, stop: asyncio.Event, duration: int | None = None) -> Report:
        """Collect until told to stop, or for so many ns; then flush, settle the edge, and report.

        Raises TransportError where no venue answers at all.
        """
        store = await asyncio.to_thread(self._flood.open_store)
        before = {summary.dataset: summary.rows for summary in await asyncio.to_thread(store.summary)}
        began = self._clock.now()
        since = self._since(began)
        live = asyncio.create_task(self._live(store))
        ender = asyncio.create_task(self._end(stop, duration))
        try:
            await self._passes(since, stop, live)
        finally:
            live.cancel()
            ender.cancel()
            with suppress(asyncio.CancelledError):
                await live
        await self._pass(since)
        return await asyncio.to_thread(self._report, store, before, began, since)

    def _since(self, began: int) -> list[tuple[Query[Any], int]]:
        return [
            (query, began - (parse_duration(history) if history else 0)) for query, history in self._wanted
        ]

    async def _end(self, stop: asyncio.Event, duration: int | None) -> None:
        if duration is not None:
            await self._clock.sleep(duration)
            stop.set()

    # ---------------------------------------------------------------- passes over what is missing

    async def _passes(self, since: Sequence[tuple[Query[Any], int]], stop: asyncio.Event, live: asyncio.Task[None]) -> None:
        first = True
        while not stop.is_set():
            if live.done() and not live.cancelled() and (error := live.exception()) is not None:
                raise error
            answered = await self._pass(since)
            if first and not answered and not any(health.opened for health in self._health()):
                raise TransportError(
                    f"no venue answers ({self._reasons()}); check the network, or see it work with: tradeflood run --replay"
                )
            first = False
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PASS_EVERY / SECOND)

    async def _pass(self, since: Sequence[tuple[Query[Any], int]]) -> bool:
        """Ask for what coverage lacks up to now; whether any venue answered."""
        now = self._clock.now()
        queries = [
            Query(query.model, query.market, start=iso(start), end=iso(now), **named(query))
            for query, start in since
            if start < now
        ]
        result = await self._flood.run(self._flood.plan(*queries))
        answered = False
        for frame in result:
            unreachable = 0
            for failure in frame.failures:
                unreachable += isinstance(failure.error, TransportError | Unavailable)
                self._fail(failure.error)
            answered |= bool(frame) or unreachable < len(frame.failures) or not frame.failures
        return answered

    def _fail(self, error: TradeFloodError) -> None:
        text = str(error)
        if text not in self._failures:
            self._failures[text] = error
            log.warning("%s", text)

    def _reasons(self) -> str:
        """Why nothing answers, each reason once."""
        return "; ".join(dict.fromkeys(str(error.__cause__ or error) for error in self._failures.values()))

    def _health(self) -> Any:
        return self.stream.health.values() if self.stream else ()

    # ---------------------------------------------------------------- live

    async def _live(self, store: Store) -> None:
        """Take rows as they come, write them with their claims, batch by batch; the rest when it is ended."""
        registry = self._flood.venues.registry
        live = [
            query
            for query, _ in self._wanted
            if registry.binding(type(self._flood.venues.connector(query.venue)), query.model, query.variant).has_live()
        ]
        if not live:
            return
        self.stream = stream = self._flood.stream_of(live)
        keeper = Keeper(self._flood.venues, store)
        try:
            await stream.begin()
            while True:
                await self._clock.sleep(BATCH_AGE)
                await asyncio.to_thread(keeper.write, stream.take())
                if stream.failed is not None:
                    raise stream.failed
        finally:
            await stream.close()
            await asyncio.to_thread(keeper.write, stream.take())

    # ---------------------------------------------------------------- the report

    def _report(
        self, store: Store, before: dict[Dataset, int], began: int, since: Sequence[tuple[Query[Any], int]]
    ) -> Report:
        datasets = {(query.model, query.venue, query.variant) for query, _ in since}
        collected = [
            Collected(
                summary.dataset, summary.rows, summary.rows - before.get(summary.dataset, 0), summary.first, summary.last,
                tuple(stretches(store.claims(summary.dataset))),
            )
            for summary in store.summary()
            if (summary.dataset.model, summary.dataset.venue, summary.dataset.variant) in datasets
        ]  # fmt: skip
        return Report(collected, list(self._failures), began, self._clock.now())


def named(query: Query[Any]) -> dict[str, str]:
    """A query's variant by name."""
    return {part.name: value for part, value in zip(query.model.variants(), query.variant, strict=True)}


def known_defaults(flood: Flood) -> list[Collect]:
    """The default wants, of the venues that are there."""
    found = [
        want for want in DEFAULT_COLLECT if want.venue in flood.venues.registry.connectors
    ]
    if not found:
        raise UsageError("nothing to collect; write a [[collect]] table into tradeflood.toml")
    return found


