"""Pages of which each is known only from the one before: how they end, and how they bracket what is wanted."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.coverage import Dataset, Grade, State, stretches
from tradeflood.coverage.evidence import over_range
from tradeflood.errors import PayloadChanged
from tradeflood.models import Side, Trade
from tradeflood.spans import Spans
from tradeflood.turns import Chain, Page

ROWS, GRAIN, EVERY = 5, 10, 10_000
DATASET = Dataset(Trade, "x", "A/B", ("raw",))


def chain(*, back=True, bracket=(10, 1_000), grain=GRAIN):
    pick = min if back else max
    return Chain(
        ROWS, reached=lambda row: row[0], cursor=lambda rows: pick(number for _, number in rows), back=back,
        every=EVERY, grain=grain, bracket=bracket,
    )  # fmt: skip


def answer(style, trades, page):
    """What a venue says that filters by exact time, cuts the times it sends, and gives `ROWS` rows at most."""
    found = [
        (time // style.grain * style.grain, number)
        for number, time in enumerate(trades)
        if page.low <= time < page.high
        and (page.cursor is None or (number < page.cursor if style.back else number > page.cursor))
    ]
    return found[-ROWS:][::-1] if style.back else found[:ROWS]


def walk(style, trades, wanted, clock=1 << 40):
    """Every page of a want with its answer, as the run drives it."""
    todo, done = list(style.cut(wanted, 1)), []
    while todo:
        page = todo.pop()
        rows = answer(style, trades, page)
        done.append((page, rows))
        assert len(done) < 300
        if following := style.after(page, rows, clock):
            todo.append(following)
    return done


def coverage(style, done, clock=1 << 40):
    covered = Spans.of(*(style.covers(*part) for part in done))
    saw = [(page, *style.firm(page, rows)) for page, rows in done]
    firm = {page.start for page, before, _ in saw if before}
    firm_ends = {page.end for page, _, after in saw if after}
    seams = {edge for page, *_ in saw if page.cursor is None for edge in (page.start, page.end)}
    seen = sorted({row for _, rows in done for row in rows})
    rows = [Trade("x", "A/B", "raw", str(number), 1, 1, Side.BUY, time) for time, number in seen]
    shown = Spans.of(*(style.shown(*part) for part in done))
    claims = over_range(DATASET, covered, rows, clock, 0, "p", firm=firm, firm_ends=firm_ends, seams=seams, shown=shown)
    return stretches(claims), rows


@pytest.mark.parametrize("back", [True, False])
@given(
    trades=st.lists(st.integers(0, 3_000), max_size=60).map(sorted),
    low=st.integers(1_000, 1_500),
    wide=st.integers(1, 800),
)
def test_every_trade_comes_and_rows_on_both_sides_make_the_whole_range_b(back, trades, low, wide):
    style = chain(back=back)
    low, high = low // GRAIN * GRAIN, -(-(low + wide) // GRAIN) * GRAIN
    done = walk(style, trades, Spans.of((low, high)))
    parts, rows = coverage(style, done)
    assert {number for number, time in enumerate(trades) if low <= time < high} <= {int(row.trade_id) for row in rows}
    inside = [part for part in parts if part.start < high and low < part.end]
    assert (inside[0].start, inside[-1].end) == (low, high)
    assert all(part.state is State.HELD for part in inside)
    before = any(low - 1_000 <= time < low for time in trades)
    behind = any(high <= time < high + 1_000 for time in trades)
    if before and behind:
        assert [part.grade for part in inside] == [Grade.B]
    if not before:
        assert inside[0].grade is Grade.D or not rows or rows[0].venue_time == low
    if not behind:
        assert inside[-1].grade is Grade.D


def test_a_quiet_range_is_bracketed_by_asking_wider_once_or_twice():
    done = walk(chain(), [100, 1_700], Spans.of((1_000, 1_010)))
    assert [(page.start, page.end, page.margin) for page, _ in done] == [
        (1_000, 1_010, 10), (1_000, 1_010, 40), (1_000, 1_010, 160), (1_000, 1_010, 640), (1_000, 1_010, 1_000),
    ][: len(done)]  # fmt: skip
    (part,), rows = coverage(chain(), done)
    assert (part.start, part.end, part.grade) == (1_000, 1_010, Grade.B)
    assert [row.venue_time for row in rows] == [100, 1_700]


def test_a_busy_range_costs_no_request_more():
    trades = list(range(0, 3_000, 2))
    done = walk(chain(), trades, Spans.of((1_000, 1_100)))
    assert {page.margin for page, _ in done} == {10}
    assert len(done) == 12  # 50 rows wanted, five before and five after them, one page to see that it is past the start


def test_the_margin_does_not_grow_into_the_future():
    done = walk(chain(), [900, 1_013], Spans.of((1_000, 1_020)), clock=1_022)
    assert done[0][0].margin == 10
    assert all(page.cursor is not None for page, _ in done[1:])  # only the older side is asked for again
    (whole, edge), _ = coverage(chain(), done)
    assert (whole.grade, edge.grade) == (Grade.B, Grade.D)
    assert (whole.start, edge.start, edge.end) == (1_000, 1_010, 1_020)


def test_without_a_bracket_edges_stay_unproven():
    style = chain(bracket=(0, 0))
    done = walk(style, [900, 1_003, 1_007, 1_200], Spans.of((1_000, 1_050)))
    assert len(done) == 1
    parts, _ = coverage(style, done)
    assert parts[-1].grade is Grade.D


def test_a_group_cut_by_a_page_is_asked_for_again_and_claimed_by_the_page_that_has_its_rest():
    style = chain(bracket=(0, 0))
    page, rows = Page(1_000, 1_100), [(1_050, 9), (1_050, 8), (1_040, 7), (1_040, 6), (1_040, 5)]
    assert style.covers(page, rows) == (1_050, 1_100)
    assert style.after(page, rows) == Page(1_000, 1_050, 5)


def test_pages_begin_and_end_on_the_grain_and_leave_room_for_the_margin():
    pages = list(chain().cut(Spans.of((1_003, 12_001)), 1))
    assert [(page.start, page.end) for page in pages] == [(1_000, 9_000), (9_000, 12_010)]
    assert all(page.end - page.start + 2 * 1_000 <= EVERY for page in pages)


def test_a_cursor_that_does_not_move_is_an_error():
    with pytest.raises(PayloadChanged, match="did not move"):
        chain(bracket=(0, 0)).after(Page(0, 1_000, 5), [(500, 5)] * ROWS)


@pytest.mark.parametrize(
    ("firm", "rows", "grades"),
    [
        ((), [], ["D"]),
        ((0,), [], ["D"]),
        ((100,), [], ["D"]),
        ((0, 100), [], ["B"]),
        ((), [20, 60], ["D", "B", "D"]),
        ((0,), [20, 60], ["B", "D"]),
        ((100,), [20, 60], ["D", "B"]),
        ((0, 100), [20, 60], ["B"]),
    ],
)
def test_firm_edges_are_proven_others_are_not(firm, rows, grades):
    trades = [Trade("v", "A/B", "raw", str(time), Decimal(1), Decimal(1), None, time) for time in rows]
    claims = over_range(DATASET, Spans.of((0, 100)), trades, 1_000, 10, "p", firm=set(firm))
    assert [str(claim.grade) for claim in claims] == grades
