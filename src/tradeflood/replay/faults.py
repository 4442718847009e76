"""Faults on demand, chosen as text: `NAME[=ARG][@VENUE][%PERCENT or #FIRST][:PATHPREFIX]`, as in `429=2@binance#3`.

`%P` hits with a chance of P in a hundred, `#N` hits the first N; without either the table below decides.
A request fault hits requests, a feed fault connections, a frame fault the frames of rows, never acknowledgements or
pings; a break fault hits connections that another fault broke, and a clock fault the venue's clock. The draws are mixes of a seed, so the same requests in the same order meet the same faults. Desks know nothing
of this: a `FaultyDesk` stands in front of one, a `_FaultyFeed` in front of its conversations.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from email.utils import formatdate
from typing import Any, Literal, TypeAlias

import msgspec
from attrs import evolve, frozen

from tradeflood.errors import UsageError
from tradeflood.models import Candle, Market, Trade
from tradeflood.models.time import SECOND
from tradeflood.replay.desk import (
    LOOPBACK,
    Clock,
    Close,
    Conversation,
    Desk,
    Fate,
    Frame,
    Half,
    HttpAnswer,
    HttpRequest,
    Message,
    text_of,
)
from tradeflood.replay.simulated import Simulated, key_of, mixed
from tradeflood.replay.source import Bar, Kind, Source
from tradeflood.replay.stepped import SteppedBack

HUGE = 10_000_000
"""Bytes of a huge message."""

STEP_AFTER = 10 * SECOND
"""How long after it began a venue's clock steps back."""

Level: TypeAlias = Literal["request", "feed", "frame", "break", "clock"]


@frozen
class Sort:
    """One kind of fault: what it hits, its argument where none is given, and how many it hits unless told otherwise."""

    level: Level
    argument: Decimal | None = None
    percent: Decimal | None = None
    first: int | None = None
    says: str = ""


_TENTH = Decimal(10)

SORTS: Mapping[str, Sort] = {
    "429": Sort("request", says="the venue's own limit answer; ARG: seconds of Retry-After, else no such header"),
    "ban": Sort("request", Decimal(60), first=1, says="refuses everything for ARG seconds from the first hit on"),
    "slow": Sort("request", Decimal(2), says="answers after ARG seconds"),
    "error200": Sort("request", says="the venue's own error body inside HTTP 200"),
    "html": Sort("request", Decimal(200), says="an error page of a gateway; ARG: its status"),
    "truncated": Sort("request", says="half of the body as if it were all of it"),
    "half": Sort("request", says="half of the promised body, then the connection closes"),
    "types": Sort("request", says="every value of the body is of another type"),
    "empty": Sort("request", says="HTTP 200 and no body"),
    "lagging": Sort("request", Decimal(5), says="a replica that does not show the last ARG seconds yet"),
    "nothing": Sort("request", says="the connection closes without an answer"),
    "cut": Sort("feed", Decimal(10), says="the connection breaks after ARG frames"),
    "stall": Sort("feed", Decimal(10), says="nothing more is sent after ARG frames; the socket stays"),
    "mute": Sort("feed", says="acknowledges and never sends"),
    "mutetopic": Sort(
        "feed", Decimal(1), says="acknowledges all and never sends the ARG-th of its topics in the alphabet"
    ),
    "mutelate": Sort("feed", Decimal(10), says="falls silent ARG seconds of venue time after it began"),
    "shutdown": Sort("feed", Decimal(10), says="announces after ARG seconds that it ends, and ends ARG seconds later"),
    "away": Sort("break", Decimal(1), says="no feed is let in for ARG seconds of venue time after one broke"),
    "withhold": Sort("frame", percent=_TENTH, says="frames are not sent; ARG: their share, as in 0.1"),
    "duplicate": Sort("frame", percent=_TENTH, says="frames are sent twice"),
    "reorder": Sort("frame", percent=_TENTH, says="frames are sent after the next one"),
    "late": Sort("frame", Decimal(3), percent=_TENTH, says="frames are sent ARG seconds of venue time too late"),
    "corrupt": Sort("frame", percent=_TENTH, says="frames lose their middle and are no JSON any more"),
    "garbage": Sort("frame", first=1, says="a frame of nonsense before a frame"),
    "huge": Sort("frame", first=1, says="a message of ten million bytes before a frame"),
    "halfframe": Sort("frame", first=1, says="half of the bytes of a frame, then the connection breaks"),
    "stepback": Sort("clock", Decimal(2), says="the clock goes back by ARG seconds, once, ten seconds after it began"),
}

