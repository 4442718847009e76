"""Page styles: how what is wanted becomes requests. Three pure functions each, shared by all venues.

- `cut(todo, step)`: the pages with which to begin.
- `after(page, rows)`: the page that must follow this answer, None if none must.
- `covers(page, rows)`: the part of the page that this answer settles.
- `firm(page, rows)`, of a chain: whether a row before the page was seen, and one behind it.
- `shown(page, rows)`, of a chain: from the first row of the page to the last.

`Windows` knows all its pages beforehand, `Chain` learns the next from the last, `Recent` has only one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from tradeflood.errors import PayloadChanged
from tradeflood.models.time import SECOND
from tradeflood.spans import EMPTY, Span, Spans

At: TypeAlias = Callable[[Any], int]

FOREVER = 1 << 63


class Page(Struct, frozen=True, gc=False):
    """One request's share of what is wanted: [start, end) of times or ids, a cursor, or some symbols.

    `margin` is how far beyond both ends it is asked, so that a row on either side may be seen.
    """

    start: int = 0
    end: int = 0
    cursor: Any = None
    symbols: tuple[str, ...] = ()
    margin: int = 0

    @property
    def low(self) -> int:
        """The start less the margin."""
        return self.start - self.margin

    @property
    def high(self) -> int:
        """The end and the margin."""
        return self.end + self.margin


class Windows:
    """Pages of positions that hold at most one row each, so a page of n rows covers n positions and greedy cutting is best.

    Serves candles (`per="interval"`: a position is an interval) and ids (`per=1`). `at` tells a row's position:
    with it, an answer that stops short of the page's end is asked on, so that a clamped limit is not taken for
    the end of the data; `back` says that the venue fills a page from its end.
    """

    grain: int = 1

    def __init__(
        self, rows: int, *, per: int | Literal["interval"] = 1, at: At | None = None, back: bool = False
    ) -> None:
        self.rows, self.per, self.at, self.back = rows, per, at, back

    def cut(self, todo: Spans, step: int) -> Iterator[Page]:
        wide = self.rows * (step if self.per == "interval" else self.per)
        start = end = None
        for low, high in todo:
            at = low
            while at < high:
                if start is None or at >= start + wide:
                    if start is not None and end is not None:
                        yield Page(start, end)
                    start = at
                at = end = min(high, start + wide)
        if start is not None and end is not None:
            yield Page(start, end)

    def after(self, page: Page, rows: Sequence[Any]) -> Page | None:
        if self.at is None or not rows:
            return None
        if self.back:
            first = min(map(self.at, rows))
            return Page(page.start, first) if page.start < first < page.end and len(rows) < self.rows else None
        last = max(map(self.at, rows)) + 1
        return Page(last, page.end) if page.start < last < page.end and len(rows) < self.rows else None

    def covers(self, page: Page, rows: Sequence[Any]) -> Span:
        del rows
        return page.start, page.end


class Chain:
    """Pages of which each is known only from the one before: time cursors, snowflake ids.

    `reached(row)` is the time of a row; `cursor(rows)` is what to ask next, compared with the last one, so that a
    cursor that does not move is an error and not a loop. `back` walks from new to old. `every` is the widest
    range the venue takes in one question. An answer of fewer than `rows` rows ends the chain. `grain` is the unit
    to which the venue cuts the times of these rows, in ns: pages begin and end on it, and a row that is stored with a finer
    time keeps that.

    `bracket` asks for more than is wanted, until a row before the start and one at or after the end were seen: what
    has a row on both sides is complete, where an answer could otherwise end early unnoticed. Its two figures are the
    margin at first and at most; in between, the margin follows from how many rows came.
    """

    per: int = 1

    def __init__(
        self,
        rows: int,
        *,
        reached: At,
        cursor: Callable[[Sequence[Any]], Any],
        back: bool = False,
        every: int | None = None,
        grain: int = 1,
        bracket: tuple[int, int] = (0, 0),
    ) -> None:
        self.rows, self.reached, self.cursor, self.back, self.every = rows, reached, cursor, back, every
        self.grain, self.margin, self.widest = grain, *bracket

    def cut(self, todo: Spans, step: int) -> Iterator[Page]:
        del step
        for low, high in todo:
            at, last = low // self.grain * self.grain, -(-high // self.grain) * self.grain
            while at < last:
                end = min(last, at + self.every - 2 * self.widest) if self.every else last
                yield Page(at, end, margin=self.margin)
                at = end

    def after(self, page: Page, rows: Sequence[Any], clock: int = FOREVER) -> Page | None:
        times = [self.reached(row) for row in rows]
        sides = any(time < page.start for time in times), any(time >= page.end for time in times)
        near, far = sides[::-1] if self.back else sides
        full = len(rows) >= self.rows
        wider = self._wider(page, times, full=full)
        if page.cursor is None and not near and page.margin < wider and (not self.back or page.high < clock):
            return replace(page, margin=wider)
        if full and not far:
            cursor = self.cursor(rows)
            if cursor == page.cursor:
                raise PayloadChanged(f"the cursor {cursor!r} did not move: the venue repeats its page")
            return self._rest(page, times, cursor, page.margin)
        if not full and not far and page.margin < wider and (self.back or page.high < clock):
            return self._rest(page, times, self.cursor(rows) if rows else page.cursor, wider)
        return None

    def _rest(self, page: Page, times: Sequence[int], cursor: Any, margin: int) -> Page:
        """What is left of a page after an answer."""
        if not times:
            return replace(page, margin=margin)
        if self.back:
            return Page(page.start, min(page.end, min(times) + self.grain), cursor, margin=margin)
        return Page(max(page.start, *times), page.end, cursor, margin=margin)

    def _wider(self, page: Page, times: Sequence[int], *, full: bool) -> int:
        """The next margin: about as wide as a quarter of an answer, after the rows that came."""
        low, high = (min(times), max(times)) if full else (page.low, page.high)
        quarter = (high - low) * self.rows // (4 * (len(times) + 1))
        return min(self.widest, max(4 * page.margin, quarter))

    def covers(self, page: Page, rows: Sequence[Any]) -> Span:
        """The whole page where the answer was not full, else strictly up to its far edge: the edge's group may be cut."""
        if len(rows) < self.rows:
            return page.start, page.end
        times = [self.reached(row) for row in rows]
        if self.back:
            return max(min(times) + self.grain, page.start), page.end
        return page.start, min(max(times), page.end)

    def firm(self, page: Page, rows: Sequence[Any]) -> tuple[bool, bool]:
        times = [self.reached(row) for row in rows]
        return any(time < page.start for time in times), any(time >= page.end for time in times)

    def shown(self, page: Page, rows: Sequence[Any]) -> Span:
        times = [time for row in rows if page.start <= (time := self.reached(row)) < page.end]
        return (min(times), max(times) + self.grain) if times else (page.start, page.start)


