"""What the numbers of a topic's messages prove: consecutive offsets of one epoch show that the transport lost nothing.

Pure: rows and their times go in, claims come out. A number that is missing, another epoch, or a message whose rows could
not be read ends a run; a message that comes late joins the runs on both its sides.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from zlib import crc32

from attrs import define

from tradeflood.coverage import Claim, Dataset, Grade, State
from tradeflood.coverage.claims import digest_of
from tradeflood.models import Model
from tradeflood.models.time import SECOND

GROWS_FOR = 15 * SECOND
"""How long a claim grows before it is handed on."""

KEPT = 64  # runs of numbers, and of rows, that may still be joined by what comes late
EPOCHS = 4  # whose numbers are remembered: two connections may stand in two of them


class Numbers:
    """Which numbers came, as runs; one below the oldest run that is remembered counts as having come."""

    __slots__ = ("_floor", "_runs")

    def __init__(self) -> None:
        self._runs: list[list[int]] = []  # [first, after]
        self._floor: int | None = None

    def add(self, number: int) -> bool:
        """Whether a number is new; it is remembered."""
        runs = self._runs
        if runs and runs[-1][1] == number:  # what nearly always happens
            runs[-1][1] += 1
            return True
        if self._floor is not None and number < self._floor:
            return False
        at = bisect_right(runs, [number, 1 << 200])
        if at and number < runs[at - 1][1]:
            return False
        runs.insert(at, [number, number + 1])
        if at + 1 < len(runs) and runs[at + 1][0] == number + 1:
            runs[at][1] = runs.pop(at + 1)[1]
        if at and runs[at - 1][1] == number:
            runs[at - 1][1] = runs.pop(at)[1]
        if len(runs) > KEPT:
            self._floor = runs.pop(0)[1]
        return True


@define
class _Run:
    """Messages of consecutive numbers: [first, after), the times they stand for, and what of that is not claimed yet."""

    first: int
    after: int
    start: int | None
    end: int
    count: int
    digest: int
    new_count: int  # of what is not claimed yet
    new_digest: int
    left: int  # the number of the first message of the next claim
    said: int | None = None  # up to when it has been claimed
    hole_told: bool = False


class Offsets:
    """The proofs of one dataset's topic."""

    def __init__(self, dataset: Dataset, parser: str) -> None:
        self._dataset, self._parser = dataset, parser
        self._seen: dict[str | None, Numbers] = {}
        self._epoch: str | None = None
        self._runs: list[_Run] = []
        self._ready: list[Claim] = []
        self._as_of = 0

    def repeats(self, offset: int, epoch: str | None) -> bool:
        """Whether a message of this number came already; it is remembered."""
        seen = self._seen.get(epoch)
        if seen is None:
            seen = self._seen[epoch] = Numbers()
            while len(self._seen) > EPOCHS:
                del self._seen[next(iter(self._seen))]
        return not seen.add(offset)

    @property
    def begun(self) -> bool:
        """Whether any message had a number."""
        return bool(self._seen)

    @property
    def position(self) -> tuple[int, str] | None:
        """The newest number and its epoch: what a new connection asks to go on from; None where no epoch is known."""
        return None if self._epoch is None or not self._runs else (self._runs[-1].after - 1, self._epoch)

    def came(self, offset: int, epoch: str | None, rows: Sequence[Model], now: int) -> None:
        """The rows of a message of this number, all of which could be read. One that could not is simply not told."""
        self._as_of = max(self._as_of, now)
        if epoch != self._epoch:
            self._close(epoch, rows)
        time = self._dataset.model.time or ""
        times = [getattr(row, time) for row in rows]
        start, count, digest = min(times) + 1 if times else None, len(rows), int(digest_of(rows), 16)
        new = _Run(offset, offset + 1, start, max(times, default=0), count, digest, count, digest, offset)
        runs = self._runs
        at = len(runs)
        while at and runs[at - 1].first > offset:
            at -= 1
        runs.insert(at, new)
        if at + 1 < len(runs) and runs[at].after == runs[at + 1].first:
            runs[at : at + 2] = [_joined(runs[at], runs[at + 1])]
        if at and runs[at - 1].after == runs[at].first:
            runs[at - 1 : at + 1] = [_joined(runs[at - 1], runs[at])]
        while len(runs) > KEPT:
            self._say(runs[0])
            self._hole(runs[0], runs[1])
            del runs[0]

    def claims(self, *, rest: bool = False) -> list[Claim]:
        """The claims that are ready: of what has ended, and of what has grown for a while; with `rest`, all."""
        for run, following in zip(self._runs, [*self._runs[1:], None], strict=False):
            begun = run.start if run.said is None else run.said
            grown = begun is not None and run.end - begun > GROWS_FOR
            if rest or grown or following is not None:
                self._say(run)
            if following is not None:
                self._hole(run, following)
        ready, self._ready = self._ready, []
        return ready

    def _close(self, epoch: str | None, rows: Sequence[Model]) -> None:
        """Another epoch: what numbers say of one another has ended."""
        for run, following in zip(self._runs, [*self._runs[1:], None], strict=False):
            self._say(run)
            if following is not None:
                self._hole(run, following)
        time = self._dataset.model.time or ""
        if self._runs and rows:
            self._pending(self._runs[-1].end, min(getattr(row, time) for row in rows) + 1, "another epoch of offsets")
        self._runs, self._epoch = [], epoch

    def _say(self, run: _Run) -> None:
        begin = run.start if run.said is None else run.said
        if begin is None or begin >= run.end:
            return
        place = (
            f"o{crc32((self._epoch or '').encode()):08x}:"  # numbers of two epochs never meet, nor are they ids of rows
        )
        self._ready.append(
            Claim(
                self._dataset, begin, run.end, State.HELD, Grade.D, "consecutive offsets", run.new_count, f"{run.new_digest:016x}",
                self._as_of, self._parser, f"{place}{run.left}", f"{place}{run.after}",
            )
        )  # fmt: skip
        run.said, run.left, run.new_count, run.new_digest = run.end, run.after, 0, 0

    def _hole(self, before: _Run, after: _Run) -> None:
        if before.hole_told or after.start is None or not before.end:
            return
        before.hole_told = True
        missing = after.first - before.after
        self._pending(before.end, after.start, f"{missing} offsets missing from {before.after} on")

    def _pending(self, start: int, end: int, why: str) -> None:
        if start < end:
            self._ready.append(
                Claim(self._dataset, start, end, State.PENDING, None, why, as_of=self._as_of, parser=self._parser)
            )


def _joined(one: _Run, other: _Run) -> _Run:
    """Two neighbours as one. What only grows at its end goes on from what was claimed; anything else is claimed anew."""
    start = other.start if one.start is None else one.start
    count, digest = one.count + other.count, one.digest ^ other.digest
    run = _Run(one.first, other.after, start, max(one.end, other.end), count, digest, count, digest, one.first)
    run.hole_told = other.hole_told
    if other.said is None:
        run.said, run.left = one.said, one.left
        run.new_count, run.new_digest = one.new_count + other.new_count, one.new_digest ^ other.new_digest
    return run
