"""From answers to claims: what rows, the spans that were answered and the venue's clock prove. Pure functions.

Three kinds of evidence, after the way in which the rows were asked for:

- on a grid (candles): rows on every position of a run are grade A; a stretch without rows between two rows of
  settled answers is grade B; one at the edge of what was asked is grade D, and so is the newest candle of an answer
  where nothing shows that it is final;
- in a sequence (ids): a run of consecutive ids is grade A over the times it stands for; where ids are missing
  from a complete answer, what lies between the neighbours is grade D; where the venue is known to leave some out, all
  that one answer shows is grade D, and grade B once it was shown twice: see `jumping`;
- over a range of time: between the first and the last row is grade B, the edges grade D, but for those beyond
  which a row was seen: up to there it is grade B.

Nothing is held that lies within the settle time of the venue's clock: there it is `open`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from operator import attrgetter, le
from typing import Any, NamedTuple

from attrs import evolve

from tradeflood.coverage.claims import (
    Claim,
    Dataset,
    Grade,
    State,
    Stretch,
    digest_of,
    disputes,
    good_enough,
    standing,
)
from tradeflood.coverage.refute import disputed
from tradeflood.models import Model, interval
from tradeflood.spans import Span, Spans

CONSECUTIVE = "consecutive ids"
CHAINED = "chained ids"
PAST_HORIZON = "past the venue's horizon"
BRACKETED = "a bracketed page"
NEWEST = "the newest candle of an answer"
JUMPED = "ids that jump, asked for once"
JUMPED_TWICE = "ids that jump, asked for twice"


def on_grid(
    dataset: Dataset,
    text: str,
    covered: Spans,
    rows: Sequence[Model],
    clock: int,
    settle: int,
    parser: str,
    *,
    unproven: Container[int] = (),
    answers: Sequence[Span] | None = None,
    final_before: int = 0,
) -> Iterator[Claim]:
    """The claims of candles: rows ascending, `covered` the spans that were answered. The running candle is never held.

    `unproven` are the open times of those which nothing shows to be final: they are held on grade D, each for itself.
    `answers` are the first and last open time of each answer, where they are told: what is absent between two candles
    is believed where one answer has both of them, or where the later one opened before `final_before`.
    """
    grid = interval(text)
    time = dataset.model.time or ""
    settle = clock - grid.floor(clock - settle)  # a candle is settled as a whole or not at all
    rows = [row for row in rows if getattr(row, time) < clock - settle]
    final = [row for row in rows if getattr(row, "closed", True) is not False]
    running = [getattr(row, time) for row in rows if getattr(row, "closed", True) is False]  # the venue is behind
    for start, end in covered - Spans.of(*((opened, grid.next(opened)) for opened in running)):
        begin, finish = grid.ceil(start), grid.ceil(end)
        here = [row for row in final if begin <= getattr(row, time) < finish]
        at = begin
        for number, run in enumerate(_grid_runs(here, grid.next, time)):
            opened = getattr(run[0], time)
            between = number and (opened < final_before or _in_one(answers, grid.floor(at - 1), opened))
            grade, why = (Grade.B, "absent between two rows") if between else (Grade.D, "absent at the edge")
            yield from _empty(dataset, at, opened, grade, why, clock, settle, parser)
            for sure, some in groupby(run, key=lambda row: getattr(row, time) not in unproven):
                claim = _run(dataset, grid.next, time, list(some), clock, parser)
                yield claim if sure else evolve(claim, grade=Grade.D, evidence=NEWEST)
            at = grid.next(getattr(run[-1], time))
        yield from _empty(dataset, at, finish, Grade.D, "absent at the edge", clock, settle, parser)


def _in_one(answers: Sequence[Span] | None, first: int, last: int) -> bool:
    """Whether one answer has both of two rows, as far as answers are told apart."""
    return answers is None or any(low <= first and last <= high for low, high in answers)


def of_live_candles(dataset: Dataset, text: str, rows: Sequence[Model], clock: int, parser: str) -> Iterator[Claim]:
    """The claims of candles that came live, ascending: the closed ones, and nothing of what lies between them."""
    grid, time = interval(text), dataset.model.time or ""
    for run in _grid_runs([row for row in rows if getattr(row, "closed", None)], grid.next, time):
        yield _run(dataset, grid.next, time, run, clock, parser)


def _grid_runs(rows: Sequence[Model], after: Callable[[int], int], time: str) -> Iterator[list[Model]]:
    """The rows cut wherever a position is absent."""
    run: list[Model] = []
    for row in rows:
        if run and getattr(row, time) != after(getattr(run[-1], time)):
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def _run(
    dataset: Dataset, after: Callable[[int], int], time: str, rows: Sequence[Model], clock: int, parser: str
) -> Claim:
    first, last = getattr(rows[0], time), after(getattr(rows[-1], time))
    return Claim(
        dataset, first, last, State.HELD, Grade.A, "closed candles on their grid", len(rows), digest_of(rows), clock,
        parser, str(first), str(last),
    )  # fmt: skip


def _empty(
    dataset: Dataset, start: int, end: int, grade: Grade, why: str, clock: int, settle: int, parser: str
) -> Iterator[Claim]:
    """A stretch without rows: held as far as the venue's clock has settled, open up to the clock, nothing beyond."""
    settled, now = max(start, min(end, clock - settle)), max(start, min(end, clock))
    if start < settled:
        yield Claim(dataset, start, settled, State.HELD, grade, why, as_of=clock, parser=parser)
    if settled < now:
        yield Claim(dataset, settled, now, State.OPEN, None, "the right edge", as_of=clock, parser=parser)


