"""Deep history: a range collected into the store portion by portion, in bounded memory.

Each portion is a plan of its own: asked, stored with its claims, forgotten. What is held is not asked again, so a
filling that was stopped in whatever way goes on from there. Venues go side by side, and so do some of a venue's
datasets. A portion that fails is passed over and asked once more at the end; what then lacks is named, not sought for
ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field, frozen

from tradeflood.coverage import Claim, Coverage, Dataset, Failure, Grade, State, Stretch, clipped, held, stretches
from tradeflood.coverage.claims import digest_of
from tradeflood.errors import RateLimited, TradeFloodError, TransportError, Unavailable, UsageError
from tradeflood.models import Candle, interval
from tradeflood.models.time import DAY, HOUR, MINUTE, SECOND
from tradeflood.planner import Node, Query, Run, query_of
from tradeflood.planner.parts import NEVER, Work, ordered
from tradeflood.runner.backlog import ROWS, Backlog
from tradeflood.runner.execute import carry_out, to_its_end
from tradeflood.spans import EMPTY, Span, Spans
from tradeflood.store import Store
from tradeflood.turns import Ask, Recent

if TYPE_CHECKING:
    from tradeflood.runner.flood import Flood

TOGETHER = 8
"""How many datasets of a venue share a plan."""

WIDEST = 7 * DAY
"""Of trades: a market may begin to trade in the midst of a portion."""

PAUSES = tuple(seconds * SECOND for seconds in (2, 5, 15, 30, 60))
"""How long a venue that answers no more is waited for, before it is given up."""

LONGEST = HOUR
"""How long one is waited for that says when it will answer again."""

GIVEN_UP_AFTER = 3
"""How many portions in a row are passed over, each after all pauses, of a venue that answers with errors only."""

PASSING = (TransportError, Unavailable, RateLimited)
"""What may be otherwise the next time."""


@define
class Advance:
    """How far a filling has got. An observer is handed the same one at every step.

    `step` is what has just happened: a request is over (`asked`), a portion is about to be stored (`storing`) or is
    (`stored`), a venue that answers no more is waited for (`waiting`). `dataset` and `at` say where. `done` and `whole`
    are ns of all datasets together: what was held at the beginning counts as done. `rows` have come, `kept` of them
    are stored.
    """

    whole: int = 0
    done: int = 0
    rows: int = 0
    requests: int = 0
    step: str = ""
    dataset: Dataset | None = None
    at: int = 0
    kept: int = 0

    @property
    def share(self) -> float:
        """The part of the range that is behind us, from 0 to 1."""
        return self.done / self.whole if self.whole else 1.0


Observer = Callable[[Advance], None]


@frozen
class Filled:
    """What became of one dataset: the range, how many rows came for it now, its coverage, and what failed."""

    dataset: Dataset
    start: int
    end: int
    rows: int
    parts: tuple[Stretch, ...]
    failures: tuple[Failure, ...] = ()

    @property
    def held(self) -> Spans:
        """The times that are held now."""
        return Spans.of(*((part.start, part.end) for part in self.parts if part.state is State.HELD))

    @property
    def holes(self) -> Spans:
        """The times that are not; the right edge, of which nobody can know yet, is no hole."""
        last = self.parts[-1] if self.parts else None
        end = last.start if last is not None and last.state is State.OPEN else self.end
        return Spans.of((self.start, end)) - self.held


@frozen
class Filling:
    """What a filling did: its datasets, and what failed before any dataset was known."""

    filled: tuple[Filled, ...]
    unknown: tuple[Failure, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows came."""
        return sum(part.rows for part in self.filled)

    @property
    def coverage(self) -> Coverage:
        """The coverage of every dataset over its range; lists have none."""
        return Coverage({part.dataset: part.parts for part in self.filled if part.dataset.model.time is not None})

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Everything that failed."""
        return (*self.unknown, *(failure for part in self.filled for failure in part.failures))


async def fill(
    flood: Flood, queries: Sequence[Query[Any]], observe: Observer | None = None, portion: int = ROWS
) -> Filling:
    """Fill the store with the ranges of some queries; `portion` is about how many rows one venue's plan brings.

    Raises StoreError where the store fails; what was stored before is there, with its claims. Cancelling it loses what
    is under way, nothing else.
    """
    store = await asyncio.to_thread(flood.open_store)
    advance = Advance()
    tell = observe or (lambda _: None)
    venues: dict[str, _Venue] = {}
    unknown: list[Failure] = []
    for query in queries:
        try:
            asks = await flood.asks([query], trading=False) if query.model.time is not None else []
        except TradeFloodError as error:
            if isinstance(error, UsageError) and not query.is_pattern:
                raise
            unknown.append(Failure(None, query.start, query.end, error))
            continue
        for ask in asks:
            venue = venues.setdefault(ask.venue, _Venue(flood, ask.venue, advance, tell))
            venue.want(ask, query.spans)
    for venue in venues.values():
        await asyncio.to_thread(venue.look, portion)
    lists = [query for query in queries if query.model.time is None]
    filled = await _lists(flood, lists) if lists else []
    try:
        async with asyncio.TaskGroup() as group:
            for venue in venues.values():
                group.create_task(venue.fill())
    except BaseExceptionGroup as errors:
        raise _first(errors) from None
    for venue in venues.values():
        for part in venue.parts.values():
            filled.append(part.filled(await asyncio.to_thread(store.claims, part.ask.dataset)))
    return Filling(tuple(filled), tuple(unknown))


async def _lists(flood: Flood, queries: Sequence[Query[Any]]) -> list[Filled]:
    """Lists have no range: they are asked once."""
    run = await flood.fetch(flood.plan(*queries))
    frames = {query: run.frame(query) for query in queries}
    return [
        Filled(Dataset(query.model, query.venue, query.pattern, query.variant), 0, 0, len(frame), (), frame.failures)
        for query, frame in frames.items()
    ]


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    """What ended a group of tasks."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _OverfullError(Exception):
    """A portion brings far more rows than it should."""


