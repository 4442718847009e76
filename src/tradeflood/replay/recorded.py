"""A recording as a source: what `tradeflood run --record` wrote, served again.

A request equal to a recorded one is answered with the recorded bytes, frames are sent again byte for byte (see
`verbatim.py`). Everything else is answered out of the rows in the recording, so that a client may cut its pages
otherwise: they are read by the connector's own bindings, which say which request they would make and what they
make of its answer.

The clock. REST answers carry the real time, which lies past every recording: what is in it has happened and is
closed. A candle that was still running when it was recorded is therefore not shown at all, unless in the very answer
in which it came. A hole in a recording is a hole: nothing is filled in.

Only the models' columns are known of a row: of a candle, what takers bought is nought. Raw trades are found by time
only where the venue's merged ones, through which it finds them, were recorded too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from decimal import Context, Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from tradeflood.errors import UsageError
from tradeflood.models import Candle, Market, Side, Trade, interval
from tradeflood.replay.desk import Clock, Desk
from tradeflood.replay.reading import Reading, lists
from tradeflood.replay.recording import Recording, read
from tradeflood.replay.source import Bar, Kind
from tradeflood.replay.verbatim import Answers, Tape, verbatim
from tradeflood.turns.registry import registry

_EXACT = Context(prec=200)
_NOUGHT = Decimal()


class Recorded:
    """The recordings of a folder, at one venue; `at` gives those of another. Made by `load`."""

    recorded = True

    def __init__(
        self, folder: Path, recordings: dict[str, Recording], venue: str = "", others: dict[str, Recorded] | None = None
    ) -> None:
        self.folder, self.venue = folder, venue
        self._recordings = recordings
        self._others: dict[str, Recorded] = {} if others is None else others

    @classmethod
    def load(cls, folder: str | Path) -> Recorded:
        """The recordings of a folder.

        Raises UsageError where there is none, for a line that is not of the form, and for a venue that nobody knows.
        """
        recordings = read(Path(folder))
        for venue in recordings:
            registry.connector(venue)
        return cls(Path(folder), recordings)

    @property
    def venues(self) -> tuple[str, ...]:
        """The venues that were recorded."""
        return tuple(self._recordings)

    def at(self, venue: str) -> Recorded:
        """The recording of a venue.

        Raises UsageError where it was not recorded.
        """
        if venue not in self._recordings:
            raise UsageError(f"{self.folder} has no recording of {venue}; there is {', '.join(self.venues)}")
        if venue not in self._others:
            self._others[venue] = Recorded(self.folder, self._recordings, venue, self._others)
        return self._others[venue]

    def desk(self, desk: type[Desk], clock: Clock, speed: Fraction = Fraction(1)) -> type[Desk]:
        """A venue's desk that says what was recorded; the frames `speed` times as fast as they came."""
        if desk.venue != self.venue:
            return self.at(desk.venue).desk(desk, clock, speed)
        answers = Answers(self._recordings[self.venue].answers, lists(self._reading.connector))
        return verbatim(desk, Tape(self._reading.frames, clock, speed), answers)

    @cached_property
    def _reading(self) -> Reading:
        return Reading(registry.connector(self.venue)(), self._recordings[self.venue])

    @cached_property
    def _trades(self) -> dict[tuple[str, str], _Series]:
        return {key: _Series(rows.values()) for key, rows in self._reading.trades.items()}

    @cached_property
    def _candles(self) -> dict[tuple[str, str], _Series]:
        return {key: _Series(rows.values()) for key, rows in self._reading.candles.items()}

    # ------------------------------------------------------------ as a source

    def markets(self) -> list[Market]:
        """The recorded list of markets, and the markets of which there is anything else."""
        return list(self._reading.markets.values())

    def trades(
        self, market: str, kind: Kind, *, now: int, start: int | None = None, end: int | None = None,
        from_id: int | None = None, to_id: int | None = None, limit: int = 1_000, newest: bool = False,
    ) -> list[Trade]:  # fmt: skip
        """The oldest `limit` trades within all the bounds that are given, or the newest; ascending either way."""
        series = self._trades.get((market, kind))
        if series is None:
            return []
        low, high = series.places(start, now + 1 if end is None else min(end, now + 1))
        if from_id is None and to_id is None:
            return series.rows[max(low, high - limit) : high] if newest else series.rows[low : min(high, low + limit)]
        rows = series.between(low, high, from_id, to_id)
        return rows[-limit:] if newest else rows[:limit]

    def trades_between(self, market: str, kind: Kind, after: int, up_to: int) -> list[Trade]:
        """Every trade in (after, up_to]."""
        series = self._trades.get((market, kind))
        low, high = series.places(after + 1, up_to + 1) if series else (0, 0)
        return series.rows[low:high] if series else []

    def last_trade(self, market: str, kind: Kind, now: int) -> Trade | None:
        """The newest trade that has happened."""
        rows = self.trades(market, kind, now=now, limit=1, newest=True)
        return rows[0] if rows else None

    def bar(self, market: str, start: int, end: int, now: int) -> Bar | None:
        """What was recorded of the trades in a span, None where there is nothing."""
        rows = self.trades_between(market, "raw", start - 1, min(end, now + 1) - 1)
        if not rows:
            return None
        prices = [row.price for row in rows]
        bought = [row for row in rows if row.aggressor is Side.BUY]
        return Bar(
            start, end, prices[0], max(prices), min(prices), prices[-1], _sum(rows), _value(rows), _sum(bought),
            _value(bought), rows[0].trade_id, rows[-1].trade_id, len(rows), end <= now,
        )  # fmt: skip

    def bars(
        self, market: str, interval: str, *, now: int, start: int | None = None, end: int | None = None,
        limit: int = 1_000, newest: bool = False,
    ) -> list[Bar]:  # fmt: skip
        """The recorded candles that open in [start, end), as bars."""
        rows = self.candles(market, interval, now=now, start=start, end=end, limit=limit, newest=newest)
        return [_bar(row, now) for row in rows]

    def candles(
        self, market: str, interval: str, *, now: int, start: int | None = None, end: int | None = None,
        limit: int = 1_000, newest: bool = False,
    ) -> list[Candle]:  # fmt: skip
        """The recorded candles that open in [start, end)."""
        series = self._candles.get((market, interval))
        if series is None:
            return []
        low, high = series.places(start, now + 1 if end is None else min(end, now + 1))
        return series.rows[max(low, high - limit) : high] if newest else series.rows[low : min(high, low + limit)]


