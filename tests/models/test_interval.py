"""Intervals: their grids obey the laws of floor, next and ceil, and lie where venues put theirs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.errors import UsageError
from tradeflood.models import interval
from tradeflood.models.time import DAY, HOUR, MINUTE, parse_time

USUAL = "1s 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w 1M 7m 2w 5M".split()
ZONED = "4h@Asia/Tehran 6h@+08:00 12h@America/New_York 1d@+08:00 1d@Asia/Tehran 1d@America/New_York 1w@-03:30 1M@Asia/Tehran 2d@Europe/London 3M@+05:45".split()

texts = st.sampled_from(USUAL + ZONED)
moments = st.integers(parse_time("1971-01-01"), parse_time("2100-01-01"))


@given(texts, moments)
def test_a_time_lies_in_the_candle_of_its_floor(text, time):
    grid = interval(text)
    open_time = grid.floor(time)
    assert open_time <= time < grid.next(open_time)
    assert grid.floor(open_time) == open_time


@given(texts, moments)
def test_next_is_the_next_open_time(text, time):
    grid = interval(text)
    following = grid.next(time)
    assert following > time
    assert grid.floor(following) == following
    assert grid.floor(following - 1) == grid.floor(time)


@given(texts, moments)
def test_ceil_is_the_floor_of_an_open_time_and_next_of_any_other(text, time):
    grid = interval(text)
    assert grid.ceil(time) == (time if grid.floor(time) == time else grid.next(time))
    assert grid.ceil(grid.floor(time)) == grid.floor(time)


@given(texts, moments, moments)
def test_floor_keeps_the_order_of_times(text, one, other):
    grid = interval(text)
    low, high = sorted((one, other))
    assert grid.floor(low) <= grid.floor(high)


@given(texts, moments)
def test_no_two_open_times_are_closer_than_the_step(text, time):
    grid = interval(text)
    first = grid.floor(time)
    assert grid.next(first) - first >= grid.step


@given(texts, moments, st.integers(0, 30))
def test_opens_are_all_open_times_of_a_range(text, start, count):
    grid = interval(text)
    expected = [grid.ceil(start)]
    for _ in range(count):
        expected.append(grid.next(expected[-1]))
    assert list(grid.opens(start, expected[-1])) == expected[:-1]
    assert list(grid.opens(start, expected[-1] + 1)) == expected


@pytest.mark.parametrize(
    ("text", "time", "opened", "following"),
    [
        ("1m", "2024-05-06T07:08:09Z", "2024-05-06T07:08:00Z", "2024-05-06T07:09:00Z"),
        ("4h", "2024-05-06T07:08:09Z", "2024-05-06T04:00:00Z", "2024-05-06T08:00:00Z"),
        ("1d", "2024-02-28T23:59:59Z", "2024-02-28T00:00:00Z", "2024-02-29T00:00:00Z"),
        ("1w", "2024-05-05T23:59:59Z", "2024-04-29T00:00:00Z", "2024-05-06T00:00:00Z"),  # a Sunday
        ("1w", "1970-01-02T00:00:00Z", "1969-12-29T00:00:00Z", "1970-01-05T00:00:00Z"),
        ("1M", "2024-02-29T12:00:00Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
        ("1M", "2023-12-31T12:00:00Z", "2023-12-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("1M", "1969-12-31T12:00:00Z", "1969-12-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ("1d@+08:00", "2024-05-06T16:30:00Z", "2024-05-06T16:00:00Z", "2024-05-07T16:00:00Z"),
        ("1d@Asia/Tehran", "2024-05-06T20:00:00Z", "2024-05-05T20:30:00Z", "2024-05-06T20:30:00Z"),
        ("1d@America/New_York", "2024-03-10T12:00:00Z", "2024-03-10T05:00:00Z", "2024-03-11T04:00:00Z"),  # 23 hours
        ("1d@America/New_York", "2024-11-03T12:00:00Z", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"),  # 25 hours
        ("1M@Asia/Tehran", "2024-05-31T21:00:00Z", "2024-05-31T20:30:00Z", "2024-06-30T20:30:00Z"),
    ],
)
def test_where_candles_open(text, time, opened, following):
    grid = interval(text)
    assert (grid.floor(parse_time(time)), grid.next(parse_time(time))) == (parse_time(opened), parse_time(following))


@pytest.mark.parametrize(("text", "step"), [("1m", MINUTE), ("4h", 4 * HOUR), ("1w", 7 * DAY), ("1M", 28 * DAY)])
def test_the_step_of_usual_intervals(text, step):
    assert interval(text).step == step


@pytest.mark.parametrize(
    "text", ["", "m", "0m", "-1m", "1.5h", "1x", "1m@+08:00", "5h@+08:00", "1d@", "1d@Nowhere/Town", "1m ", 60, None]
)
def test_what_is_no_interval_is_refused(text):
    with pytest.raises(UsageError):
        interval(text)
