"""Flood: the session. Planner, transport and store meet here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakSet

from attrs import evolve, field, frozen

from tradeflood.config import OVERFLOWS, STORE, Config, load_config
from tradeflood.coverage import Claim, Coverage, Dataset, Failure, Frame, Grade, clipped, stretches
from tradeflood.coverage.compact import beyond, part_of
from tradeflood.coverage.evidence import confirmed
from tradeflood.coverage.jumping import asked_twice
from tradeflood.errors import Incomplete, UsageError
from tradeflood.models import Market, Model
from tradeflood.models.time import When, iso
from tradeflood.planner import Node, Plan, Query, Result, Run
from tradeflood.planner.parts import Work, ordered
from tradeflood.planner.run import NO_HORIZONS
from tradeflood.runner.backlog import ROWS
from tradeflood.runner.coarse import restore_times
from tradeflood.runner.execute import Network, Patience, carry_out
from tradeflood.runner.late import disputes_of
from tradeflood.runner.line import Subscription
from tradeflood.runner.names import Names
from tradeflood.runner.stream import Stream, subscription
from tradeflood.runner.venues import SessionVenues
from tradeflood.runner.witness import Witness
from tradeflood.spans import EMPTY, Spans
from tradeflood.steps import Observer, ignore
from tradeflood.store import Store, open_existing, open_store
from tradeflood.store.known import KnownStore, known
from tradeflood.transport import (
    Clock,
    Direct,
    HttpTransport,
    Limited,
    Limiter,
    Rank,
    Recorded,
    Recorder,
    StaticPool,
    SystemClock,
    Transport,
)
from tradeflood.turns import Ask, Numbering

if TYPE_CHECKING:
    from tradeflood.runner.deep import Advance, Filling
    from tradeflood.runner.reread import Anew

M = TypeVar("M", bound=Model)
T = TypeVar("T")

BEGINS_WITHIN = 5.0
"""Seconds in which a thread has begun its work, if it was started at all before somebody interrupted."""


class Flood:
    """A session: venues, their budgets, and the store where one is configured.

    `config` is a path, a dict of the same shape, or nothing: then `./tradeflood.toml` where it exists, and the
    environment. Use it as an async context manager. `transport` and `clock` replace the network and the time,
    for tests and for replaying. `observe` hears of every step of `tradeflood.steps.STEPS`, in the thread that takes it.
    """

    def __init__(
        self,
        config: str | Path | Mapping[str, Any] | Config | None = None,
        *,
        transport: Transport | None = None,
        clock: Clock | None = None,
        patience: Patience | None = None,
        observe: Observer | None = None,
    ) -> None:
        self.config = load_config(config)
        self.observe = observe or ignore
        self.venues = SessionVenues(self.config.venues)
        self.clock = clock or SystemClock()
        self.recorder = Recorder(self.config.record) if self.config.record else None
        patience = patience or Patience()
        limiter = Limiter(self.clock, patience.longest)
        inner: Transport = transport or HttpTransport(self.clock)
        if self.recorder is not None:
            inner = Recorded(inner, self.recorder)
        scheme = StaticPool(self.config.proxies) if self.config.proxies else Direct()
        self.network = Network(Limited(inner, limiter), limiter, scheme, self.clock, patience, self.observe)
        self.names = Names(self.venues)
        self._store: KnownStore | None = None
        self._streams: WeakSet[Stream[Any]] = WeakSet()

    async def __aenter__(self) -> Self:
        if self.recorder is not None:
            self.recorder.open()
        if self.config.store is not None:
            await asyncio.to_thread(self.open_store)
        return self

    async def __aexit__(self, *_: object) -> None:
        async with AsyncExitStack() as each:  # the last one first, and every one, whatever becomes of those before it
            if self.recorder is not None:
                each.callback(self.recorder.close)
            each.callback(self.close_store)
            each.push_async_callback(self.network.transport.close)
            for stream in list(self._streams):
                each.push_async_callback(stream.close)

    # ---------------------------------------------------------------- the store

    @property
    def store(self) -> KnownStore | None:
        """The store, where one is open."""
        return self._store

    def open_store(self) -> KnownStore:
        """The configured store, or the default one, opened and brought up to date.

        Raises StoreError where it cannot be: not writable, held by another process.
        """
        if self._store is None:
            self._store = known(open_store(self.config.store or STORE))
            self._store.observe = self.observe
            self._store.tentative()
            self._store.migrate()
        return self._store

    def close_store(self) -> None:
        """Release the store."""
        store, self._store = self._store, None
        if store is not None:
            store.close()

    # ---------------------------------------------------------------- the past

    async def collect(
        self,
        model: type[M],
        *markets: str,
        start: When | None = None,
        end: When | None = None,
        offline: bool = False,
        strict: bool = False,
        **variant: str,
    ) -> Frame[M]:
        """The rows of a model in [start, end), market by market, with their coverage.

        With a store, only what it lacks is asked of the venue, and stored. `offline` asks no venue at all.
        `strict` raises Incomplete where any of the range is not held on grade B or better.
        Raises UsageError for what cannot be asked, and the venue's error where nothing could be had.
        """
        queries = self.queries(model, markets, start, end, **variant)
        frames = await self._offline(queries) if offline else list(await self.run(self.plan(*queries)))
        frame = joined(model, frames)
        if strict:
            demand(frame, queries)
        if not frame and frame.failures:
            raise frame.failures[0].error
        return frame

    def check(self, *queries: Query[Any]) -> None:
        """Nothing, where every query can be asked here; it needs neither the session to be entered nor the network.

        Raises UsageError for a venue that is not there, and for what it does not offer.
        """
        offered = set()  # a plan of many queries has few of these
        for query in queries:
            if not isinstance(query, Query):
                raise UsageError(f"a plan is made of queries, not {query!r}; write tradeflood.Query(…)")
            connector = self.venues.connector(query.venue)
            if (kind := (query.venue, query.model, query.variant)) not in offered:
                self.venues.registry.binding(type(connector), query.model, query.variant)
                offered.add(kind)
            if not (query.is_pattern or connector.symbols.listed):
                connector.symbols.spell(query.pattern)

    def check_live(self, *queries: Query[Any]) -> None:
        """Nothing, where every query can be streamed.

        Raises UsageError as `check` does, and where the venue has nothing live of it.
        """
        self.check(*queries)
        for query in queries:
            connector = self.venues.connector(query.venue)
            if not self.venues.registry.binding(type(connector), query.model, query.variant).has_live():
                raise UsageError(f"{query.venue} has no live {' '.join([query.model.name(), *query.variant])}")

    def queries(
        self, model: type[M], markets: Sequence[str], start: When | None, end: When | None, **variant: str
    ) -> list[Query[M]]:
        """One query per market; an open end is now, by the session's clock.

        Raises UsageError for what cannot be asked.
        """
        if not markets:
            raise UsageError("say which market, such as binance:BTC/USDT")
        if end is None and getattr(model, "time", None) is not None:
            end = iso(self.clock.now())
        return [Query(model, market, start=start, end=end, **variant) for market in markets]

    def plan(self, *queries: Query[Any]) -> Plan:
        """The plan of some queries; nothing is asked yet."""
        return Plan(queries, self.venues, store=HeldRows(self._store) if self._store else None, at=self.clock.now())

    async def run(self, plan: Plan, observe: Callable[[Run, Node], None] | None = None) -> Result:
        """Carry a plan out: one frame per query, in order. What failed is in the frames, beside what did not.

        Raises UsageError for what is no plan.
        """
        if not isinstance(plan, Plan):
            raise UsageError(f"only a plan can be run, not {plan!r}; make one with plan(…)")
        run = await self.fetch(plan, observe)
        if self._store is None:
            return Result([run.frame(query) for query in plan.queries])
        return Result([await asyncio.to_thread(_from_store, run, query, self._store) for query in plan.queries])

    async def fetch(
        self, plan: Plan, observe: Callable[[Run, Node], None] | None = None, *, refill: Refill | None = None
    ) -> Run:
        """Carry a plan out and store what came, where there is a store; the finished run, with only what is new in it.

        `refill` says that holes are filled: what is reserved of the budgets is spent, and what perishes first comes first.
        """
        there = HeldRows(self._store, refill.doubted if refill else None) if self._store else None
        run = Run(plan.queries, self.venues, plan.now, there, refill.horizons if refill else NO_HORIZONS)
        carrying = carry_out(run, self.network, observe, rank=refill.rank if refill else Rank.COMMON)
        if refill is not None and refill.cut is not None:
            with suppress(TimeoutError):
                async with refill.cut:
                    await carrying
            if refill.cut.expired():
                run.give_up()
        else:
            await carrying
        if self._store is not None:
            await asyncio.to_thread(keep, run, self._store)
        return run

    async def fill(
        self, *queries: Query[Any], observe: Callable[[Advance], None] | None = None, portion: int = ROWS
    ) -> Filling:
        """Collect whole ranges into the store, however deep, in bounded memory; a summary, not the rows.

        What the store holds is not asked for again, so that a filling which was stopped goes on from there. `observe`
        hears of every request that is over and of every portion that is stored; `portion` is about how many rows are
        held at once per venue. What fails is passed over, asked once more at the end, and named in the summary.
        Raises UsageError for what cannot be asked, StoreError where the store fails.
        """
        from tradeflood.runner.deep import fill

        self.check(*queries)
        return await fill(self, queries, observe, portion)

    async def reread(self, folder: str | Path, observe: Callable[[Anew], None] | None = None) -> Anew:
        """Read a recording anew into the store, with the parsers of today; what came of it.

        Rows that were parsed otherwise before are replaced. `observe` hears of every portion, in another thread.
        Raises UsageError where there is no recording or its venue is unknown, StoreError where the store fails.
        """
        from tradeflood.runner.reread import reread

        store = await asyncio.to_thread(self.open_store)
        return await asyncio.to_thread(reread, folder, self.venues, store, observe)

    async def _offline(self, queries: Sequence[Query[Any]]) -> list[Frame[Any]]:
        if self._store is None:
            self._store = known(await asyncio.to_thread(open_existing, self.config.store or STORE))
        store = self._store
        return [await asyncio.to_thread(held_frame, query, store) for query in queries]

    # ---------------------------------------------------------------- now

    def stream(
        self,
        model: type[M],
        *markets: str,
        fast: bool | None = None,
        overflow: str | None = None,
        **variant: str,
    ) -> Stream[M]:
        """Live rows of some markets. `fast` chooses the transport: picows, or websockets; None: what is installed.

        `overflow` says what becomes of rows that come while too many wait to be taken: "wait" reads no more until they
        are, "drop" leaves out and counts what comes; None: what is configured. Of a silence that lasts too long to be
        believed the venue is asked: `states()` tells what came of it, and a mute subscription is made anew.
        Raises UsageError for what cannot be asked.
        """
        if bounds := variant.keys() & {"start", "end"}:
            raise UsageError(
                f"a stream begins now and ends when you leave it: it has no {' and no '.join(sorted(bounds))}"
            )
        queries = [Query(model, market, **variant) for market in markets]
        if not queries:
            raise UsageError("say which market, such as binance:BTC/USDT")
        return self.stream_of(queries, fast=fast, overflow=overflow, witness=self._watched)

    def stream_of(
        self,
        wanted: Sequence[Query[Any] | Ask],
        *,
        fast: bool | None = None,
        overflow: str | None = None,
        witness: Callable[[Stream[Any]], Coroutine[Any, Any, None]] | None = None,
    ) -> Stream[Any]:
        """Live rows of what some queries name, or of datasets that are known already; `witness` goes on beside them.

        Without one, whoever reads the stream tells it which silences are `quiet`, and which `mute`.
        """
        overflow = self.config.overflow if overflow is None else overflow
        if overflow not in OVERFLOWS:
            raise UsageError(f"overflow must be {' or '.join(map(repr, OVERFLOWS))}, not {overflow!r}")

        async def prepare() -> tuple[Subscription, ...]:
            asks = [want for want in wanted if isinstance(want, Ask)]
            queries = [want for want in wanted if isinstance(want, Query)]
            silent = [query for query in queries if not self._refuses(query)]
            for error in (await self.names.unknown(silent, self.network)).values():
                raise error
            asks += await self.asks(queries)
            return self.subscriptions(asks)

        stream: Stream[Any] = Stream(
            prepare, self.network, self.recorder, fast=fast, drops=overflow == "drop", witness=witness
        )
        self._streams.add(stream)
        return stream

    async def _watched(self, stream: Stream[Any]) -> None:
        await Witness(self.venues, self.network, stream).watch()

    def _refuses(self, query: Query[Any]) -> bool:
        """Whether the venue's feed says no to a market that it does not know."""
        feed = self.venues.connector(query.venue).feed
        return feed is None or feed.refuses

    def subscriptions(self, asks: Sequence[Ask]) -> tuple[Subscription, ...]:
        """What a stream listens to for datasets that are known."""
        return tuple(self._subscribed(ask)[0] for ask in asks)

    def _subscribed(self, ask: Ask) -> tuple[Subscription, Numbering]:
        """The subscription of an ask, and what the ids of its rows say of one another."""
        connector = self.venues.connector(ask.venue)
        binding = self.venues.registry.binding(type(connector), ask.model, ask.variant)
        return subscription(ask, connector, binding(), self._subscribed), binding.numbering

    async def asks(self, queries: Sequence[Query[Any]], *, trading: bool = True) -> list[Ask]:
        """One ask per dataset that the queries name; patterns are resolved in the venues' lists.

        `trading` leaves out the markets that do not trade any more.
        """
        lists = {
            query.venue: Query(Market, f"{query.venue}:*")
            for query in queries
            if query.is_pattern or self.venues.connector(query.venue).symbols.listed
        }
        found = dict(zip(lists, await self.run(self.plan(*lists.values())), strict=True)) if lists else {}
        asks: dict[Dataset, Ask] = {}
        for query in queries:
            for market in _markets(query, found.get(query.venue), self.venues, trading=trading):
                ask = Ask(
                    query.model,
                    query.venue,
                    market.market,
                    market.symbol,
                    query.variant,
                    EMPTY,
                    self.clock.now(),
                    market,
                )
                asks.setdefault(ask.dataset, ask)
        return list(asks.values())


