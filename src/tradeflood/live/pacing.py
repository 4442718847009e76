"""How often something may be done, where a venue states several windows at once. Pure: the clock is an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class Pace:
    """A sliding log per window: never more than its number in any span of its length."""

    __slots__ = ("_logs", "_windows")

    def __init__(self, windows: Sequence[tuple[int, int]]) -> None:
        self._windows = tuple(windows)
        self._logs: list[deque[int]] = [deque() for _ in self._windows]

    def next(self, now: int) -> int:
        """The earliest moment at which it may be done once more."""
        at = now
        for (most, per), log in zip(self._windows, self._logs, strict=True):
            while log and log[0] <= now - per:
                log.popleft()
            if len(log) >= most:
                at = max(at, log[len(log) - most] + per)
        return at

    def did(self, now: int) -> None:
        """It was done."""
        for log in self._logs:
            log.append(now)
