"""The eight classes of venue as a table, and what a venue of each class shows of a market: the truth of a test.

Whatever is numbered is numbered here, as a pure function of what happened: a fault that withholds a trade withholds a
trade that has its number.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import lru_cache
from typing import Literal, TypeAlias

from attrs import evolve, frozen

from tradeflood.models import Candle, Trade
from tradeflood.models.identity import digits, number_equals
from tradeflood.models.time import MS, SECOND
from tradeflood.replay.simulated import GENESIS, key_of, mixed
from tradeflood.replay.source import Kind, Source
from tradeflood.turns import Numbering

Paging: TypeAlias = Literal["ids", "cursor", "time", "last"]
"""How the venue gives the past: by id, back from a cursor, on from a time, or its newest rows and no more."""

_ALL = 1 << 60
_EVER = 1 << 62


@frozen
class Shape:
    """A class of venue: what its trades are called and how they are had.

    `rows` is how many an answer has at most. `grain` is the unit to which the venue cuts the times that it sends, in ns.
    `feed` says whether there is a live feed, `candles` whether that has candles too, `offsets` whether its messages are
    counted. `number` is the venue's id of a trade that the source numbers from 1 on without a hole, `first` the first
    number whose id is no less than a given one.
    """

    venue: str
    numbering: Numbering
    paging: Paging
    rows: int
    kind: Kind = "raw"
    grain: int = MS
    feed: bool = True
    candles: bool = False
    offsets: bool = False
    number: Callable[[Trade], int] | None = None
    first: Callable[[int], int] = int


def source_number(row: Trade) -> int:
    """The number that the source gave a raw trade; of a merged one that of its last raw trade."""
    return int(row.last_id or row.trade_id)


# ---------------------------------------------------------------- ids with jumps

_KEPT, _PLACES = 16, 21


@lru_cache(maxsize=4096)
def _kept(block: int) -> tuple[int, ...]:
    """Which of the places of a block have a trade, ascending."""
    key = key_of(0, "jumping", str(block))
    return tuple(sorted(sorted(range(_PLACES), key=lambda place: mixed(key, place))[:_KEPT]))


def jumped(number: int) -> int:
    """The id of the trade of this number: ascending, with a quarter of the ids left out, here and there."""
    block, place = divmod(number, _KEPT)
    return block * _PLACES + _kept(block)[place]


def unjumped(number: int) -> int:
    """The number of the first trade whose id is no less than this one."""
    block, place = divmod(number, _PLACES)
    return block * _KEPT + bisect_left(_kept(block), place)


# ---------------------------------------------------------------- snowflake ids

_TIME_BITS = 22


def flake(row: Trade) -> int:
    """The id of a trade: its millisecond, then bits that are in no order, then a counter that begins again and again."""
    number = source_number(row)
    return (row.venue_time - GENESIS) // MS << _TIME_BITS | mixed(0, number) % 1024 << 12 | number % 4096


def time_of_flake(number: int) -> int:
    """The moment that an id tells, in ns."""
    return (number >> _TIME_BITS) * MS + GENESIS


# ---------------------------------------------------------------- the table

SHAPES = {
    shape.venue: shape
    for shape in (
        Shape("contiguous", Numbering.CONTIGUOUS, "ids", 500, candles=True, number=source_number),
        Shape("chained", Numbering.CHAINED, "ids", 500, kind="merged", candles=True, number=source_number),
        Shape(
            "jumping", Numbering.JUMPING, "ids", 500, candles=True, first=unjumped,
            number=lambda row: jumped(source_number(row)),
        ),
        Shape("snowflake", Numbering.SNOWFLAKE, "cursor", 500, number=flake),
        Shape("last60", Numbering.CONTIGUOUS, "last", 60, number=source_number),
        Shape("offsets", Numbering.NONE, "last", 100, offsets=True),
        Shape("polled", Numbering.NONE, "last", 100, grain=SECOND, feed=False),
        Shape("multiplicity", Numbering.NONE, "time", 500),
    )
}  # fmt: skip


# ---------------------------------------------------------------- what happened, as the venue tells it


def equal_fills(order: Trade) -> Iterator[Trade]:
    """The raw trades of a taker order, as equal as its size allows; only the last may differ. The sum stays the same."""
    count, number = order.count or 1, int(order.first_id or order.trade_id)
    exponent = order.size.as_tuple().exponent
    assert isinstance(exponent, int)
    lot = Decimal(1).scaleb(exponent - 1)  # a tenth of the market's own, so that two halves are always there
    each = int(order.size / lot) // count * lot
    for place in range(count):
        size = each if place < count - 1 else order.size - each * (count - 1)
        yield evolve(
            order, kind="raw", trade_id=str(number + place), size=size, first_id=None, last_id=None, count=None
        )


def said(row: Trade) -> str:
    """The id of a trade that has none: what the venue says of it, in one spelling."""
    assert row.aggressor is not None
    return f"{row.venue_time // MS}:{row.aggressor.value}:{digits(row.price)}:{digits(row.size)}"


class Tape:
    """What a venue of a class shows of a source that is the venue's already; rows ascend.

    `trades` and `candles` are what a collector holds who has missed nothing. The others are the same as the venue's
    server sees it: times in full, and in `trade_id` the source's own number.
    """

    def __init__(self, shape: Shape, source: Source) -> None:
        self.shape, self.source = shape, source

    def trades(self, market: str, start: int, end: int) -> list[Trade]:
        """Every trade whose time, as the venue tells it, is in [start, end); of equal ones each with its ordinal."""
        grain = self.shape.grain
        low, high = (-(-time // grain) * grain for time in (start, end))
        rows = [self._named(row) for row in self.between(market, low, high, now=high)]
        return number_equals(rows) if self.shape.number is None else rows

    def candles(self, market: str, interval: str, start: int, end: int) -> list[Candle]:
        """Every candle that opens in [start, end), closed; where nothing traded there is none."""
        return self.source.candles(market, interval, now=_EVER, start=start, end=end, limit=_ALL)

    def _named(self, row: Trade) -> Trade:
        row = evolve(row, venue_time=row.venue_time // self.shape.grain * self.shape.grain)
        return evolve(row, trade_id=said(row) if self.shape.number is None else str(self.shape.number(row)))

    # ------------------------------------------------------------ as the server sees it

    def between(self, market: str, start: int, end: int, now: int, limit: int = _ALL) -> list[Trade]:
        """The oldest `limit` of what happened in [start, end)."""
        rows = self.source.trades(market, self._kind, now=now, start=start, end=end, limit=limit)
        return self._shown(rows)[:limit]

    def newest(self, market: str, now: int, limit: int) -> list[Trade]:
        """The last `limit` of what has happened."""
        rows = self.source.trades(market, self._kind, now=now, limit=limit, newest=True)
        return self._shown(rows)[-limit:]

    def numbered(self, market: str, low: int, high: int, now: int, limit: int) -> list[Trade]:
        """The oldest `limit` of the trades with ids in [low, high)."""
        place = self._order if self._kind == "merged" else self._place
        return self.source.trades(
            market, self._kind, now=now, from_id=place(market, low, now), to_id=place(market, high, now), limit=limit
        )

    def before(self, market: str, start: int, end: int, cursor: int | None, now: int, limit: int) -> list[Trade]:
        """The newest `limit` of the trades of [start, end) with ids below the cursor, by id."""
        if self.shape.number is None:
            return []
        until = end if cursor is None else min(end, time_of_flake(cursor) + 1)
        number, extra = self.shape.number, 0
        if cursor is not None:
            at = time_of_flake(cursor)
            extra = sum(number(row) >= cursor for row in self.between(market, at, at + 1, now))
        rows = self.source.trades(market, "raw", now=now, start=start, end=until, limit=limit + extra, newest=True)
        if rows:  # within a moment ids are in no order, so the oldest is taken whole
            rows = self.between(market, max(start, rows[0].venue_time), until, now)
        below = [row for row in rows if cursor is None or number(row) < cursor]
        return sorted(below, key=number)[-limit:]

    def count_before(self, market: str, time: int) -> int:
        """How many raw trades had happened before a moment."""
        last = self.source.last_trade(market, "merged", time - 1)
        return 0 if last is None else source_number(last)

    @property
    def _kind(self) -> Kind:
        """What is asked of the source: orders too where the venue's equal fills are made of them."""
        return "merged" if self.shape.number is None else self.shape.kind

    def _shown(self, rows: Iterable[Trade]) -> list[Trade]:
        if self.shape.number is None:
            return [fill for order in rows for fill in equal_fills(order)]
        return list(rows)

    def _place(self, market: str, number: int, now: int) -> int:
        del market, now
        return self.shape.first(number)

    def _order(self, market: str, number: int, now: int) -> int:
        """The source's number of the first order whose last raw trade is no earlier than this one."""
        fills = self.source.trades(market, "raw", now=now, from_id=number, limit=1)
        if not fills:
            last = self.source.last_trade(market, "merged", now)
            return 1 if last is None else int(last.trade_id) + 1
        at = fills[0].venue_time
        orders = self.source.trades(market, "merged", now=now, start=at, end=at + 1, limit=_ALL)
        return next(int(order.trade_id) for order in orders if source_number(order) >= number)
