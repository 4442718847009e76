"""Streams: live rows of some markets, over as few connections as the venues allow."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec
from attrs import define, field, frozen

from tradeflood.errors import DeclarationError, PayloadChanged, TradeFloodError, TransportError, UsageError
from tradeflood.live import Conversation
from tradeflood.models import Model
from tradeflood.models.checks import checked
from tradeflood.models.identity import Ordinals, number_equals
from tradeflood.models.time import HOUR, MS, SECOND
from tradeflood.planner.run import Node
from tradeflood.runner.execute import Network, ask as ask_venue
from tradeflood.transport.record import Recorder
from tradeflood.transport.websocket import Socket, open_socket
from tradeflood.turns import Ask, Connector, Feed, Page, Rows, Step
from tradeflood.turns.turn import judged_rows

M = TypeVar("M", bound=Model)
log = logging.getLogger("tradeflood")

FULL = 100_000
"""How many rows may wait for the consumer; then the sockets are not read until it has taken half of them."""


@frozen
class Subscription:
    """A dataset's live step and its topic; `topic` is None where the venue is polled."""

    ask: Ask
    step: Step[Any]
    connector: Connector
    numbered: bool
    path: str
    topic: str | None
    fallback: Subscription | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What may share a connection: the venue's endpoint."""
        return self.connector.venue, self.path


@define
class Health:
    """What can be told of a stream: per venue, how often connections were opened and lost, and what could not be read."""

    opened: int = 0
    lost: int = 0
    unreadable: int = 0
    acked: set[str] = field(factory=set)
    denied: dict[str, str] = field(factory=dict)
    trouble: deque[str] = field(factory=lambda: deque(maxlen=20))


def subscription(ask: Ask, connector: Connector, binding: Any) -> Subscription:
    """The subscription that an ask is, by its binding's `live`.

    Raises UsageError where the binding has none, DeclarationError where it gives no step.
    """
    made = type(binding)
    if not made.has_live():
        raise UsageError(f"{connector.venue} has no live {ask.model.name()} ({' '.join(ask.variant)})")
    step = binding.live(connector, ask)
    if isinstance(step, Step) and not step.turn.bound.spec.live:
        return _polled(ask, connector, made, step)
    if not isinstance(step, Step):
        raise DeclarationError(f"{made.__qualname__}.live must return a step, not {step!r}")
    bound, feed = step.turn.bound, connector.feed
    if feed is None:
        raise DeclarationError(f"{connector.venue} declares live turns and no feed")
    path = feed.path if bound.spec.path is None else bound.spec.path
    spare = _polled(ask, connector, made, binding.fallback(connector, ask)) if made.has_fallback() else None
    return Subscription(ask, step, connector, made.numbered, path, bound.topic(step.turn.args), spare)


def _polled(ask: Ask, connector: Connector, made: type[Any], step: Any) -> Subscription:
    if not isinstance(step, Step) or step.turn.bound.spec.every is None:
        raise DeclarationError(f"{made.__qualname__}: {step!r} is neither a live turn nor one with every=")
    return Subscription(ask, step, connector, made.numbered, "", None)


