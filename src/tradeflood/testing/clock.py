"""A clock that stands still until somebody waits for it, or moves it: tests of hours take no time."""

from __future__ import annotations

import asyncio
import heapq

from tradeflood.models.time import SECOND, When, parse_time
from tradeflood.replay.desk import Clock as DeskClock

_ROUNDS = 8
"""Turns of the event loop that everybody else gets before time moves on."""


class FakeClock:
    """Time that jumps to the next sleeper as soon as nothing else is ready to run; sleepers wake in order.

    With `jumps=False` it moves by `advance` only. `start` is a moment as a person writes it, or ns since 1970.

    >>> import asyncio
    >>> clock = FakeClock("2026-01-01")
    >>> asyncio.run(clock.sleep(3_600_000_000_000))
    >>> clock.elapsed == 3_600_000_000_000
    True
    """

    def __init__(self, start: When | int = "2026-01-01", *, jumps: bool = True) -> None:
        self.start = start if isinstance(start, int) else parse_time(start)
        self.jumps = jumps
        self.slept: list[int] = []
        self._now = self.start
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._number = 0
        self._jumper: asyncio.Task[None] | None = None

    def now(self) -> int:
        """Nanoseconds since 1970 UTC, by this clock."""
        return self._now

    @property
    def elapsed(self) -> int:
        """How far it has moved since its start, in ns."""
        return self._now - self.start

    async def sleep(self, duration: int) -> None:
        """Wait until the clock has moved so many ns; every duration is kept in `slept`."""
        self.slept.append(duration)
        if duration <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        self._number += 1
        heapq.heappush(self._sleepers, (self._now + duration, self._number, woken))
        if self.jumps and (self._jumper is None or self._jumper.done() or self._jumper.get_loop() is not loop):
            self._jumper = loop.create_task(self._jump())
        await woken

    async def advance(self, duration: int) -> None:
        """Move by so many ns; who is due on the way wakes at its own moment, and runs before the next one does."""
        until = self._now + duration
        while self._due(until):
            await self._wake()
        self._now = max(self._now, until)
        await _others()

    def _due(self, until: int) -> bool:
        while self._sleepers and self._sleepers[0][2].done():  # cancelled
            heapq.heappop(self._sleepers)
        return bool(self._sleepers) and self._sleepers[0][0] <= until

    async def _wake(self) -> None:
        at, _, woken = heapq.heappop(self._sleepers)
        self._now = max(self._now, at)
        woken.set_result(None)
        await _others()

    async def _jump(self) -> None:
        await _others()
        while self._due(1 << 63):
            await self._wake()


async def _others() -> None:
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)


class VenueTime:
    """The clock of served venues, for us too: it runs as much faster than real time as theirs does.

    async with serve(speed=20) as served, Flood(config, clock=VenueTime(served.clock)) as flood: …
    """

    def __init__(self, clock: DeskClock) -> None:
        self._clock = clock

    def now(self) -> int:
        """The venues' time, in ns."""
        return self._clock.now()

    async def sleep(self, duration: int) -> None:
        """Wait so many ns of the venues' time."""
        await asyncio.sleep(max(0, duration) / SECOND / float(self._clock.speed))
