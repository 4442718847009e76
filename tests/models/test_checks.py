"""What is no row: the quick look that live rows get, and the full one."""

from decimal import Decimal

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.errors import PayloadChanged
from tradeflood.models import Candle, Market, Side, Trade
from tradeflood.models.checks import all_checked, all_exact, checked, exact
from tradeflood.store.memory import check
from tradeflood.testing.strategies import rows

NOW = 1_700_000_000 * 10**9
MOMENTS = st.integers(-(1 << 63), -1) | st.integers(NOW, (1 << 63) - 1)


def trade(price="1.5", size="2", time=NOW, count=None):
    return Trade("v", "A/B", "raw", "1", Decimal(price), Decimal(size), Side.BUY, time, count=count)


@given(rows(Trade, venue_time=MOMENTS) | rows(Candle, open_time=MOMENTS) | rows(Market))
def test_whatever_a_store_holds_passes_both(row):
    assert checked(row) is row
    assert exact(row) is row


@pytest.mark.parametrize("number", ["NaN", "sNaN", "Infinity", "-Infinity", "1e400", "1E+20", "-1E+20"])
@pytest.mark.parametrize("look", [checked, exact])
def test_a_number_of_no_market_is_refused_by_name(look, number):
    for row, name in ((trade(price=number), "price"), (trade(size=number), "size")):
        with pytest.raises(PayloadChanged, match=f"trade: {name} is .*, no number of a market"):
            look(row)


@pytest.mark.parametrize("time", [1 << 63, -(1 << 63) - 1, 10**30])
@pytest.mark.parametrize("look", [checked, exact])
def test_a_time_outside_of_64_bits_is_refused_by_name(look, time):
    with pytest.raises(PayloadChanged, match=r"trade: venue_time is .*, no time"):
        look(trade(time=time))


@pytest.mark.parametrize("time", [0, 1_795_232, NOW // 10**3, NOW // 10**6, NOW // 10**9])
@pytest.mark.parametrize("look", [checked, exact])
def test_a_time_of_which_the_unit_or_the_digits_are_wrong_is_refused_by_name(look, time):
    """Seconds, milliseconds or microseconds taken for something smaller, and a number that lost its head: all lie in 1970."""
    with pytest.raises(PayloadChanged, match=r"trade: venue_time is 1970-01-.*, no time of a market: has the venue"):
        look(trade(time=time))


@pytest.mark.parametrize("time", [-1, -40 * 365 * 86_400 * 10**9, 365 * 86_400 * 10**9])
@pytest.mark.parametrize("look", [checked, exact])
def test_rows_of_before_1970_and_after_it_are_rows(look, time):
    assert look(trade(time=time))


@pytest.mark.parametrize("number", ["1E-19", "0.0000000000000000001", "12345678901234567890.1234567890123456789"])
def test_digits_that_no_store_has_are_refused_by_the_full_look(number):
    assert checked(trade(price=number))
    with pytest.raises(PayloadChanged, match="price is .*: more than 18 digits after the point"):
        exact(trade(price=number))


@pytest.mark.parametrize(
    "number", ["99999999999999999999.999999999999999999", "1E+19", "0E-30", "1.50000000000000000000000000", "-0"]
)
def test_every_number_that_has_a_place_passes(number):
    check(Trade, exact(trade(price=number)))


def test_a_count_outside_of_64_bits_is_refused_by_name():
    with pytest.raises(PayloadChanged, match="trade: count is "):
        exact(trade(count=10**5000))


def test_a_row_of_other_types_is_refused():
    row = trade()
    row.venue_time = None
    for look in (checked,):
        with pytest.raises(PayloadChanged, match="other types"):
            look(row)


def test_many_rows_are_looked_at_at_once_and_the_first_that_is_wrong_is_named():
    sound = [trade("1"), trade("-1"), trade("99999999999999999999")]
    assert all_checked(Trade, sound) is sound
    assert all_checked(Trade, []) == []
    with pytest.raises(PayloadChanged, match="price is Infinity"):
        all_checked(Trade, [*sound, trade("Infinity"), trade("NaN")])
    with pytest.raises(PayloadChanged, match="venue_time is 9223372036854775808, no time"):
        all_checked(Trade, [*sound, trade("1", time=1 << 63)])


@given(st.lists(rows(Trade), min_size=1, max_size=5))
def test_whatever_a_store_holds_passes_the_look_at_whole_columns(some):
    assert all_exact(Trade, some)


@pytest.mark.parametrize(
    "row",
    [
        *(trade(price=number) for number in ("NaN", "sNaN", "Infinity", "1E+20", "1E-19")),
        *(trade(time=time) for time in (1 << 63, -(1 << 63) - 1, None)),
        trade(count=1 << 63),
        evolve(trade(), price=None),
        evolve(trade(), size=1.5),
    ],
    ids=repr,
)
def test_the_look_at_whole_columns_finds_what_no_store_can_hold(row):
    assert not all_exact(Trade, [row])
    assert not all_exact(Trade, [trade(), trade(count=3), row])