def in_sequence(
    dataset: Dataset,
    ids: Iterable[tuple[Span, Span, bool, bool]],
    covered: Spans,
    rows: Sequence[Link],
    clock: int,
    settle: int,
    parser: str,
    *,
    chained: bool = False,
    jumps: bool = False,
    answers: Sequence[Span] | None = None,
) -> Iterator[Claim]:
    """The claims of rows whose ids follow one another, ascending; `jumps` says that the venue leaves some out.

    `answers` are the lowest and highest id of each answer, where they are told: only one that has both neighbours of
    absent ids can be confirmed by another.
    Each of `ids` is a range of ids, the times it stands for, whether a row after it was seen, and whether one before
    it was, without which the range begins with the last one before its times. `covered` are the ids that were answered.
    Where rows begin or end in the midst of things, their first and last moment are left out: rows that were not seen
    may share them. Where the venue has no row before the times any more, what lies before its oldest is pending: lost,
    once it has been asked twice.
    Where ids jump, a row is no proof of the one before it, so that an answer is one claim from its first row to its last.
    """
    time = dataset.model.time or ""
    evidence = CHAINED if chained else CONSECUTIVE
    for (first, after), (start, end), bounded, preceded in ids:
        if first > after:
            continue  # ids that go back tell nothing of the time between
        if first == after:
            grade = Grade.B if bounded else Grade.D
            yield from _empty(dataset, start, end, grade, "no id between its ends", clock, settle, parser)
            continue
        for low, high in covered & Spans.of((first, after)):
            here = [link for link in rows if low < link.after <= high]
            if not here and (low, high) == (first, after) and not preceded and not jumps:
                if after <= 1:  # the first of all
                    grade = Grade.B if bounded else Grade.D
                    yield from _empty(dataset, start, end, grade, "no id between its ends", clock, settle, parser)
                else:
                    yield from _forgotten(dataset, start, end, clock, parser)
            if not here:
                continue
            whole = high == after and here[-1].after == after  # nothing is missing behind the last row
            opened = getattr(here[0].row, time)
            begin = opened + 1
            if low == first and (here[0].first == first if preceded else opened < start or here[0].first <= 1):
                begin = start
            elif low == first and not preceded and jumps:
                yield from _empty(dataset, start, begin, Grade.D, "answered, not bracketed", clock, settle, parser)
            elif low == first and not preceded:
                yield from _forgotten(dataset, start, min(end, begin), clock, parser)
            if jumps:
                last = getattr(here[-1].row, time)
                finish = end if whole and bounded else min(end, last)
                until = max(begin, min(finish, clock - settle))
                yield from _jumping(dataset, begin, until, here, clock, parser)
                to, why = (finish, JUMPED) if bounded or not whole else (end, "nothing after the newest id")
                yield from _empty(dataset, until, to, Grade.D, why, clock, settle, parser)
                continue
            yield from _linked_runs(
                dataset, here, begin, end, clock, settle, parser,
                evidence=evidence, whole=whole, bounded=bounded, answers=answers,
            )  # fmt: skip


