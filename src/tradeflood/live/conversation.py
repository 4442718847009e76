"""A live conversation with a venue, without I/O: what is wanted and acknowledged, pacing, heartbeat, lifetime.

send(now) what to write · receive(frame, now) the rows in it · due(now) when to look again
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from tradeflood.errors import PayloadChanged, TradeFloodError
from tradeflood.live.pacing import Pace
from tradeflood.models.time import SECOND
from tradeflood.turns import Acked, Answer, Connector, Denied, Event, Feed, Heartbeat, Leaving, Out, Rows
from tradeflood.turns.connector import excerpt

AT_ONCE = 2
"""How many messages may wait so that one more is still said soon."""

ANSWERS = 100
"""How many pongs and pings may wait to be written: a venue that asks faster than it may be answered wants the newest."""


class Conversation:
    """One connection's worth of topics. Data that come before the acknowledgement count.

    `positions` are the last message's number and epoch of topics that go on from there, where the venue can.
    """

    def __init__(
        self,
        connector: Connector,
        feed: Feed,
        topics: Sequence[str],
        now: int,
        positions: Mapping[str, tuple[int, str]] = MappingProxyType({}),
    ) -> None:
        self._connector, self._feed = connector, feed
        self._beat = feed.heartbeat or Heartbeat()
        self.wanted = dict.fromkeys(topics)
        self.acked: set[str] = set()
        self.denied: dict[str, str] = {}
        self.epochs: dict[str, str] = {}
        self.leaving: str | None = None
        self._opened = self._spoke = self._heard = now
        self._pinged: int | None = None
        self._number = 0
        self._asked: dict[int, tuple[str, ...]] = {}
        self._answers: deque[Out] = deque(maxlen=ANSWERS)  # pongs and pings go first
        self._outbox: deque[tuple[Out, tuple[str, ...]]] = deque()  # with the topics that a message subscribes
        self._unsaid: set[str] = set()
        self._said: dict[str, int] = {}
        self._pace = Pace([(max(1, most - feed.pongs), per) for most, per in feed.messages])
        self._subscribing = Pace(feed.subscriptions)
        self._resumes = type(connector).resume is not Connector.resume
        self._subscribe(tuple(topics), positions)

    def begin(self, now: int) -> None:
        """The connection opens now; the conversation may have waited for its turn."""
        self._opened = self._spoke = self._heard = now

    def shut(self, topic: str) -> None:
        """Take a topic back: nobody wants it now."""
        self.wanted.pop(topic, None)
        self.acked.discard(topic)
        self._say("unsubscribe", (topic,))

    def again(self, topic: str, position: tuple[int, str] | None = None) -> None:
        """Subscribe a topic anew: it was acknowledged and says nothing; or it is wanted once more."""
        if topic in self.wanted:
            self._say("unsubscribe", (topic,))
        self.wanted[topic] = None
        self.acked.discard(topic)
        self.denied.pop(topic, None)
        self._subscribe((topic,), {} if position is None else {topic: position})

    def _subscribe(self, topics: tuple[str, ...], positions: Mapping[str, tuple[int, str]]) -> None:
        going_on = positions.keys() & set(topics) if self._resumes else set()
        for topic in topics:
            if topic in going_on:
                self._number += 1
                self._asked[self._number] = (topic,)
                self._queue(self._connector.resume(topic, *positions[topic], self._number), (topic,))
        self._say("subscribe", tuple(topic for topic in topics if topic not in going_on))

    def _say(self, verb: str, topics: tuple[str, ...]) -> None:
        for frames, about in self._parts(verb, topics):
            self._queue(frames, about if verb == "subscribe" else ())

    def _queue(self, frames: Iterable[Out], topics: tuple[str, ...]) -> None:
        for frame in frames:
            self._outbox.append((frame, topics))
            self._unsaid.update(topics)

    # ---------------------------------------------------------------- out

    def send(self, now: int) -> list[Out]:
        """What to write now, within the venue's limits of messages and of subscriptions."""
        beat = self._beat
        waits = self._answers or (self._outbox and self._subscribing.next(now) <= now)
        if beat.send is not None and now - self._spoke >= beat.every and not waits:
            self._answers.append(beat.send)
            self._pinged = now if self._pinged is None else self._pinged
        out: list[Out] = []
        while self._pace.next(now) <= now:
            if self._answers:
                out.append(self._answers.popleft())
            elif self._outbox and self._subscribing.next(now) <= now:
                frame, topics = self._outbox.popleft()
                out.append(frame)
                self._subscribing.did(now)
                self._unsaid.difference_update(topics)
                self._said |= dict.fromkeys(topics, now)
            else:
                break
            self._pace.did(now)
        if out:
            self._spoke = now
        return out

    def pings(self, now: int) -> bool:
        """Whether to write a ping of the protocol itself now: nothing was heard for a while. It counts as a message."""
        beat = self._beat
        if (
            beat.send is not None
            or self._pinged is not None
            or now - self._heard < beat.every
            or self._pace.next(now) > now
        ):
            return False
        self._pace.did(now)
        self._pinged = now
        return True

    def heard(self, at: int) -> None:
        """Something came at a moment, be it a pong: the connection lives."""
        self._heard = max(self._heard, at)
        if self._pinged is not None and at >= self._pinged:
            self._pinged = None

    def dead(self, now: int) -> str | None:
        """Why the connection is taken for dead; None while it is not."""
        if self._pinged is None or now - self._pinged < self._beat.within:
            return None
        return f"nothing was heard for {(now - self._heard) // SECOND} s, and no answer to a ping"

    def due(self, now: int) -> int | None:
        """The next moment at which there may be something to write, or to be seen."""
        beat, moments = self._beat, []
        if self._answers:
            moments.append(self._pace.next(now))
        if self._outbox:
            moments.append(max(self._pace.next(now), self._subscribing.next(now)))
        if beat.send is not None:
            moments.append(self._spoke + beat.every)
        elif self._pinged is None:
            moments.append(max(self._heard + beat.every, self._pace.next(now)))
        if self._pinged is not None:
            moments.append(self._pinged + beat.within)
        if self.expires is not None and now < self.expires:
            moments.append(self.expires)
        return min(moments, default=None)

    @property
    def has_more_to_say(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._answers or self._outbox)

    def may_subscribe(self, now: int) -> bool:
        """Whether a subscription can be said soon, within the venue's limits and after the little that waits."""
        return len(self._outbox) <= AT_ONCE and max(self._pace.next(now), self._subscribing.next(now)) <= now + SECOND

    def subscribed_at(self, topic: str) -> int | None:
        """When a topic was last subscribed; None while that waits in line."""
        return None if topic in self._unsaid else self._said.get(topic, self._opened)

    def takes_over(self, old: Conversation) -> None:
        """Nothing; what both have subscribed was listened to without a break since the old one did."""
        for topic in self.wanted.keys() & old.wanted.keys() - self._unsaid:
            if (at := old.subscribed_at(topic)) is not None:
                self._said[topic] = at

    @property
    def unanswered(self) -> set[str]:
        """The topics that the venue has neither acknowledged nor refused."""
        return self.wanted.keys() - self.acked - self.denied.keys()

    @property
    def expires(self) -> int | None:
        """When the venue ends this connection, less a margin; None where it does not."""
        life = self._feed.lifetime
        return None if life is None else self._opened + life - life // 100

    # ---------------------------------------------------------------- in

    def receive(self, frame: bytes, now: int) -> list[Rows]:
        """The rows of a frame; everything else it says is taken in.

        Raises PayloadChanged where the frame is not of any declared shape; the conversation goes on.
        """
        self.heard(now)
        try:
            found = []
            for event in self._connector.hear(frame):
                if type(event) is Rows:
                    found.append(event if event.sequence is None else self._placed(event))
                else:
                    self._take(event)
        except TradeFloodError:
            raise
        except Exception as error:
            text = f"{self._connector.venue}: a frame that cannot be read: {error}: {excerpt(frame)}"
            raise PayloadChanged(text, body=frame) from error
        else:
            return found

    def _placed(self, rows: Rows) -> Rows:
        """Numbered data with the topic and the epoch that the acknowledgement told, where they do not say so themselves."""
        topic, epoch = rows.topic, rows.epoch
        if not topic and rows.number is not None:
            topic = next(iter(self._asked.get(rows.number, ())), "")
        if epoch is None:
            epoch = self.epochs.get(topic)
        if topic == rows.topic and epoch == rows.epoch:
            return rows
        return Rows(topic, rows.rows, rows.sequence, epoch)

    def _take(self, event: Event) -> None:
        """Take in what is no data."""
        if isinstance(event, Answer):
            self._answers.append(event.out)
        elif isinstance(event, Acked):
            topics = self._topics(event)
            self.acked.update(topics)
            if event.epoch is not None:
                self.epochs |= dict.fromkeys(topics, event.epoch)
        elif isinstance(event, Denied):
            unnamed = not event.topics and event.number not in self._asked
            told = tuple(self.wanted.keys() - self.acked) if unnamed else self._topics(event)
            self.denied |= dict.fromkeys(told, event.why)
        elif isinstance(event, Leaving):
            self.leaving = event.why or "the venue closes this connection"

    def _topics(self, event: Acked | Denied) -> tuple[str, ...]:
        return event.topics or (self._asked.get(event.number, ()) if event.number is not None else ())

    # ---------------------------------------------------------------- messages, as large as the venue takes them

    def _parts(self, verb: str, topics: tuple[str, ...]) -> Iterator[tuple[Iterable[Out], tuple[str, ...]]]:
        most = self._feed.topics_per_message
        for at in range(0, len(topics), most):
            yield from self._fit(verb, topics[at : at + most])

    def _fit(self, verb: str, topics: tuple[str, ...]) -> Iterator[tuple[Iterable[Out], tuple[str, ...]]]:
        """One message with its topics, or the messages of both halves where it would be too long."""
        number = self._number + 1
        frames = list(self._connector.say(verb, topics, number))
        longest = max((len(frame.encode() if isinstance(frame, str) else frame) for frame in frames), default=0)
        if longest > self._feed.bytes_per_message and len(topics) > 1:
            half = len(topics) // 2
            yield from self._fit(verb, topics[:half])
            yield from self._fit(verb, topics[half:])
            return
        self._number = number
        self._asked[number] = topics if verb == "subscribe" else ()
        yield frames, topics
