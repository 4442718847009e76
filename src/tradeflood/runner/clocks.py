"""How much later it is by the venues' clocks than by ours."""

from __future__ import annotations

from collections import deque

from tradeflood.models.time import SECOND
from tradeflood.planner import Run

GRACE = 2 * SECOND
"""What a stream may still be bringing when a witness is asked; clocks that differ by less are taken for one."""

RUNS = 16  # from how many runs a venue's clock is known


class VenueClocks:
    """What the answers of venues told of their clocks."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[int]] = {}

    def learn(self, run: Run, now: int) -> None:
        """Take in the clocks of the venues of a run that is over: it is at least as late as its newest answer says."""
        for venue, clock in run.clocks.items():
            self._seen.setdefault(venue, deque(maxlen=RUNS)).append(clock - now)

    def ahead(self, venue: str) -> int:
        """How much later it is by a venue's clock, in ns; nought where they agree as nearly as answers can tell."""
        ahead = max(self._seen.get(venue, ()), default=0)
        return ahead if abs(ahead) > GRACE else 0
