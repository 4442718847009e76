"""Streams: live rows of some markets, over as few connections as the venues allow."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from tradeflood.coverage import Dataset
from tradeflood.errors import DeclarationError, PayloadChanged, TradeFloodError, TransportError, UsageError
from tradeflood.models import Model
from tradeflood.models.checks import checked
from tradeflood.models.identity import number_equals
from tradeflood.models.time import HOUR, MS, SECOND
from tradeflood.planner import Node
from tradeflood.runner.execute import Network
from tradeflood.runner.execute import ask as ask_venue
from tradeflood.runner.line import Channel, Health, Line, Subscription, packed
from tradeflood.transport.record import Recorder
from tradeflood.turns import Ask, Connector, Page, Reply, Step

M = TypeVar("M", bound=Model)

FULL = 100_000
"""How many rows may wait for the consumer; then the sockets are not read until it has taken them."""

OVERLAP = 20 * SECOND
"""How long an old connection is kept beside its successor at most, where nothing shows that they overlap."""


def subscription(ask: Ask, connector: Connector, binding: Any) -> Subscription:
    """The subscription that an ask is, by its binding's `live`.

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
    if isinstance(step, Step) and not step.turn.bound.spec.live:
        return _polled(ask, connector, made, step)
    if not isinstance(step, Step):
        raise DeclarationError(f"{made.__qualname__}.live must return a step, not {step!r}")
    bound, feed = step.turn.bound, connector.feed
    if feed is None:
        raise DeclarationError(f"{connector.venue} declares live turns and no feed")
    path = feed.path if bound.spec.path is None else bound.spec.path
    stand_in = None if spare is None else _polled(ask, connector, made, spare)
    return Subscription(ask, step, connector, made.numbered, path, bound.topic(step.turn.args), stand_in)


def _polled(ask: Ask, connector: Connector, made: type[Any], step: Any) -> Subscription:
    if not isinstance(step, Step) or step.turn.bound.spec.every is None:
        raise DeclarationError(f"{made.__qualname__}: {step!r} is neither a live turn nor one with every=")
    return Subscription(ask, step, connector, made.numbered, "", None)