@frozen
class Refill:
    """How holes are filled: `horizons` is for how long a moment of a dataset can be asked for, in ns; what is `doubted` is asked again.

    `cut` ends the asking early once it is rescheduled: what was answered is kept, the rest is put back. `rank` says what
    of the budgets may be spent.
    """

    horizons: Mapping[Dataset, int] = field(factory=dict)
    doubted: Mapping[Dataset, Spans] = field(factory=dict)
    cut: asyncio.Timeout | None = None
    rank: Rank = Rank.FIRST


class HeldRows:
    """A store, as the planner sees it; of what is doubted it has nothing."""

    def __init__(self, store: Store, doubted: Mapping[Dataset, Spans] | None = None) -> None:
        self._store, self._doubted = store, doubted or {}

    def claims(self, dataset: Dataset) -> Sequence[Claim]:
        """The claims on a dataset."""
        claims = self._store.claims(dataset)
        if not (doubted := self._doubted.get(dataset)):
            return claims
        return [
            evolve(claim, start=start, end=end)
            for claim in claims
            for start, end in Spans.of((claim.start, claim.end)) - doubted
        ]

    def rows(self, dataset: Dataset, spans: Spans) -> Sequence[Model]:
        """The rows of these times."""
        return [row for start, end in spans for row in self._store.read(dataset, start, end)]