_STOPS = frozenset({"cut", "stall", "mute"})
"""The feed faults that wait for ARG frames."""


@frozen
class Fault:
    """One chosen fault, as parsed from its text."""

    text: str
    name: str
    sort: Sort
    argument: Decimal | None
    venue: str | None
    percent: Decimal | None
    first: int | None
    prefix: str

    @property
    def time(self) -> int:
        """The argument, in seconds, as ns."""
        return int((self.argument or 0) * SECOND)

    @property
    def whole(self) -> int:
        """The argument as a whole number."""
        return int(self.argument or 0)


_FORM = re.compile(
    r"(?P<name>\w+)(=(?P<argument>[^@%#:]*))?(@(?P<venue>\w+))?(%(?P<percent>[^:]*)|#(?P<first>[^:]*))?(:(?P<prefix>/.*))?"
)


def parse(text: str) -> Fault:
    """The fault that a text chooses.

    Raises UsageError, in one line, where it is no fault.
    """
    match = _FORM.fullmatch(text)
    if not match:
        raise UsageError(f"fault {text!r}: write it like NAME[=ARG][@VENUE][%PERCENT or #FIRST][:/PATHPREFIX]")
    name = match["name"]
    if name not in SORTS:
        raise UsageError(f"fault {text!r}: there is no fault {name!r}; there are {', '.join(SORTS)}")
    sort = SORTS[name]
    argument = _number(text, "argument", match["argument"])
    percent = _number(text, "percentage", match["percent"], most=100)
    count = _number(text, "count", match["first"], whole=True)
    first = None if count is None else int(count)
    if name == "withhold" and argument is not None:  # its argument is its share
        if percent is not None or first is not None or argument > 1:
            raise UsageError(f"fault {text!r}: give a share from 0 to 1, and neither % nor #")
        percent = 100 * argument
    if sort.level == "clock" and (percent is not None or first is not None or match["prefix"]):
        raise UsageError(f"fault {text!r}: a clock has neither % nor # nor a path")
    if percent is None and first is None:
        percent, first = sort.percent, sort.first
    argument = sort.argument if argument is None else argument
    return Fault(
        text,
        name,
        sort,
        argument,
        match["venue"],
        percent,
        first,
        match["prefix"] or "/",
    )


def _number(text: str, what: str, said: str | None, *, most: int | None = None, whole: bool = False) -> Decimal | None:
    if said is None:
        return None
    try:
        number = Decimal(said)
    except InvalidOperation:
        number = Decimal(-1)
    if not number.is_finite() or number < 0 or (most is not None and number > most) or (whole and number % 1):
        bound = f" up to {most}" if most is not None else ""
        raise UsageError(f"fault {text!r}: {said!r} is no {what}; write a{' whole' if whole else ''} number{bound}")
    return number


@frozen
class Injected:
    """One fault that was played: when, which, and on what."""

    time: int
    name: str
    detail: str


