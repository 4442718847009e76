"""What the answers of a finished want prove: the way from a run's bookkeeping to claims. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tradeflood.coverage import Claim, Grade
from tradeflood.coverage.claims import weakest
from tradeflood.coverage.evidence import derived, in_sequence, linked, of_made_candles, of_recent, on_grid, over_range
from tradeflood.models import Candle, interval
from tradeflood.planner.newest import BEHIND
from tradeflood.planner.parts import Want, Work, ordered
from tradeflood.spans import EMPTY, Spans
from tradeflood.turns import Chain, Connector, Ids, Numbering, Recent


def claims_of(want: Want, work: Work, latest: int) -> Iterator[Claim]:
    """The claims of a want that is over; `latest` is the venue's clock as it was last heard."""
    dataset, style = work.ask.dataset, want.turn.bound.spec.pages
    connector = want.turn.bound.connector
    clock = min(want.clock, work.clock, latest)
    settle, parser = connector.rest.settle, parser_of(connector)
    covered = Spans.of(*want.covered)
    rows = ordered(work.ask.model, work.models.values())
    if isinstance(want.turn.ids, Ids):
        ids = want.turn.ids
        numbering = want.step.binding.numbering if want.step is not None else Numbering.CONTIGUOUS
        chained, jumps = numbering is Numbering.CHAINED, not numbering.is_linked
        whole = zip(ids.ids, ids.times, ids.bounded, ids.preceded, strict=True)
        links = linked(rows, chained=chained)
        yield from in_sequence(
            dataset, whole, covered, links, clock, settle, parser, chained=chained, jumps=jumps, answers=want.answers
        )
    elif isinstance(style, Recent):
        most = want.step.binding.horizon_rows if want.step is not None else None
        asked = EMPTY if most is None else want.turn.spans or EMPTY
        yield from of_recent(dataset, asked, covered, rows, clock, settle, parser, most=most or 0)
    elif isinstance(style, Chain):
        yield from over_range(
            dataset, covered, rows, clock, settle, parser, firm=want.firm, firm_ends=want.firm_ends, seams=want.seams,
            shown=Spans.of(*want.shown),
        )  # fmt: skip
    elif style is not None and style.per == "interval":
        text = work.ask.interval
        yield from on_grid(
            dataset, text, covered, rows, clock, settle, parser, unproven=want.unproven, answers=want.answers,
            final_before=clock - BEHIND,
        )  # fmt: skip


def claims_of_derived(work: Work, clock: int) -> Iterator[Claim]:
    """Rows made from other models hold what those hold, at the weakest of their grades, and nothing more."""
    if not work.ask.model.time or not work.basis:
        return
    names = work.ask.model.variant_words(work.ask.variant)
    grid = interval(names["interval"]) if "interval" in names else None
    spans, grade = work.asked, Grade.A
    if grid is not None:
        spans = Spans.of(*((grid.ceil(low), grid.ceil(high)) for low, high in spans))
    for frame in work.basis:
        for dataset, parts in frame.coverage.parts.items():
            spans &= frame.coverage.held(dataset)
            grade = weakest([grade, *(part.grade for part in parts if part.grade)])
    if grid is not None:
        spans = Spans.of(*((grid.ceil(low), grid.floor(high)) for low, high in spans))
    rows = ordered(work.ask.model, work.models.values())
    if grid is not None and issubclass(work.ask.model, Candle):
        parts = [part for frame in work.basis for told in frame.coverage.parts.values() for part in told]
        yield from of_made_candles(work.ask.dataset, grid.text, spans, parts, rows, clock)
        return
    yield from derived(work.ask.dataset, spans, rows, "made from other rows", grade, clock)


def parser_of(connector: Connector) -> str:
    """The name of the code that reads a venue, with its version: a corrected one has another name."""
    return f"{type(connector).__module__}.{type(connector).__qualname__} {connector.version}"