def keep(run: Run, store: Store) -> None:
    """Write what a run brought: rows first, claims after them. What was read from the store is not written again.

    A row that the store lacks in a time that was held refutes what was claimed; what was asked twice with the same
    result is believed.
    """
    there = known(store)
    batches: dict[type[Model], list[Model]] = {}
    claims: list[Claim] = []
    for work in run.works.values():
        _leave(work, there)
        batches.setdefault(work.ask.model, []).extend(work.models.values())
        if work.ask.model is Market:
            batches[Market] += _unlisted(work, there)
        dataset, rows, told = work.ask.dataset, ordered(work.ask.model, work.models.values()), work.new_claims
        if work.grain > 1 and restore_times(there, dataset, rows, work.grain):
            rows = ordered(work.ask.model, rows)
            told = [part_of(claim, claim.start, claim.end, rows) if claim.digest else claim for claim in told]
        against = disputes_of(there, dataset, rows)
        before = [*there.claims(dataset), *against]
        stored = partial(there.read, dataset)
        new = beyond(confirmed(told, before, stored), there.solid(dataset), rows)
        claims += [*against, *asked_twice(new, before, rows, stored)]
    store.observe("answers.keeping", claims=len(claims))
    store.write(batches, claims)
    store.observe("answers.kept", claims=len(claims))