class Faults:
    """The chosen faults with their draws, and the log of what was played (the newest ten thousand)."""

    def __init__(self, chosen: Iterable[str | Fault] = (), seed: int = 0) -> None:
        self.chosen = [parse(fault) if isinstance(fault, str) else fault for fault in chosen]
        self.injected: deque[Injected] = deque(maxlen=10_000)
        self._keys = [key_of(seed, "fault", str(place), fault.text) for place, fault in enumerate(self.chosen)]
        self._met = [0] * len(self.chosen)
        self._hits = [0] * len(self.chosen)

    def hitting(self, level: Level, venue: str, path: str) -> list[Fault]:
        """The faults that hit the next thing of this level; each look is a draw."""
        return [fault for place, fault in enumerate(self.chosen) if self._hits_now(place, level, venue, path)]

    def _hits_now(self, place: int, level: Level, venue: str, path: str) -> bool:
        fault = self.chosen[place]
        if fault.sort.level != level or fault.venue not in {None, venue} or not path.startswith(fault.prefix):
            return False
        self._met[place] += 1
        if fault.first is not None and self._hits[place] >= fault.first:
            return False
        if fault.percent is not None and mixed(self._keys[place], self._met[place]) % 10_000 >= fault.percent * 100:
            return False
        self._hits[place] += 1
        return True

    def log(self, now: int, fault: Fault, detail: str) -> None:
        """Notes that a fault was played."""
        self.injected.append(Injected(now, fault.name, detail))


class Replica:
    """A source as a replica shows it that is `lag` ns behind; the lag is set for each request."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.venue = source.venue
        self.recorded = source.recorded
        self.lag = 0

    def at(self, venue: str) -> Replica:
        """The replica of another venue."""
        return Replica(self._source.at(venue))

    def markets(self) -> list[Market]:
        """Every market: lists do not lag."""
        return self._source.markets()

    def trades(self, market: str, kind: Kind, *, now: int, **bounds: Any) -> list[Trade]:
        """Trades as of a while ago."""
        return self._source.trades(market, kind, now=now - self.lag, **bounds)

    def trades_between(self, market: str, kind: Kind, after: int, up_to: int) -> list[Trade]:
        """What a feed owes: feeds do not lag."""
        return self._source.trades_between(market, kind, after, up_to)

    def last_trade(self, market: str, kind: Kind, now: int) -> Trade | None:
        """The last trade as of a while ago."""
        return self._source.last_trade(market, kind, now - self.lag)

    def bar(self, market: str, start: int, end: int, now: int) -> Bar | None:
        """A bar as of a while ago."""
        return self._source.bar(market, start, end, now - self.lag)

    def bars(self, market: str, interval: str, *, now: int, **bounds: Any) -> list[Bar]:
        """Bars as of a while ago."""
        return self._source.bars(market, interval, now=now - self.lag, **bounds)

    def candles(self, market: str, interval: str, *, now: int, **bounds: Any) -> list[Candle]:
        """Candles as of a while ago."""
        return self._source.candles(market, interval, now=now - self.lag, **bounds)


class Step:
    """The one step back of a venue's clock, where it was chosen; without it the clock is right for ever."""

    def __init__(self, faults: Faults, venue: str, start: int) -> None:
        chosen = [fault for fault in faults.chosen if fault.name == "stepback" and fault.venue in {None, venue}]
        self._venue, self._faults, self._fault = venue, faults, chosen[0] if chosen else None
        self.moment, self.by = start + STEP_AFTER, chosen[0].time if chosen else 0
        self._source: SteppedBack | None = None
        self._said = False

    def seen(self, source: Source) -> Source:
        """The source as the venue's clock shows it.

        Raises UsageError where the source is a recording, which tells its own times.
        """
        if self._fault is None:
            return source
        if not isinstance(source, Simulated):
            raise UsageError(f"fault {self._fault.text!r}: only the simulated market has a clock that steps back")
        self._source = SteppedBack(source.at(self._venue), self.moment, self.by)
        return self._source

    def is_past(self, now: int) -> bool:
        """Whether the clock has stepped."""
        return self._fault is not None and now >= self.moment

    def told(self, now: int) -> int:
        """What the venue's clock says; the source is read by it until another moment is told."""
        return self._read(now, past=self.is_past(now))

    def before(self) -> int:
        """The last moment before the step; the source is read by the clock of then."""
        return self._read(self.moment - 1, past=False)

    def _read(self, now: int, *, past: bool) -> int:
        if self._source is None or self._fault is None:
            return now
        self._source.after = past
        if past and not self._said:
            self._said = True
            self._faults.log(now, self._fault, f"by {self.by // SECOND} s")
        return now - self.by if past else now


