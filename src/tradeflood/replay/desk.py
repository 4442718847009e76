"""A venue's server side without I/O: requests in, answers out; a conversation that tells what its feed owes.

The shell (`wire.py`) reads bytes, asks a desk with the desk's time, and writes what it says. A venue is a subclass
of `Desk` that states `venue =`, in a module of its own under `tradeflood.replay.desks`.
"""

from __future__ import annotations

import importlib
import pkgutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from fractions import Fraction
from typing import Any, ClassVar, TypeAlias

import msgspec
from attrs import evolve, field, frozen

from tradeflood.errors import UsageError
from tradeflood.models import Market
from tradeflood.models.time import SECOND
from tradeflood.replay.source import Source

LOOPBACK = "127.0.0.1"


@frozen
class HttpRequest:
    """A request as a desk sees it: `params` is the decoded query, header names are in lower case."""

    method: str
    path: str
    params: Mapping[str, str] = field(factory=dict)
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = b""
    client: str = LOOPBACK


class Fate(Enum):
    """How much of an answer is really sent."""

    WHOLE = "whole"
    HALF = "half"
    """The head and half of the promised body, then the connection closes."""
    NOTHING = "nothing"
    """The connection closes without a byte."""


@frozen
class HttpAnswer:
    """An answer. `delay` in real ns, and `fate`, are for faults; a desk leaves them alone."""

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = b""
    delay: int = 0
    fate: Fate = Fate.WHOLE


@frozen
class Ping:
    """A WebSocket ping, sent or received."""

    payload: bytes = b""


@frozen
class Pong:
    """A WebSocket pong received; the shell answers pings by itself."""

    payload: bytes = b""


@frozen
class Close:
    """The end of the connection: with a closing handshake, or cut without one where there is no code."""

    code: int | None = 1000
    reason: str = ""


@frozen
class Half:
    """The first half of the bytes of a text frame, after which the connection is cut."""

    text: str


Message: TypeAlias = str | bytes | Ping | Pong
Frame: TypeAlias = str | bytes | Ping | Close | Half


