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
        self.turn = asyncio.Lock()  # who waits for room goes in the order of asking
        self._log: deque[Spent] = deque()
        self._used = 0
        self._last = 0

    def room(self, now: int, weight: int) -> int:
        """The earliest moment at which a weight may be spent. One above the whole limit waits for an empty window."""
        at = max(now, self._last)
        self._forget(at)
        left = self._used
        for spent in self._log:
            if left + weight <= self.limit:
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


class Limiter:
    """The budgets of all venues, per exit where they count per address; and the pauses that venues ordered.

    `longest` is the pause in ns for which a call is kept; one that is longer refuses it at once.
    """

    def __init__(self, clock: Clock, longest: int = 5 * MINUTE) -> None:
        self._clock, self._longest = clock, longest
        self._windows: dict[tuple[str, str, Exit | None], Window] = {}
        self._paused: dict[tuple[str, Exit], int] = {}

    async def spend(self, call: Call) -> Spent:
        """Wait until a call may be made; calls of one budget go in the order of asking. What was spent for it.

        Raises RateLimited where the venue has ordered a pause longer than anybody waits.
        """
        return await self._book(self._window(call), call.venue, call.exit, call.weight)

    def answered(self, spent: Spent) -> None:
        """The call is over: the venue counted it somewhere between then and now, so take it as counted now."""
        spent.at = max(spent.at, self._clock.now())

    async def attempt(self, venue: str, feed: Feed, leave: Exit) -> None:
        """Wait until another connection to a venue's feed may be opened."""
        key = (venue, "connection attempts", leave)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = Window(Budget("connection attempts", *feed.attempts))
        await self._book(window, venue, None, 1)

    async def _book(self, window: Window, venue: str, leave: Exit | None, weight: int) -> Spent:
        async with window.turn:
            while True:
                now = self._clock.now()
                paused = 0 if leave is None else self._paused.get((venue, leave), 0)
                if paused - now > self._longest:
                    raise RateLimited(f"{venue}: not to be asked before {iso(min(paused, _FAR))}", until=paused)
                at = max(paused, window.room(now, weight))
                if at <= now:
                    break
                await self._clock.sleep(at - now)
            return window.spend(now, weight)

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