def _linked_runs(
    dataset: Dataset,
    links: Sequence[Link],
    start: int,
    end: int,
    clock: int,
    settle: int,
    parser: str,
    *,
    evidence: str,
    whole: bool,
    bounded: bool,
    answers: Sequence[Span] | None,
) -> Iterator[Claim]:
    """What ids that follow one another prove over the times that they stand for, run by run, and what is absent between two.

    `whole` says that no id is missing behind the last row, `bounded` that a row was seen there.
    """
    time = dataset.model.time or ""
    runs = list(_chains(links))
    for run, following in zip(runs, [*runs[1:], None], strict=True):
        finish = end if following is None and whole and bounded else min(end, getattr(run[-1].row, time))
        if start < finish:
            yield Claim(
                dataset, start, finish, State.HELD, Grade.A, evidence, len(run), digest_of(link.row for link in run), clock,
                parser, str(run[0].first), str(run[-1].after),
            )  # fmt: skip
        reached = max(start, finish)
        if following is not None:
            start = getattr(following[0].row, time) + 1
            missing = following[0].first - run[-1].after
            in_one = _in_one(answers, run[-1].after - 1, following[0].after - 1)
            why = f"{missing} {ABSENT if in_one else APART}"
            until = min(end, start) if whole else min(end, start, getattr(links[-1].row, time))
            for claim in _empty(dataset, reached, until, Grade.D, why, clock, settle, parser):
                yield evolve(claim, left=str(run[-1].after), right=str(following[0].first))
        elif whole and not bounded:
            yield from _empty(dataset, reached, end, Grade.D, "nothing after the newest id", clock, settle, parser)


def _jumping(dataset: Dataset, start: int, end: int, links: Sequence[Link], clock: int, parser: str) -> Iterator[Claim]:
    """What one answer shows of ids that jump, as one claim, which meets no other: another answer has to say the same."""
    time = dataset.model.time or ""
    if start < end:
        rows = [link.row for link in links if start <= getattr(link.row, time) < end]
        yield Claim(dataset, start, end, State.HELD, Grade.D, JUMPED, len(rows), digest_of(rows), clock, parser)


def _forgotten(dataset: Dataset, start: int, end: int, clock: int, parser: str) -> Iterator[Claim]:
    """What the venue has no row of any more; pending until it has said so twice: one answer may lag, or be cut."""
    if start < end:
        yield Claim(dataset, start, end, State.PENDING, None, FORGOTTEN, as_of=clock, parser=parser)


FORGOTTEN = "before the oldest row that the venue still has"

ABSENT = "ids absent from the venue's answer"
"""What an answer leaves out between two rows; believed once it has been asked twice."""


APART = "ids absent between two answers"
"""What lies between the rows of two answers, of which neither has both: another one of that kind tells no more."""

TWICE = "ids absent from two answers"

FEWER = "before fewer rows than the venue has"
"""What an answer says that begins with the same row twice: then these are all that there are."""

PUSHED_OUT = "before the newest rows that the venue still has"


def confirmed(
    claims: Iterable[Claim],
    before: Iterable[Claim],
    stored: Callable[[int, int], Sequence[Model]] = lambda _start, _end: (),
) -> list[Claim]:
    """The claims, with what an earlier answer has said too, by claims that stand.

    Of ids between the same rows that is grade B; before the same row, and before the oldest row of both, it is lost.
    `stored` gives what has come of [start, end) from wherever: ids of which one has come are not believed to be absent.
    """
    said: dict[tuple[str, str | None, str | None], int] = {}
    known = list(before)
    against = disputes(known)
    for claim in known:
        if standing(claim, against) != Spans.of((claim.start, claim.end)):
            continue
        key = _said(claim)
        said[key] = min(claim.as_of, said.get(key, claim.as_of))
    out: list[Claim] = []
    for claim in claims:
        if claim.evidence == FORGOTTEN:
            out += _lost(claim, known)
        elif claim.as_of > said.get(_said(claim), claim.as_of) and not _contradicts(claim, stored):
            out.append(_believed(claim))
        else:
            out.append(claim)
    return out


def _contradicts(claim: Claim, stored: Callable[[int, int], Sequence[Model]]) -> bool:
    """Whether a row has come whose id a claim calls absent."""
    if not claim.evidence.endswith(ABSENT) or claim.left is None or claim.right is None:
        return False
    first, after = int(claim.left), int(claim.right)
    return any(first <= link.first < after for link in linked(stored(claim.start, claim.end), chained=False))


