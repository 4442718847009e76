"""Ids of which a venue leaves some out: a missing one was never given, or its row did not come, and no id tells which.

So one answer proves nothing but what it says: grade D. Where a later answer shows the same rows, and every other row that
has come meanwhile, there are no others: grade B, and such parts join wherever they meet, into one claim of any length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from attrs import evolve

from tradeflood.coverage.claims import Claim, Grade, disputes, standing
from tradeflood.coverage.compact import part_of
from tradeflood.coverage.evidence import JUMPED, JUMPED_TWICE, edge
from tradeflood.models import Model
from tradeflood.spans import Spans


def asked_twice(
    claims: Iterable[Claim],
    before: Sequence[Claim],
    rows: Sequence[Model],
    stored: Callable[[int, int], Sequence[Model]],
) -> Iterator[Claim]:
    """The claims of an answer; what an earlier one has said too, by claims that stand, is believed.

    `rows` are those of the answer, ascending; `stored` gives what has come of [start, end) from wherever. A part in which
    the answer lacks one of these is not believed: it says less than is known.
    """
    against = disputes(before)
    for claim in claims:
        if claim.evidence != JUMPED:
            yield claim
            continue
        earlier = (other for other in before if other.evidence == JUMPED and other.as_of < claim.as_of)
        there = Spans.of((claim.start, claim.end))
        both = there & Spans.of(*(span for other in earlier for span in standing(other, against)))
        agreed = Spans(span for span in both if not _lacks(rows, stored(*span), *span))
        for start, end in agreed:
            part = part_of(claim, start, end, rows)
            yield evolve(part, grade=Grade.B, evidence=JUMPED_TWICE, left=edge(start), right=edge(end))
        for start, end in there - agreed:
            yield part_of(claim, start, end, rows)


def _lacks(rows: Iterable[Model], stored: Iterable[Model], start: int, end: int) -> bool:
    """Whether some of what is stored is not among the rows."""
    shown = {row.position for row in rows if start <= getattr(row, row.time or "") < end}
    return any(row.position not in shown for row in stored)