@frozen
class _Asked:
    """What a request fault works on."""

    desk: FaultyDesk
    fault: Fault
    request: HttpRequest
    answer: HttpAnswer
    now: int


_PAGE = b"<!DOCTYPE html>\n<html><head><title>Attention Required</title></head><body><h1>Checking your browser</h1></body></html>\n"


def _limited(asked: _Asked) -> HttpAnswer:
    return asked.desk.inner.refusal("limit", asked.now, None if asked.fault.argument is None else asked.fault.whole)


def _banned(asked: _Asked) -> HttpAnswer:
    paced = asked.desk.clock.paced(asked.now)
    asked.desk.banned[asked.fault] = paced + asked.fault.time
    return asked.desk.inner.refusal("ban", asked.now, asked.fault.whole)


def _slowed(asked: _Asked) -> HttpAnswer:
    return evolve(asked.answer, delay=asked.answer.delay + asked.fault.time)


def _page(asked: _Asked) -> HttpAnswer:
    return HttpAnswer(asked.fault.whole, {"Content-Type": "text/html; charset=UTF-8"}, _PAGE)


def _mistyped(asked: _Asked) -> HttpAnswer:
    try:
        value = msgspec.json.decode(asked.answer.body)
    except msgspec.DecodeError:
        return asked.answer
    return evolve(asked.answer, body=msgspec.json.encode(_other(value)))


def _other(value: Any) -> Any:
    """The same shape, every leaf of another type."""
    if isinstance(value, list):
        return [_other(item) for item in value]
    if isinstance(value, dict):
        return {name: _other(item) for name, item in value.items()}
    return {"unexpected": True} if isinstance(value, (str, int, float)) else "unexpected"