@define(eq=False)
class _Part:
    """One dataset: what is wanted of it, what was not asked yet, and what came."""

    ask: Ask
    wanted: Spans = EMPTY
    left: Spans = EMPTY
    again: Spans = EMPTY
    backlog: Backlog = field(factory=Backlog)
    rows: int = 0
    failed: dict[str, tuple[TradeFloodError, Spans]] = field(factory=dict)

    def cut(self) -> Span:
        """The next portion: whole candles, and never past what is wanted."""
        start, end = self.backlog.oldest(self.left)
        if issubclass(self.ask.model, Candle):
            end = min(interval(self.ask.interval).ceil(end), self.left.bounds[1])
        return start, end

    def query(self, span: Span) -> Query[Any]:
        """The question for a portion."""
        return query_of(self.ask, *span)

    def fail(self, failure: Failure) -> None:
        """Keep a failure, once per text, with all the times that it befell."""
        spans = Spans.of((failure.start, failure.end)) & self.wanted
        text = str(failure.error)
        self.failed[text] = failure.error, self.failed.get(text, (None, EMPTY))[1] | spans
        if isinstance(failure.error, PASSING):
            self.again |= spans
        elif isinstance(failure.error, UsageError):  # the venue knows no such market
            self.left = EMPTY

    def retry(self, have: Spans) -> None:
        """What failed for a passing reason is wanted once more."""
        self.left, self.again = self.again - have, EMPTY
        self.failed = {
            text: (error, spans) for text, (error, spans) in self.failed.items() if not isinstance(error, PASSING)
        }

    def filled(self, claims: Sequence[Claim]) -> Filled:
        """What became of it."""
        start, end = self.wanted.bounds
        failures = tuple(
            Failure(self.ask.dataset, low, high, error)
            for error, spans in self.failed.values()
            for low, high in spans or ((start, end),)
        )
        return Filled(self.ask.dataset, start, end, self.rows, tuple(clipped(stretches(claims), start, end)), failures)