def _unlisted(work: Work, there: Store) -> list[Market]:
    """The stored markets that a whole list names no more: nothing else would tell that they are old."""
    if work.failures or not work.models:
        return []
    names = {row.market for row in work.models.values() if isinstance(row, Market)}
    stored = there.read_list(Market, work.ask.venue)
    return [evolve(row, status="closed") for row in stored if row.market not in names and row.status != "closed"]


def _leave(work: Work, there: KnownStore) -> None:
    """Leave alone what is known well, where the rows of an answer that need not be final would overwrite it."""
    solid = there.solid(work.ask.dataset) if work.unproven else EMPTY
    for opened in work.unproven:
        if solid.touches(opened, opened + 1):
            work.models.pop(opened, None)


def _from_store(run: Run, query: Query[Any], store: Store) -> Frame[Any]:
    """A query's frame as the store now has it; lists as they were answered."""
    told = run.frame(query)
    if query.model.time is None:
        return told
    return _held(query, [work.ask.dataset for work in run.parts(query)], store, told.failures)


def held_frame(query: Query[Any], store: Store) -> Frame[Any]:
    """A query's frame from the store alone."""
    if query.model.time is None:
        rows = [row for row in store.read_list(query.model, query.venue) if _matches(query, row.market)]
        return Frame(query.model, rows)
    datasets = [
        dataset
        for dataset in store.datasets()
        if (dataset.model, dataset.venue, dataset.variant) == (query.model, query.venue, query.variant)
        and _matches(query, dataset.market)
    ]
    return _held(query, datasets, store, ())


