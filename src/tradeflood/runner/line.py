"""One live connection, from frames to models in as few steps as can be."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

import msgspec
from attrs import define, field, frozen

from tradeflood.errors import RateLimited, TradeFloodError, TransportError, UsageError
from tradeflood.live import Conversation, Freshness, Offsets
from tradeflood.live.offsets import EPOCHS
from tradeflood.models.checks import all_checked
from tradeflood.models.identity import Ordinals
from tradeflood.models.time import SECOND
from tradeflood.planner.proofs import parser_of
from tradeflood.runner.execute import Network
from tradeflood.runner.overflow import Room
from tradeflood.transport import DIRECT, Exit
from tradeflood.transport.limiter import Seat
from tradeflood.transport.record import Recorder
from tradeflood.transport.websocket import NotUpgraded, Socket
from tradeflood.turns import Ask, Connector, Feed, Reply, Rows, Step
from tradeflood.turns.connector import retry_after
from tradeflood.turns.turn import judged_rows

log = logging.getLogger("tradeflood")

KNOWN_FOR = 60 * SECOND
LAGS = 10 * SECOND
"""How much later than its predecessor a connection may bring a row, so that it is known again."""
REMEMBERED = 500
"""How many of a topic's last rows are known again when a connection is replaced: venues send some of them twice."""


@frozen
class Subscription:
    """A dataset's live step and its topic; `topic` is None where the venue is polled.

    `follow` makes its rows into those of another model, for which it was subscribed.
    """

    ask: Ask
    step: Step[Any]
    connector: Connector
    numbered: bool
    path: str
    topic: str | None
    fallback: Subscription | None = None
    follow: Callable[[Sequence[Any]], list[Any]] | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What may share a connection: the venue's endpoint."""
        return self.connector.venue, self.path


