"""What came too late: a row inside a time that was said to be complete shows that it was not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tradeflood.coverage.claims import Claim, Dataset, State, disputes, standing
from tradeflood.models import Model
from tradeflood.models.time import MINUTE
from tradeflood.spans import Spans

NEAR = MINUTE
"""How much time on either side of a row that came too late is in doubt: whatever withheld it may have withheld others."""


def refuted(claims: Sequence[Claim], rows: Iterable[Model], why: str = "a row came too late") -> Iterator[Claim]:
    """The disputes that rows raise which no claim may have been without; rows are of the claims' dataset.

    A claim that counts ids is refuted only by a row whose id it counts: of one that follows it the time may be
    earlier, where a venue's clock steps back.
    """
    against = disputes(claims)
    final = [(claim, standing(claim, against)) for claim in claims if claim.state is State.HELD]
    for row in rows:
        time = getattr(row, row.time or "")
        doubted = [claim for claim, spans in final if spans.touches(time, time + 1) and _counts(claim, row)]
        if doubted:
            start = max(time - NEAR, min(claim.start for claim in doubted))
            end = min(time + NEAR, max(claim.end for claim in doubted))
            yield disputed(doubted[0].dataset, start, end, why, max(claim.as_of for claim in doubted))


def disputed(dataset: Dataset, start: int, end: int, why: str, refutes: int, parser: str = "") -> Claim:
    """A dispute of all that was claimed about a time up to a moment, that moment included."""
    return Claim(dataset, start, end, State.DISPUTED, None, why, as_of=refutes, parser=parser, refutes=refutes)


def touched(spans: Spans, rows: Iterable[Model]) -> list[Model]:
    """The rows whose time lies inside some spans."""
    return [row for row in rows if row.time and spans.touches(at := getattr(row, row.time), at + 1)]


def _counts(claim: Claim, row: Model) -> bool:
    """Whether a claim says of a row that it is there: by id where it counts ids, else by time."""
    left, right, position = claim.left, claim.right, row.position
    if left is None or right is None or not (left.isdecimal() and right.isdecimal()):
        return True
    if not (isinstance(position, str) and position.isdecimal()):
        return True
    return int(left) <= int(position) < int(right)
