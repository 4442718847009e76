"""The newest candles of an answer: they have ended by the venue's clock, and yet they may not be final. Pure.

A replica that lags behind shows of one what had happened until a while ago, and nothing newer. So where the venue does not
say itself that a candle is closed, it is believed once the same answer shows a later trade. That costs nothing: a page that
ends near the present is asked for as far as the next candle, where it has room; and of two pages that meet near the
present, the older one ends earlier, where the other one has room.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tradeflood.models import Candle, Model, interval
from tradeflood.models.time import MINUTE
from tradeflood.turns import Page, Windows

BEHIND = MINUTE
"""By how much a replica that still serves lags behind at most: a candle that ended earlier is final, whatever follows it."""


def unproven(models: Iterable[Model], clock: int) -> frozenset[int]:
    """The open times of an answer's candles that nothing shows to be final: from the last in which something traded on.

    A candle without trades is no witness: a venue may make it up by its clock alone.
    """
    candles: list[Any] = [model for model in models if isinstance(model, Candle)]
    last = max((candle.open_time for candle in candles if candle.volume), default=0)
    return frozenset(
        candle.open_time
        for candle in candles
        if candle.open_time >= last
        and candle.closed is None
        and interval(candle.interval).next(candle.open_time) > clock - BEHIND
    )


def witnessed(page: Page, style: Windows, text: str, now: int) -> Page:
    """A page of candles; where it ends near the present and has room, with a margin behind it for the next one."""
    if not now - BEHIND < page.end <= now:
        return page
    grid = interval(text)
    end = grid.next(grid.ceil(page.end))
    has_room = end - page.start <= style.rows * grid.step
    return Page(page.start, page.end, page.cursor, margin=end - page.end) if has_room else page


def as_asked(page: Page) -> Page:
    """A page of candles as the venue is asked for it."""
    return Page(page.start, page.high, page.cursor) if page.margin else page


def balanced(pages: Iterable[Page], style: Windows, text: str, now: int) -> Sequence[Page]:
    """The pages, as many; two that meet near the present meet earlier, where all is final, if there is room."""
    out = list(pages)
    if len(out) < 2:
        return out
    grid = interval(text)
    earlier = grid.floor(now - BEHIND)
    for place in range(1, len(out)):
        one, other = out[place - 1], out[place]
        near = one.end == other.start and one.start < earlier < other.start <= now
        if near and other.end - earlier < style.rows * grid.step:
            out[place - 1 : place + 1] = Page(one.start, earlier), Page(earlier, other.end)
    return out