def _lost(claim: Claim, before: Iterable[Claim]) -> Iterator[Claim]:
    """What two answers have no row of any more is lost; the oldest row of the one may be older than that of the other."""
    there = Spans.of((claim.start, claim.end))
    earlier = (other for other in before if other.evidence == FORGOTTEN and other.as_of < claim.as_of)
    both = there & Spans.of(*((other.start, other.end) for other in earlier))
    for start, end in both:
        yield evolve(claim, start=start, end=end, state=State.LOST)
    for start, end in there - both:
        yield evolve(claim, start=start, end=end)


def _said(claim: Claim) -> tuple[str, str | None, str | None]:
    """What two answers must have in common to say the same; a third one says what two have said."""
    return claim.evidence.replace(TWICE, ABSENT), claim.left, claim.right


def _believed(claim: Claim) -> Claim:
    if claim.evidence.endswith(ABSENT):
        return evolve(claim, grade=Grade.B, evidence=claim.evidence.replace(ABSENT, TWICE))
    return evolve(claim, state=State.LOST, evidence=PUSHED_OUT, right=None) if claim.evidence == FEWER else claim


class Link(NamedTuple):
    """A row with the ids it stands for: the first, and the one that must follow its last."""

    first: int
    after: int
    row: Model


def linked(rows: Iterable[Model], *, chained: bool) -> list[Link]:
    """The rows whose ids are numbers, ascending; merged rows stand for as many ids as they count."""
    found = []
    for row in rows:
        first, last = row.position, row.position
        if chained:
            first, last = getattr(row, "first_id", None) or first, getattr(row, "last_id", None) or last
        if all(isinstance(text, str) and text.isdecimal() and len(text) < 20 for text in (first, last)):
            found.append(Link(int(first), int(last) + 1, row))
    return sorted(found, key=lambda link: (link.after, link.first))


class Run(NamedTuple):
    """Rows whose ids follow one another: the first id, the one that must follow the last row, and the rows."""

    first: int
    after: int
    rows: Sequence[Model]


def one_run(rows: Sequence[Model], *, chained: bool) -> Run | None:
    """The rows as one run, where they come as one, each of them once; else None, and it takes a look at each: `linked`.

    Nearly all that comes live does, so whole columns are looked at.
    """
    texts = list(map(attrgetter(rows[0].key[-1]), rows))
    starts = ends = texts
    if chained:
        starts, ends = (
            [getattr(row, name, None) or text for row, text in zip(rows, texts, strict=True)] for name in _LINKS
        )
    firsts = _numbers(starts)
    lasts = firsts if ends is starts else _numbers(ends)
    if firsts is None or lasts is None:
        return None
    afters = range(firsts[0] + 1, firsts[0] + 1 + len(firsts)) if lasts is firsts else [last + 1 for last in lasts]
    if firsts[1:] != [*afters[:-1]]:
        return None
    if chained and not (all(map(le, firsts, lasts)) and len(set(texts)) == len(texts)):
        return None
    return Run(firsts[0], afters[-1], rows)


_LINKS = ("first_id", "last_id")


def _numbers(texts: list[Any]) -> list[int] | None:
    """The numbers that all texts are, None where one of them is none."""
    try:
        if "".join(texts).isdecimal() and max(map(len, texts)) < 20:
            return list(map(int, texts))
    except (TypeError, ValueError):  # not a text, an empty one
        pass
    return None


def runs_of(rows: Iterable[Link]) -> list[Run]:
    """Linked rows, ascending, as runs."""
    return [Run(run[0].first, run[-1].after, [link.row for link in run]) for run in _chains(rows)]


class Reached(NamedTuple):
    """How far live rows have come: the id that must follow, the moment up to which all is claimed, the last row's time."""

    after: int
    moment: int
    time: int


def of_live_ids(
    dataset: Dataset, runs: Sequence[Run], before: Reached | None, parser: str, *, chained: bool = False
) -> tuple[list[Claim], Reached]:
    """The claims of rows that came live, ascending, and what the next batch needs to know of this one.

    A run of ids that follows from what was reached begins there; any other begins after the moment of its first row,
    which others may share, and what lies between is pending.
    """
    time = dataset.model.time or ""
    evidence = CHAINED if chained else CONSECUTIVE
    claims: list[Claim] = []
    for first, after, rows in runs:
        start, end = getattr(rows[0], time) + 1, getattr(rows[-1], time)
        if before is not None and first == before.after:
            start = before.moment
        elif before is not None:
            claims += _hole(dataset, first - before.after, before, start, parser)
        if start < end:
            claims.append(
                Claim(
                    dataset, start, end, State.HELD, Grade.A, evidence, len(rows), digest_of(rows), end, parser,
                    str(first), str(after),
                )
            )  # fmt: skip
        before = Reached(after, max(start, end), end)
    assert before is not None
    return claims, before