@define
class Health:
    """What can be told of a venue's connections: opened, lost and replaced; what could not be read, or was dropped; what was mute, and what came of it."""

    opened: int = 0
    lost: int = 0
    replaced: int = 0
    unreadable: int = 0
    dropped: int = 0
    mute: int = 0
    resubscribed: int = 0
    reopened: int = 0
    polled: int = 0
    recovered: int = 0
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
        "_args", "_binding", "_bound", "_decode", "_dropped_until", "_known", "_known_until", "_marks", "_ordinals", "_pure", "_recent", "_stamped", "_whole",
        "freshness", "offsets", "overlaps", "rows", "siblings", "sub",
    )  # fmt: skip

    def __init__(self, sub: Subscription, now: int) -> None:
        self.sub = sub
        self.siblings: list[Channel] = []  # other models of the same topic
        self._pure, self._binding, self._args = sub.step.pure, sub.step.binding, sub.step.args
        self._bound = sub.step.turn.bound
        self._decode = msgspec.json.Decoder(self._bound.spec.reply).decode
        self._ordinals: dict[str | None, Ordinals] | None = {} if sub.numbered else None  # one observation per epoch
        revised = sub.ask.model.time == sub.ask.model.key[-1]  # offsets tell pushes of such rows apart, not the rows
        self.offsets = None if revised else Offsets(sub.ask.dataset, parser_of(sub.connector))
        self._marks: list[
            tuple[int, str | None, int, int]
        ] = []  # numbered messages: what they are, where their rows lie
        self._whole: list[tuple[int, str | None, int, int]] = []  # those whose every row was read, by their models
        self._stamped = "received_at" in {column.name for column in sub.ask.model.columns()}
        self._recent: deque[Any] = deque(maxlen=REMEMBERED)
        self._known: dict[Any, bool] | None = None  # positions, and whether they came since a new connection began
        self._known_until = self._dropped_until = 0
        self.overlaps = 0
        self.freshness = Freshness(now)
        self.rows: list[Any] = []

    def replacing(self, now: int) -> None:
        """A new connection begins: for a while, know the last rows again."""
        self._known = dict.fromkeys((row.position for row in self._recent), False)
        self._known_until = now + KNOWN_FOR
        self.overlaps = 0

    def known_until(self, moment: int) -> None:
        """Know what came since up to a moment; a new connection may take its time to begin."""
        self._known_until = max(self._known_until, moment)

    def replaced(self, now: int) -> None:
        """The new connection stands alone; what it brings later than the old one did is known a little longer."""
        self._known_until = min(self._known_until, now + LAGS)

    @property
    def reached(self) -> int:
        """The time of the newest row that came, by the venue's clock; nought where none did."""
        return max(self.kept_until, self._dropped_until)

    @property
    def kept_until(self) -> int:
        """The time of the newest row that came and was not dropped; nought where there is none."""
        time = self.sub.ask.model.time
        return getattr(self._recent[-1], time) if self._recent and time is not None else 0

    def observed_anew(self, now: int) -> Channel:
        """The channel for another connection: the same one, but for rows that each connection numbers for itself.

        Rows without ids are numbered within one observation, and two observations are united, never summed. Where the
        venue numbers its messages all connections are one observation.
        """
        if self._ordinals is None or (self.offsets is not None and self.offsets.begun):
            return self
        other = Channel(self.sub, now)
        other.freshness, other.offsets, other._recent = self.freshness, self.offsets, self._recent
        other._known, other._known_until = self._known, self._known_until
        other._dropped_until = self._dropped_until
        other.siblings = [sibling.observed_anew(now) for sibling in self.siblings]
        return other

    def strange(self, rows: Sequence[Any]) -> list[Any]:
        """Those of some polled rows that did not come before; they are known from now on."""
        known = {row.position for row in self._recent}
        new = [row for row in rows if row.position not in known]
        self._recent += new[-REMEMBERED:]
        return new

    def add(self, event: Rows) -> None:
        """Take the rows of an event; of a numbered topic, none where the venue repeats a message."""
        if (
            event.sequence is not None
            and self.offsets is not None
            and self.offsets.repeats(event.sequence, event.epoch)
        ):
            self.overlaps += 1
            return
        rows, before = event.rows, len(self.rows)
        try:
            self.rows += judged_rows(self._decode(rows)) if type(rows) is msgspec.Raw else rows
        except Exception as error:
            raise self._bound.changed(error, bytes(rows) if type(rows) is msgspec.Raw else b"") from error
        if event.sequence is not None and self.offsets is not None:
            self._marks.append((event.sequence, event.epoch, before, len(self.rows)))

    def models(self, now: int, blame: Callable[[TradeFloodError], None], *, keep: bool = True) -> list[Any]:
        """The models of what was gathered, `received_at` stamped; a row that cannot be packed is blamed and left out.

        Those that nobody is to `keep` prove nothing, and are not remembered as rows that came.
        """
        rows, self.rows = self.rows, []
        out = (
            self._told_apart(None, self._each(rows, now, blame))
            if not self._marks
            else self._each_message(rows, now, blame)
        )
        if self._whole:
            self._prove(out, now, keep=keep)
        if self._known is not None:
            out = self._unknown(out, self._known)
            if now > self._known_until:
                self._known = None
        if out:
            if keep:
                self._recent += out[-REMEMBERED:]
            elif (time := self.sub.ask.model.time) is not None:
                self._dropped_until = max(self._dropped_until, getattr(out[-1], time))
            self.freshness.heard(now, len(out))
        return out if self.sub.follow is None else self.sub.follow(out)

    def _each_message(self, rows: list[Any], now: int, blame: Callable[[TradeFloodError], None]) -> list[Any]:
        """The models of numbered messages, one by one: which of them could be read to the last row is kept in mind."""
        marks, self._marks = self._marks, []
        out: list[Any] = []
        at = 0
        for offset, epoch, begin, end in marks:
            out += self._told_apart(None, self._each(rows[at:begin], now, blame))  # what came without a number
            blamed: list[TradeFloodError] = []
            models = self._told_apart(epoch, self._each(rows[begin:end], now, blamed.append))
            for error in blamed:
                blame(error)
            if not blamed:
                self._whole.append((offset, epoch, len(out), len(out) + len(models)))
            out += models
            at = end
        return out + self._told_apart(None, self._each(rows[at:], now, blame))

    def _told_apart(self, epoch: str | None, models: list[Any]) -> list[Any]:
        """The models, equal ones with ordinals where they have no ids: two connections in two epochs are two observations."""
        if self._ordinals is None or not models:
            return models
        ordinals = self._ordinals.pop(epoch, None) or Ordinals()
        self._ordinals[epoch] = ordinals  # the one that was used last stands last
        while len(self._ordinals) > EPOCHS:
            del self._ordinals[next(iter(self._ordinals))]
        return ordinals.of_live(models)

    def _prove(self, out: list[Any], now: int, *, keep: bool) -> None:
        """What the numbers of whole messages prove of their models; one that is dropped counts as one that could not be read."""
        whole, self._whole = self._whole if keep else [], []
        assert self.offsets is not None
        for offset, epoch, begin, end in whole:
            self.offsets.came(offset, epoch, out[begin:end], now)

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
            out = all_checked(self.sub.ask.model, list(self._pure(self._binding, rows, *self._args)))
            if self._stamped:
                for model in out:
                    model.received_at = now
        except TradeFloodError:
            raise
        except Exception as error:
            raise self._bound.changed(error, b"") from error
        return out

    def _unknown(self, models: list[Any], known: dict[Any, bool]) -> list[Any]:
        """Those that did not come before; a row that is revised, such as the running candle, is never a repetition.

        Only a row that came since the new connection began shows that the two overlap: its first may be an old one.
        """
        if self.sub.ask.model.time == self.sub.ask.model.key[-1]:
            self.overlaps += 1
            return models
        out = []
        for model in models:  # both connections may have brought it in the same moment
            since = known.get(model.position)
            if since is None:
                known[model.position] = True
                out.append(model)
            elif since:
                self.overlaps += 1
        return out


