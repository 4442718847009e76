"""Claims: what we say we hold, and why. Immutable values; coverage is what follows from a set of them.

states   held       complete; with a count of 0 it is verified empty
         open       the right edge: nothing yet proves what follows the last row
         pending    a hole, refill on its way
         lost       every source refused or is past its horizon
         disputed   a late row, a dead letter or a contradiction refuted a claim

grades   A          contiguous or chained sequence: ids, or closed candles on their grid
         B          a bracketed page: asked after its end and a settle time, with rows on both sides
         C          equals the venue's candles exactly
         D          transport only: the venue answered so, and nothing brackets the answer
         E          two independent observers agree
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from hashlib import blake2b
from typing import Any, NamedTuple

from attrs import frozen

from tradeflood.models import Model
from tradeflood.spans import EMPTY, Spans


class State(StrEnum):
    """What a stretch of time is to us."""

    HELD = "held"
    OPEN = "open"
    PENDING = "pending"
    LOST = "lost"
    DISPUTED = "disputed"


class Grade(StrEnum):
    """How good the evidence is."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"
    E = "E"


_RANK = {Grade.A: 0, Grade.B: 1, Grade.C: 2, Grade.E: 3, Grade.D: 4}  # strongest first
_STATE_RANK = {State.DISPUTED: 0, State.HELD: 1, State.LOST: 2, State.PENDING: 3, State.OPEN: 4}


class Dataset(NamedTuple):
    """What a claim is about: one model of one market, in one variant (kind; interval and origin)."""

    model: type[Model]
    venue: str
    market: str
    variant: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The dataset in words, for messages: `binance:BTC/USDT candle 1m venue`."""
        return " ".join((f"{self.venue}:{self.market}", self.model.name(), *self.variant))


@frozen
class Claim:
    """One statement about [start, end) of a dataset, with what it rests on.

    `left` and `right` are what it may share with a neighbour: the number of its first row, and the number that
    must follow its last one. Claims join where the numbers meet or overlap; abutting times alone do not.
    `as_of` is the venue's clock when it answered; `parser` names the code that read it.
    """

    dataset: Dataset
    start: int
    end: int
    state: State
    grade: Grade | None
    evidence: str
    count: int = 0
    digest: str = ""
    as_of: int = 0
    parser: str = ""
    left: str | None = None
    right: str | None = None


@frozen
class Stretch:
    """A part of the coverage of one dataset, as people and `--json` see it."""

    start: int
    end: int
    state: State
    grade: Grade | None
    evidence: str


def digest_of(rows: Iterable[Model]) -> str:
    """A short hash of the keys and values of rows, the same in every process and any order."""
    total = 0
    for row in rows:
        text = repr([str(getattr(row, column.name)) for column in row.columns() if column.name != "received_at"])
        total ^= int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
    return f"{total:016x}"


def held(claims: Iterable[Claim]) -> Spans:
    """The times that are held by any claim and disputed by none."""
    yes, no = [], []
    for claim in claims:
        if claim.state is State.HELD:
            yes.append((claim.start, claim.end))
        elif claim.state is State.DISPUTED:
            no.append((claim.start, claim.end))
    return Spans.of(*yes) - Spans.of(*no)


def stretches(claims: Iterable[Claim]) -> list[Stretch]:
    """What a set of claims amounts to, ascending and disjoint: the strongest wins wherever two overlap.

    Union of sets of claims is therefore commutative and idempotent. Neighbours become one stretch only where
    they overlap or are linked, and say the same; a joined stretch never says more than its weakest part.
    """
    taken = EMPTY
    parts: list[tuple[int, int, Claim]] = []
    for claim in sorted(set(claims), key=_strength):
        free = Spans.of((claim.start, claim.end)) - taken
        parts += [(start, end, claim) for start, end in free]
        taken |= free
    parts.sort(key=lambda part: part[:2])
    out: list[Stretch] = []
    previous: Claim | None = None
    for start, end, claim in parts:
        last = out[-1] if out else None
        if last and previous and last.end == start and _says(last) == _says(claim) and _joined(previous, claim):
            out[-1] = Stretch(last.start, end, last.state, last.grade, last.evidence)
        else:
            out.append(Stretch(start, end, claim.state, claim.grade, claim.evidence))
        previous = claim
    return out


def clipped(parts: Sequence[Stretch], start: int, end: int) -> list[Stretch]:
    """The stretches inside [start, end)."""
    return [
        Stretch(max(part.start, start), min(part.end, end), part.state, part.grade, part.evidence)
        for part in parts
        if part.start < end and start < part.end
    ]


def weakest(grades: Iterable[Grade]) -> Grade:
    """The weakest of some grades."""
    return max(grades, key=_RANK.__getitem__)


def good_enough(grade: Grade | None, least: Grade) -> bool:
    """Whether a grade is no weaker than another."""
    return grade is not None and _RANK[grade] <= _RANK[least]


def _says(part: Claim | Stretch) -> tuple[Any, ...]:
    return part.state, part.grade, part.evidence


def _joined(left: Claim, right: Claim) -> bool:
    """Whether two neighbours overlap, share a row, or follow one another in the venue's own counting."""
    if left is right or (left.start < right.end and right.start < left.end):
        return True
    if left.right is None or right.left is None:
        return False
    return (left.left is None or int(left.left) <= int(right.left)) and int(right.left) <= int(left.right)


def _strength(claim: Claim) -> tuple[Any, ...]:
    grade = _RANK[claim.grade] if claim.grade else len(_RANK)
    return (_STATE_RANK[claim.state], grade, claim.start, claim.end, claim.as_of, claim.evidence, claim.count, claim.digest,
            claim.parser, claim.left or "", claim.right or "")  # fmt: skip
