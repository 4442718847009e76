"""What comes while as many rows wait as may: it waits too, unless it is to be dropped; then it is counted, and named as a hole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from attrs import define

from tradeflood.coverage import Claim, Dataset, State
from tradeflood.coverage.refute import disputed
from tradeflood.models import Candle, interval


@define
class Room:
    """Whether there is room for more rows, and whether those that come when there is none are dropped."""

    drops: bool = False
    full: bool = False

    @property
    def dropping(self) -> bool:
        """Whether what comes now is not kept."""
        return self.full and self.drops


@define
class _Hole:
    """The times of what was dropped of a dataset, [start, end), and up to where that was late: before a row that was kept."""

    start: int
    end: int
    parser: str
    as_of: int = 0
    count: int = 0
    late: int = 0


class Dropped:
    """The rows that were dropped: how many by venue, until `told`, and where of each dataset, until `claims`."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._holes: dict[Dataset, _Hole] = {}

    def add(self, dataset: Dataset, rows: Sequence[Any], parser: str, now: int, *, kept_until: int = 0) -> None:
        """Take in rows of a dataset that are not kept; of it, rows were kept up to some moment."""
        self._counts[dataset.venue] += len(rows)
        time = dataset.model.time
        if time is None:
            return
        times = [getattr(row, time) for row in rows]
        start, last = min(times), max(times)
        end = interval(dataset.variant[0]).next(last) if issubclass(dataset.model, Candle) else last + 1
        hole = self._holes.setdefault(dataset, _Hole(start, end, parser))
        hole.start, hole.end = min(hole.start, start), max(hole.end, end)
        hole.as_of = max(hole.as_of, now, kept_until)
        hole.count += len(rows)
        if start < kept_until and dataset.model.key[-1] != time:  # what is revised is never late
            hole.late = max(hole.late, min(end, kept_until))

    def told(self) -> dict[str, int]:
        """How many rows were dropped since the last time, by venue."""
        counts, self._counts = self._counts, Counter()
        return dict(counts)

    def claims(self) -> list[Claim]:
        """The holes since the last time, one per dataset: pending; a part that may have been claimed is disputed as well.

        A row that comes late, and is dropped, lies where others that were kept may have proved that nothing is missing.
        """
        holes, self._holes = self._holes, {}
        made = []
        for dataset, hole in holes.items():
            why = f"{hole.count} rows were dropped"
            made.append(
                Claim(
                    dataset, hole.start, hole.end, State.PENDING, None, why, as_of=hole.as_of, parser=hole.parser
                )
            )  # fmt: skip
            if hole.late:
                made.append(disputed(dataset, hole.start, hole.late, f"{why}, some late", hole.as_of, hole.parser))
        return made
