"""One live connection, from frames to models in as few steps as can be."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

import msgspec
from attrs import define, field, frozen

from tradeflood.errors import TradeFloodError, UsageError
from tradeflood.live import Conversation, Freshness
from tradeflood.models.checks import checked
from tradeflood.models.identity import Ordinals
from tradeflood.models.time import SECOND
from tradeflood.runner.execute import Network
from tradeflood.transport.record import Recorder
from tradeflood.transport.websocket import Socket, open_socket
from tradeflood.turns import Ask, Connector, Feed, Rows, Step
from tradeflood.turns.turn import judged_rows

log = logging.getLogger("tradeflood")

KNOWN_FOR = 60 * SECOND
REMEMBERED = 500
"""How many of a topic's last rows are known again when a connection is replaced: venues send some of them twice."""


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
    """What can be told of a venue's connections: opened, lost and replaced; what could not be read; what was mute."""

    opened: int = 0
    lost: int = 0
    replaced: int = 0
    unreadable: int = 0
    mute: int = 0
    acked: set[str] = field(factory=set)
    denied: dict[str, str] = field(factory=dict)
    trouble: deque[str] = field(factory=lambda: deque(maxlen=20))

    def complain(self, text: str) -> None:
        """Keep a trouble, and log it."""
        self.trouble.append(text)
        log.warning("%s", text)


class Channel:
    """The way of one topic's rows: gathered as they come, packed into models many at a time.

    It outlives connections: what a new one repeats of the last rows of the old one is left out.
    """

    __slots__ = (
        "_args", "_binding", "_bound", "_decode", "_known", "_known_until", "_ordinals", "_pure", "_recent", "_stamped", "freshness", "overlaps", "rows", "siblings", "sub",
    )  # fmt: skip

    def __init__(self, sub: Subscription, now: int) -> None:
        self.sub = sub
        self.siblings: list[Channel] = []  # other models of the same topic
        self._pure, self._binding, self._args = sub.step.pure, sub.step.binding, sub.step.args
        self._bound = sub.step.turn.bound
        self._decode = msgspec.json.Decoder(self._bound.spec.reply).decode
        self._ordinals = Ordinals() if sub.numbered else None
        self._stamped = "received_at" in {column.name for column in sub.ask.model.columns()}
        self._recent: deque[Any] = deque(maxlen=REMEMBERED)
        self._known: set[Any] | None = None
        self._known_until = 0
        self.overlaps = 0
        self.freshness = Freshness(now)
        self.rows: list[Any] = []

    def replacing(self, now: int) -> None:
        """A new connection begins: for a while, know the last rows again."""
        self._known = {row.position for row in self._recent}
        self._known_until = now + KNOWN_FOR
        self.overlaps = 0

    def replaced(self) -> None:
        """The new connection stands alone."""
        self._known = None

    def add(self, event: Rows) -> None:
        """Take the rows of an event; of a numbered topic, none where the venue repeats a message."""
        if self._ordinals is not None and self._ordinals.repeats(event.sequence):
            self.overlaps += 1
            return
        rows = event.rows
        try:
            self.rows += judged_rows(self._decode(rows)) if type(rows) is msgspec.Raw else rows
        except Exception as error:
            raise self._bound.changed(error, bytes(rows) if type(rows) is msgspec.Raw else b"") from error

    def models(self, now: int, blame: Callable[[TradeFloodError], None]) -> list[Any]:
        """The models of what was gathered, `received_at` stamped; a row that cannot be packed is blamed and left out."""
        rows, self.rows = self.rows, []
        out = self._each(rows, now, blame)
        if self._ordinals is not None:
            out = self._ordinals.of_live(out)
        if self._known is not None:
            out = self._unknown(out, self._known)
            if now > self._known_until:
                self._known = None
        if out:
            self._recent += out[-REMEMBERED:]
            self.freshness.heard(now, len(out))
        return out

    def _each(self, rows: list[Any], now: int, blame: Callable[[TradeFloodError], None]) -> list[Any]:
        try:
            return self._packed(rows, now)
        except TradeFloodError as error:
            if len(rows) > 1:
                return [model for row in rows for model in self._each([row], now, blame)]
            blame(error)
            return []

    def _packed(self, rows: list[Any], now: int) -> list[Any]:
        try:
            out = list(self._pure(self._binding, rows, *self._args))
            for model in out:
                checked(model)
                if self._stamped:
                    model.received_at = now
        except TradeFloodError:
            raise
        except Exception as error:
            raise self._bound.changed(error, b"") from error
        return out

    def _unknown(self, models: list[Any], known: set[Any]) -> list[Any]:
        """Those that did not come before; a row that is revised, such as the running candle, is never a repetition."""
        if self.sub.ask.model.time == self.sub.ask.model.key[-1]:
            self.overlaps += 1
            return models
        out = []
        for model in models:  # both connections may have brought it in the same moment
            if model.position in known:
                self.overlaps += 1
            else:
                known.add(model.position)
                out.append(model)
        return out


