"""Streams: live rows of some markets, over as few connections as the venues allow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from attrs import evolve

from tradeflood.coverage import Claim, Dataset
from tradeflood.errors import DeclarationError, TradeFloodError, UsageError
from tradeflood.live import Agreement, Condition, Rung, Standing, United, condition
from tradeflood.models import Model
from tradeflood.models.time import SECOND
from tradeflood.planner.proofs import parser_of
from tradeflood.runner.execute import Network
from tradeflood.runner.group import Group, Place, Wires, poll
from tradeflood.runner.line import Channel, Health, Subscription, ended, packed
from tradeflood.runner.overflow import Dropped, Room
from tradeflood.store.base import dataset_of
from tradeflood.transport.record import Recorder
from tradeflood.turns import Ask, Connector, Numbering, Step

M = TypeVar("M", bound=Model)

FULL = 100_000
"""How many rows may wait for the consumer; then the sockets are not read until it has taken them, or what comes is dropped."""

MANY = FULL // 4
"""How many rows are worth taking at once, before their time has come."""


def subscription(
    ask: Ask, connector: Connector, binding: Any, other: Callable[[Ask], tuple[Subscription, Numbering]] | None = None
) -> Subscription:
    """The subscription that an ask is, by its binding's `live`; `other` gives that of a model which it is made of.

    Raises UsageError where the binding has none, DeclarationError where it gives no step.
    """
    made = type(binding)
    if not made.has_live():
        raise UsageError(f"{connector.venue} has no live {ask.model.name()} ({' '.join(ask.variant)})")
    try:
        step = binding.live(connector, ask)
        spare = binding.fallback(connector, ask) if made.has_fallback() else None
    except TradeFloodError:
        raise
    except Exception as error:
        raise DeclarationError(f"{made.__qualname__}.live failed: {error!r}") from error
    if isinstance(step, Ask) and other is not None:
        basis, numbering = other(step)
        follow = binding.follow(ask, numbering)
        return evolve(basis, follow=follow, fallback=basis.fallback and evolve(basis.fallback, follow=follow))
    if isinstance(step, Step) and not step.turn.bound.spec.live:
        return _polled(ask, connector, made, step)
    if not isinstance(step, Step):
        raise DeclarationError(f"{made.__qualname__}.live must return a step, not {step!r}")
    bound, feed = step.turn.bound, connector.feed
    if feed is None:
        raise DeclarationError(f"{connector.venue} declares live turns and no feed")
    path = feed.path if bound.spec.path is None else bound.spec.path
    stand_in = None if spare is None else _polled(ask, connector, made, spare)
    return Subscription(
        ask, step, connector, made.numbering is Numbering.NONE, path, bound.topic(step.turn.args), stand_in
    )


def _polled(ask: Ask, connector: Connector, made: type[Any], step: Any) -> Subscription:
    if not isinstance(step, Step) or step.turn.bound.spec.every is None:
        raise DeclarationError(f"{made.__qualname__}: {step!r} is neither a live turn nor one with every=")
    return Subscription(ask, step, connector, made.numbering is Numbering.NONE, "", None)


class Pair:
    """What two connections bring of the same datasets: united for the consumer, compared for a claim."""

    def __init__(self, datasets: dict[Dataset, str]) -> None:
        self._united = {dataset: United(dataset) for dataset in datasets}
        self._agreed = {
            dataset: Agreement(dataset, parser)
            for dataset, parser in datasets.items()
            if dataset.model.time
            != dataset.model.key[-1]  # of what is revised, the state at any one moment proves little
        }

    def new(self, side: int, rows: Sequence[Any], breaks: int, now: int) -> list[Any]:
        """Those rows of one dataset that the other connection has not brought yet."""
        dataset = dataset_of(rows[0])
        united = self._united.get(dataset)
        if united is None:
            return list(rows)
        if dataset in self._agreed:
            self._agreed[dataset].came(side, rows, breaks, now)
        return united.new(rows)

    def dropped(self, side: int, rows: Sequence[Any], now: int) -> list[Any]:
        """Those of some rows that are not kept which the other connection has not brought yet; nobody agrees on them."""
        dataset = dataset_of(rows[0])
        if (agreed := self._agreed.get(dataset)) is not None:
            agreed.missed(side, rows, now)
        united = self._united.get(dataset)
        return list(rows) if united is None else united.new(rows)

    def claims(self, *, rest: bool) -> list[Claim]:
        """Where both agree."""
        return [claim for agreement in self._agreed.values() for claim in agreement.claims(rest=rest)]


class Stream(Generic[M]):
    """Live rows: iterate over it, or over `batches()`. Leaving the loop, or `close()`, ends the subscriptions.

    Rows of a market come in the order of their arrival, none twice. A consumer that is slow slows the reading, and
    nothing is dropped; unless it `drops`: then reading goes on, what comes while too many rows wait is not kept, and
    `health` counts it.
    """

    def __init__(
        self,
        prepare: Callable[[], Any],
        network: Network,
        recorder: Recorder | None = None,
        *,
        fast: bool | None = None,
        drops: bool = False,
        witness: Callable[[Stream[M]], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._prepare, self._network, self._witness = prepare, network, witness
        self._wires = Wires(network, recorder, fast, self._health, self._ended, Room(drops))
        self._dropped = Dropped()
        self._rows: list[M] = []
        self._ready = asyncio.Event()
        self._many = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._groups: list[Group] = []
        self._places: dict[Dataset, list[Place]] = {}
        self._pairs: dict[Group, tuple[Pair, int]] = {}
        self._asked: dict[Dataset, int] = {}  # what is polled alone, since when
        self._troubled: set[Place] = set()
        self._looked = 0
        self._begun = self._closed = False
        self.count = 0
        self.failed: BaseException | None = None
        self.health: dict[str, Health] = {}
        self.subscriptions: tuple[Subscription, ...] = ()

    def __aiter__(self) -> AsyncIterator[M]:
        return self._one_by_one()

    async def _one_by_one(self) -> AsyncIterator[M]:
        async for batch in self.batches():
            for row in batch:
                yield row

    async def batches(self) -> AsyncIterator[list[M]]:
        """Lists of rows, as many as have come since the last one; they end once the stream is closed."""
        try:
            await self.begin()
            while True:
                await self._ready.wait()
                closed = self._closed
                if not closed:  # whoever else iterates wants to know it too
                    self._ready.clear()
                if self._rows:
                    yield self.take()
                if self.failed is not None:
                    raise self.failed
                if closed:
                    return
        finally:
            await self.close()

    async def begin(self) -> None:
        """Resolve the names and start to listen. Iterating does it by itself."""
        if self._begun:
            return
        self._begun = True
        subscriptions = () if self._closed else await self._prepare()
        if self._closed:  # perhaps meanwhile: nobody would end what began now
            return
        self.listen(subscriptions)
        if self._witness is not None and self._places:
            self._start(self._witness(self))

    def listen(self, subscriptions: Sequence[Subscription]) -> None:
        """Listen to these from now on, beside what there is: on connections of their own."""
        if self._closed:
            return
        self.subscriptions = (*self.subscriptions, *subscriptions)
        now = self._network.clock.now()
        for subs in packed(subscriptions):
            if subs[0].topic is None:
                self._asked[subs[0].ask.dataset] = now
                self._start(
                    poll(subs[0], self._network, self._health(subs[0].connector.venue), self._give, self._wires)
                )
                continue
            count = 2 if subs[0].connector.pair else 1
            sides = [Group(subs, self._wires, self._give_of, self._drop_of) for _ in range(count)]
            if len(sides) > 1:
                sides[0].twin, sides[1].twin = sides[1], sides[0]
                pair = Pair({sub.ask.dataset: parser_of(sub.connector) for sub in subs if sub.follow is None})
                self._pairs |= {group: (pair, side) for side, group in enumerate(sides)}
            for group in sides:
                self._groups.append(group)
                for place in sorted(group.places, key=_follows):
                    self._places.setdefault(place.channel.sub.ask.dataset, []).append(place)
                self._start(self._keep(group))

    async def _keep(self, group: Group) -> None:
        """Keep a group's connection; a group whose every topic is refused fails the stream where it is the last one."""
        try:
            await group.keep()
        except UsageError:
            if all(other.refused for other in self._groups) and not self._asked:
                raise

    async def gather(self, age: int) -> None:
        """Wait for rows to take together: for so many ns, or until many wait."""
        waits = [asyncio.ensure_future(self._network.clock.sleep(age)), asyncio.ensure_future(self._many.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def take(self) -> list[M]:
        """The rows that have come since the last time."""
        rows, self._rows = self._rows, []
        self._many.clear()
        if self._wires.paused:
            self._network.observe("stream.resumed", rows=len(rows))
            now = self._network.clock.now()
            for places in self._places.values():  # their silence was ours
                for place in places:
                    place.channel.freshness.paused(now)
        self._tell_dropped()
        self._wires.resume()
        self._look()
        return rows

    def proofs(self) -> list[Claim]:
        """The claims made since the last time: what the numbers of messages, and two connections, prove of rows that `take` has given.

        What was dropped is pending. Take the rows first, then these. Once the stream is closed, those that were still growing too.
        """
        offsets = {
            id(place.channel.offsets): place.channel.offsets
            for places in self._places.values()
            for place in places
            if place.channel.offsets is not None and place.channel.sub.follow is None
        }
        made = list(self._wires.proofs)
        self._wires.proofs.clear()
        made += self._dropped.claims()
        made += [claim for each in offsets.values() for claim in each.claims(rest=self._closed)]
        for pair in {id(pair): pair for pair, _ in self._pairs.values()}.values():
            made += pair.claims(rest=self._closed)
        return made

    async def close(self) -> None:
        """End every subscription; whoever iterates gets what has come, and is through."""
        self._closed = True
        self._ready.set()
        troubled = [place.standing_in for place in self._troubled if place.standing_in is not None]
        await ended(*self._tasks, *troubled)  # whoever closes second waits as well
        self._tasks.clear()
        self._tell_dropped()

    # ---------------------------------------------------------------- silence

    def reached(self, dataset: Dataset) -> int:
        """The time of the newest row that came of a dataset, by the venue's clock; nought where none did."""
        return max((place.channel.reached for place in self._places.get(dataset, ())), default=0)

    def silent_since(self, dataset: Dataset, ahead: int = 0) -> int:
        """Since when, by the venue's clock, a dataset that is read is silent: what traded later, and did not come, was not brought.

        `ahead` is how much later it is by that clock than by ours.
        """
        moments = (max(place.channel.reached, place.silent_since + ahead) for place in self._listening(dataset))
        return max(moments, default=self._network.clock.now() + ahead)

    def doubtful_since(self, dataset: Dataset, ahead: int = 0) -> int:
        """The same, or since when nobody vouches for the silence any more: up to then a witness did."""
        vouched = [place.channel.freshness.doubtful_since + ahead for place in self._listening(dataset)]
        return max([self.silent_since(dataset, ahead), *vouched])

    def is_suspicious(self, dataset: Dataset, now: int) -> bool:
        """Whether a dataset is streamed, and its silence has lasted too long to be believed without a witness."""
        places = self._listening(dataset)
        return bool(places) and not self._wires.paused and all(place.is_suspicious(now) for place in places)

    def is_fresh(self, dataset: Dataset, now: int) -> bool:
        """Whether a dataset is streamed, something of it came, and its silence, if any, is still believable."""
        return any(place.channel.freshness.fresh(now) for place in self._listening(dataset))

    def is_starting(self, dataset: Dataset) -> bool:
        """Whether a dataset is streamed, nothing of it ever came, and nobody has contradicted that."""
        places = self._listening(dataset)
        return bool(places) and all(
            p.channel.freshness.heard_at is None and p.ladder.mute_since is None for p in places
        )

    def is_quiet(self, dataset: Dataset, now: int) -> bool:
        """Whether nothing comes of a dataset, and a witness said a short while ago that nothing happened."""
        return self.is_fresh(dataset, now) and all(p.channel.freshness.is_quiet for p in self._listening(dataset))

    def is_polled(self, dataset: Dataset) -> bool:
        """Whether nothing of a dataset comes by a feed, so that its rows must be asked for again and again.

        It is mute, or no connection can be had, or the venue has no feed of it. Where the stream polls by itself, it
        does; anybody else may. It only looks, so any thread may ask.
        """
        places = self._places.get(dataset)
        if places is None:
            return dataset in self._asked
        return all(place.ladder.polled_since is not None or place.group.standing_in for place in places)

    def polls(self, dataset: Dataset) -> bool:
        """Whether the stream itself asks for a dataset, again and again, because the venue has no feed of it."""
        return dataset in self._asked

    def is_listened(self, dataset: Dataset) -> bool:
        """Whether a dataset comes by a feed, or would if its market were not dead."""
        return dataset in self._places

    def states(self) -> dict[Dataset, Condition]:
        """What each dataset is to its consumers, and since when; of a pair, the better of the two."""
        self._look()
        now = self._network.clock.now()
        told = {dataset: Condition(Standing.POLLED, since) for dataset, since in self._asked.items()}
        for dataset, places in self._places.items():
            told[dataset] = min(
                (_condition(place, now) for place in places), key=lambda each: _BETTER.index(each.state)
            )
        return told

    def expect(self, dataset: Dataset, gap: int) -> None:
        """The market's rate, known from its history: the mean distance of two rows in ns."""
        self._wires.gaps[dataset] = gap
        for place in self._places.get(dataset, ()):
            place.channel.freshness.expect(gap)

    def quiet(self, dataset: Dataset, now: int) -> None:
        """A witness agrees: nothing happened."""
        for place in self._places.get(dataset, ()):
            place.channel.freshness.quiet(now)

    def mute(self, dataset: Dataset, now: int) -> None:
        """A witness contradicts: the next thing is done about it, from subscribing anew up to polling."""
        for place in self._listening(dataset):
            if place.is_suspicious(now):
                self._escalate(place, now)

    def shut(self, dataset: Dataset, now: int) -> None:
        """A market is dead: it is not listened to any more, until `wake`."""
        for place in self._places.get(dataset, ()):
            if place.closed_since is None:
                place.group.shut(place, now)

    def wake(self, dataset: Dataset, now: int) -> None:
        """A market that was dead is listened to again."""
        for place in self._places.get(dataset, ()):
            if place.closed_since is not None:
                place.group.wake(place, now)

    def _listening(self, dataset: Dataset) -> list[Place]:
        """Where a dataset is read now."""
        return [place for place in self._places.get(dataset, ()) if place.subscribed_at is not None]

    def _escalate(self, place: Place, now: int) -> None:
        group, dataset = place.group, place.channel.sub.ask.dataset
        health, observe, since = group.health, self._network.observe, place.silent_since
        assert group.line is not None
        first = place.ladder.mute_since is None
        rung = place.ladder.contradicted(now, may_subscribe=group.line.conversation.may_subscribe(now))
        place.channel.freshness.mute(now)
        self._troubled.add(place)
        if first:
            health.mute += 1
            observe("stream.mute", venue=group.venue, dataset=dataset)
        if rung is None:
            return
        if rung is Rung.RESUBSCRIBE:
            health.resubscribed += 1
            health.complain(f"{dataset.label}: mute; subscribing anew")
            observe("stream.resubscribed", venue=group.venue, dataset=dataset)
            group.again(place)
        elif rung is Rung.POLL:
            health.polled += 1
            health.complain(f"{dataset.label}: still mute; asking for it again and again")
            observe("stream.fallback", venue=group.venue, dataset=dataset)
            if place.channel.sub.fallback is not None and place.standing_in is None:
                place.standing_in = group.polling(place)
        elif group.reopen("a subscription on it was mute", since):
            if rung is Rung.ELSEWHERE:
                group.move()
            health.reopened += 1
            health.complain(f"{dataset.label}: still mute; opening another connection")
            observe("stream.reopened", venue=group.venue, dataset=dataset)

    def _look(self) -> None:
        """See which subscriptions speak again, which were never acknowledged, and which their twin contradicts."""
        now = self._network.clock.now()
        if now - self._looked < SECOND:
            return
        self._looked = now
        for place in list(self._troubled):
            subscribed = place.subscribed_at
            if subscribed is not None and place.ladder.is_over(place.channel.freshness.heard_at, subscribed):
                self._troubled.discard(place)
                self._recovered(place)
        if self._wires.paused:  # the silence is ours
            return
        for group in self._groups:
            told = None if group.line is None else group.line.conversation
            if told is not None and told.acked:  # a venue that acknowledges nothing cannot be held to it
                for topic in told.unanswered:
                    self._unanswered(group, topic, now)
            if group.twin is not None and group.line is not None:
                self._compare(group, group.twin, now)

    def _recovered(self, place: Place) -> None:
        task, place.standing_in = place.standing_in, None
        if task is not None:
            task.cancel()
        if place.ladder.spoke():
            place.group.health.recovered += 1
            self._network.observe("stream.recovered", venue=place.group.venue, dataset=place.channel.sub.ask.dataset)

    def _unanswered(self, group: Group, topic: str, now: int) -> None:
        """A topic that the venue has not acknowledged, though it has others: as bad as a mute one."""
        for place in group.places:
            if place.topic == topic and place.is_suspicious(now):
                self._escalate(place, now)

    def _compare(self, group: Group, twin: Group, now: int) -> None:
        """Each of a pair is the other's witness."""
        heard = {place.channel.sub.ask.dataset: place.channel.freshness.heard_at for place in twin.places}
        for place in group.places:
            other = heard[place.channel.sub.ask.dataset]
            if (
                place.is_suspicious(now)
                and other
                and other > place.silent_since + place.channel.freshness.patience // 2
            ):
                self._escalate(place, now)

    # ---------------------------------------------------------------- rows

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed = error if isinstance(error, TradeFloodError) else _broken(error)
            self._ready.set()

    def _health(self, venue: str) -> Health:
        return self.health.setdefault(venue, Health())

    def _give_of(self, group: Group, rows: list[Any]) -> None:
        """Take the rows of a group; of a pair, those that the other one has not brought."""
        found = self._pairs.get(group) if self._pairs else None
        if found is not None and rows:
            pair, side = found
            rows = pair.new(side, rows, group.breaks, self._network.clock.now())
        self._give(rows)

    def _drop_of(self, group: Group, channel: Channel, rows: list[Any]) -> None:
        """Count the rows of a group that are not kept; of a pair, those that the other one has not brought."""
        now = self._network.clock.now()
        found = self._pairs.get(group) if self._pairs else None
        if found is not None:
            pair, side = found
            rows = pair.dropped(side, rows, now)
        if rows:
            group.health.dropped += len(rows)
            parser = parser_of(group.connector)
            self._dropped.add(dataset_of(rows[0]), rows, parser, now, kept_until=channel.kept_until)

    def _tell_dropped(self) -> None:
        """Say how many rows were dropped since there was room, now that there is some."""
        if counts := self._dropped.told():
            self._network.observe("stream.dropped", rows=sum(counts.values()))
            for venue, count in counts.items():
                self._health(venue).complain(f"{venue}: {count} rows were dropped, because as many waited as may")

    def _give(self, rows: Sequence[M]) -> None:
        self._rows += rows
        self.count += len(rows)
        self._ready.set()
        if len(self._rows) >= MANY:
            self._many.set()
        if len(self._rows) > FULL and not self._wires.room.full:
            self._wires.fill()
            if self._wires.paused:
                self._network.observe("stream.paused", rows=len(self._rows))


_BETTER = (
    Standing.FRESH, Standing.QUIET, Standing.STARTING, Standing.POLLED, Standing.SUSPICIOUS, Standing.MUTE, Standing.CLOSED,
)  # fmt: skip


def _follows(place: Place) -> bool:
    return place.channel.sub.follow is not None


def _condition(place: Place, now: int) -> Condition:
    group = place.group
    if place.closed_since is not None:
        return Condition(Standing.CLOSED, place.closed_since)
    subscribed = place.subscribed_at
    stood_in = group.lost_since if group.standing_in and place.channel.sub.fallback is not None else None
    return condition(
        place.channel.freshness,
        place.ladder,
        now,
        subscribed=now if subscribed is None else subscribed,
        lost=group.lost_since if group.line is None else None,
        stood_in=stood_in,
    )


def _broken(error: BaseException) -> DeclarationError:
    broken = DeclarationError(f"a live stream failed: {error!r}")
    broken.__cause__ = error
    return broken