# What each request fault makes of an answer. `lagging` is not here: it acts before the desk is asked.
_ANSWERS: Mapping[str, Callable[[_Asked], HttpAnswer]] = {
    "429": _limited,
    "ban": _banned,
    "slow": _slowed,
    "error200": lambda asked: asked.desk.inner.refusal("error", asked.now),
    "html": _page,
    "truncated": lambda asked: evolve(asked.answer, body=asked.answer.body[: len(asked.answer.body) // 2]),
    "half": lambda asked: evolve(asked.answer, fate=Fate.HALF),
    "types": _mistyped,
    "empty": lambda asked: evolve(asked.answer, body=b""),
    "nothing": lambda asked: evolve(asked.answer, fate=Fate.NOTHING),
}


class FaultyDesk:
    """A desk with faults in front of it."""

    def __init__(self, desk: type[Desk], source: Source, clock: Clock, faults: Faults) -> None:
        self.venue = desk.venue
        self.clock = clock
        self.faults = faults
        self.step = Step(faults, desk.venue, clock.start)
        self.inner: Desk = desk(Replica(self.step.seen(source)), clock)
        self.banned: dict[Fault, int] = {}
        self.away: dict[Fault, int] = {}

    def answer(self, request: HttpRequest, now: int) -> HttpAnswer:
        """The inner desk's answer, spoilt by every fault that hits."""
        answer = self._spoilt(request, now)
        if self.step.is_past(now):
            answer = evolve(
                answer, headers={"Date": formatdate(self.step.told(now) // SECOND, usegmt=True), **answer.headers}
            )
        return answer

    def _spoilt(self, request: HttpRequest, now: int) -> HttpAnswer:
        for fault, until in self.banned.items():
            if (left := until - self.clock.paced(now)) > 0:
                self.faults.log(now, fault, f"{request.method} {request.path}")
                return self.inner.refusal("ban", now, -(-left // SECOND))
        hits = self.faults.hitting("request", self.venue, request.path)
        replica = self.inner.source
        assert isinstance(replica, Replica)
        replica.lag = sum(fault.time for fault in hits if fault.name == "lagging")
        try:
            answer = self.inner.answer(request, self.step.told(now))
        finally:
            replica.lag = 0
        for fault in hits:
            self.faults.log(now, fault, f"{request.method} {request.path}")
            if fault.name in _ANSWERS:
                answer = _ANSWERS[fault.name](_Asked(self, fault, request, answer, now))
        return answer

    def connect(
        self, path: str, params: Mapping[str, str], now: int, client: str = LOOPBACK
    ) -> Conversation | HttpAnswer:
        """The inner desk's conversation, spoilt by the faults that hit this connection or its frames."""
        for fault, until in self.away.items():
            if now < until:
                self.faults.log(now, fault, f"{path} refused")
                return HttpAnswer(503, {"Content-Type": "text/plain"}, b"away\n")
        said = self.inner.connect(path, params, self.step.told(now), client)
        if not isinstance(said, Conversation):
            return said
        return _FaultyFeed(said, self, path, now)

    def broken(self, path: str, now: int) -> None:
        """A fault broke a connection: nobody is let in for a while, where that was chosen."""
        for fault in self.faults.hitting("break", self.venue, path):
            self.away[fault] = now + fault.time


class _FaultyFeed(Conversation):
    """A conversation whose rows are withheld, doubled, spoilt or cut off; its acknowledgements and pings pass."""

    def __init__(self, inner: Conversation, desk: FaultyDesk, path: str, now: int) -> None:
        super().__init__(inner.clock, inner.sent_to)
        self._inner = inner
        self._desk = desk
        self._faults = faults = desk.faults
        self._venue = desk.venue
        self._path = path
        hits = faults.hitting("feed", desk.venue, path)
        stops = [(fault.whole, fault) for fault in hits if fault.name in _STOPS]
        self._stop = min(stops, key=lambda stop: stop[0], default=None)
        self._topic = next((fault for fault in hits if fault.name == "mutetopic"), None)
        self._topics: set[str] = set()
        # What happens at a moment, the earliest last: each once.
        self._moments = [(now + fault.time, fault, "late") for fault in hits if fault.name == "mutelate"]
        for fault in hits:
            if fault.name == "shutdown":
                self._moments += [(now + fault.time, fault, "notice"), (now + 2 * fault.time, fault, "end")]
        self._moments.sort(key=lambda moment: -moment[0])
        self._stepped = desk.step.is_past(now)
        self._sent = 0
        self._over = self._silent = False
        self._next: list[Frame] = []
        self._held: list[tuple[int, Frame]] = []
        self._mute(now)

    def receive(self, message: Message, now: int) -> list[Frame]:
        """What the inner conversation answers."""
        if self._over:
            return []
        frames = self._inner.receive(message, self._desk.step.told(now))
        self._mute(now)
        return frames

    def due(self, after: int, up_to: int) -> Iterable[tuple[int, Frame]]:
        """Nothing: `advance` asks the inner conversation itself."""
        del after, up_to
        return ()

    def advance(self, now: int) -> list[Frame]:
        """The next portion that is left to send; empty only when the inner feed has nothing more either."""
        frames = [] if self._over or self._silent else [frame for until, frame in self._held if until <= now]
        self._held = [held for held in self._held if held[0] > now]
        self._mute(now)
        while self._moments and self._moments[-1][0] <= now and not self._over:
            _, fault, what = self._moments.pop()
            frames += self._happening(fault, what, now)
        while not self._over and not frames:
            owed = self._owed(now)
            for frame in owed:
                frames += self._passed(frame, now)
            if not owed:
                break
        return frames

    def _owed(self, now: int) -> list[Frame]:
        """What the inner feed owes by the venue's clock; the rest of what it owed before a step of that clock first."""
        step = self._desk.step
        if step.is_past(now) and not self._stepped:
            if owed := self._inner.advance(step.before()):
                return owed
            self._inner.sent_to -= step.by
            self._stepped = True
        return self._inner.advance(step.told(now))

    def _mute(self, now: int) -> None:
        """Keeps the ARG-th topic silent, of all that were ever named here: subscribed anew it stays so."""
        if self._topic is None:
            return
        self._topics.update(self._inner.topics())
        topics = sorted(self._topics)[: self._topic.whole]
        if topics and len(topics) == self._topic.whole and topics[-1] != self._inner.muted:
            self._inner.muted = topics[-1]
            self._faults.log(now, self._topic, f"{self._path}: {topics[-1]}")

    def _happening(self, fault: Fault, what: str, now: int) -> list[Frame]:
        """What is sent at a moment that was set when the connection began."""
        self._faults.log(now, fault, f"{self._path}: {what}")
        if what == "late":
            self._silent = True
            return []
        if what == "notice":
            return self._inner.notice(self._desk.step.told(now))
        self.end(now)
        return [Close(1001, "shutdown")]

    def _passed(self, frame: Frame, now: int) -> list[Frame]:
        """What is sent in the place of one frame."""
        if not isinstance(frame, (str, bytes)):
            return [] if self._over else [frame]
        if self._over or self._silent:
            return []
        if self._stop and self._sent >= self._stop[0]:
            fault = self._stop[1]
            self._faults.log(now, fault, f"{self._path} after {self._sent} frames")
            if fault.name == "cut":
                self.end(now)
                return [Close(None)]
            self._silent = True
            return []
        self._sent += 1
        frames: list[Frame] = [frame]
        before, self._next = self._next, []
        for fault in self._faults.hitting("frame", self._venue, self._path):
            self._faults.log(now, fault, frame[:80] if isinstance(frame, str) else f"{len(frame)} bytes")
            frames = _FRAMES[fault.name](self, fault, frames, now)
        return [*frames, *before]

    def postpone(self, frames: list[Frame]) -> None:
        """Keeps frames until the next one has passed."""
        self._next += frames

    def hold(self, frames: list[Frame], until: int) -> None:
        """Keeps frames until a moment of venue time."""
        self._held += [(until, frame) for frame in frames]

    def end(self, now: int) -> None:
        """Sends nothing any more: the connection breaks."""
        self._over = True
        self._desk.broken(self._path, now)


def _postponed(feed: _FaultyFeed, fault: Fault, frames: list[Frame], now: int) -> list[Frame]:
    del fault, now
    feed.postpone(frames)
    return []


def _held(feed: _FaultyFeed, fault: Fault, frames: list[Frame], now: int) -> list[Frame]:
    feed.hold(frames, now + fault.time)
    return []


def _corrupted(feed: _FaultyFeed, fault: Fault, frames: list[Frame], now: int) -> list[Frame]:
    del feed, fault, now
    return [_gutted(frame) for frame in frames]


def _gutted(frame: Frame) -> Frame:
    """A frame with a NUL for its middle third: without one, rows of equal length may join into JSON that tells another story."""
    if isinstance(frame, str):
        return frame[: len(frame) // 3] + "\0" + frame[len(frame) * 2 // 3 :]
    if isinstance(frame, bytes):
        return frame[: len(frame) // 3] + b"\0" + frame[len(frame) * 2 // 3 :]
    return frame


def _halved(feed: _FaultyFeed, fault: Fault, frames: list[Frame], now: int) -> list[Frame]:
    del fault
    feed.end(now)
    return [Half(frames[0])] if frames and isinstance(frames[0], str) else [Close(None)]


_NONSENSE = '\x00\x7f<not>JSON{{{"e":'

# What each frame fault sends in the place of a frame.
_FRAMES: Mapping[str, Callable[[_FaultyFeed, Fault, list[Frame], int], list[Frame]]] = {
    "withhold": lambda _feed, _fault, _frames, _now: [],
    "duplicate": lambda _feed, _fault, frames, _now: [*frames, *frames],
    "reorder": _postponed,
    "late": _held,
    "corrupt": _corrupted,
    "garbage": lambda _feed, _fault, frames, _now: [_NONSENSE, *frames],
    "huge": lambda _feed, _fault, frames, _now: [text_of({"huge": "x" * HUGE}), *frames],
    "halfframe": _halved,
}
