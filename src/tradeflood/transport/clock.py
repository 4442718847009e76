"""The local clock, as an argument: real here, faked in `tradeflood.testing`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from tradeflood.models.time import SECOND


class Clock(Protocol):
    """Our time, and waiting for it."""

    def now(self) -> int:
        """Nanoseconds since 1970 UTC, by our clock."""
        ...

    async def sleep(self, duration: int) -> None:
        """Wait so many ns."""
        ...


class SystemClock:
    """The machine's clock, which never goes back: where it was set back, ours goes slower until it is there again.

    What is counted by it would otherwise stand still for as long: budgets, heartbeats, pauses. It keeps nine tenths of
    its pace meanwhile, so that a heartbeat of 25 s stays below the 30 s that venues wait. `wall` and `steady` are its
    time and one that nobody sets, in ns.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, steady: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall, self._steady = wall, steady
        self._last = (wall(), steady())

    def now(self) -> int:
        """Nanoseconds since 1970 UTC."""
        shown, at = self._last
        wall, steady = self._wall(), self._steady()
        now = max(wall, shown + (steady - at) * 9 // 10)
        self._last = (now, steady)
        return now

    async def sleep(self, duration: int) -> None:
        """Wait so many ns."""
        await asyncio.sleep(max(0, duration) / SECOND)
