"""Spending a venue's budgets: never more than the limit in any window, in integer nanoseconds."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Mapping
from contextlib import nullcontext
from urllib.parse import urlsplit

from attrs import define, evolve

from tradeflood.errors import RateLimited
from tradeflood.models.time import DAY, MINUTE, MS, SECOND, iso
from tradeflood.transport.base import Call, Exit, Rank, Transport
from tradeflood.transport.clock import Clock
from tradeflood.turns import Budget, Feed, Reply

_LAG = 5 * MS  # a request that was sent later may be counted earlier by the venue: keep windows a little apart
_FAR = 100_000 * DAY  # as late as a date can be written
_SHORT, _LONG = 5 * SECOND, MINUTE  # how long a venue is left alone that does not say until when, at first and at last

ATTEMPTS = "connection attempts"
"""What a pause is of that a venue ordered in its answer to the handshake of a feed."""

LEAVES: Mapping[Rank, int] = {Rank.COMMON: 100, Rank.PATIENT: 50, Rank.FIRST: 0}
"""How many hundredths of what is reserved of a budget are left to those of higher rank."""


@define
class Spent:
    """A weight, and when the venue counted it at the latest."""

    at: int
    weight: int


class Window:
    """What was spent of one budget in the last window: a sliding log, so that no window of that length exceeds the limit."""

    def __init__(self, budget: Budget) -> None:
        self.limit, self.per = budget.limit, budget.per + _LAG
        self.turns = {rank: asyncio.Lock() for rank in Rank}  # who waits goes in the order of asking, by rank
        self.spread = 0  # when the next one may go of those that can wait
        self._log: deque[Spent] = deque()
        self._used = 0
        self._last = 0

    def room(self, now: int, weight: int, left_over: int = 0) -> int:
        """The earliest moment at which a weight may be spent so that so much is left over.

        One above the whole limit waits for an empty window.
        """
        at = max(now, self._last)
        self._forget(at)
        left = self._used
        for spent in self._log:
            if left + weight <= self.limit - left_over:
                break
            left -= spent.weight
            at = max(at, spent.at + self.per)
        return at

    def left_over(self, rank: Rank, reserve: int) -> int:
        """The weight that a rank leaves to those above it, where so many hundredths are reserved: at least one, if it can."""
        return min(-(-self.limit * reserve * LEAVES[rank] // 10_000), self.limit - 1)

    def spend(self, at: int, weight: int) -> Spent:
        """Take a weight as spent. Put `at` of what comes back later, once it is known when the venue counted it."""
        self._last = max(at, self._last)
        spent = Spent(self._last, weight)
        self._log.append(spent)
        self._used += weight
        return spent

    def correct(self, now: int, used: int) -> None:
        """Take the venue's own count of what was used, where it is more than ours."""
        self._forget(now)
        if used > self._used:
            self._log.append(Spent(max(now, self._last), used - self._used))
            self._used = used

    def used(self, now: int) -> int:
        """What the window up to now holds."""
        self._forget(now)
        return self._used

    def _forget(self, now: int) -> None:
        while self._log and self._log[0].at <= now - self.per:
            self._used -= self._log.popleft().weight