class Stream(Generic[M]):
    """Live rows: iterate over it, or over `batches()`. Leaving the loop, or `close()`, ends the subscriptions.

    Rows of a market come in the order of their arrival, none twice. A consumer that is slow slows the reading;
    nothing is dropped.
    """

    def __init__(
        self,
        prepare: Callable[[], Any],
        network: Network,
        recorder: Recorder | None = None,
        *,
        fast: bool | None = None,
    ) -> None:
        self._prepare, self._network, self._recorder, self._fast = prepare, network, recorder, fast
        self._rows: list[M] = []
        self._ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._lines: set[Line] = set()
        self._channels: dict[Dataset, tuple[_Group, Channel]] = {}
        self._paused = False
        self._begun = False
        self._connections = 0
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
        """Lists of rows, as many as have come since the last one."""
        try:
            await self.begin()
            while True:
                await self._ready.wait()
                self._ready.clear()
                if self._rows:
                    yield self.take()
                if self.failed is not None:
                    raise self.failed
        finally:
            await self.close()

    async def begin(self) -> None:
        """Resolve the names and start to listen. Iterating does it by itself."""
        if self._begun:
            return
        self._begun = True
        self.subscriptions = await self._prepare()
        for subs in packed(self.subscriptions):
            if subs[0].topic is None:
                self._start(self._poll(subs[0]))
                continue
            group = _Group(subs, self._network.clock.now())
            self._channels |= {channel.sub.ask.dataset: (group, channel) for channel in group.all_channels()}
            self._start(self._listen(group))

    def take(self) -> list[M]:
        """The rows that have come since the last time."""
        rows, self._rows = self._rows, []
        if self._paused:
            self._paused = False
            for line in self._lines:
                if line.socket is not None:
                    line.socket.resume()
        return rows

    async def close(self) -> None:
        """End every subscription."""
        for task in self._tasks:
            task.cancel()
        for task in list(self._tasks):  # whoever closes second waits as well
            with suppress(asyncio.CancelledError, Exception):
                await task
        self._tasks.clear()

    # ---------------------------------------------------------------- silence

    def is_suspicious(self, dataset: Dataset, now: int) -> bool:
        """Whether a dataset is streamed, and its silence has lasted too long to be believed without a witness."""
        found = self._channels.get(dataset)
        return found is not None and found[0].line is not None and found[1].freshness.suspicious(now)

    def is_fresh(self, dataset: Dataset, now: int) -> bool:
        """Whether a dataset is streamed, something of it came, and its silence, if any, is still believable."""
        found = self._channels.get(dataset)
        return found is not None and found[0].line is not None and found[1].freshness.fresh(now)

    def expect(self, dataset: Dataset, gap: int) -> None:
        """The market's rate, known from its history: the mean distance of two rows in ns."""
        if found := self._channels.get(dataset):
            found[1].freshness.expect(gap)

    def quiet(self, dataset: Dataset, now: int) -> None:
        """A witness agrees: nothing happened."""
        if found := self._channels.get(dataset):
            found[0].steps.pop(dataset, None)
            found[1].freshness.quiet(now)

    def mute(self, dataset: Dataset, now: int) -> None:
        """A witness contradicts: subscribe anew; the next time, open the connection anew; and so on."""
        if found := self._channels.get(dataset):
            group, channel = found
            step = group.steps[dataset] = group.steps.get(dataset, 0) + 1
            health = self._health(dataset.venue)
            health.mute += 1
            channel.freshness.quiet(now)
            line = group.line
            if line is None:
                return
            if step % 2:
                health.complain(f"{dataset.label}: mute; subscribing anew")
                line.again(channel.sub.topic or "")
            else:
                health.complain(f"{dataset.label}: still mute; opening another connection")
                line.lost("a subscription on it was mute")

    # ---------------------------------------------------------------- push

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

    def _give(self, rows: Sequence[M]) -> None:
        self._rows += rows
        self.count += len(rows)
        self._ready.set()
        if len(self._rows) > FULL and not self._paused:
            self._paused = True
            for line in self._lines:
                if line.socket is not None:
                    line.socket.pause()

    async def _open(self, group: _Group) -> Line:
        """A new line for a group, connected.

        Raises TransportError where it cannot be opened.
        """
        self._connections += 1
        line = Line(
            group.channels, group.path, group.connector, group.feed, self._network, self._health(group.connector.venue),
            self._give, self._connections, self._recorder, self._fast,
        )  # fmt: skip
        if group.opened:  # what comes first cannot have come before
            for channel in group.all_channels():
                channel.replacing(self._network.clock.now())
        group.opened = True
        self._lines.add(line)
        try:
            await line.open()
        except BaseException:
            self._lines.discard(line)
            raise
        if self._paused and line.socket is not None:
            line.socket.pause()
        return line

    async def _drop(self, line: Line) -> None:
        self._lines.discard(line)
        await line.close()

    async def _listen(self, group: _Group) -> None:
        """Keep one connection for these topics: replaced before its life ends, opened again whenever it is lost.

        What can be polled is polled while no connection can be had.
        """
        clock, health, failed = self._network.clock, self._health(group.connector.venue), 0
        try:
            while True:
                began = clock.now()
                try:
                    group.line = await self._open(group)
                    group.stand_down()
                    why = await self._hold(group, health)
                except TransportError as error:
                    why = str(error)
                finally:
                    line, group.line = group.line, None
                    if line is not None:
                        await self._drop(line)
                health.lost += 1
                health.complain(f"{group.connector.venue}: connection lost: {why}")
                failed = 0 if clock.now() - began > 60 * SECOND else failed + 1
                if failed > 1 and not group.standing_in:
                    group.standing_in = [asyncio.create_task(self._poll(spare)) for spare in group.spares]
                delay = min(30 * SECOND, 250 * MS << min(failed, 7))
                await clock.sleep(delay // 2 + random.randrange(delay // 2))  # noqa: S311 - jitter
        finally:
            group.stand_down()

    async def _hold(self, group: _Group, health: Health) -> str:
        """Hold a line until it is lost, with a successor in time wherever its end is known; why it was lost."""
        while True:
            line = group.line
            assert line is not None
            await line.over()
            if line.failed is not None and not isinstance(line.failed, TransportError):
                raise line.failed
            if line.ended is not None:
                return line.ended
            try:
                successor = await self._open(group)
            except TransportError as error:
                health.complain(f"{group.connector.venue}: no successor yet: {error}")
                await self._network.clock.sleep(SECOND)
                continue
            await self._overlap(group, line, successor)
            if successor.ended is None:
                group.line = successor
                health.replaced += 1
                await self._drop(line)
            else:
                await self._drop(successor)

    async def _overlap(self, group: _Group, old: Line, new: Line) -> None:
        """Wait until the new line is acknowledged and overlaps the old one on every topic that says anything."""
        clock = self._network.clock
        until = clock.now() + OVERLAP
        while clock.now() < until and new.ended is None and old.ended is None:
            told = new.conversation.denied
            if new.acknowledged and all(c.overlaps for t, c in group.channels.items() if t not in told):
                break
            await clock.sleep(50 * MS)
        for channel in group.all_channels():
            channel.replaced()

    # ---------------------------------------------------------------- polling

    async def _poll(self, sub: Subscription) -> None:
        """Ask again and again, and hand on what was not there before."""
        turn, clock = sub.step.turn, self._network.clock
        bound = turn.bound
        every = bound.spec.every or SECOND
        health = self._health(sub.connector.venue)
        seen: dict[Any, int] = {}
        while True:
            began = clock.now()
            request = bound.request(Page(0, began, symbols=turn.symbols), turn.args)
            node = Node(request.identity(sub.connector.venue), bound, request, Page(), 0)
            try:
                reply = await ask_venue(node, self._network, "poll")
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
                if new:
                    self._give(new)
            await clock.sleep(max(0, began + every - clock.now()))


def _broken(error: BaseException) -> DeclarationError:
    broken = DeclarationError(f"a live stream failed: {error!r}")
    broken.__cause__ = error
    return broken


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


class _Group:
    """Topics that share a connection: their channels, which outlive it, and what stands in for it."""

    def __init__(self, subs: Sequence[Subscription], now: int) -> None:
        self.connector, self.path = subs[0].connector, subs[0].path
        feed = self.connector.feed
        assert feed is not None
        self.feed = feed
        self.channels: dict[str, Channel] = {}
        for sub in subs:
            if sub.topic in self.channels:
                self.channels[sub.topic].siblings.append(Channel(sub, now))
            elif sub.topic is not None:
                self.channels[sub.topic] = Channel(sub, now)
        self.spares = [sub.fallback for sub in subs if sub.fallback is not None]
        self.line: Line | None = None
        self.opened = False
        self.steps: dict[Dataset, int] = {}
        self.standing_in: list[asyncio.Task[None]] = []

    def all_channels(self) -> list[Channel]:
        """Every channel, those that share a topic too."""
        return [each for channel in self.channels.values() for each in (channel, *channel.siblings)]

    def stand_down(self) -> None:
        """The feed is back."""
        tasks, self.standing_in = self.standing_in, []
        for task in tasks:
            task.cancel()
