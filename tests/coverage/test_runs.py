"""Runs of linked rows: the look at whole columns says the same as the look at each row, or nothing."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tradeflood.coverage.evidence import linked, one_run, runs_of
from tradeflood.models import Trade

ids = st.integers(0, 12).map(str) | st.sampled_from(["", "x", "1:buy:0", "9" * 20, "9" * 5000])


def trade(text, first=None, last=None):
    return Trade("v", "A/B", "raw", text, Decimal(1), Decimal(1), None, 5, first_id=first, last_id=last)


def run(*texts):
    return one_run([trade(text) for text in texts], chained=False)


def test_consecutive_ids_are_one_run():
    rows = [trade(text) for text in ("9", "10", "11")]
    assert one_run(rows, chained=False) == (9, 12, rows)


def test_chained_ids_are_one_run_where_each_begins_behind_the_one_before():
    rows = [trade("a", "1", "4"), trade("b", "5", "5"), trade("c", "6", "9")]
    assert one_run(rows, chained=True) == (1, 10, rows)
    assert one_run([rows[0], rows[2]], chained=True) is None


def test_whatever_else_comes_is_no_run():
    for texts in (["1", "3"], ["2", "1"], ["1", "1"], ["1", "x"], ["1", ""], ["9" * 20]):
        assert run(*texts) is None, texts


@given(st.lists(st.builds(trade, ids, st.none() | ids, st.none() | ids), min_size=1, max_size=4), st.booleans())
def test_a_run_is_what_linking_row_by_row_finds(rows, chained):
    whole = one_run(rows, chained=chained)
    if whole is not None:
        assert runs_of(linked(rows, chained=chained)) == [whole]


@given(st.integers(0, 1 << 60), st.integers(1, 9), st.booleans())
def test_consecutive_ids_are_never_missed(first, count, chained):
    rows = [trade(str(number)) for number in range(first, first + count)]
    assert one_run(rows, chained=chained) == (first, first + count, rows)