@define
class Pause:
    """Until when a venue is not to be asked, in ns: of what counts on a `budget`, or of nothing at all where it is None.

    `exit` is from where, None for a budget that is not counted by address; `held` are the paths that wait or are refused
    meanwhile; `times` is how often in a row it said so and named no end.
    """

    venue: str
    budget: str | None
    exit: Exit | None
    until: int = 0
    times: int = 0
    held: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line, such as: somewhere: not to be asked before 2026-01-01T00:01:00Z (its limit of trades); waiting: /trades."""
        why = "we are banned" if self.budget is None else f"its limit of {self.budget}"
        through = f" through {self.proxy}" if self.proxy else ""
        return f"{self.venue}: not to be asked{through} before {self.moment} ({why}); waiting: {', '.join(self.held)}"

    @property
    def moment(self) -> str:
        """Until when, as it is written, in UTC, to the next second."""
        return iso(min(-(-self.until // SECOND) * SECOND, _FAR))

    @property
    def proxy(self) -> str:
        """Host and port of the proxy that it concerns, without its password; empty where it is none."""
        url = self.exit.proxy if self.exit else None
        return urlsplit(url).netloc.rpartition("@")[2] if url else ""


class Seat:
    """One of the connections that a venue lets be open at once. Give it back when the connection is over."""

    def __init__(self, free: asyncio.Semaphore | None = None) -> None:
        self._free = free

    def give_back(self) -> None:
        """Nothing; somebody else may have it. Said twice it counts once."""
        free, self._free = self._free, None
        if free is not None:
            free.release()


class Limiter:
    """The budgets of all venues, per exit where they count per address; and the pauses that venues ordered.

    `longest` is the pause in ns for which a call is kept; one that is longer refuses it at once. `reserve` is how many
    hundredths of every budget are left to refills, half of it to those that cannot wait; nought where nobody refills.
    Refills that can wait take half of a budget at most, evenly spread, so that the others find room at any time.
    """

    def __init__(self, clock: Clock, longest: int = 5 * MINUTE) -> None:
        self._clock, self._longest = clock, longest
        self._windows: dict[tuple[str, str, Exit | None], Window] = {}
        self._pauses: dict[tuple[str, str | None, Exit | None], Pause] = {}
        self._waiting: dict[object, Call] = {}
        self.reserve = 0
        self._seats: dict[tuple[str, Exit], asyncio.Semaphore] = {}

    async def spend(self, call: Call) -> Spent:
        """Wait until a call may be made; calls of one budget and rank go in the order of asking. What was spent for it.

        Raises RateLimited where the venue has ordered a pause longer than anybody waits.
        """
        ticket = object()
        self._waiting[ticket] = call
        try:
            return await self._book(call)
        except BaseException:
            self._hold(call)
            raise
        finally:
            del self._waiting[ticket]

    def answered(self, spent: Spent) -> None:
        """The call is over: the venue counted it somewhere between then and now, so take it as counted now."""
        spent.at = max(spent.at, self._clock.now())

    async def attempt(self, venue: str, feed: Feed, leave: Exit) -> None:
        """Wait until another connection to a venue's feed may be opened: by every window of its attempts, and by its last refusal."""
        windows = []
        for place, (most, per) in enumerate(feed.attempts):
            key = (venue, f"{ATTEMPTS} {place}", leave)
            if key not in self._windows:
                self._windows[key] = Window(Budget(key[1], most, per))
            windows.append(self._windows[key])
        pause = self._attempts_of(venue, leave)
        async with windows[0].turns[Rank.FIRST] if windows else nullcontext():
            while True:
                now = self._clock.now()
                at = max([pause.until, *(window.room(now, 1) for window in windows)])
                if at <= now:
                    break
                await self._clock.sleep(at - now)
            for window in windows:
                window.spend(now, 1)

    def refused(self, venue: str, leave: Exit, until: int | None) -> Pause:
        """Open no connection to a venue's feed until a moment that its refusal named, or for ever longer where it named none."""
        pause = self._attempts_of(venue, leave)
        self._prolong(pause, until, _SHORT)
        pause.held = ("connections",)
        return evolve(pause)

    def opened(self, venue: str, leave: Exit) -> None:
        """A connection was opened: the next pause without an end is short again."""
        pause = self._attempts_of(venue, leave)
        if pause.until <= self._clock.now():
            pause.times = 0

    def bars(self, venue: str) -> bool:
        """Whether a venue has refused connections to its feed until a moment that is not over."""
        now = self._clock.now()
        return any(of == venue and what == ATTEMPTS and p.until > now for (of, what, _), p in self._pauses.items())

    def _attempts_of(self, venue: str, leave: Exit) -> Pause:
        return self._pauses.setdefault((venue, ATTEMPTS, leave), Pause(venue, ATTEMPTS, leave))

    async def seat(self, venue: str, feed: Feed, leave: Exit) -> Seat:
        """One of the connections that may be open at once; waits until one is free, first come first."""
        key = (venue, leave)
        free = self._seats.get(key)
        if free is None and feed.connections is not None:
            free = self._seats[key] = asyncio.Semaphore(feed.connections)
        if free is not None:
            await free.acquire()
        return Seat(free)

    async def _book(self, call: Call) -> Spent:
        window, rank = self._window(call), call.rank
        left_over = window.left_over(rank, self.reserve)
        async with window.turns[rank]:
            while True:
                now = self._clock.now()
                pause = max(self._pauses_of(call), key=lambda pause: pause.until)
                if pause.until - now > self._longest:
                    raise RateLimited(
                        f"{call.venue}: not to be asked before {pause.moment}",
                        until=pause.until,
                        banned=pause.budget is None,
                    )
                at = max(pause.until, window.room(now, call.weight, left_over))
                if rank is Rank.PATIENT:
                    at = max(at, window.spread)
                if at <= now:
                    break
                await self._clock.sleep(at - now)
            if rank is Rank.PATIENT:
                begun = max(window.spread, now - window.per // 4)  # some may go at once
                window.spread = begun + 2 * window.per * call.weight // window.limit
            return window.spend(now, call.weight)

    def left(self, venue: str, budget: Budget) -> int:
        """The weight of a budget that may be spent now; of several exits, from the one that has the least."""
        now = self._clock.now()
        windows = [w for (of, name, _), w in self._windows.items() if (of, name) == (venue, budget.name)]
        return min((window.limit - window.used(now) for window in windows), default=budget.limit)

    def correct(self, call: Call, used: int) -> None:
        """Take the venue's own count of a budget."""
        self._window(call).correct(self._clock.now(), used)

    def pause(self, call: Call, until: int | None, *, banned: bool = False) -> int:
        """Stop what counts on the budget of a call until a moment, or all that leaves for the venue from there; until when.

        Where the venue named no moment, it is short at first and twice as long each time, up to a minute and some chance;
        a ban is a minute at once. What was asked together is refused together: that counts as once.
        """
        pause = self._pauses_of(call)[banned]
        if pause.until <= self._clock.now():
            pause.held = ()
        self._prolong(pause, until, _LONG if banned else min(max(call.budget.per, SECOND), _SHORT))
        self._hold(call)
        return pause.until

    def _prolong(self, pause: Pause, until: int | None, first: int) -> None:
        now = self._clock.now()
        if until is None and pause.until <= now:
            wait = min(first << pause.times, _LONG)
            pause.times += wait < _LONG
            until = now + wait + random.randrange(wait // 2)  # noqa: S311 - jitter
        pause.until = max(until or 0, pause.until)

    def accepted(self, call: Call) -> None:
        """The venue has given a good answer: the next pause without an end is short again."""
        for pause in self._pauses_of(call):
            if pause.until <= self._clock.now():
                pause.times = 0

    def pauses(self, longer: int = 0) -> list[Pause]:
        """The pauses that venues have ordered and that go on for longer than so many ns."""
        for call in self._waiting.values():
            self._hold(call)
        until = self._clock.now() + longer
        return [evolve(pause) for pause in self._pauses.values() if pause.until > until]

    def _pauses_of(self, call: Call) -> tuple[Pause, Pause]:
        """The pause of a call's budget, and that of its exit."""
        keys = (self._key(call), (call.venue, None, call.exit))
        budget, ban = (self._pauses.setdefault(key, Pause(*key)) for key in keys)
        return budget, ban

    def _hold(self, call: Call) -> None:
        """Note that a call is held up by the pauses that are not over."""
        for pause in self._pauses_of(call):
            if pause.until > self._clock.now() and call.request.path not in pause.held:
                pause.held += (call.request.path,)

    @staticmethod
    def _key(call: Call) -> tuple[str, str, Exit | None]:
        return call.venue, call.budget.name, call.exit if call.budget.scope == "ip" else None

    def _window(self, call: Call) -> Window:
        key = self._key(call)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = Window(call.budget)
        return window


class Limited:
    """A transport that waits for its budget before each call."""

    def __init__(self, inner: Transport, limiter: Limiter) -> None:
        self._inner, self.limiter = inner, limiter

    async def send(self, call: Call) -> Reply:
        """The venue's answer, once the budget allows the question."""
        spent = await self.limiter.spend(call)
        try:
            return await self._inner.send(call)
        finally:
            self.limiter.answered(spent)

    async def close(self) -> None:
        """Close the inner transport."""
        await self._inner.close()
