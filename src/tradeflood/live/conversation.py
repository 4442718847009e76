"""A live conversation with a venue, without I/O: what is wanted and acknowledged, pacing, heartbeat, lifetime.

send(now) what to write · receive(frame, now) the rows in it · due(now) when to look again
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from tradeflood.errors import PayloadChanged, TradeFloodError
from tradeflood.turns import Acked, Answer, Connector, Denied, Event, Feed, Leaving, Out, Rows
from tradeflood.turns.connector import excerpt


class Conversation:
    """One connection's worth of topics. Data that come before the acknowledgement count."""

    def __init__(self, connector: Connector, feed: Feed, topics: Sequence[str], now: int) -> None:
        self._connector, self._feed = connector, feed
        self.wanted = dict.fromkeys(topics)
        self.acked: set[str] = set()
        self.denied: dict[str, str] = {}
        self.leaving: str | None = None
        self._opened = self._spoke = self._heard = now
        self._number = 0
        self._asked: dict[int, tuple[str, ...]] = {}
        self._outbox: deque[Out] = deque()
        self._sent: deque[int] = deque()
        for part in self._parts("subscribe", tuple(topics)):
            self._outbox += part

    def again(self, topic: str) -> None:
        """Subscribe a topic anew: it was acknowledged and says nothing."""
        self.acked.discard(topic)
        for verb in ("unsubscribe", "subscribe"):
            for part in self._parts(verb, (topic,)):
                self._outbox += part

    # ---------------------------------------------------------------- out

    def send(self, now: int) -> list[Out]:
        """What to write now, within the venue's limit of messages."""
        beat = self._feed.heartbeat
        if beat is not None and beat.send is not None and now - self._spoke >= beat.every and not self._outbox:
            self._outbox.append(beat.send)
        most, per = self._feed.messages
        while self._sent and self._sent[0] <= now - per:
            self._sent.popleft()
        out: list[Out] = []
        while self._outbox and len(self._sent) < most:
            out.append(self._outbox.popleft())
            self._sent.append(now)
        if out:
            self._spoke = now
        return out

    def due(self, now: int) -> int | None:
        """The next moment at which `send` may have something, or the connection's lifetime ends; None: never by itself."""
        moments = []
        if self._outbox:
            moments.append(self._sent[0] + self._feed.messages[1] if len(self._sent) >= self._feed.messages[0] else now)
        beat = self._feed.heartbeat
        if beat is not None and beat.send is not None:
            moments.append(self._spoke + beat.every)
        if self._feed.lifetime is not None:
            moments.append(self.expires)  # type: ignore[arg-type]
        return min(moments, default=None)

    @property
    def has_more_to_say(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._outbox)

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
        self._heard = now
        try:
            return [event for event in self._connector.hear(frame) if type(event) is Rows or self._take(event)]  # type: ignore[misc]
        except TradeFloodError:
            raise
        except Exception as error:
            text = f"{self._connector.venue}: a frame that cannot be read: {error}: {excerpt(frame)}"
            raise PayloadChanged(text, body=frame) from error

    def _take(self, event: Event) -> bool:
        """Take in what is no data; always False, for there is nothing to hand on."""
        if isinstance(event, Answer):
            self._outbox.appendleft(event.out)
        elif isinstance(event, Acked):
            self.acked.update(self._topics(event))
        elif isinstance(event, Denied):
            self.denied |= dict.fromkeys(self._topics(event) or tuple(self.wanted.keys() - self.acked), event.why)
        elif isinstance(event, Leaving):
            self.leaving = event.why or "the venue closes this connection"
        return False

    def _topics(self, event: Acked | Denied) -> tuple[str, ...]:
        return event.topics or (self._asked.get(event.number, ()) if event.number is not None else ())

    # ---------------------------------------------------------------- messages, as large as the venue takes them

    def _parts(self, verb: str, topics: tuple[str, ...]) -> Iterator[Iterable[Out]]:
        most = self._feed.topics_per_message
        for at in range(0, len(topics), most):
            yield from self._fit(verb, topics[at : at + most])

    def _fit(self, verb: str, topics: tuple[str, ...]) -> Iterator[Iterable[Out]]:
        """One message, or the messages of both halves where it would be too long."""
        number = self._number + 1
        frames = list(self._connector.say(verb, topics, number))
        longest = max((len(frame.encode() if isinstance(frame, str) else frame) for frame in frames), default=0)
        if longest > self._feed.bytes_per_message and len(topics) > 1:
            half = len(topics) // 2
            yield from self._fit(verb, topics[:half])
            yield from self._fit(verb, topics[half:])
            return
        self._number = number
        self._asked[number] = topics
        yield frames
