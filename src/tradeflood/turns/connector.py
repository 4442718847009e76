"""Connector: what a venue can be asked, declared. It performs no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from attrs import evolve, field, frozen

from tradeflood.errors import RateLimited, Refused, Unavailable, UsageError
from tradeflood.models.time import SECOND, from_datetime
from tradeflood.turns.events import Event, Frames, Out
from tradeflood.turns.limits import Budget, Feed, Rest
from tradeflood.turns.registry import registry
from tradeflood.turns.request import Reply
from tradeflood.turns.symbols import Symbols


@frozen
class Settings:
    """What a user may set for a venue: other addresses, other figures for its declared limits."""

    rest_url: str | None = None
    feed_url: str | None = None
    limits: Mapping[str, int] = field(factory=dict)
    feed: Mapping[str, Any] = field(factory=dict)


_DIGITS = 12  # a number of seconds that is longer is none


class Connector:
    """Subclass it, say `venue = "…"`, and it is registered; subclass a built-in one to replace it.

    Whatever a table can say is a table: `rest`, `feed`, `symbols`. `envelope` is a generic struct with a field
    `data` in which every answer comes. `frames` is the type of most live frames, where one type serves them.
    Methods with `@turn` say what can be asked.
    """

    venue: ClassVar[str] = ""
    rest: Rest
    feed: Feed | None = None
    symbols: ClassVar[Symbols] = Symbols()
    envelope: ClassVar[Any] = None
    frames: ClassVar[Frames | None] = None

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if cls.venue:
            registry.enter_connector(cls)

    def __init__(self, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self._limits = dict(settings.limits)
        rest = type(self).rest
        self.rest = evolve(
            rest, url=relocated(rest.url, settings.rest_url), budget=self.budget_of(rest.budget, settings.limits)
        )
        feed = type(self).feed
        if feed is not None:
            try:
                feed = evolve(feed, **{"url": relocated(feed.url, settings.feed_url), **settings.feed})
            except TypeError as error:
                raise UsageError(f"venue {self.venue}: the feed has no such setting: {error}") from error
        self.feed = feed

    def budget_of(self, budget: Budget | None, limits: Mapping[str, int] | None = None) -> Budget:
        """A declared budget with the figure that the settings give it; the connector's own where none is declared."""
        if budget is None:
            return self.rest.budget
        limit = (self._limits if limits is None else limits).get(budget.name)
        return budget if limit is None else evolve(budget, limit=limit)

    def judge(self, reply: Reply) -> None:
        """Raise the error that an answer is; return where it is none. Extend it for errors inside HTTP 200."""
        status = reply.status
        if 200 <= status < 300:
            if not reply.body.strip():
                raise Unavailable(f"{self.venue}: an empty answer (HTTP {status})")
            if reply.body.lstrip()[:1] == b"<":
                raise Unavailable(f"{self.venue}: a page instead of data (HTTP {status}): {excerpt(reply.body)}")
            return
        if status in {429, 418}:
            raise RateLimited(f"{self.venue}: too many requests (HTTP {status})", until=retry_after(reply))
        if status >= 500 or status in {403, 408}:
            raise Unavailable(f"{self.venue}: HTTP {status}: {excerpt(reply.body)}")
        raise Refused(f"{self.venue}: HTTP {status}: {excerpt(reply.body)}")

    def spent(self, reply: Reply) -> int | None:
        """How much of its budget the venue counts as used, where an answer tells."""
        del reply
        return None

    def clock(self, reply: Reply) -> int:
        """The venue's time of an answer in ns: from the `Date` header, our own clock where there is none."""
        if date := reply.headers.get("date"):
            try:
                return from_datetime(parsedate_to_datetime(date))
            except ValueError:
                pass
        return reply.received_at

    # ------------------------------------------------------------ live: a sans-I/O conversation

    def open(self, topics: Sequence[str]) -> str:
        """What follows the feed's URL and path when a connection is opened for these topics."""
        del topics
        return ""

    def say(self, verb: str, topics: Sequence[str], number: int) -> Iterable[Out]:
        """The frames that `subscribe` or `unsubscribe` these topics, as message number so and so."""
        raise NotImplementedError(f"{self.venue} has no live feed")

    def hear(self, frame: bytes) -> Iterable[Event]:
        """What a frame says."""
        raise NotImplementedError(f"{self.venue} has no live feed")


def relocated(url: str, other: str | None) -> str:
    """The URL with scheme, host and port of another one; the path stays, below the other's own path.

    Raises UsageError where the other is no URL.
    """
    if other is None:
        return url
    old, new = urlsplit(url), urlsplit(other)
    if not (new.scheme and new.netloc):
        raise UsageError(f"no URL {other!r}; write scheme, host and port, such as http://127.0.0.1:9001")
    return urlunsplit((new.scheme, new.netloc, new.path.rstrip("/") + old.path, old.query, ""))


def retry_after(reply: Reply) -> int | None:
    """The moment that a `Retry-After` header names, in ns by our clock; None where it names none."""
    text = reply.headers.get("retry-after", "").strip()
    if text.isdecimal() and len(text) < _DIGITS:
        return reply.received_at + int(text) * SECOND
    try:
        return from_datetime(parsedate_to_datetime(text)) if text else None
    except ValueError:
        return None


def excerpt(body: bytes) -> str:
    """The beginning of a body, on one line, for a message."""
    return " ".join(body[:200].decode("utf-8", "replace").split())
