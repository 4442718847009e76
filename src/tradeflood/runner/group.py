"""Topics that share a connection, and its life: opened, replaced in time, opened again whenever it is lost."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any

from attrs import define, evolve, field

from tradeflood.coverage import Claim, Dataset, State
from tradeflood.coverage.evidence import of_recent
from tradeflood.errors import PayloadChanged, TradeFloodError, TransportError, UsageError
from tradeflood.live import Escalation
from tradeflood.models.checks import checked
from tradeflood.models.identity import number_equals
from tradeflood.models.time import HOUR, MS, SECOND
from tradeflood.planner import Node
from tradeflood.planner.parts import ordered
from tradeflood.planner.proofs import parser_of
from tradeflood.runner.deadlines import gap_of, pace_of_polls
from tradeflood.runner.execute import Network
from tradeflood.runner.execute import ask as ask_venue
from tradeflood.runner.line import KNOWN_FOR, Channel, Health, Line, Subscription
from tradeflood.runner.overflow import Room
from tradeflood.spans import EMPTY, Spans
from tradeflood.transport import Exit
from tradeflood.transport.record import Recorder
from tradeflood.turns import Page, Recent, Reply
from tradeflood.turns.turn import Lane

OVERLAP = 20 * SECOND
"""How long an old connection is kept beside its successor at most, where nothing shows that they overlap."""

ANSWER = 60 * SECOND
"""How long a successor may take to be acknowledged for every topic beyond what pacing demands."""

GRACE = 2 * SECOND
"""How much later than the old connection a successor may bring a row."""

KNOWN = 20_000
"""How many polled rows are known again, beside those of the newest answer."""

STEADY = 60 * SECOND
"""A connection that has lasted so long is opened again without delay when it is lost."""


PROOFS = 10_000
"""How many claims of polled answers wait for whoever takes them: those that nobody takes are forgotten."""


@define
class Wires:
    """What the connections of a stream share: the network, how many there were, and whether there is room for more rows."""

    network: Network
    recorder: Recorder | None
    fast: bool | None
    health: Callable[[str], Health]
    ended: Callable[[asyncio.Task[None]], None]
    """Hears of every task that is over; what failed in it fails the stream."""
    room: Room = field(factory=Room)
    lines: set[Line] = field(factory=set)
    opened: int = 0
    polls: dict[Lane, int] = field(factory=dict)
    """The weight of one round of all that is polled, by budget."""
    gaps: dict[Dataset, int] = field(factory=dict)
    """The mean distance of two rows of a dataset, in ns, where its history told."""
    proofs: deque[Claim] = field(factory=lambda: deque(maxlen=PROOFS))
    """What polled answers prove, not taken yet."""

    @property
    def paused(self) -> bool:
        """Whether nothing is read, because there is no room."""
        return self.room.full and not self.room.drops

    def fill(self) -> None:
        """There is no room for more: read nothing, unless what comes is dropped."""
        self.room.full = True
        for line in self.lines:
            if self.paused and line.socket is not None:
                line.socket.pause()

    def resume(self) -> None:
        """There is room again: read on."""
        was_paused, self.room.full = self.paused, False
        for line in self.lines:
            if was_paused and line.socket is not None:
                line.socket.resume()


class Place:
    """Where a dataset is read: its channel, in its group, with the ladder of what is done when it is mute."""

    __slots__ = ("channel", "closed_since", "group", "ladder", "standing_in")

    def __init__(self, group: Group, channel: Channel) -> None:
        self.group, self.channel = group, channel
        self.ladder = Escalation(len(group.feed.others))
        self.standing_in: asyncio.Task[None] | None = None
        self.closed_since: int | None = None

    @property
    def topic(self) -> str:
        """What the venue calls it."""
        return self.channel.sub.topic or ""

    @property
    def subscribed_at(self) -> int | None:
        """Since when it is subscribed on the connection that there is; None where it is not, or waits for its turn to be."""
        line = self.group.line
        return None if line is None or self.closed_since is not None else line.conversation.subscribed_at(self.topic)

    @property
    def silent_since(self) -> int:
        """Since when it is silent by its own fault."""
        return max(self.channel.freshness.silent_since, self.subscribed_at or 0)

    def is_suspicious(self, now: int) -> bool:
        """Whether it is subscribed, and silent for longer than can be believed."""
        subscribed = self.subscribed_at
        return subscribed is not None and self.channel.freshness.suspicious(now, subscribed)


class Group:
    """Topics that share a connection: their channels, which outlive it, and what stands in for it.

    `give` takes the rows, `drop` hears of those for which there is no room; `twin` is the group of the same topics on
    the other connection of a pair.
    """

    def __init__(
        self,
        subs: Sequence[Subscription],
        wires: Wires,
        give: Callable[[Group, list[Any]], None],
        drop: Callable[[Group, Channel, list[Any]], None],
    ) -> None:
        self.connector, self.path = subs[0].connector, subs[0].path
        feed = self.connector.feed
        assert feed is not None
        self.feed = feed
        self.venue = self.connector.venue
        self.twin: Group | None = None
        self._wires, self._network, self._give, self._drop_rows = wires, wires.network, give, drop
        self._urls, self._url = (feed.url, *feed.others), 0
        self.health = wires.health(self.venue)
        now = self._network.clock.now()
        self.channels: dict[str, Channel] = {}
        for sub in subs:
            if sub.topic in self.channels:
                self.channels[sub.topic].siblings.append(Channel(sub, now))
            elif sub.topic is not None:
                self.channels[sub.topic] = Channel(sub, now)
        self.places = [Place(self, channel) for channel in self.all_channels()]
        self._some = asyncio.Event()  # there are topics to be listened to
        self._some.set()
        self.line: Line | None = None
        self.refused: str | None = None
        self.lost_since: int | None = None
        self.standing_in: list[asyncio.Task[None]] = []
        self._opened = False
        self._losses = self._unreadable = 0

    def all_channels(self) -> list[Channel]:
        """Every channel that is listened to, those that share a topic too."""
        return all_of(self.channels)

    @property
    def breaks(self) -> int:
        """How often something may have been missed so far: connections lost, frames that could not be read."""
        return self._losses + self._unreadable + (self.line.unreadable if self.line is not None else 0)

    def take(self, rows: list[Any]) -> None:
        """Hand rows on."""
        self._give(self, rows)

    def drop(self, channel: Channel, rows: list[Any]) -> None:
        """Tell of rows of a channel that are not kept."""
        self._drop_rows(self, channel, rows)

    def move(self) -> None:
        """The next connection goes to the next address of the feed."""
        self._url = (self._url + 1) % len(self._urls)

    # ---------------------------------------------------------------- connections

    async def _open(self) -> Line:
        """A new line, connected.

        Raises TransportError where it cannot be opened.
        """
        wires, observe, now = self._wires, self._network.observe, self._network.clock.now()
        channels = self.channels
        if self._opened:  # what comes first cannot have come before
            for channel in self.all_channels():
                channel.replacing(now)
            channels = {topic: channel.observed_anew(now) for topic, channel in channels.items()}
        self._opened = True
        wires.opened += 1
        line = Line(
            channels, self.path, self.connector, evolve(self.feed, url=self._urls[self._url]), self._network, self.health,
            self.take, self.drop, wires.room, wires.opened, wires.recorder, wires.fast,
        )  # fmt: skip
        wires.lines.add(line)
        try:
            observe("stream.opening", of=line, venue=self.venue)
            await line.open(self._exit())
            observe("stream.opened", of=line, venue=self.venue)
        except BaseException:
            wires.lines.discard(line)
            raise
        if wires.paused and line.socket is not None:
            line.socket.pause()
        return line

    def _exit(self) -> Exit:
        """The exit of the next connection: another one than that of the twin, where there is another."""
        scheme = self._network.scheme
        leave = first = scheme.exit("feed")
        taken = self.twin.line.leave if self.twin is not None and self.twin.line is not None else None
        while leave == taken:
            leave = scheme.exit("feed")
            if leave == first:
                break
        return leave

    async def _drop(self, line: Line) -> None:
        self._wires.lines.discard(line)
        await line.close()
        self._unreadable += line.unreadable
        line.unreadable = 0

    async def keep(self) -> None:
        """Keep one connection for these topics: replaced before its life ends, opened again whenever it is lost.

        What can be polled is polled while no connection can be had.
        Raises UsageError where the venue refuses every topic.
        """
        clock, health, failed = self._network.clock, self.health, 0
        try:
            while await self._some.wait():
                opened = None
                try:
                    self.line = await self._open()
                    self._take_up(self.line)
                    opened = clock.now()  # not before: it may have waited long for its turn
                    self.lost_since = None
                    self.stand_down()
                    why = await self._hold()
                except TransportError as error:
                    why = str(error)
                finally:
                    line, self.line = self.line, None
                    if line is not None:
                        await self._drop(line)
                self._losses += 1
                self.lost_since = clock.now() if self.lost_since is None else self.lost_since
                health.lost += 1
                self._network.observe("stream.lost", venue=self.venue, why=why)
                health.complain(f"{self.venue}: connection lost: {why}")
                failed = 0 if opened is not None and clock.now() - opened > STEADY else failed + 1
                if (failed > 1 or self._network.limiter.bars(self.venue)) and not self.standing_in:
                    self.standing_in = [self.polling(place) for place in self.places]
                if failed > 2:
                    self.move()
                delay = min(30 * SECOND, 250 * MS << min(failed, 7))
                await clock.sleep(delay // 2 + random.randrange(delay // 2))  # noqa: S311 - jitter
        except UsageError as error:
            self.refused = str(error)
            raise
        finally:
            self.stand_down()

    async def _hold(self) -> str:
        """Hold a line until it is lost, with a successor in time wherever its end is known; why it was lost."""
        refused = 0
        while True:
            line = self.line
            assert line is not None
            await line.over()
            if line.failed is not None and not isinstance(line.failed, TransportError):
                raise line.failed
            if line.ended is not None:
                return line.ended
            if await self._succeed(line):
                refused = 0
                continue
            refused += 1
            await self._while_there(line, min(30 * SECOND, SECOND << min(refused - 1, 5)))

    async def _succeed(self, old: Line) -> bool:
        """Whether a successor has taken over from a line that is still read."""
        health = self.health
        try:
            async with asyncio.timeout(None) as turn:
                old.when_gone = partial(turn.reschedule, 0.0)
                new = await self._open()
        except TimeoutError:  # it waited long for its turn: what is lost meanwhile is polled
            return False
        except TransportError as error:
            health.complain(f"{self.venue}: no successor yet: {error}")
            return False
        finally:
            old.when_gone = None
        try:
            why = await self._overlap(old, new)
        except BaseException:  # nobody else knows of it yet
            await self._drop(new)
            raise
        finally:
            old.spoken = new.spoken = None
        if why is not None:
            health.complain(f"{self.venue}: no successor yet: {why}")
            await self._drop(new)
            return False
        self._take_up(new)
        new.conversation.takes_over(old.conversation)
        self.line = new
        health.replaced += 1
        self._network.observe("stream.replaced", venue=self.venue, why=old.leaving)
        await self._drop(old)
        now = self._network.clock.now()
        for channel in self.all_channels():
            channel.replaced(now)
        return True

    def _take_up(self, new: Line) -> None:
        """Read a new line from now on: tell it which markets were found dead, or alive again, since it was opened."""
        wanted = new.conversation.wanted.keys()
        for topic in wanted - self.channels.keys():
            new.channels.pop(topic, None)
            new.shut(topic)
        for topic in self.channels.keys() - wanted:
            new.channels[topic] = self.channels[topic]
            new.again(topic)
        self.channels = new.channels

    async def _overlap(self, old: Line, new: Line) -> str | None:
        """Wait until the new line is acknowledged and overlaps the old one on every topic; why it cannot take over.

        A row that both brought since the new one was opened shows it. Where nothing does for a while, the new one must
        have brought rows of every topic of which the old one did.
        """
        clock = self._network.clock
        acknowledged: int | None = None
        deadline = known = clock.now() + ANSWER
        said: set[Channel] | None = (
            None  # by the old one, so long before the end that the new one had time to say it too
        )
        while True:
            now = clock.now()
            if new.ended is not None:
                return new.ended
            if acknowledged is None and (
                new.acknowledged or (now > deadline and new.conversation.unanswered <= old.conversation.unanswered)
            ):  # what the old one was never told of, nobody need wait for
                acknowledged = now
                old.spoken, new.spoken = set(), set()
            if now >= known - KNOWN_FOR // 2:
                known = now + KNOWN_FOR
                for channel in (*self.all_channels(), *all_of(new.channels)):
                    channel.known_until(known)
            if new.conversation.has_more_to_say:
                deadline = now + ANSWER
            if acknowledged is None and now > deadline and old.ended is None:
                return f"not acknowledged within {ANSWER // SECOND} s"
            if old.ended is not None:
                return None  # the new one is all there is
            if acknowledged is not None:
                told = new.conversation.denied
                waiting = [
                    (before, after)
                    for topic, after in new.channels.items()
                    if topic not in told and (before := old.channels.get(topic)) is not None
                    if not (before.overlaps or after.overlaps)
                ]
                if not waiting:
                    return None
                if said is None and now >= acknowledged + OVERLAP - GRACE:
                    said = set(old.spoken or ())
                if said is not None and now >= acknowledged + OVERLAP:
                    return _contradicted(waiting, said, new.spoken or set())
            await clock.sleep(50 * MS)

    async def _while_there(self, line: Line, duration: int) -> None:
        """Let some time pass; less where the line ends meanwhile."""
        waits = {asyncio.ensure_future(self._network.clock.sleep(duration)), asyncio.ensure_future(line.gone.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    # ---------------------------------------------------------------- what is mute, what is dead

    def again(self, place: Place) -> None:
        """Subscribe a topic anew on the connection there is."""
        if self.line is not None:
            self.line.again(place.topic)

    def reopen(self, why: str, since: int) -> bool:
        """Ask for another connection, unless it was opened since a moment; whether it was asked."""
        if self.line is None or self.line.opened_at > since:
            return False
        self.line.retire(why)
        return True

    def shut(self, place: Place, now: int) -> None:
        """Do not listen to a dead market any more, once none of its topic's datasets is wanted."""
        place.closed_since = now
        sharing = [other for other in self.places if other.topic == place.topic]
        if (
            all(other.closed_since is not None for other in sharing)
            and self.channels.pop(place.topic, None) is not None
        ):
            if self.line is not None:
                self.line.shut(place.topic)
            if not self.channels:
                self._some.clear()

    def wake(self, place: Place, now: int) -> None:
        """Listen to a market again."""
        place.closed_since = None
        place.channel.freshness.paused(now)
        if place.topic in self.channels:
            return
        first = next(other for other in self.places if other.topic == place.topic)
        self.channels[place.topic] = first.channel
        self._some.set()
        if self.line is not None:
            self.line.again(place.topic)

    # ---------------------------------------------------------------- polling

    def stand_down(self) -> None:
        """The feed is back."""
        tasks, self.standing_in = self.standing_in, []
        for task in tasks:
            task.cancel()

    def polling(self, place: Place) -> asyncio.Task[None]:
        """The task that asks in the place of a topic's feed."""
        task = asyncio.create_task(self._poll(place))
        task.add_done_callback(self._wires.ended)
        return task

    async def _poll(self, place: Place) -> None:
        """Ask in the place of a topic's feed, where its binding names a turn for that."""
        spare = place.channel.sub.fallback
        if spare is not None and place.closed_since is None:
            await poll(spare, self._network, self.health, lambda rows: self._polled(place, rows), self._wires)

    def _polled(self, place: Place, rows: list[Any]) -> None:
        if new := place.channel.strange(rows) if place.channel.sub.follow is None else rows:
            self.take(new)


