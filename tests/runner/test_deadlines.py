"""Which hole is filled first: the one that perishes first, and where not all can be saved, what saves most."""

from hypothesis import given
from hypothesis import strategies as st

from tradeflood.coverage import Dataset
from tradeflood.models import Trade
from tradeflood.models.time import DAY, MINUTE, SECOND
from tradeflood.runner.deadlines import CADENCE, NEVER, Hole, cadence_of, horizon_of, in_order, patient

BTC = Dataset(Trade, "binance", "BTC/USDT", ("raw",))


def hole(number, deadline=NEVER, rows=1, weight=1):
    return Hole(BTC, (number, number + 1), deadline, rows, weight)


def test_a_horizon_in_rows_is_time_at_the_markets_busy_rate():
    assert horizon_of(None, 60, SECOND) == 60 * SECOND
    assert horizon_of(30 * DAY, None, SECOND) == 30 * DAY
    assert horizon_of(30 * DAY, 60, 3 * SECOND) == 3 * MINUTE
    assert horizon_of(None, 60, None) is None


def test_the_newest_rows_are_asked_for_before_half_of_them_are_gone():
    assert cadence_of(60, SECOND) == 30 * SECOND
    assert cadence_of(60, SECOND // 1000) == SECOND
    assert cadence_of(None, SECOND) == cadence_of(60, MINUTE) == CADENCE


def test_what_perishes_first_comes_first():
    late, soon, never = hole(1, 30 * DAY), hole(2, 3 * MINUTE), hole(0)
    assert in_order([never, late, soon], 0, 1.0, 1 << 60) == [soon, late, never]


def test_where_not_all_can_be_saved_the_most_rows_per_weight_are():
    """Two minutes for two holes that each take two: the one with more rows is asked for."""
    few, many = hole(1, 2 * MINUTE, rows=10, weight=120), hole(2, 2 * MINUTE, rows=500, weight=120)
    assert in_order([few, many], 0, 1 / SECOND, 1) == [many]
    assert in_order([few, many], 0, 1 / SECOND, 1 << 60) == [many, few]


def test_only_what_outlasts_the_window_waits_and_only_for_what_does_not():
    soon, late, never = hole(0, 3 * MINUTE), hole(1, 30 * DAY), hole(2)
    holes = [never, late, soon]
    assert patient(holes, 0, 10 * MINUTE, 3 * MINUTE) == ([soon], [never, late])
    assert patient(holes, 0, MINUTE, 3 * MINUTE) == (holes, [])  # a window is over before anything perishes
    assert patient(holes, 0, 10 * MINUTE, NEVER) == (holes, [])


@given(
    st.lists(
        st.builds(hole, st.integers(0, 9), st.integers(0, 50) | st.just(NEVER), st.integers(1, 9), st.integers(1, 9)),
        max_size=8,
    ),
    st.integers(1, 60),
)
def test_at_least_one_is_asked_for_and_never_more_than_fits(holes, within):
    chosen = in_order(holes, 0, 1.0, within)
    assert bool(chosen) == bool(holes)
    assert len(chosen) <= 1 or sum(hole.weight for hole in chosen) <= within
    assert not [one for one in chosen if one not in holes]