class Stream(Generic[M]):
    """Live rows: iterate over it, or over `batches()`. Leaving the loop, or `close()`, ends the subscriptions.

    Rows of a market come in the order of their arrival. A consumer that is slow slows the reading; nothing is dropped.
    """

    def __init__(
        self,
        prepare: Callable[[], Any],
        network: Network,
        recorder: Recorder | None = None,
        *,
        fast: bool | None = None,
    ) -> None:
        self._prepare, self._network, self._fast = prepare, network, fast
        self.recorder, self.clock = recorder, network.clock
        self._rows: list[M] = []
        self._ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._sockets: set[Socket] = set()
        self._paused = False
        self.failed: BaseException | None = None
        self._begun = False
        self.count = self.connections = 0
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
        for group in _packed(self.subscriptions):
            work = self._poll(group[0]) if group[0].topic is None else self._listen(group)
            task = asyncio.create_task(work)
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    def take(self) -> list[M]:
        """The rows that have come since the last time."""
        rows, self._rows = self._rows, []
        if self._paused:
            self._paused = False
            for socket in self._sockets:
                socket.resume()
        return rows

    async def close(self) -> None:
        """End every subscription."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError, Exception):
                await task

    def give(self, rows: Sequence[M]) -> None:
        """Hand rows to the consumer."""
        self._rows += rows
        self.count += len(rows)
        self._ready.set()
        if len(self._rows) > FULL and not self._paused:
            self._paused = True
            for socket in self._sockets:
                socket.pause()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed = error
            self._ready.set()

    def _health(self, venue: str) -> Health:
        return self.health.setdefault(venue, Health())

    # ---------------------------------------------------------------- push

    async def _listen(self, group: Sequence[Subscription]) -> None:
        """Keep one connection for these topics, opened again whenever it is lost; what can be polled is, meanwhile."""
        connector, clock = group[0].connector, self._network.clock
        feed = connector.feed
        assert feed is not None
        health, failed = self._health(connector.venue), 0
        standing_in: list[asyncio.Task[None]] = []

        def opened() -> None:
            for task in standing_in:
                task.cancel()
            standing_in.clear()

        try:
            while True:
                began = clock.now()
                try:
                    why = await self._converse(group, connector, feed, health, opened)
                except TransportError as error:
                    why = str(error)
                health.lost += 1
                health.trouble.append(why)
                log.warning("%s: connection lost: %s", connector.venue, why)
                failed = 0 if clock.now() - began > 60 * SECOND else failed + 1
                if failed > 1 and not standing_in:
                    spares = [sub.fallback for sub in group if sub.fallback is not None]
                    standing_in += [asyncio.create_task(self._poll(spare)) for spare in spares]
                delay = min(30 * SECOND, 250 * MS << min(failed, 7))
                await clock.sleep(delay // 2 + random.randrange(delay // 2))  # noqa: S311 - jitter
        finally:
            opened()

    async def _converse(
        self, group: Sequence[Subscription], connector: Connector, feed: Feed, health: Health, opened: Callable[[], None]
    ) -> str:
        """One connection from open to end; why it ended."""
        clock = self._network.clock
        topics = [sub.topic for sub in group if sub.topic is not None]
        conversation = Conversation(connector, feed, topics, clock.now())
        url = feed.url + group[0].path + connector.open(topics)
        ear = _Ear(self, group, conversation, connector, health)
        leave = self._network.scheme.exit("feed")
        await self._network.limiter.attempt(connector.venue, feed, leave)
        socket = await open_socket(url, ear, leave=leave, headers=feed.headers, fast=self._fast)
        health.opened += 1
        opened()
        ear.record("connect", "", url)
        self._sockets.add(socket)
        if self._paused:
            socket.pause()
        try:
            while ear.ended is None and conversation.leaving is None:
                now = clock.now()
                for out in conversation.send(now):
                    await socket.send(out)
                    ear.record("out", out)
                if conversation.expires is not None and now >= conversation.expires:
                    return "its lifetime is over"
                health.acked |= conversation.acked
                health.denied |= conversation.denied
                if conversation.denied and not (conversation.wanted.keys() - conversation.denied.keys()):
                    raise UsageError(_denial(connector, conversation.denied))
                due = conversation.due(now)
                wait = None if due is None else max(0, due - now) / SECOND
                with suppress(TimeoutError):
                    await asyncio.wait_for(ear.stirred.wait(), wait)
                ear.stirred.clear()
            return ear.ended or conversation.leaving or "closed"
        finally:
            self._sockets.discard(socket)
            await socket.close()

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
                reply = await ask_venue(node, self._network)
                rows = [checked(row) for row in sub.step.models(bound.decode(reply.body))]
            except TradeFloodError as error:
                health.unreadable += isinstance(error, PayloadChanged)
                health.trouble.append(str(error))
                log.warning("%s", error)
            else:
                rows = number_equals(rows) if sub.numbered else rows
                new = [row for row in rows if row.position not in seen]
                for row in new:
                    row.received_at = reply.received_at  # type: ignore[attr-defined]
                seen = {row.position: began for row in rows} | {k: t for k, t in seen.items() if began - t < HOUR}
                if new:
                    self.give(new)
            await clock.sleep(max(0, began + every - clock.now()))


class _Channel:
    """The way of one topic's rows: gathered as they come, packed into models many at a time."""

    __slots__ = ("_args", "_binding", "_bound", "_decode", "_ordinals", "_pure", "rows", "sequence")

    def __init__(self, sub: Subscription) -> None:
        self._pure, self._binding, self._args = sub.step.pure, sub.step.binding, sub.step.args
        self._bound = sub.step.turn.bound
        self._decode = msgspec.json.Decoder(self._bound.spec.reply).decode
        self._ordinals = Ordinals() if sub.numbered else None
        self.rows: list[Any] = []

    def add(self, event: Rows) -> None:
        """Take the rows of an event; of a numbered topic, none where the venue repeats a message."""
        if self._ordinals is not None and self._ordinals.repeats(event.sequence):
            return
        if type(event.rows) is msgspec.Raw:
            try:
                self.rows += judged_rows(self._decode(event.rows))
            except Exception as error:
                raise self._bound.changed(error, bytes(event.rows)) from error
        else:
            self.rows += event.rows

    def models(self, now: int, blame: Callable[[TradeFloodError], None]) -> list[Any]:
        """The models of what was gathered, `received_at` stamped; a row that cannot be packed is blamed and left out."""
        rows, self.rows = self.rows, []
        try:
            out = self._packed(rows, now)
        except TradeFloodError as error:
            out = []
            if len(rows) == 1:
                blame(error)
            else:
                for row in rows:
                    self.rows = [row]
                    out += self.models(now, blame)
        return out if self._ordinals is None else self._ordinals.of_live(out)

    def _packed(self, rows: list[Any], now: int) -> list[Any]:
        try:
            out = list(self._pure(self._binding, rows, *self._args))
        except TradeFloodError:
            raise
        except Exception as error:
            raise self._bound.changed(error, b"") from error
        for model in out:
            checked(model)
            model.received_at = now
        return out