def all_of(channels: dict[str, Channel]) -> list[Channel]:
    """Channels by topic, with those that share their topics."""
    return [each for channel in channels.values() for each in (channel, *channel.siblings)]


def _contradicted(waiting: Sequence[tuple[Channel, Channel]], old: set[Channel], new: set[Channel]) -> str | None:
    """What the old line said and the new one did not, in words; None where there is no such topic."""
    for before, after in waiting:
        if before in old and after not in new:
            return f"{before.sub.topic} comes on the old connection only"
    return None


async def poll(
    sub: Subscription, network: Network, health: Health, give: Callable[[list[Any]], None], wires: Wires
) -> None:
    """Ask again and again, and hand on what was not there before; not while as many rows wait as may.

    Where the newest rows are all that the venue has, it is asked as often as they come, as far as its budget allows.
    """
    lane = sub.step.turn.bound.lane
    weight = sub.step.turn.bound.spec.weight
    wires.polls[lane] = wires.polls.get(lane, 0) + weight
    try:
        await _poll(sub, network, health, give, wires)
    finally:
        wires.polls[lane] -= weight


async def _poll(
    sub: Subscription, network: Network, health: Health, give: Callable[[list[Any]], None], wires: Wires
) -> None:
    turn, clock, dataset = sub.step.turn, network.clock, sub.ask.dataset
    bound = turn.bound
    every = bound.spec.every or SECOND
    seen: dict[Any, int] = {}
    known = gap = None
    while True:
        began = clock.now()
        if wires.room.full:  # what is asked for is never dropped
            await clock.sleep(every)
            continue
        request = bound.request(Page(0, began, symbols=turn.symbols), turn.args)
        node = Node(request.identity(sub.connector.venue), bound, request, Page(), 0)
        try:
            reply = await ask_venue(node, network, "poll")
            rows = polled(sub, reply)
        except TradeFloodError as error:
            health.unreadable += isinstance(error, PayloadChanged)
            health.complain(str(error))
        else:
            rows = number_equals(rows) if sub.numbered else rows
            new = [row for row in rows if row.position not in seen]
            for row in new:
                row.received_at = reply.received_at
            seen = {row.position: began for row in rows} | {k: t for k, t in seen.items() if began - t < HOUR}
            if len(seen) > KNOWN + len(rows):
                seen = dict(islice(seen.items(), KNOWN + len(rows)))  # the newest stand first
            if new:
                give(new if sub.follow is None else sub.follow(new))
                network.observe("stream.polled", venue=sub.connector.venue, rows=len(new))
            if isinstance(bound.spec.pages, Recent) and dataset.model.time and sub.follow is None:
                known, claims = of_page(sub, rows, reply, known)
                wires.proofs += claims
                gap = gap_of([getattr(row, dataset.model.time) for row in rows])
        expected = min((each for each in (gap, wires.gaps.get(dataset)) if each is not None), default=None)
        pace = bound.budget.limit / bound.budget.per
        last, settle = sub.step.binding.horizon_rows, sub.connector.rest.settle
        wait = pace_of_polls(every, last, expected, settle, wires.polls[bound.lane], pace)
        await clock.sleep(max(0, began + wait - clock.now()))


