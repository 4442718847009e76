"""The main job: collect what is configured into the store, live and back to where its history begins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

from attrs import define, field, frozen

from tradeflood.config import Collect
from tradeflood.coverage import Dataset, Stretch, stretches
from tradeflood.errors import StoreError, TradeFloodError, TransportError, UnknownMarket, UsageError, VenueError
from tradeflood.models import Model
from tradeflood.models.time import FIRST, HOUR, MINUTE, SECOND, parse_duration
from tradeflood.planner import Query
from tradeflood.runner import audit
from tradeflood.runner.beside import Beside
from tradeflood.runner.execute import to_its_end
from tradeflood.runner.flood import Flood, held_frame
from tradeflood.runner.keeper import Keeper
from tradeflood.runner.line import ended
from tradeflood.runner.outlet import Outlet, state_of
from tradeflood.runner.refill import Refiller
from tradeflood.runner.spill import Spill
from tradeflood.runner.stream import Stream
from tradeflood.runner.target import Target
from tradeflood.store import Store
from tradeflood.store.known import KnownStore
from tradeflood.transport import Pause
from tradeflood.turns import Ask

log = logging.getLogger("tradeflood")

BATCH_AGE = SECOND
PASS_EVERY = 5 * SECOND
LIST_EVERY = 60 * SECOND  # of lists, such as tickers and markets
RESOLVE_EVERY = HOUR  # of patterns, in which markets may have appeared
FOUND_WITHIN = 3.0  # seconds that all wait until every venue has told its markets: then the fewest connections do
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
    """What a run did: its datasets, and what failed on the way, one line each.

    `spilled` rows wait on the disk for the next run, `lost` ones could not be kept anywhere, `dropped` ones came while
    too many waited. `findings` are those of the audit that went on beside it, market by market. `pauses` are those that
    venues have ordered and that were not over in the end.
    """

    collected: list[Collected] = field(factory=list)
    failures: list[str] = field(factory=list)
    began: int = 0
    ended: int = 0
    spilled: int = 0
    lost: int = 0
    dropped: int = 0
    findings: list[audit.Report] = field(factory=list)
    pauses: list[Pause] = field(factory=list)
    lists: dict[str, int] = field(factory=dict)
    """How many rows are stored of what has no range, such as markets and tickers: by its model and market."""


class Runner:
    """Live streams, passes over the holes, and the store, in one process.

    Streams come first. Then, again and again, what coverage lacks is asked for: history once, holes as they show,
    the right edge of what is not streamed or whose silence is suspicious. The last pass settles every edge.
    """

    def __init__(self, flood: Flood) -> None:
        self._flood, self._clock = flood, flood.clock
        self._wants = list(_wants(flood))
        self._refiller: Refiller | None = None
        self._beside: Beside | None = None
        self._lists: dict[Query[Any], int] = {}
        self._failures: dict[str, TradeFloodError] = {}
        self._unfound: list[tuple[Query[Any], int]] = []
        self._search_at, self._search_in = 0, PASS_EVERY
        self._patterns: list[tuple[Query[Any], int]] = []
        self._resolve_at = 0
        self._sought, self._news = asyncio.Event(), asyncio.Event()
        self._finding: set[str] = set()  # venues that are asked for their markets: what they have is not asked for yet
        self._given: set[Dataset] = set()  # what the stream was given
        self._believed: set[tuple[str, str]] = set()
        """Markets that were collected before, those that a venue's list names, and those that were looked at because the venue refuses them."""
        self._heard = False
        self._passed: set[str] = set()
        self.outlet: Outlet | None = None
        self.stream: Stream[Any] | None = None

    async def run(self, stop: asyncio.Event, duration: int | None = None) -> Report:
        """Collect until told to stop, or for so many ns; then flush, settle the edges, and report.

        Raises TransportError where no venue answers at all.
        """
        store = await asyncio.to_thread(self._flood.open_store)
        before = {summary.dataset: summary.rows for summary in await asyncio.to_thread(store.summary)}
        self._believed = {(each.venue, each.market) for each in before}
        began = self._clock.now()
        self._flood.observe("run.begun", store=store.url)
        config = self._flood.config
        spill = Spill(config.spill, config.spill_limit, self._flood.observe) if config.spill else None
        drops = config.overflow == "drop"
        self.outlet = outlet = await asyncio.to_thread(Outlet, store, self._clock.now, spill, self._fail, drops=drops)
        self._refiller = Refiller(self._flood, store, self._fail)
        self._beside = Beside(self._flood, store, began)
        self._refiller.rests = self._beside.resting
        self._unfound = [
            (query, max(FIRST, began - (parse_duration(history) if history else 0))) for query, history in self._wants
        ]
        self._resolve_at = began + RESOLVE_EVERY
        ender = asyncio.create_task(self._end(stop, duration))
        enough = asyncio.get_running_loop().call_later(FOUND_WITHIN, self._enough)
        live = asyncio.create_task(self._live(store))
        try:
            await self._passes(stop, live)
        except UsageError:
            live.cancel()
            await asyncio.wait({live})  # what came is kept
            await asyncio.to_thread(outlet.close)
            raise
        finally:
            live.cancel()
            ender.cancel()
            enough.cancel()
            # Not `await live`: whoever ends a run may be told to stop meanwhile, and hears of it.
            await asyncio.wait({live})
            if not live.cancelled():
                live.result()
        self._flood.observe("settle.begun")
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_WITHIN):
                for answered in await asyncio.gather(*(self._attempt(venue, settle=True) for venue in self._venues())):
                    self._heard |= answered
        self._flood.observe("settle.ended")
        await asyncio.to_thread(outlet.close)
        with suppress(StoreError):  # it was named when the last rows were written
            await asyncio.to_thread(self.beside.look, self._clock.now())
            await asyncio.to_thread(self.beside.finish)
        if not self._is_heard():
            raise self._nobody()
        return await asyncio.to_thread(self._report, store, before, began)

    async def _end(self, stop: asyncio.Event, duration: int | None) -> None:
        if duration is not None:
            await self._clock.sleep(duration)
            stop.set()

    async def _refuse_unknown(self, venue: str) -> None:
        """Nothing, where the venue refused no market that was never collected; each is looked at once.

        Raises UnknownMarket that names the entry of one that is not in the venue's list either.
        """
        now = self._clock.now()
        targets = [target for target in self.refiller.targets.values() if target.ask.venue == venue]
        refused = [target for target in targets if target.rests_for and not self._has_come(target)]
        new = {(venue, target.ask.market): target.query(now - MINUTE, now) for target in refused}
        queries = [query for place, query in new.items() if place not in self._believed]
        self._believed |= new.keys()
        unknown = await self._flood.names.unknown(queries, self._flood.network)
        for name, error in unknown.items():
            raise UnknownMarket(self._placed(name, error)) from error

    def _has_come(self, target: Target) -> bool:
        """Whether this run has seen a row of it: then its market was there, whatever the venue says now."""
        return bool(target.newest or (self.stream is not None and self.stream.reached(target.ask.dataset)))

    def _placed(self, market: str, error: UsageError) -> str:
        """What is said of an error, with the entry of the configuration that names its market."""
        entries = [number for number, want in enumerate(self._flood.config.collect) if market in want.markets]
        return f"collect[{entries[0]}]: {error}" if entries else str(error)

    async def _seek(self, stop: asyncio.Event) -> None:
        """Find what can be, and look again: for what could not, and, seldom, for markets that have appeared."""
        while not stop.is_set():
            now = self._clock.now()
            if self._resolve_at <= now:
                self._resolve_at, self._search_at, found = now + RESOLVE_EVERY, now, self._patterns
                self._unfound, self._patterns = self._unfound + found, []
            if self._unfound and self._search_at <= now:
                await self._find()
            self._enough()
            await _next_turn(stop)

    def _enough(self) -> None:
        """What is found by now is collected; what comes later is taken up then."""
        self._sought.set()
        self._news.set()

    async def _find(self) -> None:
        """Resolve what is wanted into datasets, venue beside venue: one that does not answer keeps nobody from the others."""
        todo, self._unfound = self._unfound, []
        self._search_at = self._clock.now() + self._search_in
        self._search_in = min(2 * self._search_in, LIST_EVERY)
        by_venue: dict[str, list[tuple[Query[Any], int]]] = {}
        for query, since in todo:
            if query.model.time is None:
                self._lists[query] = 0
            else:
                by_venue.setdefault(query.venue, []).append((query, since))
        self._finding |= by_venue.keys()
        finding = [asyncio.create_task(self._find_in(venue, some)) for venue, some in by_venue.items()]
        try:
            await asyncio.gather(*finding)
        finally:
            await ended(*finding)

    async def _find_in(self, venue: str, wants: Sequence[tuple[Query[Any], int]]) -> None:
        """Resolve what is wanted of one venue; where its list fails, that is named, and tried again later.

        So is a pattern that matches nothing any more of what was collected before. Raises UsageError where nothing ever was.
        """
        for query, since in wants:
            try:
                asks = await self._flood.asks([query])
            except (VenueError, TransportError, StoreError, UsageError) as error:
                if isinstance(error, UsageError):  # the venue has answered, and knows no such market
                    self._heard = True
                    if not any(place == venue and fnmatchcase(name, query.pattern) for place, name in self._believed):
                        raise UsageError(self._placed(query.market, error)) from error
                self._fail(error)
                self._unfound.append((query, since))
                continue
            if query.is_pattern:
                self._believed |= {(ask.venue, ask.market) for ask in asks}
                self._patterns.append((query, since))
            for ask in asks:
                self.refiller.add(*self.beside.add(ask, since))
        if self.stream is not None:  # else it will begin with them
            self.stream.listen(self._flood.subscriptions(self._to_be_heard({venue})))
        self._finding.discard(venue)
        self._news.set()

    def _streamed(self) -> list[Ask]:
        """What is collected and has a feed."""
        return [target.ask for target in self.refiller.targets.values() if target.binding.has_live()]

    def _to_be_heard(self, venues: Collection[str]) -> list[Ask]:
        """What is collected of some venues, has a feed, and was not given out here before."""
        new = [ask for ask in self._streamed() if ask.venue in venues and ask.dataset not in self._given]
        self._given |= {ask.dataset for ask in new}
        return new

    # ---------------------------------------------------------------- passes over what is missing

    async def _passes(self, stop: asyncio.Event, live: asyncio.Task[None]) -> None:
        """Pass over every venue by itself, so that a slow one keeps nobody from the others, until told to stop.

        What is under way then is given up: the last pass asks for the edges, what lies further back waits for the next run.
        """
        loops: dict[str, asyncio.Task[Any]] = {}
        always = [live, asyncio.create_task(self._look_beside(stop)), asyncio.create_task(self._seek(stop))]
        stopping: asyncio.Task[Any] = asyncio.create_task(stop.wait())
        news: asyncio.Task[Any] = asyncio.create_task(self._news.wait())
        try:
            while not stop.is_set():
                for venue in self._venues() if self._sought.is_set() else ():
                    if venue not in loops and venue not in self._finding:
                        loops[venue] = asyncio.create_task(self._pass_over(venue, stop))
                if news.done():
                    self._news.clear()
                    news = asyncio.create_task(self._news.wait())
                tasks = [*always, *loops.values()]
                going = {task for task in tasks if not task.done()}  # where the feeds refuse everything, live is over
                await asyncio.wait(
                    {stopping, news, *going}, timeout=PASS_EVERY / SECOND, return_when=asyncio.FIRST_COMPLETED
                )
                for task in tasks:
                    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                        raise error
                tried = self._sought.is_set() and not self._finding and self._passed >= set(self._venues())
                if tried and not self._is_heard():
                    raise self._nobody()
        finally:
            await ended(stopping, news, *always[1:], *loops.values())

    def _venues(self) -> list[str]:
        """The venues that there is anything to ask of; those whose markets are not known yet come when they are."""
        return list(dict.fromkeys([*self.refiller.venues, *(query.venue for query in self._lists)]))

    async def _pass_over(self, venue: str, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._heard |= await self._attempt(venue)
            if venue not in self._passed:
                self._passed.add(venue)
                self._news.set()
            await self._refuse_unknown(venue)
            if venue not in self.refiller.behind:
                await _next_turn(stop)

    async def _look_beside(self, stop: asyncio.Event) -> None:
        assert self.outlet is not None
        while not stop.is_set():
            try:
                await asyncio.to_thread(self.beside.look, self._clock.now())
            except StoreError as error:
                self.outlet.refused(state_of(error))
            await _next_turn(stop)

    async def _attempt(self, venue: str, *, settle: bool = False) -> bool:
        """A pass over a venue, or none while the store refuses; whether anything answered."""
        assert self.outlet is not None
        if self.outlet.rests and not settle:
            self.refiller.behind -= {venue}
            return False
        now = self._clock.now()
        lists = [query for query, asked in self._lists.items() if query.venue == venue and asked + LIST_EVERY <= now]
        try:
            answered = await self.refiller.one_pass(venue, lists, settle=settle)
        except StoreError as error:  # what was not stored is not claimed either, so it is asked for again
            self.outlet.refused(state_of(error))
            self.refiller.behind -= {venue}
            return True
        self._lists |= dict.fromkeys(lists, now)
        if answered:  # else there was nothing to store
            self.outlet.took()
        return answered is not False

    @property
    def beside(self) -> Beside:
        """What is made of what is collected, and compared with it, once the run has begun."""
        assert self._beside is not None
        return self._beside

    @property
    def refiller(self) -> Refiller:
        """What fills the holes, once the run has begun."""
        assert self._refiller is not None
        return self._refiller

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

    @property
    def dropped(self) -> int:
        """How many live rows were not kept so far, because too many waited."""
        return sum(health.dropped for health in self._health())

    def _health(self) -> Any:
        return self.stream.health.values() if self.stream else ()

    # ---------------------------------------------------------------- live

    async def _live(self, store: KnownStore) -> None:
        """Take rows as they come, write them with their claims, batch by batch; the rest when it is ended."""
        await self._sought.wait()
        while not (asks := self._to_be_heard(self._venues())):
            await self._clock.sleep(BATCH_AGE)
        self.stream = self.refiller.stream = stream = self._flood.stream_of(asks)
        outlet = self.outlet
        assert outlet is not None
        keeper = Keeper(self._flood.venues, outlet, self._fail, store)
        try:
            await stream.begin()
            while True:
                await (stream.gather(BATCH_AGE) if outlet.takes else self._clock.sleep(BATCH_AGE))
                rows, proofs = (stream.take(), stream.proofs()) if outlet.takes else ([], [])
                await to_its_end(keeper.write, rows, proofs)  # one batch after the other, also at the end
                if stream.failed is not None:
                    if not self._are_gone(stream.failed):
                        raise stream.failed
                    return  # it was named when they were refused
        finally:
            await stream.close()
            await asyncio.to_thread(keeper.close, stream.take(), stream.proofs())

    def _are_gone(self, error: BaseException) -> bool:
        """Whether the feeds refuse nothing but markets that were there once: that ends their streams, not the run."""
        gone = ((ask.venue, ask.market) in self._believed for ask in self._streamed())
        return isinstance(error, UsageError) and all(gone)

    # ---------------------------------------------------------------- the report

    def _report(self, store: Store, before: dict[Dataset, int], began: int) -> Report:
        collected = [
            Collected(
                summary.dataset, summary.rows, summary.rows - before.get(summary.dataset, 0), summary.first, summary.last,
                tuple(stretches(store.claims(summary.dataset))),
            )
            for summary in store.summary()
            if summary.dataset in self.refiller.targets or summary.dataset in self.beside.made
        ]  # fmt: skip
        self._flood.observe("run.report", datasets=len(collected))
        assert self.outlet is not None
        spilled, lost = self.outlet.spilled, self.outlet.lost
        findings = self.beside.reports()
        failures, dropped = list(self._failures), self.dropped
        if dropped:
            failures.append(f"{dropped} live rows were dropped, because too many waited; holes are asked for again")
        pauses = self._flood.network.limiter.pauses()
        lists = {f"{query.model.name()} {query.market}": len(held_frame(query, store)) for query in self._lists}
        return Report(collected, failures, began, self._clock.now(), spilled, lost, dropped, findings, pauses, lists)


async def _next_turn(stop: asyncio.Event) -> None:
    """Wait until the next pass is due, or until told to stop."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), PASS_EVERY / SECOND)


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