def _hole(dataset: Dataset, missing: int, before: Reached, start: int, parser: str) -> Iterator[Claim]:
    """What a hole in the ids leaves: time that is to be asked for.

    Where the venue's clock has gone back, that is also time which is held: nobody knows when in it the missing rows are.
    """
    why = f"{missing} ids were not delivered"
    if before.moment < start:
        yield Claim(dataset, before.moment, start, State.PENDING, None, why, as_of=start, parser=parser)
    back, until = min(before.time, start - 1), before.moment
    if back < until - 1:  # what is reached may lie one beyond the time of the last row
        why += " while the venue's clock went back"
        yield Claim(dataset, back, until + 1, State.DISPUTED, None, why, as_of=until, parser=parser, refutes=until)


def _chains(rows: Iterable[Link]) -> Iterator[list[Link]]:
    """The rows cut wherever one does not begin where the one before it ended."""
    run: list[Link] = []
    for link in rows:
        if run and link.first != run[-1].after:
            yield run
            run = []
        run.append(link)
    if run:
        yield run


def over_range(
    dataset: Dataset,
    covered: Spans,
    rows: Sequence[Model],
    clock: int,
    settle: int,
    parser: str,
    *,
    firm: Container[int] = (),
    firm_ends: Container[int] | None = None,
    seams: Iterable[int] = (),
    shown: Spans | None = None,
) -> Iterator[Claim]:
    """The claims of rows asked for by time, ascending; `firm` are the edges of spans beyond which a row was seen.

    Where `firm_ends` are told, those are the ends, and `firm` the starts. At `seams` the ranges of two questions meet: what
    lies around one is bracketed only where both answers saw beyond it. `shown`, where it is told, is what lies between the
    rows of the answers to a range itself: a row that the answer to another range brought too brackets nothing.
    """
    time = dataset.model.time or ""
    ends = firm if firm_ends is None else firm_ends
    for start, end in _cut(covered, [seam for seam in seams if not (seam in firm and seam in ends)]):
        here = [row for row in rows if start <= getattr(row, time) < end]
        own = here if shown is None else [row for row in here if shown.touches(at := getattr(row, time), at + 1)]
        lone = end if end in ends else start
        first = start if start in firm else getattr(own[0], time) if own else lone
        last = end if end in ends else getattr(own[-1], time) if own else first
        last = max(first, min(last, clock - settle))
        yield from _empty(dataset, start, first, Grade.D, "answered, not bracketed", clock, settle, parser)
        if first < last:
            within = [row for row in here if getattr(row, time) < last]
            yield Claim(
                dataset, first, last, State.HELD, Grade.B, BRACKETED, len(within), digest_of(within), clock,
                parser, edge(first) if start in firm else None, edge(last),
            )  # fmt: skip
        yield from _empty(dataset, last, end, Grade.D, "answered, not bracketed", clock, settle, parser)


def _cut(spans: Spans, at: Iterable[int]) -> Iterator[Span]:
    """The spans, cut at some moments."""
    moments = sorted(set(at))
    for start, end in spans:
        edges = [start, *(moment for moment in moments if start < moment < end), end]
        yield from pairwise(edges)


def of_recent(
    dataset: Dataset,
    asked: Spans,
    covered: Spans,
    rows: Sequence[Model],
    clock: int,
    settle: int,
    parser: str,
    *,
    most: int = 0,
) -> Iterator[Claim]:
    """The claims of the newest rows of a venue, ascending; `most` is how many it has when it has them all.

    Of `asked`, which is what it was asked for where it has no others, what lies before them is lost, and what follows
    the newest is open: the next one may be shown any moment. Where it shows fewer than it has, the rest may be had
    still, so that what lies before them is pending.
    """
    yield from over_range(dataset, covered, rows, clock, settle, parser, firm={end for span in covered for end in span})
    time = dataset.model.time or ""
    first, last = covered.bounds
    if not covered:
        if rows and getattr(rows[-1], time) < asked.bounds[0]:
            first = last = asked.bounds[0]  # everything that the venue still has is older than what was asked for
        elif rows and getattr(rows[0], time) >= asked.bounds[1]:
            first = last = asked.bounds[1]  # everything that it still has is newer
        else:
            return
    for start, end in asked:
        if start < min(end, first):
            before = Claim(dataset, start, min(end, first), State.LOST, None, PUSHED_OUT, as_of=clock, parser=parser)
            fewer = len(rows) < most
            yield evolve(before, state=State.PENDING, evidence=FEWER, right=edge(first)) if fewer else before
        if max(start, last) < min(end, clock):
            yield Claim(
                dataset,
                max(start, last),
                min(end, clock),
                State.OPEN,
                None,
                "the right edge",
                as_of=clock,
                parser=parser,
            )


