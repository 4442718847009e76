"""One dataset that is collected: what is wanted of it, what was learnt of it, and the questions that follow. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from attrs import define, field

from tradeflood.coverage import Claim, Frame, State
from tradeflood.coverage.claims import solid
from tradeflood.errors import UnknownMarket
from tradeflood.live import happened
from tradeflood.live.freshness import GAPS
from tradeflood.models import Candle, interval
from tradeflood.models.time import DAY, HOUR, MINUTE, MS, SECOND
from tradeflood.planner import Query, query_of
from tradeflood.runner.backlog import WIDEST, Backlog
from tradeflood.runner.deadlines import (
    CADENCE,
    NEVER,
    ROWS_PER_WEIGHT,
    Cost,
    Hole,
    cadence_of,
    deadline_of,
    gap_of,
    horizon_of,
)  # fmt: skip
from tradeflood.spans import EMPTY, Span, Spans
from tradeflood.turns import Ask, Binding

LOOKS = 4
"""How many weak stretches of a dataset one pass looks at."""

REST, LONGEST_REST = 10 * SECOND, 10 * MINUTE
"""How long a market that the venue does not know is left alone, twice as long each time."""


@define(eq=False)
class Target:
    """One dataset that is collected, since when, and what was learnt of it."""

    ask: Ask
    since: int
    binding: type[Binding[Any]]
    cost: Cost = field(factory=Cost)
    settle: int = 0
    began: int = 0
    """When collecting began: what lies before is history."""
    is_resumed: bool = False
    backlog: Backlog = field(init=False)
    gap: int | None = None
    """The mean distance of two rows when the market is busy, in ns."""
    asked_at: int = 0
    newest: int = 0
    """The time of the newest row that an answer showed."""
    unheard: int | None = None
    """The time of the first row that answers showed and that the stream, silent since earlier, did not bring."""
    looked: Spans = EMPTY
    """The weak stretches that were looked at again; in vain, where they are weak still."""
    again_at: int = 0
    again_in: int = MINUTE
    rests_for: int = 0
    rests_until: int = 0
    """Until when it is not asked for, because the venue does not know its market."""

    def __attrs_post_init__(self) -> None:
        self.backlog = Backlog(WIDEST if issubclass(self.ask.model, Candle) else HOUR)

    @property
    def horizon(self) -> int | None:
        """For how long a moment can be asked for, in ns."""
        return horizon_of(self.binding.horizon, self.binding.horizon_rows, self.gap)

    @property
    def cadence(self) -> int:
        """How often its right edge is asked for at least, in ns."""
        return cadence_of(self.binding.horizon_rows, self.gap, self.settle)

    def resume(self, settled: Spans, claims: Iterable[Claim]) -> None:
        """Go on where an earlier run left off: from its last edge, and from the first hole that it named.

        What is weak at that edge belongs to it: an answer is still to show more.
        """
        self.is_resumed = True
        claims = list(claims)
        named = Spans.of(
            *((claim.start, claim.end) for claim in claims if claim.state in {State.PENDING, State.DISPUTED})
        )
        edge = [_firm_edge(settled[-1], solid(claims))] if settled else []
        self.since = min([self.since, *edge, *(start for start, _ in named - settled)])

    def query(self, start: int, end: int) -> Query[Any]:
        """The question for a part of it."""
        return query_of(self.ask, start, end)

    def learn(self, frame: Frame[Any]) -> None:
        """Learn from the rows of an answer how busy the market is, where they are enough to tell."""
        time = self.ask.model.time
        if not frame or time is None:
            return
        times = [getattr(row, time) for row in frame]
        self.newest = max(self.newest, times[-1])
        if (busy := gap_of(times)) is not None:  # busy times are believed at once
            self.gap = busy if self.gap is None else min(busy, self.gap + self.gap // 8)

    def compare(self, frame: Frame[Any], silent_since: int) -> None:
        """Look in an answer for what a stream that is silent since a moment did not bring."""
        if self.unheard is not None and self.unheard <= silent_since:
            self.unheard = None
        time = self.ask.model.time
        if time is not None:
            later = [at for row in frame if happened(row) and (at := getattr(row, time)) > silent_since]
            before = [] if self.unheard is None else [self.unheard]
            self.unheard = min(before + later, default=None)

    def rest(self, frame: Frame[Any], now: int) -> None:
        """Leave it alone for a while where an answer says that there is no such market: it is not there, or not any more."""
        unknown = any(isinstance(failure.error, UnknownMarket) for failure in frame.failures)
        self.rests_for = min(2 * self.rests_for or REST, LONGEST_REST) if unknown else 0
        self.rests_until = now + self.rests_for

    def bridges(self, holes: Spans) -> Spans:
        """What lies between holes so near to each other that one answer brings them all: cheaper asked for with them."""
        if issubclass(self.ask.model, Candle):
            return EMPTY  # windows of candles are cut over several holes anyway
        near = ROWS_PER_WEIGHT * (self.gap or MS)
        return Spans.of(*((one[1], other[0]) for one, other in pairwise(holes) if other[0] - one[1] < near))

    def looked_by(self, now: int) -> Spans:
        """What is not to be looked at once more for now: what stays weak is left alone twice as long each time."""
        if now >= self.again_at:
            self.looked, self.again_at = EMPTY, now + self.again_in
            self.again_in = min(2 * self.again_in, DAY)
        return self.looked

    def around(self, weak: Spans, now: int) -> list[Span]:
        """Some stretches with the rows on both sides, near ones together.

        What lies between two rows is believed when one answer has both.
        """
        if issubclass(self.ask.model, Candle):
            grid = interval(self.ask.interval)
            wide = Spans.of(*((grid.floor(start - 1), grid.next(grid.ceil(end))) for start, end in weak))
        else:
            beside = min(MINUTE, max(SECOND, GAPS * (self.gap or 0)))
            wide = Spans.of(*((start - beside, min(end + beside, now)) for start, end in weak))
        together = wide | self.bridges(wide)
        return [(start, min(end, start + self.backlog.wide)) for start, end in together[:LOOKS]]

    def hole(self, span: Span, now: int) -> Hole:
        """A part of it that is to be asked for; where only the newest rows can be, and nobody knows their rate, soon."""
        last, horizon = self.binding.horizon_rows, self.horizon
        start = span[0] if horizon is None else max(span[0], min(now - horizon, span[1]))
        rows = max(1, (span[1] - start) // self.gap) if self.gap else 1
        deadline = NEVER if last is None else now + CADENCE
        if horizon is not None:
            deadline = deadline_of(span, horizon, now)
        if last is not None:
            return Hole(self.ask.dataset, span, deadline, min(rows, last), self.cost.of(0), lasts=True)
        return Hole(self.ask.dataset, span, deadline, rows, self.cost.of(rows))


def _firm_edge(last: Span, firm: Spans) -> int:
    """Where the last stretch that is settled ceases to be firm, an hour before its end at most."""
    start, end = last
    here = firm & Spans.of(last)
    return max(here.bounds[1] if here else start, end - HOUR)