class Line:
    """One connection of a group of topics: opened, subscribed, read; it says when and why it ends."""

    def __init__(
        self,
        channels: dict[str, Channel],
        path: str,
        connector: Connector,
        feed: Feed,
        network: Network,
        health: Health,
        give: Callable[[list[Any]], None],
        number: int,
        recorder: Recorder | None,
        fast: bool | None,  # noqa: FBT001 - a choice of three
    ) -> None:
        self._channels, self._connector, self._feed = channels, connector, feed
        self._network, self._health, self._give = network, health, give
        self._number, self._recorder, self._fast = number, recorder, fast
        self._url = feed.url + path + connector.open(list(channels))
        self.conversation = Conversation(connector, feed, list(channels), network.clock.now())
        self.ended: str | None = None
        self.failed: TradeFloodError | None = None
        self.socket: Socket | None = None
        self._stirred = asyncio.Event()
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._soon = asyncio.get_running_loop().call_soon
        self._dirty: dict[Channel, None] = {}
        self._read_at = 0
        frames = connector.frames
        self._decode = msgspec.json.Decoder(frames.type).decode if frames is not None else None
        self._topic = attrgetter(frames.topic) if frames is not None else None
        self._row = attrgetter(frames.row) if frames is not None else None

    # ---------------------------------------------------------------- its life

    async def open(self) -> None:
        """Connect and begin to subscribe.

        Raises TransportError where it cannot be opened.
        """
        leave = self._network.scheme.exit("feed")
        await self._network.limiter.attempt(self._connector.venue, self._feed, leave)
        self.socket = await open_socket(self._url, self, leave=leave, headers=self._feed.headers, fast=self._fast)
        self._health.opened += 1
        self._record("connect", "", self._url)
        self._task = asyncio.create_task(self._talk())

    async def close(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._task
        if self.socket is not None:
            with suppress(Exception):
                await self.socket.close()
        self._flush()

    async def over(self, within: int | None = None) -> bool:
        """Wait until it has ended, or for so many ns; whether it has."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if within is None else max(0, within) / SECOND):
                await self._over.wait()
        return self._over.is_set()

    @property
    def acknowledged(self) -> bool:
        """Whether the venue has answered for every topic."""
        told = self.conversation
        return not told.wanted.keys() - told.acked - told.denied.keys()

    async def _talk(self) -> None:
        """Write what the conversation wants written, until the connection ends."""
        clock, told = self._network.clock, self.conversation
        assert self.socket is not None
        try:
            while self.ended is None:
                for out in told.send(clock.now()):
                    await self.socket.send(out)
                    self._record("out", out)
                self._health.acked |= told.acked
                for topic, why in told.denied.items():
                    if topic not in self._health.denied:
                        self._health.denied[topic] = why
                        self._health.complain(f"{self._connector.venue} refused {topic}: {why}")
                if told.denied and not told.wanted.keys() - told.denied.keys():
                    topic, why = next(iter(told.denied.items()))
                    raise UsageError(f"{self._connector.venue} refused {topic}: {why}")
                due = told.due(clock.now())
                wait = None if due is None else max(0, due - clock.now()) / SECOND
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):  # wait_for of Python 3.11 may swallow a cancellation
                        await self._stirred.wait()
                self._stirred.clear()
                if told.leaving is not None or (told.expires is not None and clock.now() >= told.expires):
                    return  # whoever holds this line replaces it; reading goes on meanwhile
        except TradeFloodError as error:
            self.failed = error
            self.lost(str(error))
        finally:
            self._over.set()

    # ---------------------------------------------------------------- frames; called by the socket

    def message(self, data: bytes) -> None:
        """Take a frame in: its row goes to its topic; rows are packed once the loop has handed over all it read."""
        dirty = self._dirty
        if not dirty:
            self._read_at = self._network.clock.now()
        if self._recorder is not None:
            self._record("in", data)
        if self._decode is not None:
            try:
                frame = self._decode(data)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                pass
            else:
                channel = self._channels.get(self._topic(frame))  # type: ignore[misc]
                if channel is not None:
                    row = self._row(frame)  # type: ignore[misc]
                    channel.rows.append(row)
                    if not dirty:
                        self._soon(self._flush)
                    dirty[channel] = None
                    if channel.siblings:
                        for sibling in channel.siblings:
                            sibling.rows.append(row)
                            dirty[sibling] = None
                return
        self._hear(data)

    def lost(self, why: str) -> None:
        """The connection is over."""
        if self.ended is None:
            self.ended = why
        self._stirred.set()
        self._over.set()

    def _hear(self, data: bytes) -> None:
        try:
            heard = self.conversation.receive(data, self._read_at)
        except TradeFloodError as error:
            self._blame(error)
            return
        for event in heard:
            channel = self._channels.get(event.topic)
            for each in (channel, *channel.siblings) if channel is not None else ():
                try:
                    each.add(event)
                except TradeFloodError as error:  # the other events of the frame are taken in
                    self._blame(error)
                    continue
                if not self._dirty:
                    self._soon(self._flush)
                self._dirty[each] = None
        told = self.conversation
        if not heard or told.has_more_to_say or told.leaving is not None:
            self._stirred.set()

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, {}
        for channel in dirty:
            if models := channel.models(self._read_at, self._blame):
                self._give(models)

    def _blame(self, error: TradeFloodError) -> None:
        self._health.unreadable += 1
        self._health.complain(str(error))

    def again(self, topic: str) -> None:
        """Subscribe a topic anew."""
        self.conversation.again(topic)
        self._stirred.set()

    def _record(self, direction: str, frame: bytes | str, url: str = "") -> None:
        if self._recorder is not None:
            venue, now = self._connector.venue, self._network.clock.now()
            self._recorder.feed(venue, self._number, now, direction, frame, url)


def packed(subscriptions: Sequence[Subscription]) -> list[list[Subscription]]:
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
