"""Fewer claims that say the same: a run of any length keeps as many as there are stretches, not as many as batches.

Claims are immutable, and a set of them says what their union says. So a claim that another one implies may go, and
neighbours that join may be one. Whoever stores the result writes what is new before what is gone: in between, both
are there, which is the same again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import evolve

from tradeflood.coverage.claims import (
    Claim,
    Grade,
    State,
    digest_of,
    disputes,
    good_enough,
    held,
    rank,
    settled,
    solid,
    standing,
)
from tradeflood.coverage.evidence import BRACKETED, CONSECUTIVE, JUMPED, edge
from tradeflood.models import Model
from tradeflood.spans import EMPTY, Span, Spans


def compacted(claims: Iterable[Claim]) -> list[Claim]:
    """Claims with the same meaning as these, as few as can be told without their rows, ascending by start."""
    there = sorted(set(claims), key=_order)
    final = _joined([claim for claim in there if claim.state in {State.HELD, State.LOST}], disputes(there))
    final = _not_surpassed(_not_implied(final), disputes(there))
    known = settled([*final, *disputes(there)])
    rest = [claim for claim in there if claim.state in {State.OPEN, State.PENDING} and not known.covers(_span(claim))]
    return sorted([*final, *_needed(disputes(there), final), *_newest(rest)], key=_order)


def grown(first: Claim, second: Claim) -> Claim:
    """Two claims that follow one another, as one; refuted where either would be."""
    shared = _shared(first, second)
    told = all(each.digest or not each.count for each in (first, second)) and not shared
    digest = int(first.digest or "0", 16) ^ int(second.digest or "0", 16)
    return evolve(
        first,
        end=second.end,
        count=first.count + second.count - shared,
        digest=f"{digest:016x}" if told else "",
        as_of=min(first.as_of, second.as_of),
        right=second.right,
    )


def _shared(first: Claim, second: Claim) -> int:
    """How many rows two claims that meet in time both count: ids at the end of the one with which the other begins.

    Whoever fills a hole asks for the row before it too, so that both claims know of it. What the rows of both are is
    then known, and their digest is not.
    """
    if first.evidence != CONSECUTIVE or second.evidence != CONSECUTIVE or first.end != second.start:
        return 0
    ids = [each or "" for each in (first.left, second.left, first.right, second.right)]
    if not all(each.isdecimal() for each in ids):
        return 0
    begin, again, after, last = map(int, ids)
    return after - again if begin <= again < after <= last else 0


def _order(claim: Claim) -> tuple[int, int, int]:
    return claim.start, claim.end, claim.as_of


def _span(claim: Claim) -> Spans:
    return Spans.of((claim.start, claim.end))


def _joined(claims: Sequence[Claim], against: Sequence[Claim]) -> list[Claim]:
    """Neighbours that meet in a number or in a bracketed moment as one; what overlaps is left, for its rows would count twice.

    So is what was found after a dispute beside what was found before it: as one, both would be refuted.
    """
    out: list[Claim] = []
    ends: dict[Any, int] = {}  # of what may be continued: where it stands in `out`
    met: dict[Any, int] = {}  # the same by the moment alone: what was joined since does not end there any more
    for claim in claims:
        at = ends.pop((_says(claim), claim.left, claim.start), None) if claim.left is not None else None
        if at is None and (near := met.pop((_says(claim), claim.start), None)) is not None:
            at = near if _shared(out[near], claim) else None
            if at is not None:
                ends.pop((_says(claim), out[at].right, out[at].end), None)
        if at is None or not _stands_as_well(out[at], claim, against):
            out.append(claim)
            at = len(out) - 1
        else:
            out[at] = grown(out[at], claim)
        if claim.right is not None:
            ends[_says(claim), claim.right, claim.end] = at
            met[_says(claim), claim.end] = at
    return out


def _stands_as_well(one: Claim, other: Claim, against: Sequence[Claim]) -> bool:
    """Whether two claims as one are refuted nowhere where they are not."""
    return not against or standing(grown(one, other), against) == standing(one, against) | standing(other, against)


def _says(claim: Claim) -> tuple[Any, ...]:
    return claim.state, claim.grade, claim.evidence, claim.parser


def _not_implied(claims: Sequence[Claim]) -> list[Claim]:
    """Those that no other implies: one as strong, over all of their time, made no earlier."""
    out: list[Claim] = []
    near: list[Claim] = []  # those that reach beyond the start of the one that is looked at
    for claim in sorted(claims, key=lambda claim: (claim.start, -claim.end, rank(claim), -claim.as_of)):
        near = [other for other in near if other.end > claim.start]
        if not any(_implies(other, claim) for other in near):
            out.append(claim)
            near.append(claim)
    return out


def _implies(one: Claim, other: Claim) -> bool:
    as_much = rank(one) <= rank(other) and bool(solid([one]) or not solid([other]))
    return other.end <= one.end and other.as_of <= one.as_of and as_much


def _not_surpassed(claims: Sequence[Claim], against: Sequence[Claim]) -> list[Claim]:
    """Those of which some time is not held on a better grade: of what several better ones hold together, the weaker says nothing."""
    better: dict[Grade | None, Spans] = {}
    stands: dict[Grade, list[Span]] = {}
    for claim in claims:
        if claim.state is State.HELD and claim.grade is not None:
            stands.setdefault(claim.grade, []).extend(standing(claim, against))
    known = EMPTY
    for grade in sorted(stands, key=lambda grade: sum(good_enough(grade, other) for other in Grade), reverse=True):
        better[grade] = known
        known |= Spans.of(*stands[grade])
    sure = solid([*(claim for claim in claims if claim.state is State.HELD), *against])
    return [
        claim
        for claim in claims
        if not better.get(claim.grade, sure if claim.state is State.LOST else EMPTY).covers(_span(claim))
    ]


def beyond(claims: Iterable[Claim], known: Spans, rows: Sequence[Model]) -> list[Claim]:
    """The claims, pages less what is known already: what overlaps cannot be joined, what meets can.

    `rows` are those of the answers, ascending. Inside a page rows were seen on both sides of every moment.
    """
    out: list[Claim] = []
    for claim in claims:
        if claim.evidence in _PAGES and known & _span(claim):
            out += [part_of(claim, start, end, rows) for start, end in _span(claim) - known]
        else:
            out.append(claim)
    return out


_PAGES = {BRACKETED, JUMPED}


def part_of(claim: Claim, start: int, end: int, rows: Sequence[Model]) -> Claim:
    """A part of the claim of a page; where it is bracketed, it may join what meets it there."""
    within = [row for row in rows if start <= getattr(row, row.time or "") < end]
    count, digest = len(within), digest_of(within)
    if claim.evidence == JUMPED:
        return evolve(claim, start=start, end=end, count=count, digest=digest)
    left = claim.left if start == claim.start else edge(start)
    right = claim.right if end == claim.end else edge(end)
    return evolve(claim, start=start, end=end, count=count, digest=digest, left=left, right=right)


def _needed(against: Sequence[Claim], final: Sequence[Claim]) -> list[Claim]:
    """The disputes that still refute something, or over which nothing has been held since."""
    return [
        claim
        for claim in against
        if claim.refutes is None
        or any(standing(other, [claim]) != _span(other) for other in final)
        or not held(other for other in final if other.as_of > claim.refutes).covers(_span(claim))
    ]


def _newest(claims: Sequence[Claim]) -> list[Claim]:
    """Of what is open or pending, what no newer claim of the same sort covers."""
    return [
        claim
        for claim in claims
        if not any(
            other is not claim
            and other.state is claim.state
            and other.start <= claim.start
            and claim.end <= other.end
            and (other.as_of, other.end, -other.start) > (claim.as_of, claim.end, -claim.start)
            for other in claims
        )
    ]
