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

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import cache, reduce
from operator import attrgetter, mul, xor
from typing import Any, NamedTuple
from zlib import adler32, crc32

import msgspec
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
_STATE_RANK = {State.HELD: 0, State.LOST: 1, State.DISPUTED: 2, State.PENDING: 3, State.OPEN: 4}
_FINAL = {State.HELD, State.LOST}


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
    must follow its last one; or the moment of an edge beyond which a row was seen. Claims join where the numbers meet
    or overlap, or where the moments are the same; abutting times alone do not.
    `as_of` is the venue's clock when it answered; `parser` names the code that read it. `refutes`, of a disputed
    claim, is the moment up to which others about the same time are refuted by it; None: whenever they were made.
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
    refutes: int | None = None


@frozen
class Stretch:
    """A part of the coverage of one dataset, as people and `--json` see it."""

    start: int
    end: int
    state: State
    grade: Grade | None
    evidence: str


def digest_of(rows: Iterable[Model]) -> str:
    """A short hash of the positions and values of rows of one dataset, the same in every process and any order.

    It is the XOR of 64 bits of each row, so that the digests of two sets of rows give that of both: the product of the
    CRC-32 and the Adler-32 of its MessagePack. Either alone is linear, and would not see what two rows exchange. It finds
    what was damaged or mistaken, not what somebody forged.
    """
    some = list(rows)
    if not some:
        return f"{0:016x}"
    told = _told(type(some[0]))  # type: ignore[arg-type]  # a class has a hash
    try:
        packed = list(map(_pack, map(told, some)))
    except (UnicodeEncodeError, OverflowError):
        packed = list(map(_packed, map(told, some)))
    return f"{reduce(xor, map(mul, map(crc32, packed), map(adler32, packed))):016x}"


_pack = msgspec.msgpack.Encoder().encode


def _packed(values: tuple[Any, ...]) -> bytes:
    """A row's values, also such as MessagePack has no room for: text that is no Unicode, numbers of more than 64 bits."""
    try:
        return _pack(values)
    except (UnicodeEncodeError, OverflowError):
        return repr([*map(str, values)]).encode()


@cache
def _told(model: type[Model]) -> Callable[[Model], tuple[Any, ...]]:
    """What a venue tells of a row of one dataset: all but what the dataset says, and when we read it. It is a tuple."""
    left_out = {*model.key[:-1], "received_at"}
    names = [column.name for column in model.columns() if column.name not in left_out]
    return attrgetter(*names) if len(names) > 1 else lambda row: tuple(getattr(row, name) for name in names)


def held(claims: Iterable[Claim]) -> Spans:
    """The times that are held by some claim that nothing refutes."""
    return _standing(claims, lambda claim: claim.state is State.HELD)


def settled(claims: Iterable[Claim]) -> Spans:
    """The times of which nothing more is to be had: held, or lost."""
    return _standing(claims, lambda claim: claim.state in _FINAL)


def solid(claims: Iterable[Claim]) -> Spans:
    """The times that are held on grade B or better, or lost: another question would not tell more."""
    return _standing(
        claims,
        lambda claim: claim.state is State.LOST or (claim.state is State.HELD and good_enough(claim.grade, Grade.B)),
    )


def _standing(claims: Iterable[Claim], chosen: Callable[[Claim], bool]) -> Spans:
    all_of_them = list(claims)
    against = disputes(all_of_them)
    spans = [span for claim in all_of_them if chosen(claim) for span in standing(claim, against)]
    return Spans.of(*spans)


def disputes(claims: Iterable[Claim]) -> list[Claim]:
    """The claims that refute others."""
    return [claim for claim in claims if claim.state is State.DISPUTED]


def standing(claim: Claim, against: Sequence[Claim]) -> Spans:
    """The part of a claim that no dispute refutes: disputes concern what was claimed before them, not what was found since."""
    spans = Spans.of((claim.start, claim.end))
    if claim.state not in _FINAL or not against:
        return spans
    return spans - Spans.of(
        *((other.start, other.end) for other in against if other.refutes is None or claim.as_of <= other.refutes)
    )


def stretches(claims: Iterable[Claim]) -> list[Stretch]:
    """What a set of claims amounts to, ascending and disjoint: the strongest wins wherever two overlap.

    Union of sets of claims is therefore commutative and idempotent. Neighbours become one stretch only where
    they overlap or are linked, and say the same; a joined stretch never says more than its weakest part.
    """
    taken = EMPTY
    parts: list[tuple[int, int, Claim]] = []
    unique = set(claims)
    against = disputes(unique)
    for claim in sorted(unique, key=_strength):
        free = standing(claim, against) - taken
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


def rank(claim: Claim) -> tuple[int, int]:
    """How much a claim says: the less, the more."""
    return _STATE_RANK[claim.state], _RANK[claim.grade] if claim.grade else len(_RANK)


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
    if left.right == right.left:
        return True
    if not _are_numbers(left.left, left.right, right.left, right.right):
        return False
    return (left.left is None or int(left.left) <= int(right.left)) and int(right.left) <= int(left.right)


def _are_numbers(*texts: str | None) -> bool:
    return all(text is None or text.isdecimal() for text in texts)


def _strength(claim: Claim) -> tuple[Any, ...]:
    return (*rank(claim), claim.start, claim.end, claim.as_of, claim.evidence, claim.count, claim.digest,
            claim.parser, claim.left or "", claim.right or "", claim.refutes or 0)  # fmt: skip
