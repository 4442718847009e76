"""Evidence: what rows and answers prove, checked against everything that really happened."""

from decimal import Decimal
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.coverage import Dataset, Grade, State, held, stretches
from tradeflood.coverage.evidence import (
    Link,
    confirmed,
    derived,
    in_sequence,
    of_live_candles,
    of_recent,
    on_grid,
    over_range,
)
from tradeflood.models import Candle, Side, Trade
from tradeflood.models.time import SECOND
from tradeflood.spans import Spans

TRADES = Dataset(Trade, "x", "A/B", ("raw",))
CANDLES = Dataset(Candle, "x", "A/B", ("1s", "venue"))
ONE = Decimal(1)


def trade(number, time):
    return Trade("x", "A/B", "raw", str(number), ONE, ONE, Side.BUY, time)


def candle(second, closed=True):
    return Candle("x", "A/B", "1s", "venue", second * SECOND, ONE, ONE, ONE, ONE, ONE, closed=closed)


def said(claims, unit=1):
    return [(p.start // unit, p.end // unit, str(p.state), p.grade and str(p.grade)) for p in stretches(claims)]


# ---------------------------------------------------------------- ids

histories = st.lists(st.tuples(st.sampled_from([1, 1, 1, 2, 5]), st.sampled_from([0, 0, 1, 4])), max_size=25).map(
    lambda steps: list(
        zip(accumulate(s[0] for s in steps), accumulate((s[1] for s in steps), initial=50), strict=False)
    )
)


@given(
    histories,
    st.integers(40, 90),
    st.integers(0, 40),
    st.lists(st.tuples(st.integers(0, 70), st.integers(0, 9)), max_size=4),
)
def test_claims_by_id_hold_no_moment_of_which_a_row_is_missing(history, start, wide, lost):
    """Of a range of time some ids were asked in vain: no claim covers the time of a row that did not come."""
    end = start + wide + 1
    number_at = [number for number, time in history if time >= start]
    after = [number for number, time in history if time >= end]
    newest = history[-1][0] if history else 0
    first, last = (number_at or [newest + 1])[0], (after or [newest + 1])[0]
    covered = Spans.of((first, last)) - Spans.of(*((low, low + size) for low, size in lost))
    rows = [(number, trade(number, time)) for number, time in history if covered.touches(number, number + 1)]
    claims = list(
        in_sequence(
            TRADES,
            [((first, last), (start, end), bool(after), True)],
            covered,
            [Link(number, number + 1, row) for number, row in rows],
            1_000,
            10,
            "p",
        )
    )
    come = {number for number, _ in rows}
    for number, time in history:
        if number not in come:
            assert not held(claims).touches(time, time + 1) or not start <= time < end
    for claim in claims:
        if claim.grade is Grade.A:
            inside = [number for number, time in history if claim.start <= time < claim.end]
            assert all(b == a + 1 for a, b in pairwise(inside))
    if covered == Spans.of((first, last)) and (first == last or (rows and rows[-1][0] == last - 1)):
        assert held(claims).covers(Spans.of((start, end)))


def test_consecutive_ids_are_grade_a_over_the_time_they_stand_for():
    rows = [(number, trade(number, 10 * number)) for number in range(5, 9)]
    claims = in_sequence(
        TRADES,
        [((5, 9), (45, 87), True, True)],
        Spans.of((5, 9)),
        [Link(number, number + 1, row) for number, row in rows],
        200,
        10,
        "p",
    )
    assert said(claims) == [(45, 87, "held", "A")]


def test_nothing_proves_what_follows_the_newest_id():
    """Up to the newest row it is grade A, up to the settle time D, and then open."""
    rows = [(number, trade(number, 10 * number)) for number in range(5, 9)]
    claims = in_sequence(
        TRADES,
        [((5, 9), (45, 300), False, True)],
        Spans.of((5, 9)),
        [Link(number, number + 1, row) for number, row in rows],
        200,
        10,
        "p",
    )
    assert said(claims) == [(45, 80, "held", "A"), (80, 190, "held", "D"), (190, 200, "open", None)]


def test_ids_that_jump_leave_a_grade_d_between_their_neighbours():
    """Absent from a complete answer: held, on the venue's word, and never called consecutive."""
    rows = [(5, trade(5, 50)), (6, trade(6, 60)), (9, trade(9, 90)), (10, trade(10, 100))]
    claims = list(
        in_sequence(
            TRADES,
            [((5, 11), (45, 110), True, True)],
            Spans.of((5, 11)),
            [Link(number, number + 1, row) for number, row in rows],
            200,
            10,
            "p",
        )
    )
    assert said(claims) == [(45, 60, "held", "A"), (60, 91, "held", "D"), (91, 110, "held", "A")]
    assert "2 ids absent" in claims[1].evidence


def test_a_moment_shared_with_rows_that_did_not_come_is_left_out():
    """Ids 5 and 6 were asked in vain; 7 may share its moment with them."""
    rows = [(7, trade(7, 70)), (8, trade(8, 70)), (9, trade(9, 90))]
    claims = in_sequence(
        TRADES,
        [((5, 10), (45, 110), True, True)],
        Spans.of((7, 10)),
        [Link(number, number + 1, row) for number, row in rows],
        200,
        10,
        "p",
    )
    assert said(claims) == [(71, 110, "held", "A")]


def test_a_moment_shared_with_rows_that_are_still_to_come_is_left_out():
    rows = [(5, trade(5, 50)), (6, trade(6, 70)), (7, trade(7, 70))]
    claims = in_sequence(
        TRADES,
        [((5, 10), (45, 110), True, True)],
        Spans.of((5, 8)),
        [Link(number, number + 1, row) for number, row in rows],
        200,
        10,
        "p",
    )
    assert said(claims) == [(45, 70, "held", "A")]


def test_absent_ids_between_rows_of_a_moment_that_is_cut_are_not_spoken_of_either():
    """996, then 998 of the same moment; 999 of that moment did not come."""
    rows = [(996, trade(996, 50)), (998, trade(998, 50))]
    claims = in_sequence(
        TRADES,
        [((996, 1000), (45, 60), True, True)],
        Spans.of((996, 999)),
        [Link(number, number + 1, row) for number, row in rows],
        200,
        10,
        "p",
    )
    assert said(claims) == [(45, 50, "held", "A")]


def test_the_newest_rows_behind_a_failed_page_do_not_hold_their_first_moment():
    """996 … 999 were asked in vain; 1000, the newest, may share its moment with them."""
    rows = [(1000, trade(1000, 50))]
    claims = in_sequence(
        TRADES,
        [((996, 1001), (45, 300), False, True)],
        Spans.of((1000, 1001)),
        [Link(number, number + 1, row) for number, row in rows],
        200,
        10,
        "p",
    )
    assert said(claims) == [(51, 190, "held", "D"), (190, 200, "open", None)]


def test_a_range_between_two_neighbouring_ids_is_verified_empty():
    for bounded, grade in ((True, "B"), (False, "D")):
        claims = in_sequence(TRADES, [((9, 9), (45, 110), bounded, True)], Spans(), [], 200, 10, "p")
        assert said(claims) == [(45, 110, "held", grade)]


def test_ids_that_were_not_answered_are_not_spoken_of():
    assert list(in_sequence(TRADES, [((5, 9), (45, 110), True, True)], Spans(), [], 200, 10, "p")) == []


def test_999_comes_before_1000():
    rows = [(number, trade(number, number)) for number in (999, 1000)]
    claims = in_sequence(
        TRADES,
        [((999, 1001), (990, 1005), True, True)],
        Spans.of((999, 1001)),
        [Link(number, number + 1, row) for number, row in rows],
        2_000,
        10,
        "p",
    )
    assert said(claims) == [(990, 1005, "held", "A")]


# ---------------------------------------------------------------- candles


@given(
    st.frozensets(st.integers(0, 20)), st.lists(st.tuples(st.integers(-2, 22), st.integers(0, 9)), max_size=4),
    st.integers(0, 25), st.integers(0, 3),
)  # fmt: skip
def test_candles_are_held_where_they_were_answered_and_settled_and_nowhere_else(seconds, answered, clock, settle):
    covered = Spans.of(*((low * SECOND, (low + size) * SECOND) for low, size in answered))
    rows = [candle(at, at + 1 <= clock) for at in sorted(seconds) if covered.touches(at * SECOND, at * SECOND + 1)]
    claims = list(on_grid(CANDLES, "1s", covered, rows, clock * SECOND, settle * SECOND, "p"))
    assert held(claims) == covered & Spans.of((-10 * SECOND, (clock - settle) * SECOND))
    for claim in claims:
        slots = range(claim.start // SECOND, claim.end // SECOND)
        if claim.grade is Grade.A:
            assert seconds.issuperset(slots)
        elif claim.state is State.HELD:
            assert seconds.isdisjoint(slots)
        else:
            assert claim.state is State.OPEN
            assert (clock - settle) * SECOND <= claim.start
            assert claim.end <= clock * SECOND


def test_an_absent_candle_is_b_between_two_rows_and_d_at_the_edge():
    rows = [candle(2), candle(3), candle(6)]
    claims = on_grid(CANDLES, "1s", Spans.of((0, 9 * SECOND)), rows, 100 * SECOND, 0, "p")
    assert said(claims, SECOND) == [
        (0, 2, "held", "D"), (2, 4, "held", "A"), (4, 6, "held", "B"), (6, 7, "held", "A"), (7, 9, "held", "D"),
    ]  # fmt: skip


@pytest.mark.parametrize("second", [8, 9, 10])
def test_the_running_candle_and_one_that_has_not_settled_are_never_held(second):
    """At 10.5 s, two seconds to settle: the candle of second 8 has ended, that of 10 still runs."""
    clock, settle = 10 * SECOND + SECOND // 2, 2 * SECOND
    rows = [candle(second, (second + 1) * SECOND <= clock)]
    claims = list(on_grid(CANDLES, "1s", Spans.of((0, 20 * SECOND)), rows, clock, settle, "p"))
    assert not held(claims).touches(second * SECOND, (second + 1) * SECOND)
    assert said(claims)[-1][1:] == (clock, "open", None)


def test_a_candle_that_the_venue_calls_unfinished_is_not_held_however_old_it_is():
    rows = [candle(2), candle(3, closed=False), candle(4)]
    claims = on_grid(CANDLES, "1s", Spans.of((2 * SECOND, 5 * SECOND)), rows, 100 * SECOND, 0, "p")
    assert said(claims, SECOND) == [(2, 3, "held", "A"), (4, 5, "held", "A")]


def test_a_candle_that_nothing_shows_to_be_final_is_grade_d_until_something_does():
    rows = [candle(2), candle(3), candle(4)]
    covered = Spans.of((2 * SECOND, 5 * SECOND))
    claims = list(on_grid(CANDLES, "1s", covered, rows, 100 * SECOND, 0, "p", unproven={4 * SECOND}))
    assert said(claims, SECOND) == [(2, 4, "held", "A"), (4, 5, "held", "D")]
    later = Spans.of((4 * SECOND, 6 * SECOND))
    claims += on_grid(CANDLES, "1s", later, [candle(4), candle(5)], 101 * SECOND, 0, "p", unproven={5 * SECOND})
    assert said(claims, SECOND) == [(2, 5, "held", "A"), (5, 6, "held", "D")]


def test_live_candles_are_held_where_they_were_called_closed():
    rows = [candle(2), candle(3), candle(5), candle(6, closed=False), candle(7, closed=None)]
    claims = list(of_live_candles(CANDLES, "1s", rows, 8 * SECOND, "p"))
    assert [(c.start // SECOND, c.end // SECOND, c.count) for c in claims] == [(2, 4, 2), (5, 6, 1)]


def test_closed_candles_of_two_answers_join():
    claims = [
        *of_live_candles(CANDLES, "1s", [candle(2), candle(3)], 0, "p"),
        *on_grid(CANDLES, "1s", Spans.of((4 * SECOND, 6 * SECOND)), [candle(4), candle(5)], 100 * SECOND, 0, "p"),
    ]
    assert said(claims, SECOND) == [(2, 6, "held", "A")]


# ---------------------------------------------------------------- ranges, and what is made of others


@given(
    st.lists(st.integers(0, 40), max_size=12).map(sorted), st.lists(st.tuples(st.integers(-5, 45), st.integers(0, 20)), max_size=3),
    st.integers(0, 60), st.integers(0, 9), st.frozensets(st.integers(-5, 60), max_size=4),
)  # fmt: skip
def test_claims_by_time_hold_what_was_answered_and_settled(times, answered, clock, settle, firm):
    """Whatever rows there are: held is the answered part before the settle time, or a row that bounds it; B needs rows."""
    covered = Spans.of(*((low, low + size) for low, size in answered))
    rows = [trade(number, time) for number, time in enumerate(times) if covered.touches(time, time + 1)]
    claims = list(over_range(TRADES, covered, rows, clock, settle, "p", firm=firm))
    sure = held(claims)
    assert covered.covers(sure)
    assert sure.covers(covered & Spans.of((-10, clock - settle)))
    for claim in claims:
        if claim.state is State.OPEN:
            assert clock - settle <= claim.start
            assert claim.end <= clock
        if claim.grade is Grade.B:
            seen = {row.venue_time for row in rows} | firm
            assert claim.start in seen
            assert claim.end in seen or claim.end == clock - settle


def test_one_row_brackets_nothing():
    claims = over_range(TRADES, Spans.of((0, 100)), [trade(1, 50)], 1_000, 10, "p")
    assert {grade for *_, grade in said(claims)} == {"D"}


def test_an_empty_answer_is_remembered_and_no_better_than_d():
    claims = over_range(TRADES, Spans.of((0, 100)), [], 1_000, 10, "p")
    assert said(claims) == [(0, 100, "held", "D")]


def test_ids_that_two_answers_have_left_out_are_believed_of_every_further_one():
    """The first answer is forgotten once there is better; the third may reach further than the second."""
    rows = [Link(4, 5, trade(4, 10)), Link(6, 7, trade(6, 20))]
    first, second, third = (
        list(in_sequence(TRADES, [((4, 7), (0, 30), True, True)], Spans.of((4, 7)), rows, clock, 5, "p"))
        for clock in (100, 200, 300)
    )
    assert Grade.D in {claim.grade for claim in first}
    believed = confirmed(second, first)
    assert (
        {claim.grade for claim in believed}
        == {claim.grade for claim in confirmed(third, believed)}
        == {Grade.A, Grade.B}
    )


def oldest(number, clock, start=0):
    """The claims of an answer to the range [start, 100) by a venue whose oldest row is of this number and time."""
    rows = [Link(at, at + 1, trade(at, at)) for at in range(number, 101)]
    ids = [((number - 1, 101), (start, 100), True, False)]
    return list(in_sequence(TRADES, ids, Spans.of((number - 1, 101)), rows, clock, 5, "p"))


def test_what_lies_before_the_oldest_row_is_lost_once_two_answers_have_said_so():
    """The second answer has forgotten more, or less: lost is what both have no row of."""
    first = oldest(40, 1_000)
    assert said(first) == [(0, 41, "pending", None), (41, 100, "held", "A")]
    assert confirmed(first, first) == first  # the same answer is no second one
    assert said(confirmed(oldest(60, 2_000), first))[:2] == [(0, 41, "lost", None), (41, 61, "pending", None)]
    assert said(confirmed(oldest(20, 2_000), first))[:2] == [(0, 21, "lost", None), (21, 100, "held", "A")]


def test_an_answer_that_was_cut_makes_nothing_lost():
    """The rest comes with the second answer."""
    claims = oldest(40, 1_000)
    claims += confirmed(oldest(1, 2_000), claims)
    assert said(claims) == [(0, 100, "held", "A")]


def test_a_range_before_the_oldest_row_is_pending_and_lost_when_it_has_been_asked_for_twice():
    """Nothing of it is there, and not the row before the first one after it either."""
    first, second = (
        list(in_sequence(TRADES, [((39, 40), (0, 20), True, False)], Spans.of((39, 40)), [], clock, 5, "p"))
        for clock in (1_000, 2_000)
    )
    assert said(first) == [(0, 20, "pending", None)]
    assert said(confirmed(second, first)) == [(0, 20, "lost", None)]


def test_before_the_first_row_of_all_nothing_was():
    claims = in_sequence(TRADES, [((0, 1), (0, 20), True, False)], Spans.of((0, 1)), [], 1_000, 5, "p")
    assert said(claims) == [(0, 20, "held", "B")]


def newest(rows, clock, most=5):
    """The claims of an answer to the range [0, 100) by a venue that has its newest five rows."""
    covered = Spans.of((rows[0].venue_time + 1, rows[-1].venue_time))
    return list(of_recent(TRADES, Spans.of((0, 100)), covered, rows, clock, 10, "p", most=most))


def test_what_lies_before_the_newest_rows_of_a_venue_is_lost():
    claims = newest([trade(number, 40 + number) for number in range(5)], 1_000)
    assert [(claim.start, claim.end) for claim in claims if claim.state is State.LOST] == [(0, 41)]


def test_what_lies_before_an_answer_that_was_cut_is_not_lost_before_it_was_said_twice():
    """Three rows of five: two older ones may be had still, from a replica that has not just been started."""
    rows = [trade(number, 40 + number) for number in range(3)]
    first, other, again = newest(rows, 1_000), newest(rows[1:], 2_000), newest(rows, 3_000)
    assert [(claim.start, claim.end) for claim in first if claim.state is State.PENDING] == [(0, 41)]
    assert not [claim for claim in (*first, *confirmed(other, first)) if claim.state is State.LOST]
    told = confirmed(again, [*first, *other])
    assert [(claim.start, claim.end) for claim in told if claim.state is State.LOST] == [(0, 41)]
    assert confirmed(first, first) == first  # the same answer is no second one


def test_what_is_made_of_others_is_held_where_they_are():
    (one, other) = derived(
        CANDLES, Spans.of((0, SECOND), (2 * SECOND, 4 * SECOND)), [candle(0), candle(3)], "why", Grade.B, 9
    )
    assert (one.start, one.end, one.count, other.count, other.grade) == (0, SECOND, 1, 1, Grade.B)


def test_ids_that_go_back_hold_nothing():
    assert list(in_sequence(TRADES, [((4_000, 50), (0, 100), True, True)], Spans(), [], 1_000, 10, "p")) == []