def _held(query: Query[Any], datasets: Sequence[Dataset], store: Store, failures: Sequence[Failure]) -> Frame[Any]:
    rows: list[Model] = []
    parts = {}
    for dataset in datasets:
        rows += store.read(dataset, query.start, query.end)
        parts[dataset] = clipped(stretches(store.claims(dataset)), query.start, query.end)
    return Frame(query.model, rows, Coverage(parts), failures)


def _matches(query: Query[Any], market: str) -> bool:
    from fnmatch import fnmatchcase

    return fnmatchcase(market, query.pattern)


def _markets(query: Query[Any], listed: Frame[Market] | None, venues: SessionVenues, *, trading: bool) -> list[Market]:
    if listed is None:
        symbol = venues.connector(query.venue).symbols.spell(query.pattern)
        base, _, quote = query.pattern.partition("/")
        return [Market(query.venue, query.pattern, symbol, base, quote)]
    if listed.failures:
        raise listed.failures[0].error
    found = [row for row in listed if _matches(query, row.market) and (not trading or row.status in {None, "trading"})]
    if not found:
        raise UsageError(
            f"{query.venue}: no market matches {query.pattern!r}; list them with: tradeflood markets {query.venue}"
        )
    return found


def joined(model: type[M], frames: Sequence[Frame[Any]]) -> Frame[M]:
    """Several frames of a model as one; a dataset that is in several is there once."""
    if len(frames) == 1:
        return frames[0]
    rows: dict[Any, Any] = {}
    parts: dict[Dataset, Any] = {}
    failures: list[Failure] = []
    for frame in frames:
        rows |= {tuple(getattr(row, name) for name in model.key): row for row in frame}
        parts |= frame.coverage.parts
        failures += frame.failures
    return Frame(model, list(rows.values()), Coverage(parts), failures)


def demand(frame: Frame[Any], queries: Sequence[Query[Any]], least: Grade = Grade.B) -> None:
    """Nothing, where every dataset of the queries is held throughout on this grade or better.

    Raises Incomplete that names the first place where it is not, and how many there are.
    """
    wanted = {query.venue: query for query in queries}
    lacking: list[str] = [str(failure.error) for failure in frame.failures]
    for dataset, part in frame.coverage.weaker_than(least):
        lacking.append(
            f"{dataset.label}: {iso(part.start)} … {iso(part.end)} is {part.state} {part.grade or ''}".rstrip()
        )
    for dataset, parts in frame.coverage.parts.items():
        query = wanted[dataset.venue]
        for start, end in query.spans - Spans.of(*((part.start, part.end) for part in parts)):
            lacking.append(f"{dataset.label}: {iso(start)} … {iso(end)} is unknown")
    if not frame.failures:
        lacking += [
            f"nothing is known of {query.market}"
            for query in queries
            if query.model.time
            and not any(d.venue == query.venue and _matches(query, d.market) for d in frame.coverage.parts)
        ]
    if lacking:
        more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        raise Incomplete(f"not complete: {lacking[0]}{more}")


def run_sync(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of a coroutine, also where an event loop is running already (as in Jupyter): then in a thread of its own.

    Interrupted, it ends the work there too, before it raises.
    """
    if not _has_loop():
        return asyncio.run(make())
    outcome: Future[T] = Future()
    begun: Future[Callable[[], object]] = Future()

    async def work() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        begun.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        return await make()

    def inside() -> None:
        try:
            outcome.set_result(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            outcome.set_exception(error)

    thread = threading.Thread(target=inside, name="tradeflood", daemon=True)
    try:
        thread.start()
        wait([outcome])
    except BaseException:  # it would go on asking, and nobody could end it
        either: list[Future[Any]] = [begun, outcome]
        wait(either, BEGINS_WITHIN, FIRST_COMPLETED)
        if begun.done():
            with suppress(RuntimeError):  # it is over already
                begun.result()()
            wait([outcome])
        raise
    return outcome.result()


def _has_loop() -> bool:
    """Whether an event loop runs in this thread. Nothing else is done where there is none: its errors would seem to follow from that."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
