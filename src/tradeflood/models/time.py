"""Times as integer nanoseconds UTC: units, parsing, writing. No unit is ever guessed from a magnitude."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import TypeAlias
from zoneinfo import ZoneInfo

from tradeflood.errors import UsageError

US = 1_000
MS = 1_000 * US
SECOND = 1_000 * MS
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

When: TypeAlias = str | date | datetime
"""What a person may write for a moment: ISO 8601 text, a date or a datetime; UTC unless it carries a zone."""

FIRST, LAST = 0, (1 << 63) - 1
"""What a range may reach: no market is older than 1970, and no store takes a time after 2262 in ns."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FRACTION = re.compile(r"[.,](\d{1,9})\d*")
_DURATION = re.compile(r"(\d+)\s*(ms|s|m|h|d|w)")
_UNITS = {"ms": MS, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}


def ms(time: int) -> int:
    """The first whole millisecond at or after a time in ns: what `startTime` takes, and `endTime` less one.

    Rounding up is right at both ends of a half-open range: a row at a whole millisecond lies in
    [start, end) exactly when ms(start) <= row < ms(end).
    """
    return -(-time // MS)


def seconds(count: int) -> int:
    """So many seconds in ns."""
    return count * SECOND


def minutes(count: int) -> int:
    """So many minutes in ns."""
    return count * MINUTE


def hours(count: int) -> int:
    """So many hours in ns."""
    return count * HOUR


def days(count: int) -> int:
    """So many days in ns."""
    return count * DAY


def from_ms(time: int | str) -> int:
    """A time in ns from whole milliseconds, as a number or as text."""
    return int(time) * MS


def from_seconds(time: int | str | Decimal) -> int:
    """A time in ns from seconds, with any fraction, never through a float."""
    return int(Decimal(time) * SECOND)


def from_datetime(moment: datetime) -> int:
    """A time in ns from a datetime; UTC where it carries no zone."""
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds * US


def parse_time(when: When) -> int:
    """A time in ns from what a person wrote. Fractions keep nine digits.

    Raises UsageError where it is not a date or time.
    """
    if isinstance(when, datetime):
        return from_datetime(when)
    if isinstance(when, date):
        return from_datetime(datetime(when.year, when.month, when.day, tzinfo=UTC))
    if not isinstance(when, str):
        raise UsageError(f"not a time: {when!r}; write ISO 8601 text, a date or a datetime")
    fraction = _FRACTION.search(when)
    try:
        whole = from_datetime(datetime.fromisoformat(_FRACTION.sub("", when, count=1).strip()))
    except (ValueError, OverflowError) as error:
        raise UsageError(f"not a time: {when!r}; write it like 2024-01-31 or 2024-01-31T12:00:00Z") from error
    return whole + (int(fraction[1].ljust(9, "0")) if fraction else 0)


def parse_bound(when: When) -> int:
    """A time in ns from what a person wrote as the start or the end of a range.

    Raises UsageError where it is not a date or time, or none that a market can have.
    """
    time = parse_time(when)
    if not FIRST <= time <= LAST:
        raise UsageError(f"no time of a market: {str(when)!r}; write one from 1970 to 2262")
    return time


def parse_duration(text: str) -> int:
    """A duration in ns from text such as `60s`, `15m`, `1h`, `7d`.

    Raises UsageError where it is not one.
    """
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if not match or not int(match[1]):
        raise UsageError(f"not a duration: {text!r}; write it like 60s, 15m, 1h or 7d")
    return int(match[1]) * _UNITS[match[2]]


def iso(time: int) -> str:
    """ISO 8601 text in UTC, with as many digits of the second as the time has: 3, 6 or 9, none if whole.

    >>> iso(1_577_836_800_000_000_000)
    '2020-01-01T00:00:00Z'
    """
    whole, fraction = divmod(time, SECOND)
    text = (_EPOCH + timedelta(seconds=whole)).strftime("%Y-%m-%dT%H:%M:%S")
    if text.startswith("-") or len(text) != len("2020-01-01T00:00:00"):
        text = text.rjust(19, "0")  # years below 1000: strftime does not pad them everywhere
    if not fraction:
        return f"{text}Z"
    digits = f"{fraction:09d}"
    for width in (3, 6):
        if not int(digits[width:]):
            return f"{text}.{digits[:width]}Z"
    return f"{text}.{digits}Z"


@lru_cache
def zone(name: str) -> tzinfo:
    """The time zone of an offset such as `+08:00` or a name such as `Asia/Tehran`.

    Raises UsageError where nothing is known by that name.
    """
    try:
        if match := re.fullmatch(r"([+-])(\d\d):(\d\d)", name):
            offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
            return timezone(offset if match[1] == "+" else -offset)
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError) as error:
        raise UsageError(f"no time zone {name!r}; write an offset like +08:00 or a name like Asia/Tehran") from error
