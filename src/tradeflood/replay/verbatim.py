"""What a venue really said, said again: answers to equal requests, and frames to whoever subscribed to their topic.

Theory. A tape is the received frames of a venue in their order. It begins to run when the first client subscribes to
a topic that is on it, and from then on a frame is due `speed` times as fast as it came. Whoever is the first at a
topic gets all of it, be it late; whoever comes later, as after a cut, joins where the tape is, as at the venue. When
the tape is over the connection stays open and silent.

Answers keep the `Date` that they came with: it tells which of the candles in them were closed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar, TypeAlias

from attrs import frozen

from tradeflood.replay.desk import LOOPBACK, Clock, Close, Conversation, Desk, Frame, HttpAnswer, HttpRequest, Message
from tradeflood.replay.recording import Exchange

PORTION = 2_000
"""How many frames one look hands out: bounds what a slow reader makes us hold."""

_Key: TypeAlias = tuple[str, str, frozenset[tuple[str, str]]]
Shape: TypeAlias = tuple[str, frozenset[str]]
"""A path and the names of its parameters."""


@frozen
class Played:
    """A frame of a tape, with when it came and the topics whose rows are in it."""

    at: int
    frame: str | bytes
    topics: frozenset[str]


class Tape:
    """The frames of a venue. One per server: every connection hears the same."""

    def __init__(self, frames: Sequence[Played], clock: Clock, speed: Fraction = Fraction(1)) -> None:
        self.frames = frames
        self._clock, self._speed = clock, speed
        self._times = [played.at for played in frames]
        self._begun: int | None = None
        self._played: set[str] = set()
        self._places: dict[str, list[int]] = defaultdict(list)
        for place, played in enumerate(frames):
            for topic in played.topics:
                self._places[topic].append(place)

    def position(self, now: int) -> int:
        """How many frames are due."""
        if self._begun is None or not self._times:
            return 0
        real = self._clock.paced(now) - self._begun
        return bisect_right(self._times, self._times[0] + real * self._speed.numerator // self._speed.denominator)

    def join(self, topic: str, now: int) -> int:
        """The place of the first frame that a new subscriber to a topic is owed."""
        if topic not in self._places:
            return len(self.frames)
        if self._begun is None:
            self._begun = self._clock.paced(now)
        if topic not in self._played:
            self._played.add(topic)
            return 0
        return self.position(now)

    def places(self, topic: str, start: int, end: int) -> Iterable[int]:
        """Where a topic's frames lie in [start, end)."""
        return (place for place in self._places.get(topic, ()) if start <= place < end)


class Answers:
    """The recorded answers, by request: in the order in which they came, the last one again and again."""

    def __init__(self, exchanges: Iterable[Exchange], lists: Iterable[Shape]) -> None:
        self._told: dict[_Key, deque[HttpAnswer]] = defaultdict(deque)
        self._newest: dict[Shape, HttpAnswer] = {}
        self._lists = frozenset(lists)
        for exchange in exchanges:
            answer = HttpAnswer(exchange.status, dict(exchange.headers), exchange.reply.body)
            self._told[exchange.method, exchange.path, frozenset(exchange.params.items())].append(answer)
            if exchange.status == 200:
                self._newest[exchange.path, frozenset(exchange.params)] = answer
                self._newest[exchange.path, frozenset()] = answer

    def to(self, request: HttpRequest) -> HttpAnswer | None:
        """What was answered to an equal request; to a list asked for otherwise, the list as it was told last."""
        told = self._told.get((request.method, request.path, frozenset(request.params.items())))
        if told:
            return told.popleft() if len(told) > 1 else told[0]
        shape = request.path, frozenset(request.params)
        if request.method != "GET" or shape not in self._lists:
            return None
        return self._newest.get(shape) or self._newest.get((request.path, frozenset()))


class Verbatim(Desk):
    """Stands before a venue's desk, which answers what was not recorded just so. See `verbatim`."""

    tape: ClassVar[Tape]
    answers: ClassVar[Answers]

    def answer(self, request: HttpRequest, now: int) -> HttpAnswer:
        """The recorded answer, or the desk's own."""
        return self.answers.to(request) or super().answer(request, now)  # type: ignore[safe-super]  # a desk follows

    def connect(
        self, path: str, params: Mapping[str, str], now: int, client: str = LOOPBACK
    ) -> Conversation | HttpAnswer:
        """The desk's conversation, which says what was recorded."""
        said = super().connect(path, params, now, client)  # type: ignore[safe-super]
        return Repeating(said, self.tape, now) if isinstance(said, Conversation) else said


def verbatim(desk: type[Desk], tape: Tape, answers: Answers) -> type[Desk]:
    """A venue's desk that says what was recorded, wherever it was."""
    kind: Any = type(f"Recorded{desk.__name__}", (Verbatim, desk), {"tape": tape, "answers": answers})
    return kind  # type: ignore[no-any-return]


class Repeating(Conversation):
    """A connection on which the desk acknowledges and the tape speaks."""

    def __init__(self, inner: Conversation, tape: Tape, now: int) -> None:
        super().__init__(inner.clock, now)
        self._inner, self._tape = inner, tape
        self._owed: dict[str, int] = {}  # by topic, the first frame of it
        self._place = 0
        self._late: deque[int] = deque()
        self._join(now)

    def receive(self, message: Message, now: int) -> list[Frame]:
        """What the desk answers."""
        frames = self._inner.receive(message, now)
        self._join(now)
        return frames

    def topics(self) -> Iterable[str]:
        """What is subscribed."""
        return self._inner.topics()

    def due(self, after: int, up_to: int) -> Iterable[tuple[int, Frame]]:
        """Nothing: `advance` asks the tape itself."""
        del after, up_to
        return ()

    def advance(self, now: int) -> list[Frame]:
        """The next portion of the tape that is due."""
        if self.ended:
            return []
        frames = self._inner.control(now)
        self.ended = any(isinstance(frame, Close) for frame in frames)
        if frames:
            return frames
        while self._late and len(frames) < PORTION:
            frames += self._said(self._late.popleft())
        up_to = self._tape.position(now)
        while self._place < up_to and len(frames) < PORTION:
            if self._wants(self._place):
                frames += self._said(self._place)
            self._place += 1
        return frames

    def notice(self, now: int) -> list[Frame]:
        """What the desk announces."""
        return self._inner.notice(now)

    def _said(self, place: int) -> list[str | bytes]:
        """The frame of a place, unless all of it is muted."""
        played = self._tape.frames[place]
        return [] if played.topics == {self.muted} else [played.frame]

    def _join(self, now: int) -> None:
        """Takes note of what was subscribed since; what is owed of it from before is sent first."""
        topics = set(self._inner.topics())
        for topic in self._owed.keys() - topics:
            del self._owed[topic]
        new = {topic: self._tape.join(topic, now) for topic in topics - self._owed.keys()}
        if not self._owed and new:
            self._place = min(new.values())
        missed = {
            place
            for topic, first in new.items()
            for place in self._tape.places(topic, first, self._place)
            if not self._wants(place)
        }
        self._late += sorted(missed)
        self._owed |= new

    def _wants(self, place: int) -> bool:
        owed = self._owed
        return any(topic in owed and owed[topic] <= place for topic in self._tape.frames[place].topics)
