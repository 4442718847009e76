"""In which order holes are filled: what perishes first comes first; where not all can be saved, most rows per weight. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import define, frozen

from tradeflood.coverage import Claim, Dataset, State
from tradeflood.models.time import MINUTE, SECOND
from tradeflood.spans import Span

CADENCE = MINUTE
"""How often a right edge is asked for at least, where rows that came by themselves prove nothing."""

RESERVE = 20
"""Hundredths of every budget that polls and lists leave to refills; those that can wait leave half of them to those that cannot."""

BURST = 8
"""How many times as fast a market may become between two polls without a loss, where the budget allows so many."""

FEW = 20
"""Rows that are too few to tell how fast they come."""

ROWS_PER_WEIGHT = 500
"""A guess, until a market's answers tell what they cost."""

NEVER = 1 << 62


@frozen
class Hole:
    """A part of a dataset that is to be asked for: until when that helps (ns), about how many rows and what weight it is.

    Where it `lasts`, there are always some rows left to be had, though older ones perish: of the newest rows of a venue.
    """

    dataset: Dataset
    span: Span
    deadline: int = NEVER
    rows: int = 1
    weight: int = 1
    lasts: bool = False


def horizon_of(time: int | None, rows: int | None, gap: int | None) -> int | None:
    """For how long a moment can be asked for, in ns: as long as the venue says, or until so many newer rows have come.

    `gap` is the mean distance of two rows when the market is busy.
    """
    ends = [end for end in (time, None if rows is None or gap is None else rows * gap) if end is not None]
    return min(ends, default=None)


def gap_of(times: Sequence[int]) -> int | None:
    """The mean distance of rows, in ns: of all, or of the newest third where they have come faster; None for too few.

    An order may be filled several times in one moment, so that few rows tell nothing.
    """
    if len(times) < FEW:
        return None
    ascending = sorted(times)
    newest = ascending[-max(FEW, len(ascending) // 3) :]
    return min((some[-1] - some[0]) // (len(some) - 1) for some in (ascending, newest))


def mean_gap(claims: Iterable[Claim]) -> int | None:
    """The mean distance of the rows that are held, in ns, by the newest claim of enough of them; None where there is none.

    How busy a market may become it does not tell.
    """
    telling = [claim for claim in claims if claim.state is State.HELD and claim.count >= FEW]
    newest = max(telling, key=lambda claim: claim.end, default=None)
    return None if newest is None else (newest.end - newest.start) // newest.count


def deadline_of(span: Span, horizon: int, now: int) -> int:
    """Until when it helps to ask for a hole: until its first moment perishes; its last one, where that has happened."""
    first = span[0] + horizon
    return first if first > now else span[1] + horizon


def cadence_of(rows: int | None, gap: int | None, settle: int = 0) -> int:
    """How often the newest rows must be asked for, in ns: before half of them are pushed out by others.

    What is younger than `settle` is not held by the answer that shows it, so the next one must still reach it.
    """
    if rows is None or gap is None:
        return CADENCE
    deep = rows * gap
    return max(SECOND, min(CADENCE, deep // 2, deep - settle))


def pace_of_polls(declared: int, rows: int | None, gap: int | None, settle: int, weight: int, pace: float) -> int:
    """How long to wait between two polls, in ns: as declared, less where rows would be pushed out meanwhile.

    `weight` is what one round of all polls of the budget costs, `pace` the weight per ns that it allows: polls never take more
    than what refills leave them.
    """
    wanted = declared
    if rows is not None and gap is not None:
        wanted = min(declared, cadence_of(rows, gap, settle), max(SECOND, rows * gap // BURST))
    return max(wanted, int(weight / pace * 100 / (100 - RESERVE)))


@define
class Cost:
    """What a binding's answers cost, learnt: so much weight for any question, and so much for each row."""

    least: float = 1.0
    each: float = 1 / ROWS_PER_WEIGHT
    _known: bool = False

    def spent(self, weight: int, rows: int) -> None:
        """So much weight brought so many rows."""
        if weight <= 0:
            return  # somebody else's question brought them
        self.least = weight if not self._known else min(self.least, weight)
        self._known = True
        if rows >= ROWS_PER_WEIGHT // 2:  # few rows tell nothing of what many cost
            each = max(0.0, weight - self.least) / rows
            self.each += (each - self.each) / 4

    def of(self, rows: int) -> int:
        """What so many rows will cost, about."""
        return max(1, round(self.least + self.each * rows))


def in_order(holes: Iterable[Hole], now: int, pace: float, within: int, at_once: float = 0) -> list[Hole]:
    """The holes to ask for now, in order, at a pace of so much weight per ns, for about so many ns; at least one.

    `at_once` is the weight that may be spent without waiting. A hole that cannot be filled in time beside those that perish before it pushes out whichever saves the fewest rows
    per weight: that one is asked for only when nothing else is.
    """
    kept: list[Hole] = []
    late: list[Hole] = []
    for hole in sorted(holes, key=lambda hole: (hole.deadline, hole.span)):
        kept.append(hole)
        if hole.deadline < NEVER and not hole.lasts and _weight(kept) > at_once + pace * max(0, hole.deadline - now):
            least = min(kept, key=lambda hole: hole.rows / hole.weight)
            kept.remove(least)
            late.append(least)
    out: list[Hole] = []
    for hole in (*kept, *late):
        if out and _weight(out) + hole.weight > max(at_once, pace * within):
            break
        out.append(hole)
    return out


def patient(holes: Iterable[Hole], now: int, window: int, soonest: int) -> tuple[list[Hole], list[Hole]]:
    """The holes that are to be asked for first, and those that can wait for others, each in their order.

    Others have to be found and asked for within a budget's `window` where something perishes as soon as `soonest` after
    it happened: what lasts for longer than the window then leaves them a part of it.
    """
    first: list[Hole] = []
    later: list[Hole] = []
    for hole in holes:
        (later if soonest < window < hole.deadline - now else first).append(hole)
    return first, later


def _weight(holes: Sequence[Hole]) -> int:
    return sum(hole.weight for hole in holes)