class Recent:
    """The last N rows and nothing else: no paging at all.

    Covers strictly between its edge times: the oldest time may be cut, and what follows the newest is not known.
    """

    per: int = 1
    grain: int = 1

    def __init__(self, *, reached: At) -> None:
        self.reached = reached

    def cut(self, todo: Spans, step: int) -> Iterator[Page]:
        del step
        if todo:
            yield Page(*todo.bounds)

    def after(self, page: Page, rows: Sequence[Any]) -> None:
        del page, rows

    def covers(self, page: Page, rows: Sequence[Any]) -> Span:
        times = [self.reached(row) for row in rows]
        if len(times) < 2:
            return page.start, page.start
        return max(min(times) + 1, page.start), max(min(max(times), page.end), page.start)


Pages: TypeAlias = Windows | Chain | Recent


class Ids(Struct, frozen=True, gc=False):
    """Ranges of ids that stand for ranges of time: `ids[i]` is what happened in `times[i]`.

    `bounded[i]` says that a row after the range was seen; else the range ends at the newest row there is. `preceded[i]`
    says that nothing can be missing before its first row; else the range begins with the one before that, to see it.
    """

    ids: tuple[Span, ...]
    times: tuple[Span, ...]
    bounded: tuple[bool, ...]
    preceded: tuple[bool, ...]

    @property
    def spans(self) -> Spans:
        """The ids wanted."""
        return Spans.of(*self.ids) if self.ids else EMPTY


BELIEVED = 3 * SECOND
"""How long a silence before the first row of a range is believed without a row before it."""


def ids_of(
    firsts: Sequence[int | None],
    times: Spans,
    after_newest: int = 0,
    *,
    seen: Sequence[int | None] = (),
    back: int = 1,
) -> Ids:
    """The ids of spans of time, from the first id at or after each start and each end, in order.

    None stands for a moment after which there is no row yet; there the ids end with the newest, `after_newest` - 1,
    or with one that was seen, where the newest was told by a replica that lags behind. A span whose end has a row after
    it and whose start has none, or one of a higher id, is left out: the answers contradict each other, so neither tells
    of it. `seen` are the times of those
    first rows: where the first of a range is late, the row before it is asked for as well, for a venue that has
    forgotten it may have forgotten rows of the range. `back` is how many ids before it that is sought, where ids jump; there the
    row after a range is asked for too, since only an answer with both neighbours tells that nothing is between them.
    """
    ids, preceded = [], []
    told = []
    for place, (span, first, end) in enumerate(zip(times, firsts[::2], firsts[1::2], strict=True)):
        if end is not None and (first is None or first > end):
            continue  # a row after the end, and none or a later one after the start: replicas of which one lags, or ids that began anew
        told.append((span, end is not None))
        low = after_newest if first is None else first
        high = max(after_newest, low + (first is not None)) if end is None else end
        late = seen[2 * place] if seen else None
        known = first is None or late is None or late - span[0] <= BELIEVED
        ids.append((low if known else max(0, low - back), high + (back > 1 and end is not None)))
        preceded.append(known)
    return Ids(tuple(ids), tuple(span for span, _ in told), tuple(bounded for _, bounded in told), tuple(preceded))
