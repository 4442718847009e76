"""Two observers of the same market: their rows united, and what it proves that they agree. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, TypeVar

from tradeflood.coverage import Claim, Dataset, Grade, State
from tradeflood.coverage.claims import digest_of
from tradeflood.coverage.evidence import edge
from tradeflood.live.offsets import GROWS_FOR
from tradeflood.models import Model
from tradeflood.models.time import SECOND

M = TypeVar("M", bound=Model)

REMEMBERED = 20_000
"""How many rows are known again when the other observer brings them."""

LAG = 2 * SECOND
"""How much later than the other one an observer may bring a row."""


class United:
    """The rows of both observers, each once: what either of them brings first is handed on.

    Rows without ids are numbered by each observer for itself, so that of k equal ones the larger count is kept and the
    two are never summed.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._revised = dataset.model.time == dataset.model.key[-1]  # such as the running candle: never a repetition
        self._known: set[Any] = set()
        self._order: deque[Any] = deque()

    def new(self, rows: Sequence[M]) -> list[M]:
        """Those that neither has brought yet."""
        if self._revised:
            return list(rows)
        known, order = self._known, self._order
        fresh = []
        for row in rows:
            position = row.position
            if position not in known:
                known.add(position)
                order.append(position)
                fresh.append(row)
        while len(order) > REMEMBERED:
            known.discard(order.popleft())
        return fresh


class Agreement:
    """Where two independent observers saw the same rows and no others, from one shared row to another.

    `breaks` counts what an observer has lost so far, connections and frames: rows on two sides of a break are not linked.
    """

    def __init__(self, dataset: Dataset, parser: str) -> None:
        self._dataset, self._parser = dataset, parser
        self._time = dataset.model.time or ""
        self._waiting: tuple[list[tuple[int, str, int, Model]], ...] = ([], [])
        self._judged = 0  # rows up to here have been compared
        self._breaks: tuple[int, int] | None = None  # of both, when they last shared a row
        self._start = self._end = 0
        self._rows: list[Model] = []
        self._clock = 0
        self._ready: list[Claim] = []

    def came(self, side: int, rows: Sequence[Model], breaks: int, now: int) -> None:
        """Rows of one observer."""
        self._clock = max(self._clock, now)
        waiting = self._waiting[side]
        for row in rows:
            time = getattr(row, self._time)
            if time <= self._judged:
                self._part()  # too late to be compared
            else:
                waiting.append((time, str(row.position), breaks, row))
        self._forget(side)

    def _forget(self, side: int) -> None:
        """Where too many rows of one observer wait for the other: none of them is compared."""
        waiting = self._waiting[side]
        if len(waiting) > REMEMBERED:
            self._judged = max(time for time, *_ in waiting)
            self._waiting[0].clear()
            self._waiting[1].clear()
            self._part()

    def missed(self, side: int, rows: Sequence[Model], now: int) -> None:
        """Rows that one observer saw and that are not kept: what lies on their two sides is not linked, whatever the other saw."""
        self._clock = max(self._clock, now)
        for row in rows:
            time = getattr(row, self._time)
            if time <= self._judged:
                self._part()
            else:
                self._waiting[side].append((time, f"missed by {side}", 0, row))
        self._forget(side)

    def claims(self, *, rest: bool = False) -> list[Claim]:
        """What has been agreed on for a while, or up to a disagreement; with `rest`, all."""
        one, other = (sorted(waiting, key=lambda row: row[:2]) for waiting in self._waiting)
        if one and other:
            until = min(one[-1][0], other[-1][0]) - (0 if rest else LAG)
            self._judge([row for row in one if row[0] <= until], [row for row in other if row[0] <= until])
            self._judged = max(self._judged, until)
            for waiting in self._waiting:
                waiting[:] = [row for row in waiting if row[0] > until]
        if rest or self._end - self._start > GROWS_FOR:
            self._say()
        ready, self._ready = self._ready, []
        return ready

    def _judge(self, one: list[tuple[int, str, int, Model]], other: list[tuple[int, str, int, Model]]) -> None:
        i = j = 0
        while i < len(one) or j < len(other):
            if i < len(one) and j < len(other) and one[i][:2] == other[j][:2]:
                self._share(one[i][0], (one[i][2], other[j][2]), one[i][3])
                i, j = i + 1, j + 1
            else:
                self._part()
                if j == len(other) or (i < len(one) and one[i][:2] < other[j][:2]):
                    i += 1
                else:
                    j += 1

    def _share(self, time: int, breaks: tuple[int, int], row: Model) -> None:
        if self._breaks != breaks:
            self._part()
            self._start = time + 1
            self._breaks = breaks
        self._end = max(self._end, time)
        self._rows.append(row)

    def _part(self) -> None:
        self._say()
        self._breaks = None
        self._rows.clear()

    def _say(self) -> None:
        if self._breaks is not None and self._start < self._end:
            self._ready.append(
                Claim(
                    self._dataset, self._start, self._end, State.HELD, Grade.E, "two independent observers agree",
                    len(self._rows), digest_of(self._rows), self._clock, self._parser, edge(self._start), edge(self._end),
                )
            )  # fmt: skip
            self._start = self._end
            self._rows.clear()
