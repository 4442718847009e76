"""Page styles: what they ask for, what follows an answer, and what an answer settles."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.models.time import SECOND
from tradeflood.spans import Spans
from tradeflood.testing.strategies import spans
from tradeflood.turns import Chain, Page, Recent, Windows, ids_of
from tradeflood.turns.pages import Ids

STEP = 10
by_id = Windows(5, per=1, at=lambda row: row)
on_grid = Windows(5, per="interval", at=lambda row: row)
backward = Windows(5, per="interval", at=lambda row: row, back=True)
plain = Windows(5, per=1)
newest = Recent(reached=lambda row: row)


# ---------------------------------------------------------------- windows


@given(spans(-200, 200), st.sampled_from([by_id, on_grid]))
def test_windows_cover_all_that_is_wanted_and_no_page_is_wider_than_its_rows(todo, style):
    wide = 5 * (STEP if style is on_grid else 1)
    pages = list(style.cut(todo, STEP))
    assert Spans.of(*((page.start, page.end) for page in pages)).covers(todo)
    assert all(0 < page.end - page.start <= wide for page in pages)
    assert all(one.end <= other.start for one, other in pairwise(pages))
    assert all(todo.touches(page.start, page.start + 1) and todo.touches(page.end - 1, page.end) for page in pages)


@given(spans(-30, 30))
def test_windows_are_the_fewest_there_can_be(todo):
    """Greedy from the left: each page begins at the first position that is not covered yet, so no set of pages is smaller."""
    wanted = sorted(at for low, high in todo for at in range(low, high))
    least, reach = 0, None
    for at in wanted:
        if reach is None or at >= reach:
            least, reach = least + 1, at + 5
    assert len(list(by_id.cut(todo, 1))) == least


@given(st.frozensets(st.integers(0, 30)), st.integers(0, 20), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_a_clamped_limit_is_asked_on_until_nothing_is_left(there, start, wide, clamp, back):
    """A venue that gives fewer rows than it says: the page goes on behind them, and every row of it comes."""
    style = backward if back else by_id
    page, come = Page(start, start + wide), set()
    for _ in range(20):
        if page is None:
            break
        within = sorted(at for at in there if page.start <= at < page.end)
        rows = within[-clamp:] if back else within[:clamp]
        come |= set(rows)
        page = style.after(page, rows)
    assert page is None
    assert come == {at for at in there if start <= at < start + wide}


def test_ids_that_jump_end_a_page_that_they_leave():
    """From 10 on the venue has 10, 11 and then 40: there is nothing more to ask of [10, 15)."""
    assert by_id.after(Page(10, 15), [10, 11, 40, 41, 42]) is None
    assert by_id.after(Page(10, 15), [10, 11, 40]) is None
    assert by_id.after(Page(10, 15), [10, 11]) == Page(12, 15)


def test_an_empty_answer_and_a_style_that_cannot_tell_positions_end_a_page():
    assert by_id.after(Page(10, 15), []) is None
    assert plain.after(Page(10, 15), [10]) is None
    assert backward.after(Page(10, 15), []) is None


def test_rows_before_the_page_are_no_reason_to_go_on():
    """A venue that knows only an end fills its page from there, past the start."""
    assert backward.after(Page(10, 15), [3, 7, 12]) is None
    assert backward.after(Page(10, 15), [12, 14]) == Page(10, 12)


# ---------------------------------------------------------------- the newest rows


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=30).map(sorted),
    st.integers(1, 8),
    st.integers(-5, 40),
    st.integers(1, 40),
)
def test_the_newest_rows_never_settle_a_moment_of_which_a_row_is_unseen(times, shown, start, wide):
    """Of all rows the last few are shown: what is covered holds none that is not."""
    seen = times[-shown:]
    low, high = newest.covers(Page(start, start + wide), seen)
    hidden = times[:-shown]
    assert not [time for time in hidden if low <= time < high]
    assert start <= low
    assert high <= max(start + wide, low)


def test_the_oldest_millisecond_of_a_page_may_be_shared_with_rows_that_are_not_on_it():
    """10 10 | 10 11 12: the venue shows the last three."""
    assert newest.covers(Page(0, 100), [10, 11, 12]) == (11, 12)
    chain = Chain(3, reached=lambda row: row, cursor=min, back=True)
    assert chain.covers(Page(0, 100), [12, 11, 10]) == (11, 100)


def test_a_page_edge_inside_a_group_of_equal_times_belongs_to_the_page_that_has_its_rest():
    chain = Chain(3, reached=lambda row: row, cursor=max)
    assert chain.covers(Page(0, 100), [10, 12, 12]) == (0, 12)
    assert chain.after(Page(0, 100), [10, 12, 12]) == Page(12, 100, 12)
    assert chain.covers(Page(12, 100, 12), [12, 12]) == (12, 100)


def test_one_row_or_none_settles_nothing():
    for rows in ([], [10]):
        low, high = newest.covers(Page(5, 100), rows)
        assert low >= high


def test_what_lies_beyond_the_newest_rows_is_not_settled():
    assert newest.covers(Page(0, 5), [10, 11, 12])[0] >= 5
    low, high = newest.covers(Page(20, 30), [10, 11, 12])
    assert low >= high


def test_recent_rows_are_one_page_and_no_more():
    (page,) = newest.cut(Spans.of((0, 5), (8, 9)), 1)
    assert (page.start, page.end) == (0, 9)
    assert list(newest.cut(Spans(), 1)) == []
    assert newest.after(page, [1, 2]) is None


# ---------------------------------------------------------------- ids that stand for times


def test_ids_stand_for_the_times_whose_ends_were_looked_up():
    times = Spans.of((100, 200), (300, 400))
    assert ids_of([5, 9, 9, 12], times) == Ids(((5, 9), (9, 12)), tuple(times), (True, True), (True, True))


def test_a_moment_after_the_newest_row_ends_with_it():
    assert ids_of([5, None], Spans.of((100, 200)), 8) == Ids(((5, 8),), ((100, 200),), (False,), (True,))
    assert ids_of([None, None], Spans.of((100, 200)), 8) == Ids(((8, 8),), ((100, 200),), (False,), (True,))


def test_where_the_first_row_of_a_range_is_late_the_one_before_it_is_asked_for_too():
    """A venue that has forgotten row 4 may have forgotten rows after it: five seconds of silence are not believed."""
    times = Spans.of((0, 60 * SECOND))
    assert ids_of([5, 9], times, seen=[5 * SECOND, 61 * SECOND]) == Ids(((4, 9),), tuple(times), (True,), (False,))
    assert ids_of([5, 9], times, seen=[2 * SECOND, 61 * SECOND]) == Ids(((5, 9),), tuple(times), (True,), (True,))
    assert ids_of([50, 90], times, seen=[5 * SECOND, None], back=30).ids == (
        (20, 91),
    )  # ids jump: the row after as well
    assert ids_of([9, 9], times, seen=[61 * SECOND, 61 * SECOND]).ids == ((8, 9),)


def test_a_replica_that_lags_behind_what_was_seen_does_not_make_it_empty():
    """Row 100 was seen inside the range; then the newest is said to be 95: the range has a row all the same."""
    ids = ids_of([100, None], Spans.of((0, 50)), 96)
    assert ids.ids == ((100, 101),)
    assert ids.bounded == (False,)


def test_ends_that_contradict_each_other_tell_nothing():
    """No row at or after 100, said a replica that lags; row 9 at or after 200, said another: rows may lie between."""
    times = Spans.of((100, 200), (300, 400))
    assert ids_of([None, 9, 9, 12], times, 12) == Ids(((9, 12),), ((300, 400),), (True,), (True,))
    assert ids_of([None, 9], Spans.of((100, 200)), 12).spans == Spans()


@pytest.mark.parametrize("end", [50, 3_999])
def test_ids_that_go_back_tell_nothing(end):
    """The first row after the start has id 4,000, the first after the end a lower one: the market was listed anew between."""
    times = Spans.of((0, 60 * SECOND))
    assert ids_of([4_000, end], times, seen=[50 * SECOND, 61 * SECOND]).spans == Spans()
    assert ids_of([4_000, end], times, back=30).times == ()
