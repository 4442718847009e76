"""The local clock, as an argument: real here, faked in `tradeflood.testing`."""

from __future__ import annotations

import asyncio
import time
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
    """The machine's clock."""

    def now(self) -> int:
        """Nanoseconds since 1970 UTC."""
        return time.time_ns()

    async def sleep(self, duration: int) -> None:
        """Wait so many ns."""
        await asyncio.sleep(max(0, duration) / SECOND)
