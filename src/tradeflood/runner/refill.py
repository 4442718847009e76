"""Refill: what coverage lacks is asked for again and again, in the order in which it perishes.

A pass looks at every dataset that is collected: its holes, its right edge where nothing else tells of it, and what is
held on weak evidence only, which is looked at once more when its neighbours are known. What no source has any more is
claimed as lost, what is still to be asked for as pending, so that coverage says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from attrs import frozen

from tradeflood.coverage import Claim, Dataset, Failure, Frame, State
from tradeflood.coverage.evidence import PAST_HORIZON
from tradeflood.errors import TradeFloodError, TransportError, Unavailable, UnknownMarket
from tradeflood.models import Candle, interval
from tradeflood.models.time import HOUR, MINUTE, SECOND
from tradeflood.planner import Query, Run
from tradeflood.runner.clocks import GRACE, VenueClocks
from tradeflood.runner.deadlines import CADENCE, NEVER, RESERVE, Cost, Hole, in_order, mean_gap, patient
from tradeflood.runner.flood import Flood, Refill
from tradeflood.runner.stream import Stream
from tradeflood.runner.sweep import Sweeper
from tradeflood.runner.target import Target
from tradeflood.spans import EMPTY, Spans
from tradeflood.store.known import KnownStore
from tradeflood.transport import Rank
from tradeflood.turns import Ask, Binding, Budget, Numbering

VOUCHED = HOUR  # how long nothing but a bulk ticker is asked about a silent market
CANDLE_GRACE = 7 * SECOND  # how long after its end a closed candle may come live, before it is asked for
LOOK_AGAIN_AFTER = 15 * SECOND  # how old weak evidence is before the venue is asked once more
WITHIN = 20 * SECOND  # how long the requests of one pass should take at most
LEAST_WITHIN = 5 * SECOND  # the same, where something else may perish within moments
BESIDE = 10 * MINUTE  # how recent weak evidence is that is looked at whenever what follows it is asked for
EVER = Spans.of((0, 1 << 63))


@frozen
class Plan:
    """What a pass asks for: holes in their order, and whose silence is to be believed or not.

    Of what is `doubted` all is asked for, though it is held; `looks` is what of it is weak, and looked at once more.
    """

    holes: Mapping[Rank, Sequence[Hole]]
    doubted: dict[Dataset, Spans]
    looks: dict[Dataset, Spans]
    suspects: set[Dataset]
    behind: bool


class Refiller:
    """Passes over the holes of some datasets. `blame` hears of what fails."""

    def __init__(self, flood: Flood, store: KnownStore, blame: Callable[[TradeFloodError], None]) -> None:
        self._flood, self._store, self._blame = flood, store, blame
        self.targets: dict[Dataset, Target] = {}
        self.stream: Stream[Any] | None = None
        self.behind: set[str] = set()
        """The venues of which more than what is recent is still to be asked for."""
        self.rests: Callable[[Dataset, int], Spans] = lambda _dataset, _now: EMPTY
        """What of a dataset is not asked for at a moment, because that was in vain."""
        self._clocks = VenueClocks()
        self._sweeper = Sweeper(flood.venues, flood.network)
        self._costs: dict[type[Binding[Any]], Cost] = {}
        flood.network.limiter.reserve = RESERVE

    def add(self, ask: Ask, since: int) -> None:
        """Collect a dataset from a moment on."""
        connector = self._flood.venues.connector(ask.venue)
        binding = self._flood.venues.registry.binding(type(connector), ask.model, ask.variant)
        if issubclass(ask.model, Candle):
            since = interval(ask.interval).ceil(since)
        cost = self._costs.setdefault(binding, Cost())
        target = self.targets.setdefault(
            ask.dataset, Target(ask, since, binding, cost, connector.rest.settle, self._flood.clock.now())
        )
        target.since = min(target.since, since)

    @property
    def venues(self) -> list[str]:
        """The venues that are collected from, each once."""
        return list(dict.fromkeys(dataset.venue for dataset in self.targets))

    async def one_pass(self, venue: str, lists: Sequence[Query[Any]] = (), *, settle: bool = False) -> bool | None:
        """Ask a venue for what is lacking, and for some lists; whether it answered, None where there was nothing to ask.

        `settle` asks every right edge.
        """
        observe, now = self._flood.observe, self._flood.clock.now()
        observe("pass.begun", of=venue)
        asking = asyncio.create_task(self._ask_lists(lists)) if lists else None
        try:
            await self._testify(venue, now)
            at_once = self._at_once(venue)  # the limiter belongs to the loop
            plan = await asyncio.to_thread(self._plan, venue, now, at_once, settle=settle)
            self.behind = self.behind | {venue} if plan.behind else self.behind - {venue}
            observe("pass.planned", of=venue, portions=sum(map(len, plan.holes.values())), lists=len(lists))
            answered = None
            for rank, holes in plan.holes.items():
                if not holes:
                    continue
                said, is_cut = await self._fill(venue, plan, rank, now)
                answered = said or bool(answered)
                if is_cut:
                    break
            if asking is not None:
                answered = await asking or bool(answered)
        finally:
            if asking is not None:
                asking.cancel()
        if answered is not None:
            observe("pass.ended", of=venue, answered=answered)
        return answered

    async def _fill(self, venue: str, plan: Plan, rank: Rank, now: int) -> tuple[bool, bool]:
        """Ask for holes, as long as nothing new is found that perishes earlier.

        Whether the venue said anything, and whether something new was found.
        """
        queries = [(hole, self.targets[hole.dataset].query(*hole.span)) for hole in plan.holes[rank]]
        asked = {hole.dataset: self.targets[hole.dataset].asked_at for hole in plan.holes[rank]}
        for dataset in asked:
            self.targets[dataset].asked_at = now
        horizons = {dataset: lasts for dataset, target in self._of(venue) if (lasts := _lasts(target)) < NEVER}
        cut = asyncio.timeout(None)
        watching = asyncio.create_task(self._watch(venue, await asyncio.to_thread(self._soonest, venue, now), cut))
        try:
            made = self._flood.plan(*(query for _, query in queries))
            run = await self._flood.fetch(made, refill=Refill(horizons, plan.doubted, cut, rank))
        finally:
            watching.cancel()
        self._clocks.learn(run, self._flood.clock.now())
        answered = False
        for hole, query in queries:
            whole = run.works[hole.dataset].frame(EVER) if hole.dataset in run.works else run.frame(query)
            frame = run.frame(query)
            answered |= self._learn(hole, frame, whole, plan, now)
            if frame.failures or not frame.coverage.parts.get(hole.dataset):
                self.targets[hole.dataset].asked_at = asked[hole.dataset]  # its edge does not wait for its next turn
        if not cut.expired():
            self._cost(run)
        await asyncio.to_thread(self._after, venue)
        return answered, cut.expired()

    async def _watch(self, venue: str, deadline: int, cut: asyncio.Timeout) -> None:
        """Cut off what is being asked for once something is found that perishes before all that was known of."""
        while True:
            await self._flood.clock.sleep(LEAST_WITHIN)
            if await asyncio.to_thread(self._soonest, venue, self._flood.clock.now()) < deadline:
                with suppress(RuntimeError):  # it is over already
                    cut.reschedule(asyncio.get_running_loop().time())
                return

    async def _ask_lists(self, lists: Sequence[Query[Any]]) -> bool:
        """Ask for lists, from what refills leave of the budget; whether anything answered."""
        run = await self._flood.fetch(self._flood.plan(*lists))
        told = [self._answered(run.frame(query)) for query in lists]
        return any(told)

    def _cost(self, run: Run) -> None:
        """Learn what answers cost."""
        for dataset, work in run.works.items():
            if (target := self.targets.get(dataset)) is not None:
                target.cost.spent(work.weight, len(work.models))

    # ---------------------------------------------------------------- what lists say of streams

    async def _testify(self, venue: str, now: int) -> None:
        """Ask the venue's lists which of the silent streams are quiet, and which markets are dead."""
        stream = self.stream
        streamed = [] if stream is None else [part for part in self._of(venue) if stream.is_listened(part[0])]
        if stream is None or not streamed:
            return
        ahead = self._clocks.ahead(venue)
        last: dict[str, int] = {}
        silent: dict[Dataset, int] = {}
        heard: dict[Dataset, int] = {}
        for dataset, target in streamed:
            seen = max(target.since, target.newest, stream.reached(dataset))
            last[dataset.market] = max(seen, last.get(dataset.market, 0))
            if target.rests_for:  # a venue may refuse a list for one unknown name in it
                continue
            if not stream.is_suspicious(dataset, now):
                if not self._sweeper.is_dead(dataset) and not issubclass(dataset.model, Candle):
                    heard[dataset] = stream.reached(dataset)
            elif now < target.asked_at + VOUCHED:
                silent[dataset] = stream.doubtful_since(dataset, ahead)
        await self._sweeper.look(stream, venue, [target.ask for _, target in streamed], last, now)
        silent = {dataset: since for dataset, since in silent.items() if not self._sweeper.is_dead(dataset)}
        await self._sweeper.silent(stream, venue, silent, heard, now, ahead)

    # ---------------------------------------------------------------- what to ask for

    def _of(self, venue: str) -> list[tuple[Dataset, Target]]:
        return [(dataset, target) for dataset, target in list(self.targets.items()) if dataset.venue == venue]

    def _plan(self, venue: str, now: int, at_once: int, *, settle: bool) -> Plan:
        holes: list[Hole] = []
        doubted: dict[Dataset, Spans] = {}
        suspects: set[Dataset] = set()
        looks: dict[Dataset, Spans] = {}
        lost: list[Claim] = []
        behind = False
        for dataset, target in self._of(venue):
            self._store.compact(dataset)
            settled = self._store.settled(dataset)
            if not target.is_resumed:
                target.resume(settled, self._store.claims(dataset))
                self._expect(target)
            end = self._edge(target, settled, now, suspects, settle=settle)
            missing = Spans.of((target.since, end)) - settled - self.rests(dataset, now)
            gone, why = _gone(target, missing, settled, now)
            lost += [Claim(dataset, *span, State.LOST, None, why, as_of=now) for span in gone]
            missing -= gone
            if not target.binding.has_history() or now < target.rests_until:
                continue
            portions = target.backlog.portions(missing, now)
            if missing and target.binding.horizon_rows is not None:
                portions = [missing.bounds]  # one answer tells of all that it reaches, and what is lost
            if portions and dataset in suspects and (vouched := self._vouched(dataset, settled, now)):
                doubted[dataset] = vouched
                portions[-1] = (min(vouched.bounds[0], portions[-1][0]), portions[-1][1])
            holes += [target.hole(span, now) for span in portions]
            if bridges := target.bridges(missing & Spans.of(*portions)):
                doubted[dataset] = doubted.get(dataset, EMPTY) | bridges
            behind |= target.backlog.is_behind(missing - Spans.of(*portions), now)
            looks[dataset] = self._weak(target, settled, missing, now)
            for weak in target.around(looks[dataset], now):
                holes.append(target.hole(weak, now))
                doubted[dataset] = doubted.get(dataset, EMPTY) | Spans.of(weak)
        if lost:
            self._store.write({}, lost)
        pace, within = self._pace(venue), self._within(venue)
        soonest = NEVER if settle else self._perishes(venue)  # nothing is found any more when a run has ended
        first, later = patient(holes, now, self._budget(venue).per, soonest)
        ordered = {
            Rank.FIRST: in_order(first, now, pace, within, at_once),
            Rank.PATIENT: in_order(later, now, pace, within),  # they are spread over the window anyway
        }
        return Plan(ordered, doubted, looks, suspects, behind or sum(map(len, ordered.values())) < len(holes))

    def _budget(self, venue: str) -> Budget:
        """What limits a venue."""
        return self._flood.venues.connector(venue).rest.budget

    def _pace(self, venue: str) -> float:
        """The weight per ns that a venue allows."""
        budget = self._budget(venue)
        return budget.limit / budget.per

    def _at_once(self, venue: str) -> int:
        """The weight that a venue allows now."""
        return self._flood.network.limiter.left(venue, self._budget(venue))

    def _perishes(self, venue: str) -> int:
        """For how long a moment of what perishes first can be asked for, in ns."""
        return min((_lasts(target) for _, target in self._of(venue)), default=NEVER)

    def _within(self, venue: str) -> int:
        """How long a pass may take: a part of the time in which something else may perish."""
        return max(LEAST_WITHIN, min(WITHIN, self._perishes(venue) // 4))

    def _soonest(self, venue: str, now: int) -> int:
        """When the first of what is missing perishes."""
        soonest = NEVER
        for dataset, target in self._of(venue):
            settled = self._store.settled(dataset)
            missing = (
                Spans.of((target.since, self._edge(target, settled, now, set()))) - settled - self.rests(dataset, now)
            )
            missing -= _gone(target, missing, settled, now)[0]
            if missing and target.binding.has_history() and now >= target.rests_until:
                soonest = min(soonest, *(target.hole(span, now).deadline for span in missing))
        return soonest

    def _edge(self, target: Target, settled: Spans, now: int, suspects: set[Dataset], *, settle: bool = False) -> int:
        """Up to where a dataset should be held by now, without asking what a stream is about to bring."""
        dataset, stream = target.ask.dataset, self.stream
        reached = max(settled.bounds[1], target.since)
        if self._sweeper.is_dead(dataset):
            return reached
        if settle:
            return now
        suspicious = stream is not None and stream.is_suspicious(dataset, now)
        if suspicious:
            suspects.add(dataset)
        if issubclass(dataset.model, Candle):
            return interval(target.ask.interval).floor(now - CANDLE_GRACE)
        if suspicious:
            return now
        if stream is not None and target.binding.numbering.is_linked and not stream.is_polled(dataset):
            if stream.is_fresh(dataset, now) or (stream.is_starting(dataset) and target.asked_at):
                return reached  # what comes will tell, or the silence will be suspicious
            return now
        if stream is not None and stream.polls(dataset) and now < reached + target.cadence + target.settle:
            return reached  # its own answers prove as much
        is_vouched = stream is not None and stream.is_quiet(dataset, now)
        return reached if now < target.asked_at + (VOUCHED if is_vouched else target.cadence) else now

    def _vouched(self, dataset: Dataset, settled: Spans, now: int) -> Spans:
        """What of a suspicious silence is held on weak evidence: a venue whose answers lag vouches for what it shows later."""
        if self.stream is None or issubclass(dataset.model, Candle):
            return EMPTY
        silent = self.stream.silent_since(dataset, self._clocks.ahead(dataset.venue))
        return (settled - self._store.solid(dataset)) & Spans.of((max(silent, now - HOUR), now))

    def _weak(self, target: Target, settled: Spans, missing: Spans, now: int) -> Spans:
        """What is held on an unbracketed answer, and has a neighbour that is known better by now: asked once more.

        What has to be asked for twice waits for a question that is asked anyway: near what is missing it costs nothing.
        """
        dataset = target.ask.dataset
        solid, since = self._store.solid(dataset), max(target.since, now - (target.horizon or now))
        if target.binding.horizon_rows is not None:  # one answer tells of all that it reaches
            if now < target.asked_at + target.cadence:
                return EMPTY
            return (settled - solid) & Spans.of((since, now))
        jumps, until = target.binding.numbering is Numbering.JUMPING, solid.bounds[1]
        if missing and (jumps or issubclass(dataset.model, Candle)):
            until = max(until, now - LOOK_AGAIN_AFTER)
        elif jumps and now < target.asked_at + target.cadence:
            return EMPTY
        weak = (settled - solid) & Spans.of((since, until))
        beside = Spans(span for span in weak & Spans.of((now - BESIDE, now)) if missing.touches(span[1], span[1] + 1))
        return Spans(span for span in weak - target.looked_by(now) if span[1] <= now - LOOK_AGAIN_AFTER) | beside

    # ---------------------------------------------------------------- what the answers say

    def _learn(self, hole: Hole, frame: Frame[Any], whole: Frame[Any], plan: Plan, now: int) -> bool:
        """Take in an answer: the market's rate, and what it says of a silence; whether the venue said anything at all.

        Of the `whole` answer, where it was the newest rows, only a part may have been asked for.
        """
        dataset, target = hole.dataset, self.targets[hole.dataset]
        answered = self._answered(frame)
        target.rest(frame, now)
        span = Spans.of(hole.span)
        if self.stream is not None:
            target.compare(frame, self.stream.silent_since(dataset, self._clocks.ahead(dataset.venue)))
        target.learn(whole if target.binding.horizon_rows is not None else frame)
        self._expect(target)
        if looked := plan.looks.get(dataset, EMPTY) & span:
            target.looked |= EMPTY if frame.failures else looked
        if plan.doubted.get(dataset, EMPTY).covers(span):
            return answered  # nothing but a look at what is held
        target.backlog.came(len(frame))
        if self.stream is not None and dataset in plan.suspects and not frame.failures:
            self._witness(self.stream, target, hole, now)
        return answered

    def _expect(self, target: Target) -> None:
        """Tell the stream how fast the market's rows come: by the last answer with enough of them, else by what is held."""
        if self.stream is None:
            return
        dataset = target.ask.dataset
        gap = mean_gap(self._store.claims(dataset)) if target.gap is None else target.gap
        if gap is not None:
            self.stream.expect(dataset, gap)

    def _answered(self, frame: Frame[Any]) -> bool:
        """Whether a venue said anything at all; what failed is named."""
        unreachable = 0
        for failure in frame.failures:
            unreachable += isinstance(failure.error, TransportError | Unavailable)
            self._blame(_named(failure))
        return bool(frame) or unreachable < len(frame.failures) or not frame.failures

    def _witness(self, stream: Stream[Any], target: Target, hole: Hole, now: int) -> None:
        """What answers say of a suspicious silence: rows that the stream did not bring make it mute, none make it quiet.

        Earlier answers count too, and that there are none is believed up to where the answer reaches.
        """
        dataset, settled = target.ask.dataset, now - GRACE
        ahead = self._clocks.ahead(dataset.venue)
        reached = min(settled, hole.span[1] - ahead)
        if target.unheard is not None and target.unheard < settled + ahead:
            stream.mute(dataset, now)
        elif reached > stream.doubtful_since(dataset):
            stream.quiet(dataset, reached)

    def _after(self, venue: str) -> None:
        """Say which holes are left, and keep the claims few."""
        pending = [claim for _, target in self._of(venue) for claim in self._pending(target)]
        if pending:
            self._store.write({}, pending)
        for dataset, _ in self._of(venue):
            self._store.compact(dataset)

    def _pending(self, target: Target) -> Iterator[Claim]:
        """The holes that are left and of which nothing says so yet; a candle that ran when collecting began is none."""
        dataset, now = target.ask.dataset, self._flood.clock.now()
        settled, began = self._store.settled(dataset), target.began
        if issubclass(dataset.model, Candle):
            began = interval(target.ask.interval).floor(began)
        holes = Spans.of((target.since, max(settled.bounds[1], began))) - settled
        if not holes:
            return
        said = (claim for claim in self._store.claims(dataset) if claim.state in {State.PENDING, State.DISPUTED})
        for start, end in holes - Spans.of(*((claim.start, claim.end) for claim in said)):
            yield Claim(dataset, start, end, State.PENDING, None, "a hole that is still to be filled", as_of=now)


def _lasts(target: Target) -> int:
    """For how long a moment of a dataset can be asked for, in ns; of the newest rows, whose rate nobody knows yet, not long."""
    if target.horizon is not None:
        return target.horizon
    return NEVER if target.binding.horizon_rows is None else CADENCE


def _gone(target: Target, missing: Spans, settled: Spans, now: int) -> tuple[Spans, str]:
    """What of the missing nobody can be asked for any more, and why."""
    if not target.binding.has_history():
        return missing & Spans.of((target.since, settled.bounds[1])), "no source has what a feed did not bring"
    if target.binding.horizon is None:
        return EMPTY, ""
    return missing - Spans.of((now - target.binding.horizon, NEVER)), PAST_HORIZON


def _named(failure: Failure) -> TradeFloodError:
    """A failure's error; of a market that is not there, or not any more, with its name, which few venues repeat."""
    error, dataset = failure.error, failure.dataset
    if not isinstance(error, UnknownMarket) or dataset is None or dataset.market in str(error):
        return error
    return UnknownMarket(f"{dataset.venue}:{dataset.market}: {error}", request=error.request)
