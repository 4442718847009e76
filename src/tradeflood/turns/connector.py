"""Connector: what a venue can be asked, declared. It performs no I/O."""

from __future__ import annotations

import re
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
from tradeflood.turns.turn import TurnSpec


@frozen
class Settings:
    """What a user may set for a venue: other addresses, other figures for its declared limits, two connections for one."""

    rest_url: str | None = None
    feed_url: str | None = None
    limits: Mapping[str, int] = field(factory=dict)
    feed: Mapping[str, Any] = field(factory=dict)
    pair: bool = False


_DIGITS = 12  # a number of seconds that is longer is none
_HEAD = 2_000  # bytes of a refusal that are looked at
_BANNED = re.compile(rb"\bIP\b[^.;<>]{0,40}\b(banned|blocked)\b", re.IGNORECASE)


class Connector:
    """Subclass it, say `venue = "…"`, and it is registered; subclass a built-in one to replace it.

    Whatever a table can say is a table: `rest`, `feed`, `symbols`. `envelope` is a generic struct with a field
    `data` in which every answer comes. `frames` is the type of most live frames, where one type serves them.
    Methods with `@turn` say what can be asked. `version` is that of its parsers and of its bindings': whoever corrects
    what they make of the same bytes raises it, and claims tell the rows of the one from those of the other.
    """

    venue: ClassVar[str] = ""
    version: ClassVar[int] = 1
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
        settings, where = settings or Settings(), f"venues.{self.venue}"
        self._limits = _limits(type(self), settings.limits, f"{where}.limits")
        rest = type(self).rest
        url = relocated(rest.url, settings.rest_url, f"{where}.rest_url")
        self.rest = evolve(rest, url=url, budget=self.budget_of(rest.budget, self._limits))
        feed = type(self).feed
        if feed is not None:
            url = relocated(feed.url, settings.feed_url, f"{where}.feed_url")
            others = (
                feed.others if settings.feed_url is None else ()
            )  # they are the venue's, not of what stands in for it
            feed = evolve(feed, **{"url": url, "others": others, **_figures(settings.feed, f"{where}.feed")})
        self.feed = feed
        self.pair = settings.pair

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
        if status == 429 or is_ban(reply):
            raise not_now(f"{self.venue}: too many requests (HTTP {status})", reply)
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

    def resume(self, topic: str, offset: int, epoch: str, number: int) -> Iterable[Out]:
        """The frames that subscribe a topic and ask for what was missed since an offset of an epoch, where a venue can."""
        del offset, epoch
        return self.say("subscribe", (topic,), number)

    def hear(self, frame: bytes) -> Iterable[Event]:
        """What a frame says."""
        raise NotImplementedError(f"{self.venue} has no live feed")


def relocated(url: str, other: str | None, where: str) -> str:
    """The URL with scheme, host and port of another one; the path stays, below the other's own path.

    Raises UsageError that names where it stands, where the other is no URL of that sort.
    """
    if other is None:
        return url
    old = urlsplit(url)
    sorts = ("ws", "wss") if old.scheme.startswith("ws") else ("http", "https")
    try:
        new = urlsplit(other)
        good = new.scheme in sorts and new.hostname and new.port != 0  # reading the port looks at it
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"{where}: no URL {other!r}; write scheme, host and port, such as {sorts[0]}://127.0.0.1:9001")
    return urlunsplit((new.scheme, new.netloc, new.path.rstrip("/") + old.path, old.query, ""))


def _limits(connector: type[Connector], settings: Mapping[str, int], where: str) -> dict[str, int]:
    """The figures for budgets that the connector declares.

    Raises UsageError for a budget that it does not, and for a figure below one.
    """
    specs = (spec for base in connector.__mro__ for spec in vars(base).values() if isinstance(spec, TurnSpec))
    known = {connector.rest.budget.name, *(spec.budget.name for spec in specs if spec.budget is not None)}
    for name, limit in settings.items():
        if name not in known:
            raise UsageError(f"{where}: no budget {name!r}; there are {', '.join(sorted(known))}")
        _at_least_one(limit, f"{where}.{name}")
    return dict(settings)


_FIGURES = ("streams", "topics_per_message", "bytes_per_message", "lifetime", "connections")
_WINDOWS = ("messages", "subscriptions", "attempts")


def _figures(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The figures of a feed, as `Feed` takes them.

    Raises UsageError for a setting that is none, and for a figure of another type or below one.
    """
    made: dict[str, Any] = {}
    for name, value in settings.items():
        place = f"{where}.{name}"
        if name in _FIGURES:
            made[name] = _at_least_one(value, place)
        elif name in _WINDOWS:
            made[name] = _windows(value, place)
        elif name == "others":
            made[name] = _addresses(value, place)
        else:
            raise UsageError(f"{where}: no setting {name!r}; there are {', '.join((*_FIGURES, *_WINDOWS, 'others'))}")
    return made


def _windows(value: Any, where: str) -> tuple[tuple[int, int], ...]:
    """One window or a list of them."""
    parts = value if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple) else [value]
    for part in parts:
        if not isinstance(part, list | tuple) or len(part) != 2:
            raise UsageError(f"{where}: must be [how many, in how many ns], not {value!r}; or a list of such")
    return tuple((_at_least_one(part[0], where), _at_least_one(part[1], where)) for part in parts)


def _addresses(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise UsageError(f"{where}: must be a list of addresses, not {value!r}")
    return tuple(relocated("wss://other", url, where) for url in value)


def _at_least_one(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{where}: must be a whole number, not {value!r}")
    if value < 1:
        raise UsageError(f"{where}: must be at least 1, not {value}")
    return value


def retry_after(reply: Reply) -> int | None:
    """The moment that a `Retry-After` header names, in ns by our clock; None where it names none."""
    text = reply.headers.get("retry-after", "").strip()
    if text.isdecimal() and len(text) < _DIGITS:
        return reply.received_at + int(text) * SECOND
    try:
        return from_datetime(parsedate_to_datetime(text)) if text else None
    except ValueError:
        return None


def is_ban(reply: Reply) -> bool:
    """Whether a refusal concerns everything from this address rather than one budget: HTTP 418, or a body that says so."""
    return reply.status == 418 or (reply.status in {403, 429} and _BANNED.search(reply.body[:_HEAD]) is not None)


def not_now(text: str, reply: Reply, until: int | None = None) -> RateLimited:
    """The error of a refusal: until the moment that is known, or that its header names, and for all from this address if it is a ban."""
    return RateLimited(text, until=retry_after(reply) if until is None else until, banned=is_ban(reply))


def excerpt(body: bytes) -> str:
    """The beginning of a body, on one line, for a message."""
    return " ".join(body[:200].decode("utf-8", "replace").split())