class Line:
    """One connection of a group of topics: opened, subscribed, read; it says when and why it ends, or should be replaced."""

    def __init__(
        self,
        channels: dict[str, Channel],
        path: str,
        connector: Connector,
        feed: Feed,
        network: Network,
        health: Health,
        give: Callable[[list[Any]], None],
        drop: Callable[[Channel, list[Any]], None],
        room: Room,
        number: int,
        recorder: Recorder | None,
        fast: bool | None,  # noqa: FBT001 - a choice of three
    ) -> None:
        self.channels = self._channels = channels
        self._connector, self._feed = connector, feed
        self._network, self._health, self._give = network, health, give
        self._drop, self._room = drop, room
        self._number, self._recorder, self._fast = number, recorder, fast
        if recorder is not None:  # several streams may record into one folder
            self._number = recorder.connection()
        self._url = feed.url + path + connector.open(list(channels))
        positions = {topic: each.offsets.position for topic, each in channels.items() if each.offsets is not None}
        self.conversation = Conversation(
            connector,
            feed,
            list(channels),
            network.clock.now(),
            {t: at for t, at in positions.items() if at is not None},
        )
        self.opened_at = 0
        self.ended: str | None = None
        self.leaving: str | None = None
        """Why it should be replaced; it is read, and kept alive, until it is."""
        self.failed: TradeFloodError | None = None
        self.socket: Socket | None = None
        self.spoken: set[Channel] | None = None
        """The channels that it brought rows of, while somebody wants to know."""
        self.unreadable = 0
        self.leave: Exit = DIRECT
        self._seat = Seat()
        self._stirred = asyncio.Event()
        self._over = asyncio.Event()
        self.gone = asyncio.Event()
        """Set once it has ended."""
        self.when_gone: Callable[[], None] | None = None
        """Called when it ends, while somebody wants to know."""
        self._task: asyncio.Task[None] | None = None
        self._dirty: dict[Channel, None] = {}
        self._read_at = 0
        frames = connector.frames
        self._decode = msgspec.json.Decoder(frames.type).decode if frames is not None else None
        self._split: Callable[[Any], Any] = attrgetter(frames.topic, frames.row) if frames is not None else tuple

    # ---------------------------------------------------------------- its life

    async def open(self, leave: Exit) -> None:
        """Connect and begin to subscribe, once the venue's limits of connections allow it.

        Raises TransportError where it cannot be opened. Where the venue says until when, nobody tries before.
        """
        network, venue = self._network, self._connector.venue
        self.leave = leave
        self._seat = await network.limiter.seat(venue, self._feed, leave)
        try:
            await network.limiter.attempt(venue, self._feed, leave)
            self.conversation.begin(network.clock.now())
            self.socket = await network.sockets(
                self._url, self, leave=leave, headers=self._feed.headers, fast=self._fast
            )
        except NotUpgraded as error:
            self._seat.give_back()
            raise self._refused(error) from error
        except BaseException:
            self._seat.give_back()
            raise
        network.limiter.opened(venue, leave)
        self.opened_at = network.clock.now()
        self._health.opened += 1
        self._record("connect", "", self._url)
        self._task = asyncio.create_task(self._talk())

    def _refused(self, error: NotUpgraded) -> TransportError:
        """The error of a refused handshake, which is judged like any other answer: one that says not now pauses all attempts."""
        reply = Reply(error.status, error.body, error.headers, self._network.clock.now())
        until = retry_after(reply)
        try:
            self._connector.judge(reply)
        except RateLimited as limit:
            until = limit.until
        except Exception:  # noqa: BLE001 - whatever else it is, it is no connection
            if until is None:
                return error
        pause = self._network.limiter.refused(self._connector.venue, self.leave, until)
        return TransportError(f"{error}; no connection is tried before {pause.moment}")

    async def close(self) -> None:
        """End it. What still comes meanwhile is not taken any more."""
        try:
            if self._task is not None:
                await ended(self._task)
        finally:  # also where whoever closes it is cancelled, as all are when their loop ends
            self._flush()
            self._channels = {}
            if self.socket is not None:
                with suppress(Exception):
                    await self.socket.close()
            self._seat.give_back()

    async def over(self) -> None:
        """Wait until it has ended, or should be replaced."""
        await self._over.wait()

    def retire(self, why: str) -> None:
        """Ask whoever holds this line for a successor; reading goes on meanwhile."""
        if self.leaving is None:
            self.leaving = why
        self._over.set()

    @property
    def acknowledged(self) -> bool:
        """Whether the venue has answered for every topic."""
        return not self.conversation.unanswered

    async def _talk(self) -> None:
        """Write what the conversation wants written, until the connection ends."""
        clock, told, acknowledged = self._network.clock, self.conversation, False
        assert self.socket is not None
        try:
            while self.ended is None:
                now = clock.now()
                told.heard(self._read_at)
                if why := told.dead(now):
                    raise TransportError(why)
                for out in told.send(now):
                    await self.socket.send(out)
                    self._record("out", out)
                if told.pings(now):
                    await self.socket.ping()
                self._health.acked |= told.acked
                if not acknowledged and self.acknowledged:
                    acknowledged = True
                    self._network.observe("stream.acknowledged", venue=self._connector.venue, topics=len(told.acked))
                for topic, why in told.denied.items():
                    if topic not in self._health.denied:
                        self._health.denied[topic] = why
                        self._health.complain(f"{self._connector.venue} refused {topic}: {why}")
                if told.denied and not told.wanted.keys() - told.denied.keys():
                    topic, why = next(iter(told.denied.items()))
                    had = told.wanted.keys() & self._health.acked  # what the venue has, it refuses for the moment only
                    raise (TransportError if had else UsageError)(f"{self._connector.venue} refused {topic}: {why}")
                due = told.due(clock.now())
                wait = None if due is None else max(0, due - clock.now()) / SECOND
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):  # wait_for of Python 3.11 may swallow a cancellation
                        await self._stirred.wait()
                self._stirred.clear()
                if told.leaving is not None:
                    self.retire(told.leaving)
                elif told.expires is not None and clock.now() >= told.expires:
                    self.retire("its life is nearly over")
        except TradeFloodError as error:
            self.failed = error
            self.lost(str(error))
        finally:
            self._over.set()

    # ---------------------------------------------------------------- frames; called by the socket

    def messages(self, frames: Sequence[bytes]) -> None:
        """Take in the frames of one reading: their rows go to their topics, and on as models, many at a time."""
        self._read_at = self._network.clock.now()
        if self._recorder is not None:  # with the moment that their rows carry: read anew, they count as no older
            venue, number, at = self._connector.venue, self._number, self._read_at
            for frame in frames:
                self._recorder.feed(venue, number, at, "in", frame)
        if self._decode is None:
            for frame in frames:
                self._hear(frame)
        else:
            self._sort(frames, self._decode, self._split)
        self._flush()

    def lost(self, why: str) -> None:
        """The connection is over."""
        if self.ended is None:
            self.ended = why
        self._seat.give_back()
        for event in (self._stirred, self._over, self.gone):
            event.set()
        tell, self.when_gone = self.when_gone, None
        if tell is not None:
            tell()

    def alive(self) -> None:
        """The connection lives, though nothing is said."""
        self.conversation.heard(self._network.clock.now())

    def _sort(self, frames: Sequence[bytes], decode: Callable[[bytes], Any], split: Callable[[Any], Any]) -> None:
        """Give the rows of data frames to their topics, in order; what is no data frame is heard in its place."""
        taken: defaultdict[str, list[Any]] = defaultdict(list)
        for frame in frames:
            try:
                topic, row = split(decode(frame))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self._deal(taken)
                self._hear(frame)
            else:
                taken[topic].append(row)
        self._deal(taken)

    def _deal(self, taken: dict[str, list[Any]]) -> None:
        for topic, rows in taken.items():
            channel = self._channels.get(topic)
            for each in (channel, *channel.siblings) if channel is not None else ():
                each.rows += rows
                self._dirty[each] = None
        taken.clear()

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
                self._dirty[each] = None
        told = self.conversation
        if not heard or told.has_more_to_say or told.leaving is not None:
            self._stirred.set()

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, {}
        if self.spoken is not None:
            self.spoken.update(dirty)
        for channel in dirty:
            keep = not self._room.dropping
            if models := channel.models(self._read_at, self._blame, keep=keep):
                if keep:
                    self._give(models)
                else:
                    self._drop(channel, models)

    def _blame(self, error: TradeFloodError) -> None:
        self.unreadable += 1
        self._health.unreadable += 1
        self._health.complain(str(error))

    def again(self, topic: str) -> None:
        """Subscribe a topic anew, from where it was where the venue can."""
        channel = self._channels.get(topic)
        offsets = None if channel is None else channel.offsets
        self.conversation.again(topic, None if offsets is None else offsets.position)
        self._stirred.set()

    def shut(self, topic: str) -> None:
        """Take a topic back."""
        self.conversation.shut(topic)
        self._stirred.set()

    def _record(self, direction: str, frame: bytes | str, url: str = "") -> None:
        if self._recorder is not None:
            venue, now = self._connector.venue, self._network.clock.now()
            self._recorder.feed(venue, self._number, now, direction, frame, url)


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel some tasks and wait until they are over, whatever becomes of them.

    Whoever waits may be cancelled too, and hears of it: to await a cancelled task and to suppress what it raises would
    swallow that.
    """
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # it is asked for, so that nobody complains that it was not


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