def edge(moment: int) -> str:
    """The name of an edge beyond which a row was seen: two answers that both saw beyond it overlap there."""
    return f"t{moment}"


def derived(
    dataset: Dataset, held: Spans, rows: Sequence[Model], why: str, grade: Grade, clock: int
) -> Iterator[Claim]:
    """The claims of rows that were made from other rows: no more than what those hold."""
    time = dataset.model.time or ""
    for start, end in held:
        here = [row for row in rows if start <= getattr(row, time) < end]
        yield Claim(dataset, start, end, State.HELD, grade, why, len(here), digest_of(here), clock)


def of_equal_candles(
    dataset: Dataset, text: str, equal: Spans, rows: Sequence[Model], claims: Sequence[Claim], clock: int
) -> Iterator[Claim]:
    """The claims of trades that make the venue's own candles exactly.

    `equal` are the times of those candles, whole ones; `rows` the trades, ascending; `claims` what is said of them so far,
    `clock` the venue's when it gave the candles. It is evidence of its own: what refuted other claims does not refute it.
    """
    grid, time = interval(text), dataset.model.time or ""
    for start, end in Spans.of(*((grid.ceil(low), grid.floor(high)) for low, high in equal)):
        here = [row for row in rows if start <= getattr(row, time) < end]
        against = [other.refutes for other in disputes(claims) if _meets(other, start, end)]
        refuted = [moment + 1 for moment in against if moment is not None]
        yield Claim(
            dataset, start, end, State.HELD, Grade.C, "equals the venue's candle", len(here), digest_of(here),
            max([clock, *refuted]), "", edge(start), edge(end),
        )  # fmt: skip


def contradicted(dataset: Dataset, start: int, end: int, why: str, claims: Sequence[Claim]) -> list[Claim]:
    """The dispute that refutes what was claimed of [start, end) so far; none where nothing was."""
    made = [claim.as_of for claim in claims if claim.state is State.HELD and _meets(claim, start, end)]
    if not made:
        return []
    return [disputed(dataset, start, end, why, max(made))]


def _meets(claim: Claim, start: int, end: int) -> bool:
    return claim.start < end and start < claim.end


def of_made_candles(
    dataset: Dataset, text: str, whole: Spans, parts: Sequence[Stretch], rows: Sequence[Model], clock: int
) -> Iterator[Claim]:
    """The claims of candles that were made of trades: `whole` are those of which all trades are held, `parts` say how well.

    Each has the weakest grade of its trades. Those in which nothing traded are claimed apart from the others, with a
    count of 0: an absent candle that is held is not one that was not made.
    """
    grid, time = interval(text), dataset.model.time or ""
    for grade, spans in graded(text, whole, parts):
        for start, end in spans:
            at = start
            within = [row for row in rows if start <= getattr(row, time) < end]
            for run in _grid_runs(within, grid.next, time):
                first, after = getattr(run[0], time), grid.next(getattr(run[-1], time))
                yield from _made(dataset, at, first, grade, "nothing traded", (), clock)
                yield from _made(dataset, first, after, grade, "made from trades", run, clock)
                at = after
            yield from _made(dataset, at, end, grade, "nothing traded", (), clock)


def graded(text: str, whole: Spans, parts: Sequence[Stretch]) -> list[tuple[Grade, Spans]]:
    """The candles of `whole` by the weakest grade of what lies in them, the weakest first."""
    grid, left, out = interval(text), whole, []
    for grade in sorted(Grade, key=lambda grade: sum(good_enough(grade, other) for other in Grade)):
        of_grade = [part for part in parts if part.state is State.HELD and part.grade is grade]
        here = left & Spans.of(*((grid.floor(part.start), grid.ceil(part.end)) for part in of_grade))
        left -= here
        out.append((grade, here))
    return out


def _made(
    dataset: Dataset, start: int, end: int, grade: Grade, why: str, rows: Sequence[Model], clock: int
) -> Iterator[Claim]:
    if start < end:
        yield Claim(
            dataset, start, end, State.HELD, grade, why, len(rows), digest_of(rows), clock, "", str(start), str(end)
        )
