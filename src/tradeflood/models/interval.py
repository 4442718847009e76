"""Candle intervals: their grid of open times, as pure functions of a time.

`1s 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w 1M` and any other count of these units open on UTC
boundaries counted from 1970, weeks on Monday, months on their first day. Bars with other boundaries are
other intervals and carry their zone: `1d@+08:00`, `1d@Asia/Tehran`, `1d@America/New_York`, and `4h@Asia/Tehran`,
counted from local midnight.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache

from attrs import frozen

from tradeflood.errors import UsageError
from tradeflood.models.time import DAY, HOUR, MINUTE, SECOND, US, from_datetime, zone

_TEXT = re.compile(r"([1-9]\d{0,3})([smhdwM])(?:@(.+))?")
_FIXED = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_MONDAY = 4 * DAY  # 1970-01-05, the first Monday
_SHORTEST_MONTH = 28 * DAY


@frozen
class Interval:
    """One interval: its text and what follows from it. Get it from `interval(text)`, which keeps them."""

    text: str
    count: int
    unit: str
    zone: str | None

    @property
    def step(self) -> int:
        """The shortest distance of two open times in ns: exact, but for months and zones with summer time."""
        if self.unit == "M":
            return self.count * _SHORTEST_MONTH
        summer = self.zone is not None and "/" in self.zone
        if self.unit == "h" and summer:
            return HOUR  # the last bar of a day of 25 hours
        return self.count * _FIXED[self.unit] - (HOUR if summer else 0)

    def floor(self, time: int) -> int:
        """The open time of the candle in which a time lies."""
        if self.zone and self.unit == "h":
            midnight = interval(f"1d@{self.zone}").floor(time)
            step = self.count * HOUR
            return midnight + (time - midnight) // step * step
        if self.zone:
            return self._local(time, 0)
        if self.unit == "M":
            return _month(time, self.count, 0)
        origin = _MONDAY if self.unit == "w" else 0
        step = self.count * _FIXED[self.unit]
        return (time - origin) // step * step + origin

    def next(self, time: int) -> int:
        """The first open time after a time: of an open time, its candle's end."""
        if self.zone and self.unit == "h":
            return min(self.floor(time) + self.count * HOUR, interval(f"1d@{self.zone}").next(time))
        if self.zone:
            return self._local(time, 1)
        if self.unit == "M":
            return _month(time, self.count, 1)
        return self.floor(time) + self.count * _FIXED[self.unit]

    def ceil(self, time: int) -> int:
        """The first open time at or after a time."""
        floor = self.floor(time)
        return floor if floor == time else self.next(time)

    def opens(self, start: int, end: int) -> Iterator[int]:
        """Every open time in [start, end), ascending."""
        time = self.ceil(start)
        while time < end:
            yield time
            time = self.next(time)

    def _local(self, time: int, ahead: int) -> int:
        """The local midnight that opens the bar of a time, or the one `ahead` bars on."""
        assert self.zone is not None
        where = zone(self.zone)
        day = datetime.fromtimestamp(time // SECOND, where).date()
        if self.unit == "M":
            months = (day.year * 12 + day.month - 1) // self.count * self.count + ahead * self.count
            day = day.replace(year=months // 12, month=months % 12 + 1, day=1)
        else:
            days = self.count * _FIXED[self.unit] // DAY
            origin = 4 if self.unit == "w" else 0
            number = day.toordinal() - datetime(1970, 1, 1).toordinal() - origin  # noqa: DTZ001 - a day number
            day += timedelta(days=number // days * days + ahead * days - number)
        return from_datetime(datetime(day.year, day.month, day.day, tzinfo=where)) // US * US


@lru_cache
def interval(text: str) -> Interval:
    """The interval of a text such as `1m`, `4h`, `1d@+08:00`.

    Raises UsageError where it is none.
    """
    match = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise UsageError(f"no interval {text!r}; write it like 1s, 1m, 4h, 1d, 1w, 1M or 1d@+08:00")
    count, unit, where = int(match[1]), match[2], match[3]
    if where is not None:
        zone(where)
        if unit not in "hdwM" or (unit == "h" and 24 % count):
            raise UsageError(f"no interval {text!r}; only days, weeks, months and hours that divide a day have a zone")
    return Interval(text, count, unit, where)


def _month(time: int, count: int, ahead: int) -> int:
    day = datetime(1970, 1, 1) + timedelta(seconds=time // SECOND)  # noqa: DTZ001 - UTC by construction
    months = (day.year * 12 + day.month - 1 - 1970 * 12) // count * count + ahead * count + 1970 * 12
    return from_datetime(datetime(months // 12, months % 12 + 1, 1))  # noqa: DTZ001