class _Series:
    """Rows by time, equal times by number, to be cut at times and at numbers."""

    def __init__(self, rows: Iterable[Any]) -> None:
        made = [(getattr(row, row.time), _number(row.position), row) for row in rows]
        made.sort(key=lambda part: part[:2])
        self.rows: list[Any] = [row for _, _, row in made]
        self._times = [time for time, _, _ in made]
        self._numbers = [number for _, number, _ in made]
        self._rising = all(one < other for one, other in zip(self._numbers, self._numbers[1:], strict=False))

    def places(self, start: int | None, end: int) -> tuple[int, int]:
        """Where the rows of [start, end) lie."""
        low = 0 if start is None else bisect_left(self._times, start)
        return low, max(low, bisect_left(self._times, end))

    def between(self, low: int, high: int, first: int | None, after: int | None) -> list[Any]:
        """The rows of these places whose number is in [first, after)."""
        if self._rising:
            low = low if first is None else max(low, bisect_left(self._numbers, first))
            high = high if after is None else min(high, bisect_left(self._numbers, after))
            return self.rows[low:high]
        return [
            self.rows[place]
            for place in range(low, high)
            if (first is None or first <= self._numbers[place]) and (after is None or self._numbers[place] < after)
        ]


def _number(position: Any) -> int:
    return int(position) if isinstance(position, int) or str(position).isdecimal() else 0


def _bar(row: Candle, now: int) -> Bar:
    end = interval(row.interval).next(row.open_time)
    return Bar(
        row.open_time, end, row.open, row.high, row.low, row.close, row.volume, row.quote_volume or _NOUGHT,
        _NOUGHT, _NOUGHT, "", "", row.trades or 0, end <= now,
    )  # fmt: skip


def _sum(rows: Iterable[Trade]) -> Decimal:
    total = _NOUGHT
    for row in rows:
        total = _EXACT.add(total, row.size)
    return total


def _value(rows: Iterable[Trade]) -> Decimal:
    total = _NOUGHT
    for row in rows:
        total = _EXACT.add(total, _EXACT.multiply(row.price, row.size))
    return total
