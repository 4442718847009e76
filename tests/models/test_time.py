"""Times: parsing and writing are exact to the nanosecond, and units are named, never guessed."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.errors import UsageError
from tradeflood.models.time import (
    DAY,
    HOUR,
    MINUTE,
    MS,
    SECOND,
    days,
    from_datetime,
    from_ms,
    from_seconds,
    hours,
    iso,
    minutes,
    ms,
    parse_duration,
    parse_time,
    seconds,
    zone,
)
from tradeflood.testing.strategies import times


@given(times())
def test_what_iso_writes_is_parsed_back(time):
    assert parse_time(iso(time)) == time


@given(
    st.datetimes(
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=3, minutes=30)), timezone(-timedelta(hours=5))])
    )
)
def test_a_datetime_and_its_text_are_one_time(moment):
    assert parse_time(moment) == parse_time(moment.isoformat()) == from_datetime(moment)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1970-01-01", 0),
        ("2024-01-01", 1_704_067_200 * SECOND),
        ("2024-01-01T00:00:00Z", 1_704_067_200 * SECOND),
        ("2024-01-01 00:00", 1_704_067_200 * SECOND),
        ("2024-01-01T03:30:00+03:30", 1_704_067_200 * SECOND),
        ("2024-01-01T00:00:00.000000001Z", 1_704_067_200 * SECOND + 1),
        ("2024-01-01T00:00:00.5", 1_704_067_200 * SECOND + 500 * MS),
        ("2024-01-01T00:00:00,25Z", 1_704_067_200 * SECOND + 250 * MS),
        ("1969-12-31T23:59:59.999Z", -MS),
        (date(2024, 1, 1), 1_704_067_200 * SECOND),
        (datetime(2024, 1, 1), 1_704_067_200 * SECOND),  # noqa: DTZ001 - without a zone it means UTC
        (datetime(2024, 1, 1, 3, 30, tzinfo=timezone(timedelta(hours=3, minutes=30))), 1_704_067_200 * SECOND),
    ],
)
def test_what_people_write(written, expected):
    assert parse_time(written) == expected


@pytest.mark.parametrize(
    "written", ["", "yesterday", "2024-13-01", "1704067200", 1704067200, 1.5, None, "2024-01-01T25:00"]
)
def test_what_is_no_time_is_refused(written):
    with pytest.raises(UsageError, match="not a time"):
        parse_time(written)


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (MS, "1970-01-01T00:00:00.001Z"),
        (1_000, "1970-01-01T00:00:00.000001Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
    ],
)
def test_iso_has_as_many_digits_as_the_time(time, text):
    assert iso(time) == text


@given(st.integers(-(10**18), 10**18), st.integers(-(10**18), 10**18), st.integers(-(10**12), 10**12))
def test_rounding_up_to_milliseconds_keeps_whole_milliseconds_in_their_range(start, end, row):
    assert (start <= row * MS < end) == (ms(start) <= row < ms(end))


def test_units():
    assert (seconds(2), minutes(2), hours(2), days(2)) == (2 * SECOND, 2 * MINUTE, 2 * HOUR, 2 * DAY)
    assert from_ms("1700000000123") == from_ms(1_700_000_000_123) == 1_700_000_000_123 * MS
    assert from_seconds("1700000000.123456789") == 1_700_000_000_123_456_789
    assert from_seconds(Decimal("1700000000.1")) == 1_700_000_000_100 * MS


@pytest.mark.parametrize(
    ("text", "length"),
    [("60s", MINUTE), ("15m", 15 * MINUTE), ("1h", HOUR), ("7d", 7 * DAY), ("1w", 7 * DAY), ("5ms", 5 * MS)],
)
def test_durations(text, length):
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["", "60", "s", "0s", "-1h", "1.5h", "1y", None, 60])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(UsageError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("name", ["", "+8", "Nowhere/Town", "../../etc/passwd", "+25:00"])
def test_what_is_no_zone_is_refused(name):
    with pytest.raises(UsageError, match="no time zone"):
        zone(name)
