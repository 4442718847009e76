"""What a venue's server counts of each client, in the two shapes that venues use. Times are real-paced ns."""

from __future__ import annotations

from collections import deque


class Window:
    """Weight per window that begins on the clock: `used` counts from the last boundary."""

    def __init__(self, limit: int, per: int) -> None:
        self.limit = limit
        self.per = per
        self._window = -1
        self._used: dict[str, int] = {}

    def spend(self, client: str, weight: int, now: int) -> int:
        """What the client has used of this window, this weight included, whether or not that is too much."""
        if now // self.per != self._window:
            self._window = now // self.per
            self._used.clear()
        self._used[client] = used = self._used.get(client, 0) + weight
        return used

    def left(self, now: int) -> int:
        """How long until the next window, in ns."""
        return self.per - now % self.per


class Rolling:
    """Events in any window of this length that ends now; a refused event does not count."""

    def __init__(self, limit: int, per: int) -> None:
        self.limit = limit
        self.per = per
        self._times: dict[str, deque[int]] = {}

    def allows(self, client: str, now: int) -> bool:
        """Whether one more event is within the limit; counts it where it is."""
        times = self._times.setdefault(client, deque())
        while times and times[0] <= now - self.per:
            times.popleft()
        if len(times) >= self.limit:
            return False
        times.append(now)
        return True
