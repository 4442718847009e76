"""From answers to claims: what rows, the spans that were answered and the venue's clock prove. Pure functions.

Three kinds of evidence, after the way in which the rows were asked for:

- on a grid (candles): rows on every position of a run are grade A; a stretch without rows between two rows of
  settled answers is grade B; one at the edge of what was asked is grade D;
- in a sequence (ids): a run of consecutive ids is grade A over the times it stands for; where ids are missing
  from a complete answer, what lies between the neighbours is grade D;
- over a range of time: between the first and the last row is grade B, the edges grade D, but for those beyond
  which a row was seen: up to there it is grade B.

Nothing is held that lies within the settle time of the venue's clock: there it is `open`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence

from tradeflood.coverage.claims import Claim, Dataset, Grade, State, digest_of
from tradeflood.models import Model, interval
from tradeflood.spans import Span, Spans


def on_grid(
    dataset: Dataset, text: str, covered: Spans, rows: Sequence[Model], clock: int, settle: int, parser: str
) -> Iterator[Claim]:
    """The claims of candles: rows ascending, `covered` the spans that were answered. The running candle is never held."""
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
            grade, why = (Grade.B, "absent between two rows") if number else (Grade.D, "absent at the edge")
            yield from _empty(dataset, at, opened, grade, why, clock, settle, parser)
            yield _run(dataset, grid.next, time, run, clock, parser)
            at = grid.next(getattr(run[-1], time))
        yield from _empty(dataset, at, finish, Grade.D, "absent at the edge", clock, settle, parser)


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
    ids: Iterable[tuple[Span, Span, bool]],
    covered: Spans,
    rows: Sequence[tuple[int, Model]],
    clock: int,
    settle: int,
    parser: str,
) -> Iterator[Claim]:
    """The claims of rows with consecutive ids: (id, row) ascending.

    Each of `ids` is a range of ids, the times it stands for, and whether a row after it was seen; `covered` are
    the ids that were answered. Where rows begin or end in the midst of things, their first and last moment are left
    out: rows that were not seen may share them.
    """
    time = dataset.model.time or ""
    for (first, after), (start, end), bounded in ids:
        if first >= after:
            grade = Grade.B if bounded else Grade.D
            yield from _empty(dataset, start, end, grade, "no id between its ends", clock, settle, parser)
            continue
        for low, high in covered & Spans.of((first, after)):
            here = [(at, row) for at, row in rows if low <= at < high]
            if not here:
                continue
            whole = high == after and here[-1][0] == after - 1  # nothing is missing behind the last row
            begin = start if low == first and here[0][0] == first else getattr(here[0][1], time) + 1
            runs = list(_runs(here))
            for number, run in enumerate(runs):
                last_run = number == len(runs) - 1
                finish = end if last_run and whole and bounded else getattr(run[-1][1], time)
                if begin < finish:
                    yield Claim(
                        dataset, begin, finish, State.HELD, Grade.A, "consecutive ids", len(run),
                        digest_of(row for _, row in run), clock, parser, str(run[0][0]), str(run[-1][0] + 1),
                    )  # fmt: skip
                edge = max(begin, finish)
                if not last_run:
                    begin = getattr(runs[number + 1][0][1], time) + 1
                    missing = runs[number + 1][0][0] - run[-1][0] - 1
                    why = f"{missing} ids absent from the venue's answer"
                    until = begin if whole else min(begin, getattr(here[-1][1], time))
                    yield from _empty(dataset, edge, until, Grade.D, why, clock, settle, parser)
                elif whole and not bounded:
                    yield from _empty(dataset, edge, end, Grade.D, "nothing after the newest id", clock, settle, parser)


def _runs(rows: Sequence[tuple[int, Model]]) -> Iterator[list[tuple[int, Model]]]:
    """The rows cut wherever an id is missing."""
    run: list[tuple[int, Model]] = []
    for at, row in rows:
        if run and at != run[-1][0] + 1:
            yield run
            run = []
        run.append((at, row))
    if run:
        yield run


def of_live_ids(
    dataset: Dataset, rows: Sequence[tuple[int, Model]], before: tuple[int, int] | None, parser: str
) -> tuple[list[Claim], tuple[int, int]]:
    """The claims of rows that came live, (id, row) ascending, and what the next batch needs to know of this one.

    `before` is the last id so far and the moment from which on nothing is missing up to it. A run of ids that
    follows from it begins there; any other begins after the moment of its first row, which others may share.
    """
    time = dataset.model.time or ""
    claims = []
    for run in _runs(rows):
        start = getattr(run[0][1], time) + 1
        if before is not None and run[0][0] == before[0] + 1:
            start = before[1]
        end = getattr(run[-1][1], time)
        if start < end:
            claims.append(
                Claim(
                    dataset, start, end, State.HELD, Grade.A, "consecutive ids", len(run), digest_of(row for _, row in run),
                    end, parser, str(run[0][0]), str(run[-1][0] + 1),
                )
            )  # fmt: skip
        before = (run[-1][0], max(start, end))
    assert before is not None
    return claims, before


def over_range(
    dataset: Dataset,
    covered: Spans,
    rows: Sequence[Model],
    clock: int,
    settle: int,
    parser: str,
    *,
    firm: Container[int] = (),
) -> Iterator[Claim]:
    """The claims of rows asked for by time, ascending; `firm` are the edges of spans beyond which a row was seen."""
    time = dataset.model.time or ""
    for start, end in covered:
        here = [row for row in rows if start <= getattr(row, time) < end]
        lone = end if end in firm else start
        first = start if start in firm else getattr(here[0], time) if here else lone
        last = end if end in firm else getattr(here[-1], time) if here else first
        last = max(first, min(last, clock - settle))
        yield from _empty(dataset, start, first, Grade.D, "answered, not bracketed", clock, settle, parser)
        if first < last:
            yield Claim(
                dataset, first, last, State.HELD, Grade.B, "a bracketed page", len(here), digest_of(here), clock, parser
            )
        yield from _empty(dataset, last, end, Grade.D, "answered, not bracketed", clock, settle, parser)


def derived(
    dataset: Dataset, held: Spans, rows: Sequence[Model], why: str, grade: Grade, clock: int
) -> Iterator[Claim]:
    """The claims of rows that were made from other rows: no more than what those hold."""
    time = dataset.model.time or ""
    for start, end in held:
        here = [row for row in rows if start <= getattr(row, time) < end]
        yield Claim(dataset, start, end, State.HELD, grade, why, len(here), digest_of(here), clock)