class _Venue:
    """The datasets of one venue, filled one plan after the other: requests are shared within, never between venues."""

    def __init__(self, flood: Flood, venue: str, advance: Advance, tell: Observer) -> None:
        self.venue = venue
        self.parts: dict[Dataset, _Part] = {}
        self._flood, self._advance, self._tell = flood, advance, tell
        self._answered = self._ever = False
        self._tries = self._dead = 0

    def want(self, ask: Ask, spans: Spans) -> None:
        """Take in what is wanted of a dataset."""
        part = self.parts.setdefault(ask.dataset, _Part(ask))
        part.wanted |= spans

    def look(self, portion: int) -> None:
        """See what the store lacks, and how wide portions may be."""
        target = max(1, portion // min(TOGETHER, len(self.parts)))
        for part in self.parts.values():
            part.left = part.wanted - self._have(part.ask.dataset)
            self._advance.whole += part.wanted.size
            self._advance.done += part.wanted.size - part.left.size
            if issubclass(part.ask.model, Candle) and part.ask.origin == "venue":
                wide = target * interval(part.ask.interval).step
                part.backlog = Backlog(wide, target, wide)
            else:
                part.backlog = Backlog(MINUTE, target, WIDEST)

    def _have(self, dataset: Dataset) -> Spans:
        assert self._flood.store is not None
        return held(self._flood.store.claims(dataset))

    async def fill(self) -> None:
        """Portion after portion, until nothing is left, or the venue answers no more."""
        for last in (False, True):
            while todo := [part for part in self.parts.values() if part.left]:
                model = todo[0].ask.model
                if not await self._round([part for part in todo if part.ask.model is model][:TOGETHER]):
                    return
            if not last:
                for part in self.parts.values():
                    if part.again:
                        part.retry(await asyncio.to_thread(self._have, part.ask.dataset))
                        self._advance.done -= part.left.size

    async def _round(self, parts: Sequence[_Part]) -> bool:
        """One plan, carried out and stored; whether to go on."""
        spans = [part.cut() for part in parts]
        flood, self._answered = self._flood, False
        plan = flood.plan(*(part.query(span) for part, span in zip(parts, spans, strict=True)))
        run = Run(plan.queries, flood.venues, plan.now, plan.store)
        if not await self._carried_out(run, parts):
            return True
        silent = bool(run.nodes) and not self._answered
        if silent and self._ever and (pause := self._pause(run)) is not None:
            self._say("waiting", parts[0], spans[0][0])
            await flood.clock.sleep(pause)
            self._tries += 1
            return True
        self._tries = 0
        rows = 0
        for part, span in zip(parts, spans, strict=True):
            rows += self._take(part, span, run)
            if _is_recent(run):
                part.backlog = Backlog(NEVER, part.backlog.rows, NEVER)
        await self._keep(run, rows, parts[0], spans[0])
        self._dead = self._dead + 1 if silent else 0
        unheard = all(isinstance(node.error, TransportError) for node in run.nodes.values())
        return not silent or (not unheard and self._dead < GIVEN_UP_AFTER)

    def _pause(self, run: Run) -> int | None:
        """How long a venue is waited for that answered nothing, or not now; None where it is given up."""
        if self._tries >= len(PAUSES):
            return None
        errors = [node.error for node in run.nodes.values()]
        until = max((error.until or 0 for error in errors if isinstance(error, RateLimited)), default=0)
        pause = max(PAUSES[self._tries], until - self._flood.clock.now())
        return pause if pause <= LONGEST else None

    async def _carried_out(self, run: Run, parts: Sequence[_Part]) -> bool:
        """Whether a run went to its end. Where a portion is far too large it does not: the next one is smaller."""
        under_way = 0

        def observe(run: Run, node: Node) -> None:
            nonlocal under_way
            if not isinstance(node.error, PASSING):
                self._answered = self._ever = True
            came = [len(work.models) if (work := run.works.get(part.ask.dataset)) else 0 for part in parts]
            self._advance.requests += 1
            self._advance.rows += sum(came) - under_way
            under_way = sum(came)
            self._say("asked", parts[0], self._advance.at)
            overfull = [part for part, rows in zip(parts, came, strict=True) if part.backlog.is_overfull(rows)]
            for part in overfull:
                part.backlog.narrow()
            if overfull:
                raise _OverfullError

        try:
            await carry_out(run, self._flood.network, observe)
        except BaseExceptionGroup as errors:
            if not isinstance(error := _first(errors), _OverfullError):
                raise error from None
            self._advance.rows -= under_way
            return False
        return True

    def _take(self, part: _Part, span: Span, run: Run) -> int:
        """Take in what a run says of a portion, of how many rows; afterwards `part.left` begins with what is to be asked next."""
        work, left, rows = run.works.get(part.ask.dataset), part.left, 0
        part.left = left - Spans.of(span)
        unlisted = [failure for some in run.failures.values() for failure in some]
        failures = unlisted if work is None else work.failures
        if work is not None and not failures:
            part.backlog.came(_size(run, part))
            if part.left.touches(span[1], span[1] + 1):
                begun = _unbracketed(work, span[1])
                if begun > span[0] or span[0] + part.backlog.wide > span[1]:
                    part.left |= Spans.of((_hold_back(work, span[1]), span[1]))
        if work is not None:
            rows = _count(work, left - part.left)
            part.rows += rows
            self._advance.rows += rows - len(work.models)
        for failure in failures:
            part.fail(failure)
        self._advance.done += left.size - part.left.size
        return rows

    async def _keep(self, run: Run, rows: int, part: _Part, span: Span) -> None:
        """Store what came, rows before claims; to its end, also when we are told to stop meanwhile."""
        from tradeflood.runner.flood import keep

        def stored(store: Store) -> None:
            keep(run, store)
            self._advance.kept += rows  # here, for whoever is told to stop meanwhile wants to know it too

        assert self._flood.store is not None
        self._say("storing", part, span[0])
        await to_its_end(stored, self._flood.store)
        self._say("stored", part, span[1])

    def _say(self, step: str, part: _Part, at: int) -> None:
        advance = self._advance
        advance.step, advance.dataset, advance.at = step, part.ask.dataset, at
        self._tell(advance)


def _count(work: Work, spans: Spans) -> int:
    """How many rows of these times came; a venue may send more than it was asked for."""
    time = work.ask.model.time or ""
    return sum(spans.touches(at, at + 1) for at in (getattr(row, time) for row in work.models.values()))


def _size(run: Run, part: _Part) -> int:
    """How many rows a portion held in memory: its own, and those that it was made from."""
    basis = sum(len(frame) for frame in run.works[part.ask.dataset].basis)
    return len(run.works[part.ask.dataset].models) + basis


def _is_recent(run: Run) -> bool:
    """Whether a plan asked only for the newest rows there are, which no narrower question brings further back."""
    styles = [style for series in run.series.values() if (style := series.bound.spec.pages) is not None]
    return bool(styles) and all(isinstance(style, Recent) for style in styles)


def _weak(work: Work, end: int) -> list[Claim]:
    """The claims up to a seam that nothing brackets there."""
    new = work.claims[work.known :]
    return [claim for claim in new if claim.end == end and claim.state is State.HELD and claim.grade is Grade.D]


def _unbracketed(work: Work, end: int) -> int:
    """From where on a portion is not bracketed at the seam with the next one; its end where it is."""
    return min((claim.start for claim in _weak(work, end)), default=end)


def _hold_back(work: Work, end: int) -> int:
    """Where the next portion begins, so that its answer brackets the seam; what it will prove better is not claimed now.

    A row of the one is asked for again with the other: it is what stands on the left of the seam there.
    """
    weak = _weak(work, end)
    if not weak:
        return end
    start = min(claim.start for claim in weak)
    kept = [claim for claim in work.claims[work.known :] if claim not in weak]
    for place, claim in enumerate(kept):
        if claim.end == start and claim.right == str(start) and issubclass(work.ask.model, Candle):
            rows: list[Any] = ordered(work.ask.model, work.models.values())
            last = next(row for row in reversed(rows) if row.open_time < start)
            start = last.open_time
            digest = int(claim.digest, 16) ^ int(digest_of([last]), 16)
            shorter = evolve(claim, end=start, count=claim.count - 1, digest=f"{digest:016x}", right=str(start))
            kept[place : place + 1] = [shorter] if shorter.start < start else []
            break
    work.claims[work.known :] = kept
    return start
