"""Runs against a venue whose truth is known: whatever is asked, in whatever order, coverage never says more than is so."""

from decimal import Decimal
from itertools import accumulate

import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from tradeflood import plugins
from tradeflood.coverage import Dataset, clipped, held, stretches
from tradeflood.models import Candle, Model, Side, Trade
from tradeflood.models.base import Time
from tradeflood.models.time import MS, SECOND, iso
from tradeflood.planner import Query, Run
from tradeflood.runner.flood import HeldRows, keep
from tradeflood.spans import EMPTY, Spans
from tradeflood.store.memory import MemoryStore
from tradeflood.turns import Binding, Request, get, registry, turn, turn_execution

from . import toy
from .toy import BASE, CANDLES, SETTLE, SLOW, TRADES, Desk, Truth, Venue, candles, dataset_of, drive, lies, trades


@pytest.fixture(autouse=True, scope="module")
def venues():
    plugins.load()
    with registry.scope():
        toy.define_venues()
        yield


# ---------------------------------------------------------------- truths and questions, at random

gaps = st.sampled_from([0, 0, 0, 1, 1, 7, 30, 130, 900])
jumps = st.sampled_from([1, 1, 1, 1, 2, 9])


def some_trades(jumps=jumps, delay=SETTLE // MS - 1):
    """Trades with quiet stretches, with several in one millisecond, with ids that jump; shown late."""
    steps = st.lists(st.tuples(gaps, jumps, st.integers(0, delay)), max_size=40)
    return steps.map(
        lambda rows: Truth(
            list(
                zip(
                    accumulate((jump for _, jump, _ in rows), initial=996),
                    accumulate((gap for gap, _, _ in rows), initial=100),
                    (delay for *_, delay in rows),
                    strict=False,
                )
            )
        )
    )


some_bars = st.lists(
    st.tuples(st.integers(0, 25), st.integers(5, 9), st.integers(0, SLOW // MS - 1)), unique_by=lambda bar: bar[0]
).map(lambda bars: Truth(bars=sorted(bars)))


def some_questions(whole):
    """Ranges in any order, the time that passes before each, and the numbers of the requests that fail."""
    ends = st.lists(st.integers(-500, whole), min_size=2, max_size=2, unique=True).map(sorted)
    failing = st.just(frozenset()) | st.frozensets(st.integers(1, 12), max_size=4)
    return st.lists(st.tuples(ends, st.sampled_from([0, 1, 150, 1_000]), failing), min_size=1, max_size=5)


def carry(desk, queries_of, questions):
    """Ask one after the other, and after each look for lies, and for questions about what was held."""
    for (first, last), passed, failing in questions:
        desk.venue.clock += passed * MS
        desk.venue.log.clear()
        desk.venue.failing = failing
        queries = queries_of(first, last)
        before = {dataset_of(query): held(desk.store.claims(dataset_of(query))) for query in queries}
        run = desk.ask(*queries)
        for dataset, spans in toy.ASKED:
            assert not spans & before.get(dataset, EMPTY), "what is held was asked again"
        for query in queries:
            assert lies(desk, dataset_of(query)) == []
            told = Spans.of(
                *(
                    (part.start, part.end)
                    for part in clipped(
                        run.frame(query).coverage.parts.get(dataset_of(query), ()), query.start, query.end
                    )
                )
            )
            assert Spans.of((query.start, query.end)).covers(told)
        yield run


@pytest.mark.parametrize("venue", TRADES)
@given(
    truth=some_trades(), questions=some_questions(4_000), now=st.integers(0, 4_500), pace=st.sampled_from([0, 0, 40]),
    clamp=st.integers(2, 4), skew=st.sampled_from([-5_000, 0, 5_000]),
)  # fmt: skip
def test_trades_that_are_called_held_are_there(venue, truth, questions, now, pace, clamp, skew):
    desk = Desk(Venue(truth, BASE + now * MS, pace * MS, clamp), skew=skew * MS)
    for _ in carry(desk, lambda first, last: [trades(venue, first, last)], questions):
        pass


@given(truth=some_trades(), questions=some_questions(4_000), now=st.integers(0, 4_500), heard=st.randoms())
def test_times_that_are_known_stay_where_an_answer_cuts_them(truth, questions, now, heard):
    """A feed has told some trades to the millisecond; the history tells them again to the hundredth of a second."""
    desk = Desk(Venue(truth, BASE + now * MS))
    fine = {str(number): BASE + at * MS for number, at, _ in truth.trades if heard.random() < 0.5}
    one = Decimal(1)
    rows = [Trade("older", "A/B", "raw", number, one, one, Side.BUY, at, 1) for number, at in fine.items()]
    desk.store.write({Trade: rows})
    for _ in carry(desk, lambda first, last: [trades("older", first, last)], questions):
        times = {row.trade_id: row.venue_time for row in desk.store.read(dataset_of(trades("older", 0, 1)), 0, 1 << 62)}
        assert times.items() >= fine.items()


def test_a_time_that_is_known_wrong_is_corrected_by_an_answer_that_cuts_times():
    desk = Desk(Venue(Truth([(996, 100, 0), (997, 123, 0), (998, 900, 0)])))
    wrong = Trade("older", "A/B", "raw", "997", Decimal(2), Decimal(2), Side.SELL, BASE + 457 * MS, 1)
    desk.store.write({Trade: [wrong]})
    desk.ask(trades("older", 0, 1_000))
    (row,) = desk.store.read(dataset_of(trades("older", 0, 1)), BASE + 101 * MS, BASE + 800 * MS)
    assert (row.venue_time, row.price) == (BASE + 120 * MS, Decimal(1))


@pytest.mark.parametrize("venue", CANDLES)
@given(
    truth=some_bars, questions=some_questions(26_000), now=st.integers(0, 27_000), pace=st.sampled_from([0, 0, 400]),
    clamp=st.integers(1, 4), skew=st.sampled_from([-60_000, 0, 60_000]),
)  # fmt: skip
def test_candles_that_are_called_held_are_there_and_final(venue, truth, questions, now, pace, clamp, skew):
    desk = Desk(Venue(truth, BASE + now * MS, pace * MS, clamp), skew=skew * MS)
    for _ in carry(desk, lambda first, last: [candles(venue, first, last)], questions):
        pass


@pytest.mark.parametrize("venue", ["counting", "older"])
@given(truth=some_trades(), questions=some_questions(4_000), now=st.integers(0, 4_500), random=st.randoms())
def test_candles_made_of_trades_are_held_no_further_than_their_trades(venue, truth, questions, now, random):
    desk = Desk(Venue(truth, BASE + now * MS))

    def both(first, last):
        queries = [trades(venue, first, last), candles(venue, first, last, "trades")]
        return random.sample(queries, random.randint(1, 2))

    for run in carry(desk, both, questions):
        of_candles = held(desk.store.claims(dataset_of(candles(venue, 0, 1, "trades"))))
        of_trades = held(desk.store.claims(dataset_of(trades(venue, 0, 1))))
        assert of_trades.covers(of_candles)
        del run


@pytest.mark.parametrize("venue", ["counting", "older"])
@given(
    truth=some_trades(st.just(1)), first=st.integers(-500, 3_000), wide=st.integers(1, 3_000), clamp=st.integers(2, 4)
)  # fmt: skip
def test_a_settled_range_is_held_throughout_and_asked_once(venue, truth, first, wide, clamp):
    """Liveness: without failures, and long after, nothing of a range is left unknown."""
    desk = Desk(Venue(truth, clamp=clamp))
    query = trades(venue, first, first + wide)
    desk.ask(query)
    assert held(desk.store.claims(dataset_of(query))).covers(query.spans)
    desk.venue.log.clear()
    desk.ask(query)
    assert desk.venue.log == []


@pytest.mark.parametrize("venue", CANDLES)
@given(truth=some_bars, first=st.integers(-500, 20_000), wide=st.integers(1, 6_000), clamp=st.integers(1, 4))
def test_a_settled_range_of_candles_is_held_throughout_and_asked_once(venue, truth, first, wide, clamp):
    """Also where it begins and ends between two candles: there is nothing to be known before the first open."""
    desk = Desk(Venue(truth, BASE + 60 * SECOND, clamp=clamp))
    query = candles(venue, first, first + wide)
    desk.ask(query)
    desk.venue.log.clear()
    desk.ask(query)
    assert desk.venue.log == []


# ---------------------------------------------------------------- examples with a name


def told(desk, query):
    """The stored coverage of a query: (first ms, last ms, state, grade)."""
    parts = clipped(stretches(desk.store.claims(dataset_of(query))), query.start, query.end)
    return [
        (*toy.in_ms([(part.start, part.end)])[0], str(part.state), part.grade and str(part.grade)) for part in parts
    ]


def steady(count, every=10, first=100, number=996):
    """Trades at equal distances, with consecutive ids."""
    return [(number + step, first + step * every, 0) for step in range(count)]


def test_the_oldest_millisecond_of_a_page_is_not_held():
    """The venue shows its last six of nine trades; three of the nine happened in the millisecond where it ends."""
    desk = Desk(Venue(Truth([(1, 100, 0), (2, 200, 0), (3, 300, 0), (4, 300, 0), (5, 300, 0), *steady(4, 50, 400, 6)])))
    query = trades("latest", 0, 1_000)
    desk.ask(query)
    assert [row.trade_id for row in desk.store.read(dataset_of(query), 0, 1 << 62)] == ["4", "5", "6", "7", "8", "9"]
    assert told(desk, query) == [(300, 550, "held", "B")]
    assert held(desk.store.claims(dataset_of(query))).bounds[0] == BASE + 300 * MS + 1
    assert lies(desk, dataset_of(query)) == []


@pytest.mark.parametrize("venue", ["counting", "newer"])
def test_a_page_edge_inside_a_group_of_equal_times_loses_none_of_it(venue):
    """Three of one millisecond behind three others: a page of four cuts the group."""
    desk = Desk(Venue(Truth([*steady(3), (999, 130, 0), (1000, 130, 0), (1001, 130, 0), *steady(3, 10, 140, 1002)])))
    query = trades(venue, 0, 1_000)
    desk.ask(query)
    assert len(desk.store.read(dataset_of(query), 0, 1 << 62)) == 9
    assert lies(desk, dataset_of(query)) == []


def test_a_group_of_equal_times_that_fills_a_page_is_an_error_and_not_a_loop():
    """A cursor of time cannot get past it: it is said, what came before it is held, and nothing else."""
    desk = Desk(Venue(Truth([*steady(2), *((998 + n, 130, 0) for n in range(6)), *steady(2, 10, 140, 1004)])))
    query = trades("newer", 0, 1_000)
    run = desk.ask(query)
    (failure,) = run.frame(query).failures
    assert "did not move" in str(failure.error)
    assert held(desk.store.claims(dataset_of(query))) == Spans.of((BASE, BASE + 130 * MS))
    assert len(desk.venue.log) < 5


def test_ids_that_jump_are_held_on_the_venues_word_only():
    desk = Desk(Venue(Truth([(1, 100, 0), (2, 110, 0), (7, 120, 0), (8, 130, 0)])))
    query = trades("counting", 100, 131)
    desk.ask(query)
    assert told(desk, query) == [
        (100, 110, "held", "A"),
        (110, 121, "held", "D"),
        (120, 130, "held", "A"),
        (130, 131, "held", "D"),
    ]


def test_999_comes_before_1000_and_is_followed_by_it():
    desk = Desk(Venue(Truth([(998, 100, 0), (999, 100, 0), (1000, 100, 0), (1001, 101, 0)])))
    query = trades("counting", 0, 200)
    run = desk.ask(query)
    assert [row.trade_id for row in run.frame(query)] == ["998", "999", "1000", "1001"]
    assert [row.trade_id for row in desk.store.read(dataset_of(query), 0, 1 << 62)] == ["998", "999", "1000", "1001"]
    assert told(desk, query)[0] == (0, 101, "held", "A")


@pytest.mark.parametrize("venue", ["counting", "older"])
def test_an_empty_answer_is_remembered_and_not_asked_again(venue):
    """Nothing happened: that is known on the venue's word, and known is not the same as not asked."""
    desk = Desk(Venue(Truth()))
    query = trades(venue, 0, 1_000)
    desk.ask(query)
    assert desk.venue.log
    assert told(desk, query) == [(0, 1_000, "held", "D")]
    desk.venue.log.clear()
    wider = trades(venue, 0, 1_500)
    desk.ask(wider)
    assert [in_ms_of(spans) for _, spans in toy.ASKED] == [[(1_000, 1_500)]]
    assert told(desk, trades(venue, 1_500, 2_000)) == []


def in_ms_of(spans):
    return toy.in_ms(spans)


@pytest.mark.parametrize("venue", ["counting", "older"])
def test_now_asked_again_a_second_later_is_not_a_whole_miss(venue):
    """The second question is about what came since, and what had not settled yet."""
    desk = Desk(Venue(Truth(steady(60)), BASE + 500 * MS))
    desk.ask(trades(venue, 0, 500))
    desk.venue.clock += SECOND
    desk.ask(trades(venue, 0, 1_500))
    ((_, spans),) = toy.ASKED
    assert spans.bounds[0] >= BASE + 300 * MS
    assert lies(desk, dataset_of(trades(venue, 0, 1))) == []


def test_a_running_candle_is_delivered_and_not_held():
    """At 5.3 s, with 1.5 s to settle: 3 … 5 are delivered, the last two have to be asked for again."""
    desk = Desk(Venue(Truth(bars=[(at, 9, 0) for at in range(6)]), BASE + 5_300 * MS))
    query = candles("forward", 0, 6_000)
    run = desk.ask(query)
    assert [(row.closed, int(row.volume)) for row in run.frame(query)][-3:] == [(True, 9), (True, 9), (False, 8)]
    assert told(desk, query) == [(0, 3_000, "held", "A"), (3_000, 5_300, "open", None)]
    desk.venue.clock += 5 * SECOND
    desk.ask(query)
    assert [toy.in_ms(spans) for _, spans in toy.ASKED] == [[(3_000, 6_000)]]
    assert [int(row.volume) for row in desk.store.read(dataset_of(query), 0, 1 << 62)] == [9] * 6
    assert held(desk.store.claims(dataset_of(query))) == query.spans


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_failed_page_takes_exactly_its_span_out(failing):
    """Three pages of four candles: one fails; the others are delivered and held, and only its four are asked again."""
    desk = Desk(Venue(Truth(bars=[(at, 9, 0) for at in range(12)]), BASE + 60 * SECOND, failing={failing}))
    query = candles("forward", 0, 12_000)
    run = desk.ask(query)
    lost = (4_000 * (failing - 1), 4_000 * failing)
    assert [toy.in_ms([(f.start, f.end)]) for f in run.frame(query).failures] == [[lost]]
    assert len(run.frame(query)) == 8
    assert toy.in_ms(query.spans - held(desk.store.claims(dataset_of(query)))) == [lost]
    desk.venue.failing = frozenset()
    desk.ask(query)
    assert [toy.in_ms(spans) for _, spans in toy.ASKED] == [[lost]]
    assert held(desk.store.claims(dataset_of(query))) == query.spans


@pytest.mark.parametrize(
    ("seconds", "parts"),
    [(600, [(0, 2_000, "held", "A")]), (60, [(0, 1_000, "held", "A"), (1_000, 2_000, "held", "D")])],
)
def test_a_clamped_page_whose_rest_fails_is_held_as_far_as_it_came(seconds, parts):
    """The venue gives two candles of four; the question for the other two fails. Soon after, nothing shows the second to be final."""
    desk = Desk(Venue(Truth(bars=[(at, 9, 0) for at in range(4)]), BASE + seconds * SECOND, clamp=2, failing={2}))
    query = candles("forward", 0, 4_000)
    run = desk.ask(query)
    assert told(desk, query) == parts
    assert [toy.in_ms([(f.start, f.end)]) for f in run.frame(query).failures] == [[(2_000, 4_000)]]


@define
class Forgetful(Venue):
    """A venue that shows no trades with ids below some number."""

    oldest: int = 0

    def rows(self, path, asked, shown):
        return super().rows(path, asked, [row for row in shown if row.id >= self.oldest])


def test_what_a_venue_has_forgotten_is_lost_when_it_was_asked_twice_and_held_when_it_comes_back():
    """Trades every 4 s, of which the first two are not shown; then they are, and an answer brings them."""
    truth = Truth([(100 + number, 4_000 * number, 0) for number in range(6)])
    desk = Desk(Forgetful(truth, BASE + 60 * SECOND, oldest=102))
    query = trades("counting", 0, 12_000)
    desk.ask(query)
    assert told(desk, query) == [(0, 8_001, "pending", None), (8_000, 12_000, "held", "A")]
    desk.venue.clock += 5 * SECOND
    desk.ask(query)
    assert told(desk, query) == [(0, 8_001, "lost", None), (8_000, 12_000, "held", "A")]
    desk.venue.log.clear()
    desk.ask(query)
    assert desk.venue.log == []  # twice is enough
    desk.venue.oldest = 0
    run = Run([query], desk.venues, desk.venue.clock, HeldRows(desk.store, {dataset_of(query): query.spans}))
    keep(drive(run, desk.venue), desk.store)
    assert told(desk, query) == [(0, 12_000, "held", "A")]
    assert len(desk.store.read(dataset_of(query), query.start, query.end)) == 3
    assert lies(desk, dataset_of(query)) == []


def test_a_replica_that_was_behind_makes_nothing_lost():
    """One answer lacks the oldest rows; the next one has them."""
    truth = Truth([(100 + number, 4_000 * number, 0) for number in range(6)])
    desk = Desk(Forgetful(truth, BASE + 60 * SECOND, oldest=102))
    query = trades("counting", 0, 12_000)
    desk.ask(query)
    desk.venue.oldest = 0
    desk.venue.clock += 5 * SECOND
    desk.ask(query)
    assert told(desk, query)[0][2:] == ("held", "A")
    assert held(desk.store.claims(dataset_of(query))).covers(query.spans)


def test_a_failed_page_of_ids_leaves_out_the_moments_at_its_edges():
    """Ids 996 … 1007, several to a millisecond; the page 1000 … 1003 fails."""
    desk = Desk(Venue(Truth([(996 + n, 100 + n // 3, 0) for n in range(12)]), failing={5}))
    query = trades("counting", 0, 104)
    desk.ask(query)
    sure = held(desk.store.claims(dataset_of(query)))
    assert (sure[0][1], sure[1][0]) == (BASE + 101 * MS, BASE + 102 * MS + 1)
    assert lies(desk, dataset_of(query)) == []
    desk.venue.failing = frozenset()
    desk.ask(query)
    assert held(desk.store.claims(dataset_of(query))) == query.spans


def test_what_happens_while_pages_are_fetched_is_not_taken_for_nothing():
    """The newest id is looked up, then pages come slowly; a trade that happens meanwhile is not behind the newest."""
    desk = Desk(Venue(Truth([*steady(12, 10, 0), (1008, 1_600, 0)]), BASE + 300 * MS, pace=400 * MS))
    query = trades("counting", 0, 5_000)
    desk.ask(query)
    assert told(desk, query)[-1][:3] == (500, 700, "open")
    assert lies(desk, dataset_of(query)) == []


def test_rows_of_the_store_are_there_for_what_is_made_of_them_however_the_plan_is_ordered():
    """Trades are held; then trades and candles made of them are asked in one plan: the candles are whole."""
    for order in (1, -1):
        desk = Desk(Venue(Truth(steady(50, 100, 0))))
        desk.ask(trades("counting", 0, 4_000))
        pair = [trades("counting", 0, 4_000), candles("counting", 0, 4_000, "trades")][::order]
        run = desk.ask(*pair)
        made = run.frame(pair[0] if pair[0].model is Candle else pair[1])
        assert [(row.trades, row.closed) for row in made] == [(10, True)] * 4
        assert lies(desk, dataset_of(candles("counting", 0, 1, "trades"))) == []


def test_rows_that_came_besides_are_not_taken_for_all_there_are():
    """The store holds a second of six trades; a question about the one before it happens to bring two of them.

    A candle made of those two would be wrong, though all six are held.
    """
    desk = Desk(Venue(Truth([(996, 100, 0), (997, 130, 0), *steady(4, 10, 600, 998)])))
    desk.ask(candles("older", 0, 1_000, "trades"))
    desk.ask(candles("older", -1_000, 0, "trades"))
    assert [row.trades for row in desk.store.read(dataset_of(candles("older", 0, 1, "trades")), 0, 1 << 62)] == [6]
    assert lies(desk, dataset_of(candles("older", 0, 1, "trades"))) == []


def test_an_answer_that_serves_two_is_as_old_as_it_is_for_both():
    """A second reader of a page that came long before: what ran then has not closed since, in that answer."""

    with registry.scope():
        forward = registry.connector("forward")

        class Waiting(forward):
            @turn(list[toy.Row])
            def newest_of_all(self) -> Request:
                return get("/newest")

        @define
        class Copy(Model, key=("venue", "market", "interval", "open_time"), time="open_time"):
            venue: str
            market: str
            interval: str
            open_time: Time
            volume: Decimal
            closed: bool | None = None

        class Copies(Binding[Copy], connector=Waiting, interval="1s"):
            async def __call__(self, venue, ask):
                await venue.newest_of_all()
                return self.pack(venue.bars(ask.symbol, ask.interval).over(ask.spans), ask.venue, ask.interval)

            @turn_execution
            def pack(self, rows: list[toy.Bar], venue: str, interval: str):
                return [Copy(venue, "A/B", interval, row.t * MS, Decimal(row.v)) for row in rows]

        desk = Desk(Venue(Truth([(1, 0, 0)], bars=[(at, 9, 0) for at in range(3)]), BASE + 2_500 * MS, pace=0))
        first = candles("forward", 0, 3_000)
        second = Query(Copy, first.market, interval="1s", start=iso(first.start), end=iso(first.end))
        run = Run([first, second], desk.venues, desk.venue.clock)
        lane = run.lanes()[0]
        nodes = []
        while (node := run.take(lane)) is not None:
            nodes.append(node)
        bars = next(node for node in nodes if node.request.path == "/bars")
        run.feed(bars, desk.venue(bars))
        desk.venue.clock += 60 * SECOND
        for node in nodes:
            if node is not bars:
                run.feed(node, desk.venue(node))
        assert run.done
        assert [row.closed for row in run.frame(second)] == [True, True, False]
        assert Spans.of((BASE, BASE + SECOND)).covers(held(run.works[dataset_of(second)].claims))


def test_ids_are_unique_per_market_and_kind_only():
    """The same id in two markets and two kinds is three different trades."""
    store = MemoryStore()
    rows = [
        Trade("x", market, kind, "1", Decimal(1), Decimal(1), Side.BUY, BASE)
        for market, kind in (("A/B", "raw"), ("C/D", "raw"), ("A/B", "merged"))
    ]
    store.write({Trade: [*rows, rows[0]]})
    assert sum(summary.rows for summary in store.summary()) == 3
    assert store.read(Dataset(Trade, "x", "A/B", ("merged",)), BASE, BASE + 1) == [rows[2]]


@pytest.mark.parametrize("late_first", [True, False])
def test_a_late_running_candle_never_overwrites_the_closed_one(late_first):
    """Whatever comes last, and whatever clock it carries, the closed one stays."""
    one = [Decimal(1)] * 4
    closed = Candle(
        "x", "A/B", "1s", "venue", BASE, *one, Decimal(9), closed=True, venue_time=BASE + SECOND, received_at=BASE
    )
    running = Candle(
        "x",
        "A/B",
        "1s",
        "venue",
        BASE,
        *one,
        Decimal(5),
        closed=False,
        venue_time=BASE + 9 * SECOND,
        received_at=BASE + 9,
    )
    store = MemoryStore()
    for row in (running, closed) if late_first else (closed, running):
        store.write({Candle: [row]})
    assert store.read(Dataset(Candle, "x", "A/B", ("1s", "venue")), BASE, BASE + 1) == [closed]
