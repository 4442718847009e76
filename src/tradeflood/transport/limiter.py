"""Spending a venue's budgets: never more than the limit in any window, in integer nanoseconds."""

from __future__ import annotations

import asyncio
from collections import deque

from attrs import define

from tradeflood.errors import RateLimited
from tradeflood.models.time import DAY, MINUTE, MS, SECOND, iso
from tradeflood.transport.base import Call, Exit, Transport
from tradeflood.transport.clock import Clock
from tradeflood.turns import Budget, Feed, Reply

_LAG = 5 * MS  # a request that was sent later may be counted earlier by the venue: keep windows a little apart
_FAR = 100_000 * DAY  # as late as a date can be written


@define
class Spent:
    """A weight, and when the venue counted it at the latest."""

    at: int
    weight: int


class Window:
    """What was spent of one budget in the last window: a sliding log, so that no window of that length exceeds the limit."""

    def __init__(self, budget: Budget) -> None:
        self.limit, self.per = budget.limit, budget.per + _LAG
        self.turns = {
            False: asyncio.Lock(),
            True: asyncio.Lock(),
        }  # who waits goes in the order of asking, refills by themselves
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
    hundredths of every budget are left to refills, nought where nobody refills.
    """

    def __init__(self, clock: Clock, longest: int = 5 * MINUTE) -> None:
        self._clock, self._longest = clock, longest
        self._windows: dict[tuple[str, str, Exit | None], Window] = {}
        self._paused: dict[tuple[str, Exit], int] = {}
        self.reserve = 0
        self._seats: dict[tuple[str, Exit], asyncio.Semaphore] = {}

    async def spend(self, call: Call) -> Spent:
        """Wait until a call may be made; calls of one budget go in the order of asking. What was spent for it.

        Raises RateLimited where the venue has ordered a pause longer than anybody waits.
        """
        return await self._book(self._window(call), call.venue, call.exit, call.weight, reserved=call.reserved)

    def answered(self, spent: Spent) -> None:
        """The call is over: the venue counted it somewhere between then and now, so take it as counted now."""
        spent.at = max(spent.at, self._clock.now())

    async def attempt(self, venue: str, feed: Feed, leave: Exit) -> None:
        """Wait until another connection to a venue's feed may be opened, by every window of its attempts."""
        windows = []
        for place, (most, per) in enumerate(feed.attempts):
            key = (venue, f"connection attempts {place}", leave)
            if key not in self._windows:
                self._windows[key] = Window(Budget(key[1], most, per))
            windows.append(self._windows[key])
        if not windows:
            return
        async with windows[0].turns[True]:
            while (at := max(window.room(self._clock.now(), 1) for window in windows)) > (now := self._clock.now()):
                await self._clock.sleep(at - now)
            for window in windows:
                window.spend(now, 1)

    async def seat(self, venue: str, feed: Feed, leave: Exit) -> Seat:
        """One of the connections that may be open at once; waits until one is free, first come first."""
        key = (venue, leave)
        free = self._seats.get(key)
        if free is None and feed.connections is not None:
            free = self._seats[key] = asyncio.Semaphore(feed.connections)
        if free is not None:
            await free.acquire()
        return Seat(free)

    async def _book(
        self, window: Window, venue: str, leave: Exit | None, weight: int, *, reserved: bool = True
    ) -> Spent:
        left_over = 0 if reserved else window.limit * self.reserve // 100
        async with window.turns[reserved]:
            while True:
                now = self._clock.now()
                paused = 0 if leave is None else self._paused.get((venue, leave), 0)
                if paused - now > self._longest:
                    raise RateLimited(f"{venue}: not to be asked before {iso(min(paused, _FAR))}", until=paused)
                at = max(paused, window.room(now, weight, left_over))
                if at <= now:
                    break
                await self._clock.sleep(at - now)
            return window.spend(now, weight)

    def left(self, venue: str, budget: Budget) -> int:
        """The weight of a budget that may be spent now; of several exits, from the one that has the least."""
        now = self._clock.now()
        windows = [w for (of, name, _), w in self._windows.items() if (of, name) == (venue, budget.name)]
        return min((window.limit - window.used(now) for window in windows), default=budget.limit)

    def correct(self, call: Call, used: int) -> None:
        """Take the venue's own count of a budget."""
        self._window(call).correct(self._clock.now(), used)

    def pause(self, call: Call, until: int | None) -> int:
        """Stop everything towards a venue from this exit, until a moment; one window, at most a minute, if it named none."""
        if until is None:
            until = self._clock.now() + min(max(call.budget.per, SECOND), 60 * SECOND)
        key = (call.venue, call.exit)
        self._paused[key] = max(until, self._paused.get(key, 0))
        return self._paused[key]

    def _window(self, call: Call) -> Window:
        key = (call.venue, call.budget.name, call.exit if call.budget.scope == "ip" else None)
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