class _Ear:
    """The listener of one connection: frames to rows to models, as few steps as can be.

    A frame is decoded and its row put to its topic; once the event loop has handed over all that it read, the rows
    are packed. Frames that were read together share one `received_at`.
    """

    def __init__(
        self, stream: Stream[Any], group: Sequence[Subscription], conversation: Conversation, connector: Connector,
        health: Health,
    ) -> None:  # fmt: skip
        self.stirred = asyncio.Event()
        self.ended: str | None = None
        self._stream, self._conversation, self._connector, self._health = stream, conversation, connector, health
        self._clock, self._recorder = stream.clock, stream.recorder
        self._number = stream.connections = stream.connections + 1
        self._soon = asyncio.get_running_loop().call_soon
        self._channels = {sub.topic: _Channel(sub) for sub in group}
        self._dirty: dict[_Channel, None] = {}
        self._read_at = 0
        frames = connector.frames
        self._decode = msgspec.json.Decoder(frames.type).decode if frames is not None else None
        self._topic = attrgetter(frames.topic) if frames is not None else None
        self._row = attrgetter(frames.row) if frames is not None else None

    def message(self, data: bytes) -> None:
        """Take a frame in."""
        dirty = self._dirty
        if not dirty:
            self._read_at = self._clock.now()
        if self._recorder is not None:
            self.record("in", data)
        if self._decode is not None:
            try:
                frame = self._decode(data)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                pass
            else:
                channel = self._channels.get(self._topic(frame))  # type: ignore[misc]
                if channel is not None:
                    channel.rows.append(self._row(frame))  # type: ignore[misc]
                    if not dirty:
                        self._soon(self._flush)
                    dirty[channel] = None
                return
        self._hear(data)

    def _hear(self, data: bytes) -> None:
        try:
            heard = self._conversation.receive(data, self._read_at)
            for event in heard:
                channel = self._channels.get(event.topic)
                if channel is not None:
                    channel.add(event)
                    if not self._dirty:
                        self._soon(self._flush)
                    self._dirty[channel] = None
        except TradeFloodError as error:
            self._blame(error)
            return
        if not heard:
            self.stirred.set()

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, {}
        for channel in dirty:
            if models := channel.models(self._read_at, self._blame):
                self._stream.give(models)

    def _blame(self, error: TradeFloodError) -> None:
        self._health.unreadable += 1
        self._health.trouble.append(str(error))
        log.warning("%s", error)

    def lost(self, why: str) -> None:
        """The connection is over."""
        self.ended = why
        self.stirred.set()

    def record(self, direction: str, frame: bytes | str, url: str = "") -> None:
        """Keep a frame, where that is wanted."""
        if self._recorder is not None:
            self._recorder.feed(self._connector.venue, self._number, self._clock.now(), direction, frame, url)


def _packed(subscriptions: Sequence[Subscription]) -> list[list[Subscription]]:
    """The fewest connections: subscriptions by endpoint, as many to one as the venue allows; polled ones alone."""
    groups: list[list[Subscription]] = [[sub] for sub in subscriptions if sub.topic is None]
    pushed: dict[tuple[str, str], list[Subscription]] = {}
    for sub in subscriptions:
        if sub.topic is not None:
            pushed.setdefault(sub.key, []).append(sub)
    for subs in pushed.values():
        feed = subs[0].connector.feed
        most = feed.streams if feed else len(subs)
        groups += [subs[at : at + most] for at in range(0, len(subs), most)]
    return groups


def _denial(connector: Connector, denied: dict[str, str]) -> str:
    topic, why = next(iter(denied.items()))
    return f"{connector.venue} refused {topic}: {why}"