class Clock:
    """Venue time out of real time: `start` when it is made, then `speed` times as fast; without a start, the real time.

    What a client paces by its own watch (weights per minute, messages per second, pings) goes by `paced`, which
    begins at the same moment and runs at real speed.
    """

    def __init__(
        self,
        speed: float | str | Fraction = 1,
        start: int | None = None,
        *,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        try:
            self.speed = Fraction(str(speed))
        except (ValueError, ZeroDivisionError):
            self.speed = Fraction(0)
        if self.speed <= 0:
            raise UsageError(f"a clock cannot run at speed {speed}; give a number above nought")
        self.start = time.time_ns() if start is None else start
        self._monotonic = monotonic
        self._begin = monotonic()

    def now(self) -> int:
        """The venue's time, in ns."""
        return self.start + (self._monotonic() - self._begin) * self.speed.numerator // self.speed.denominator

    def paced(self, now: int) -> int:
        """A venue time on the scale that runs at real speed."""
        return self.start + (now - self.start) * self.speed.denominator // self.speed.numerator


class Conversation(ABC):
    """One WebSocket connection. A venue says what it answers (`receive`) and what its feed owes (`due`)."""

    portion = SECOND
    """How much venue time one `advance` looks at once: bounds what a slow reader makes us hold."""

    def __init__(self, clock: Clock, now: int) -> None:
        self.clock = clock
        self.sent_to = now
        self.ended = False
        self.muted: str | None = None
        """A topic that is acknowledged and never sent; for faults."""

    @abstractmethod
    def receive(self, message: Message, now: int) -> list[Frame]:
        """What is answered to a message at once: acknowledgements and errors, never rows."""

    @abstractmethod
    def due(self, after: int, up_to: int) -> Iterable[tuple[int, Frame]]:
        """What the feed sends for (after, up_to], each with its time, in any order."""

    def topics(self) -> Iterable[str]:
        """What is subscribed, as the venue's connector names it: what a recording is sent by."""
        return ()

    def notice(self, now: int) -> list[Frame]:
        """How the venue announces that it is about to close this connection; nothing unless a venue says otherwise."""
        del now
        return []

    def control(self, now: int) -> list[Frame]:
        """Pings, heartbeats and closes that are due by the real pace; nothing unless a venue says otherwise."""
        del now
        return []

    def advance(self, now: int) -> list[Frame]:
        """The next portion of what is due; empty only when nothing is due up to `now`."""
        if self.ended:
            return []
        frames = self.control(now)
        self.ended = any(isinstance(frame, Close) for frame in frames)
        while not frames and self.sent_to < now:
            up_to = min(now, self.sent_to + self.portion)
            frames = [frame for _, frame in sorted(self.due(self.sent_to, up_to), key=_time)]
            self.sent_to = up_to
        return frames


def _time(event: tuple[int, Frame]) -> int:
    return event[0]


class Desk(ABC):
    """A venue's server side: stateless but for the budgets of its clients."""

    venue: ClassVar[str]
    desks: ClassVar[dict[str, type[Desk]]] = {}
    quotes: ClassVar[frozenset[str]] = frozenset({"USDT"})
    """The quote assets the venue lists, out of the source's markets where those are not its own."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "venue" in cls.__dict__:
            Desk.desks[cls.venue] = cls

    @classmethod
    @contextmanager
    def scope(cls) -> Iterator[None]:
        """What is defined inside is forgotten at the end: for tests, and for venues that are served only when asked for."""
        known = dict(desks())
        try:
            yield
        finally:
            Desk.desks.clear()
            Desk.desks.update(known)

    def __init__(self, source: Source, clock: Clock) -> None:
        self.source = source.at(self.venue)
        self.clock = clock
        listed = self.source.markets()
        if not self.source.recorded:
            chosen = [market for market in listed if market.quote in self.quotes]
            listed = [evolve(market, symbol=self.spell(market)) for market in chosen]
        self.listed = {market.symbol: market for market in listed}

    def spell(self, market: Market) -> str:
        """The venue's symbol for a market; what the source says unless a venue has its own way."""
        return market.symbol

    @abstractmethod
    def answer(self, request: HttpRequest, now: int) -> HttpAnswer:
        """The venue's answer at a moment of its time."""

    @abstractmethod
    def connect(
        self, path: str, params: Mapping[str, str], now: int, client: str = LOOPBACK
    ) -> Conversation | HttpAnswer:
        """A conversation on this path, or the answer that refuses it."""

    def refusal(self, reason: str, now: int, wait: int | None = None) -> HttpAnswer:
        """How this venue says `limit`, `ban` or `error` (one inside HTTP 200); `wait` in seconds, where it tells."""
        del now
        headers = {} if wait is None else {"Retry-After": str(wait)}
        status = {"limit": 429, "ban": 403, "error": 200}[reason]
        return as_json({"error": reason}, status=status, headers=headers)


def as_json(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    """An answer with a JSON body."""
    body = msgspec.json.encode(value)
    return HttpAnswer(status, {"Content-Type": "application/json;charset=UTF-8", **(headers or {})}, body)


def text_of(value: Any) -> str:
    """Compact JSON as a text frame."""
    return msgspec.json.encode(value).decode()


def desks() -> dict[str, type[Desk]]:
    """Every venue that has a desk, found by looking into `tradeflood.replay.desks`."""
    package = importlib.import_module("tradeflood.replay.desks")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(Desk.desks.items()))


def desk_of(venue: str) -> type[Desk]:
    """The desk of a venue.

    Raises UsageError where there is none, with those there are.
    """
    known = desks()
    if venue not in known:
        raise UsageError(f"no replay for venue {venue!r}; there is {', '.join(known)}")
    return known[venue]