def of_page(sub: Subscription, rows: Sequence[Any], reply: Reply, known: int | None) -> tuple[int | None, list[Claim]]:
    """What the newest rows of a venue prove, as far as it was not proved before, and up to where that is now.

    Between the oldest and the newest row nothing is missing; `known` is up to where the answer before proved it.
    """
    dataset = sub.ask.dataset
    time = dataset.model.time or ""
    times = sorted(getattr(row, time) for row in rows)
    if len(times) < 2:
        return known, []
    first = times[0] + 1
    start = known if known is not None and first <= known else first
    covered = Spans.of((start, times[-1])) if start < times[-1] else EMPTY
    settle, parser = sub.connector.rest.settle, parser_of(sub.connector)
    ascending = ordered(dataset.model, rows)
    claims = [
        claim
        for claim in of_recent(dataset, EMPTY, covered, ascending, sub.connector.clock(reply), settle, parser)
        if claim.state is State.HELD and claim.start < claim.end
    ]
    return max((claim.end for claim in claims), default=known), claims


def polled(sub: Subscription, reply: Reply) -> list[Any]:
    """The models of a polled answer.

    Raises PayloadChanged where it is not what was declared.
    """
    bound = sub.step.turn.bound
    try:
        return [checked(row) for row in sub.step.models(bound.decode(reply.body))]
    except TradeFloodError:
        raise
    except Exception as error:
        raise bound.changed(error, reply.body) from error
