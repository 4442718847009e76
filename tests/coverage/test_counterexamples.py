"""What makes naive collectors lie: each of these once cost somebody rows that were called complete.

A venue whose truth is known is asked by the planner, rows that come live go through a keeper, a store holds what comes of
it. In the end nothing may be held that is not there, nothing may be there twice, and what was in doubt must have said so.
"""

from collections import Counter
from decimal import Decimal

import pytest
from attrs import evolve
from msgspec import Struct
from tests.planner import toy
from tests.planner.toy import BASE, LAST, SETTLE, Desk, Toy, Truth, Venue, candles, dataset_of, in_ms, lies, trades

from tradeflood import plugins
from tradeflood.coverage import Claim, Dataset, Grade, State, held, stretches
from tradeflood.coverage.candles import candles_of
from tradeflood.errors import Incomplete
from tradeflood.models import Candle, Side, Trade
from tradeflood.models.identity import digits
from tradeflood.models.time import MINUTE, MS, SECOND, parse_time
from tradeflood.planner import Run
from tradeflood.runner.candles import Maker
from tradeflood.runner.flood import demand, keep
from tradeflood.runner.keeper import Keeper
from tradeflood.runner.line import Channel
from tradeflood.runner.stream import subscription
from tradeflood.spans import EMPTY, Spans
from tradeflood.store import open_store
from tradeflood.store.known import known
from tradeflood.turns import (
    Binding,
    Budget,
    Feed,
    Numbering,
    Recent,
    Request,
    Rest,
    Rows,
    get,
    registry,
    turn,
    turn_execution,
)
from tradeflood.turns.ask import Ask

ONE = Decimal(1)


class Fill(Struct):
    t: int
    size: Decimal


def fill_time(fill: Fill) -> int:
    return fill.t * MS


def define_blind() -> None:
    """A venue without ids: its page is the last few trades, its feed sends them as they happen."""

    class Blind(Toy):
        venue = "blind"
        rest = Rest("http://toy", Budget("all", 100, per=SECOND), settle=SETTLE)
        feed = Feed("ws://toy", "/")

        @turn(list[Fill], pages=Recent(reached=fill_time))
        def recent(self, page, symbol) -> Request:
            return get("/fills")

        @turn(list[Fill], live=True)
        def live_fills(self, symbol) -> str:
            return "fills"

    class BlindTrades(Binding[Trade], connector=Blind, kind="raw"):
        numbering = Numbering.NONE

        def __call__(self, venue, ask):
            return self.pack(venue.recent(ask.symbol).over(ask.spans))

        def live(self, venue, ask):
            return self.pack(venue.live_fills(ask.symbol))

        @turn_execution
        def pack(self, rows: list[Fill]):
            for row in rows:
                said = f"{row.t}:{digits(row.size)}"
                yield Trade("blind", "A/B", "raw", said, ONE, row.size, Side.BUY, row.t * MS)


@pytest.fixture(autouse=True, scope="module")
def venues():
    plugins.load()
    with registry.scope():
        toy.define_venues()
        define_blind()
        yield


def many(*at, first=1000):
    """Trades at these ms, numbered on from `first`, shown at once."""
    return Truth([(first + n, moment, 0) for n, moment in enumerate(at)])


def covered(desk, query, *, moment=None):
    """What is held of a dataset, in ms; or whether a moment (ms) is."""
    sure = held(desk.store.claims(dataset_of(query)))
    return in_ms(sure) if moment is None else sure.touches(BASE + moment * MS, BASE + moment * MS + 1)


def live(number, at, *, received=None):
    """A trade of the counting venue as its feed brings it."""
    time = BASE + at * MS
    return Trade(
        "counting",
        "A/B",
        "raw",
        str(number),
        ONE,
        ONE,
        Side.BUY,
        time,
        received_at=time if received is None else BASE + received * MS,
    )


def kept(desk, *batches):
    """Batches of live rows, written with their claims; the keeper may go on."""
    desk.store = known(desk.store)
    keeper = Keeper(desk.venues, desk.store, known=desk.store)
    for batch in batches:
        keeper.write(batch)
    return keeper


# ---------------------------------------------------------------- the oldest millisecond of a page


@pytest.mark.parametrize("venue", ["latest", "older", "newer"])
def test_the_oldest_millisecond_of_a_page_shared_with_unseen_rows(venue):
    """A page ends in the midst of three trades of one moment: that moment is not held before all of them are there."""
    moments = [100, 150, 200, 200, 200, 300, 400] if venue != "latest" else [100, 200, 200, 200, *[300] * (LAST - 2)]
    desk = Desk(Venue(many(*moments)))
    query = trades(venue, 0, 1_000)
    failing = {2} if venue != "latest" else set()
    desk.venue.failing = frozenset(failing)  # what follows the first page never comes
    desk.ask(query)
    assert lies(desk, dataset_of(query)) == []
    stored = Counter(row.venue_time for row in desk.store.read(dataset_of(query), 0, 1 << 62))
    assert 0 < stored[BASE + 200 * MS] < 3
    assert not covered(desk, query, moment=200)
    assert covered(desk, query)  # and yet something is held, or the test would show nothing
    desk.venue.failing = frozenset()
    desk.ask(query)
    assert lies(desk, dataset_of(query)) == []
    if venue == "latest":  # what the page does not reach any more cannot be had
        assert not covered(desk, query, moment=200)
    else:
        assert covered(desk, query, moment=200)


# ---------------------------------------------------------------- equal fills without ids


class Blind(Venue):
    """The venue without ids; its page is the newest `LAST` of some fills, newest first."""

    def __init__(self, *fills, last=LAST):
        super().__init__(Truth())
        self.fills, self.last = [Fill(BASE // MS + at, Decimal(size)) for at, size in fills], last

    def rows(self, path, asked, shown):
        return self.fills[-self.last :][::-1]


class Session:
    """A live session at the venue without ids: one observation, as a connection is."""

    def __init__(self, desk, before=None):
        connector = desk.venues.connector("blind")
        ask = Ask(Trade, "blind", "A/B", "AB", ("raw",), EMPTY, BASE)
        made = registry.binding(type(connector), Trade, ("raw",))
        if before is None:
            self.channel = Channel(subscription(ask, connector, made()), BASE)
        else:
            before.channel.replacing(BASE)
            self.channel = before.channel.observed_anew(BASE)
        self.keeper = Keeper(desk.venues, desk.store)

    def brings(self, *fills):
        self.channel.add(Rows("fills", [Fill(BASE // MS + at, Decimal(size)) for at, size in fills]))
        self.keeper.write(self.channel.models(BASE, lambda error: pytest.fail(str(error))))


QUERY = {"first": 0, "last": 1_000}


def fills_of(desk):
    """How often each fill is there: (ms, size) → count."""
    rows = desk.store.read(dataset_of(trades("blind", 0, 1_000)), 0, 1 << 62)
    return Counter(((row.venue_time - BASE) // MS, int(row.size)) for row in rows)


TWICE = [(100, 1), (200, 2), (200, 2), (300, 3), (400, 4)]


@pytest.mark.parametrize("rest_first", [True, False])
def test_equal_fills_seen_once_live_and_twice_by_rest_are_two(rest_first):
    """The session began between the two: observations are united, never summed, in whatever order they come."""
    desk = Desk(Blind(*TWICE, last=5))
    steps = [lambda: desk.ask(trades("blind", 0, 1_000)), lambda: Session(desk).brings((200, 2), (300, 3))]
    for step in steps if rest_first else steps[::-1]:
        step()
    assert fills_of(desk) == Counter(TWICE)
    assert covered(desk, trades("blind", 0, 1_000), moment=200)  # rest saw both, and rows on both sides


def test_equal_fills_on_either_side_of_a_page_edge():
    """The page's oldest row is one of the two: there is one, and its moment is not held; with the next page there are two."""
    desk = Desk(Blind(*TWICE, last=3))
    desk.ask(trades("blind", 0, 1_000))
    assert fills_of(desk)[200, 2] == 1
    assert not covered(desk, trades("blind", 0, 1_000), moment=200)
    desk.venue.last = 5
    desk.ask(trades("blind", 0, 1_000))
    assert fills_of(desk) == Counter(TWICE)
    assert covered(desk, trades("blind", 0, 1_000), moment=200)


def test_equal_fills_on_either_side_of_a_session_edge():
    """One in each of two sessions: the second may be the first once more, so it is not counted, and its moment not held."""
    desk = Desk(Blind(*TWICE, last=5))
    first = Session(desk)
    first.brings((100, 1), (200, 2))
    Session(desk, before=first).brings((200, 2), (300, 3))
    assert fills_of(desk) == Counter({(100, 1): 1, (200, 2): 1, (300, 3): 1})
    assert not covered(desk, trades("blind", 0, 1_000), moment=200)
    desk.ask(trades("blind", 0, 1_000))
    assert fills_of(desk) == Counter(TWICE)


def test_equal_fills_that_a_new_session_repeats_are_not_doubled():
    """Venues send the last rows once more when one subscribes: two equal ones are still two."""
    desk = Desk(Blind(*TWICE, last=5))
    first = Session(desk)
    first.brings((100, 1), (200, 2), (200, 2))
    Session(desk, before=first).brings((200, 2), (200, 2), (300, 3))
    assert fills_of(desk) == Counter({(100, 1): 1, (200, 2): 2, (300, 3): 1})


def test_a_page_that_shows_fewer_equal_fills_than_came_live_takes_none_away():
    desk = Desk(Blind(*TWICE, last=3))
    Session(desk).brings((200, 2), (200, 2), (300, 3))
    desk.ask(trades("blind", 0, 1_000))
    assert fills_of(desk)[200, 2] == 2


# ---------------------------------------------------------------- clocks


def test_a_venue_clock_that_steps_back_between_two_answers():
    """Three pages, each answered a second before the last one: nothing is held that the earliest clock had not reached."""
    truth = Truth([(1000 + n, 100 * n, 0) for n in range(12)])
    for venue in toy.TRADES:
        desk = Desk(Venue(truth, clock=BASE + 3 * SECOND, pace=-SECOND))
        query = trades(venue, 0, 3_000)
        desk.ask(query)
        sure = held(desk.store.claims(dataset_of(query)))
        have = {row.trade_id for row in desk.store.read(dataset_of(query), 0, 1 << 62)}
        missing = [
            n for n, at, _ in truth.trades if str(n) not in have and sure.touches(BASE + at * MS, BASE + at * MS + 1)
        ]
        assert missing == []
        assert not sure or sure.bounds[1] <= desk.venue.clock + SECOND


def test_a_venue_clock_that_steps_back_between_two_trades():
    """The fourth trade bears a time before the third, and did not come: the hole in the ids is named, and brings it back."""
    truth = Truth([(1, 100, 0), (2, 200, 0), (3, 300, 0), (4, 250, 0), (5, 400, 0), (6, 500, 0)])
    desk = Desk(Venue(truth))
    keeper = kept(desk, [live(n, at) for n, at, _ in truth.trades[:3]], [live(5, 400), live(6, 500)])
    keeper.close()
    query = trades("counting", 0, 600)
    claims = desk.store.claims(dataset_of(query))
    assert any(claim.state is State.PENDING for claim in claims)
    desk.ask(query)
    assert {row.trade_id for row in desk.store.read(dataset_of(query), 0, 1 << 62)} == {str(n) for n in range(1, 7)}
    assert lies(desk, dataset_of(query)) == []


# ---------------------------------------------------------------- ids


def test_ids_that_jump_are_believed_when_both_neighbours_came_in_one_answer_twice():
    """A thousand ids that never were: first D, which strict refuses; left out by a second answer, they are believed."""
    truth = Truth([(1000, 100, 0), (1001, 200, 0), (2001, 300, 0), (2002, 400, 0), (2003, 500, 0)])
    desk = Desk(Venue(truth, clamp=2_000))
    query = trades("counting", 50, 450)

    def grades():
        return {part.grade for part in stretches(desk.store.claims(dataset_of(query))) if part.start < BASE + 300 * MS}

    run = desk.ask(query)
    assert lies(desk, dataset_of(query)) == []
    assert Grade.D in grades()
    with pytest.raises(Incomplete):
        demand(run.frame(query), [query])
    desk.venue.clock += MINUTE
    again = toy.drive(Run([query], desk.venues, desk.venue.clock, None), desk.venue)
    keep(again, desk.store)
    assert Grade.D not in grades()
    assert lies(desk, dataset_of(query)) == []


def test_a_moved_horizon_is_not_read_as_ids_that_never_were():
    """The venue has forgotten what is older than ten seconds: that time is not held, whatever its first answer begins with."""

    class Forgets(Venue):
        def rows(self, path, asked, shown):
            return super().rows(path, asked, [row for row in shown if row.t * MS >= self.clock - 10 * SECOND])

    truth = Truth([(1000 + n, 1_000 * n, 0) for n in range(40)])
    desk = Desk(Forgets(truth, clock=BASE + 40 * SECOND))
    query = trades("counting", 10_000, 37_000)
    run = desk.ask(query)
    assert lies(desk, dataset_of(query)) == []
    assert covered(desk, query, moment=35_000)
    with pytest.raises(Incomplete):
        demand(run.frame(query), [query])


# ---------------------------------------------------------------- lateness


def test_a_late_trade_minutes_after_its_minute_was_claimed():
    """Live ids were whole, the minute was held, its candle made; then a trade comes that was never counted."""
    desk = Desk(Venue(Truth()))
    rows = [live(n, n * 1_000) for n in range(1, 200)]
    store = desk.store = known(desk.store)
    dataset = dataset_of(trades("counting", 0, 1))
    candles = Dataset(Candle, "counting", "A/B", ("1m", "trades"))
    claim = Claim(dataset, BASE, BASE + 3 * MINUTE, State.HELD, Grade.B, "a bracketed page", 179, "", BASE + 4 * MINUTE)
    maker = Maker(store, [candles])
    store.write({Trade: rows}, [claim])
    maker.bring_up_to_date()
    assert held(store.claims(candles)).covers(Spans.of((BASE, BASE + 3 * MINUTE)))
    late = evolve(live(5_000, 70_000, received=300_000), price=Decimal(9))
    Keeper(desk.venues, store, known=store).write([late])
    assert not held(store.claims(dataset)).touches(late.venue_time, late.venue_time + 1)
    states = {part.state for part in stretches(store.claims(dataset))}
    assert State.DISPUTED in states
    maker.bring_up_to_date()
    assert not held(store.claims(candles)).touches(late.venue_time, late.venue_time + 1)
    store.write({}, [evolve(claim, as_of=BASE + 9 * MINUTE)])  # refilled
    maker.bring_up_to_date()
    (amended,) = store.read(candles, BASE + MINUTE, BASE + 2 * MINUTE)
    assert (amended.high, amended.trades) == (9, 61)
    assert held(store.claims(candles)).covers(Spans.of((BASE, BASE + 3 * MINUTE)))


@pytest.mark.parametrize("venue", toy.TRADES)
def test_a_lagging_replica_that_answers_empty(venue):
    """It shows nothing of the last two seconds, and does not say so: an empty answer is never better than D."""
    truth = Truth([(1000 + n, 100 * n, 2_000) for n in range(30)])
    desk = Desk(Venue(truth, clock=BASE + 2_900 * MS))
    query = trades(venue, 1_000, 2_500)
    run = desk.ask(query)
    assert len(run.frame(query)) == 0
    assert {part.grade for part in stretches(desk.store.claims(dataset_of(query))) if part.state is State.HELD} <= {
        Grade.D
    }
    with pytest.raises(Incomplete):
        demand(run.frame(query), [query])
    desk.venue.clock = BASE + 10 * SECOND  # it has caught up; a live row shows that there was something
    store = desk.store = known(desk.store)
    at = BASE + 1_500 * MS
    row = Trade(venue, "A/B", "raw", "1015", ONE, ONE, Side.BUY, at, received_at=at)
    Keeper(desk.venues, store, known=store).write([row])
    assert not held(store.claims(dataset_of(query))).touches(at, at + 1)
    desk.ask(query)
    assert lies(desk, dataset_of(query)) == []


# ---------------------------------------------------------------- months


@pytest.mark.parametrize("scheme", ["memory", "chdb"])
def test_a_revised_time_across_a_month_boundary(scheme, tmp_path):
    """The venue corrects a trade's time from one month into the next: there is one row, and both candles are right."""
    if scheme == "chdb":
        pytest.importorskip("chdb", reason="the extra `embedded` is not installed")
    month = parse_time("2026-02-01")
    dataset = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
    candles = Dataset(Candle, "binance", "BTC/USDT", ("1m", "trades"))
    url = "memory://" if scheme == "memory" else f"chdb://{tmp_path}/data"

    def trade(number, at, size):
        return Trade(
            "binance",
            "BTC/USDT",
            "raw",
            str(number),
            ONE,
            Decimal(size),
            Side.BUY,
            month + at,
            received_at=month + MINUTE,
        )

    with known(open_store(url)) as store:
        store.migrate()
        maker = Maker(store, [candles])
        rows = [trade(1, -30 * SECOND, 1), trade(2, -MS, 2), trade(3, 10 * SECOND, 4), trade(4, 70 * SECOND, 8)]
        claim = Claim(
            dataset, month - MINUTE, month + MINUTE, State.HELD, Grade.A, "consecutive ids", as_of=month + MINUTE
        )
        store.write({Trade: rows}, [claim])
        maker.bring_up_to_date()
        assert [int(row.volume) for row in store.read(candles, 0, 1 << 62)] == [3, 4]
        revised = evolve(rows[1], venue_time=month + MS, received_at=month + 2 * MINUTE)
        store.write({Trade: [revised]})
        maker.bring_up_to_date()
        stored = store.read(dataset, 0, 1 << 62)
        assert [(row.trade_id, row.venue_time - month) for row in stored if row.trade_id == "2"] == [("2", MS)]
        assert [int(row.volume) for row in store.read(candles, 0, 1 << 62)] == [1, 6]
        made = [evolve(row, closed=True) for row in candles_of(stored, "1m") if row.open_time < month + MINUTE]
        assert store.read(candles, 0, 1 << 62) == made


def test_ids_that_an_answer_leaves_out_though_one_of_them_came_late():
    """A replica never got three trades; one of them comes late. However often it is asked, it is not believed any more."""
    truth = Truth([(1000 + n, 100 * n, 0) for n in range(9)])

    class Lacks(Venue):
        def rows(self, path, asked, shown):
            return super().rows(path, asked, [row for row in shown if row.id not in {1002, 1003, 1004}])

    desk = Desk(Lacks(truth, clamp=2_000))
    desk.store = known(desk.store)
    query = trades("counting", 0, 700)

    def again():
        desk.venue.clock += MINUTE
        run = toy.drive(Run([query], desk.venues, desk.venue.clock, None), desk.venue)
        keep(run, desk.store)

    desk.ask(query)
    Keeper(desk.venues, desk.store, known=desk.store).write([live(1003, 300)])
    for _ in range(3):
        again()
        here = [
            part for part in stretches(desk.store.claims(dataset_of(query))) if part.start <= BASE + 200 * MS < part.end
        ]
        assert [part.grade for part in here if part.state is State.HELD] in ([], [Grade.D])


def test_a_market_that_is_listed_anew_with_ids_from_the_beginning():
    """The last row before has id 4,003, the first one after has id 1: ids say nothing of the time between."""
    truth = Truth([(4_000 + n, 100 * n, 0) for n in range(4)] + [(1 + n, 1_000 + 100 * n, 0) for n in range(8)])
    desk = Desk(Venue(truth))
    query = trades("counting", 150, 1_250)
    desk.ask(query)
    assert lies(desk, dataset_of(query)) == []


# ---------------------------------------------------------------- pages that replicas answer, each as far as it has got


class Behind(Venue):
    """The first page of a range comes from a replica that has not got beyond a moment (ms); the other ones are up to date."""

    def __init__(self, truth, path, reached, **more):
        super().__init__(truth, **more)
        self.path, self.reached = path, reached

    def rows(self, path, asked, shown):
        if path != self.path or not self.is_first(path, asked):
            return super().rows(path, asked, shown)
        if path == "/bars":
            return [row for row in super().rows(path, asked, shown) if row.t < BASE // MS + self.reached]
        return super().rows(path, asked, [row for row in shown if row.t < BASE // MS + self.reached])

    def is_first(self, path, asked):
        if path == "/bars":
            return asked["last"] < BASE // MS + 4_000
        return asked["id"] < 1_004 if path == "/from-id" else asked["first"] < BASE // MS


def grades_where_rows_lack(desk, query, times):
    """On what grade moments (ms) are held of which no row is stored."""
    have = (
        {row.venue_time for row in desk.store.read(dataset_of(query), 0, 1 << 62)}
        if query.model is Trade
        else {row.open_time for row in desk.store.read(dataset_of(query), 0, 1 << 62)}
    )
    lacking = [BASE + at * MS for at in times if BASE + at * MS not in have]
    assert lacking  # or the test would show nothing
    parts = stretches(desk.store.claims(dataset_of(query)))
    return {part.grade for part in parts for at in lacking if part.state is State.HELD and part.start <= at < part.end}


def test_candles_that_the_older_of_two_pages_does_not_show_yet():
    """The newer page shows later ones: what lies between them no single answer has seen from both sides."""
    desk = Desk(Behind(Truth(bars=[(n, 5, 0) for n in range(8)]), "/bars", 2_000))
    query = candles("forward", 0, 8_000)
    desk.ask(query)
    assert grades_where_rows_lack(desk, query, range(0, 8_000, 1_000)) <= {Grade.D}


def test_trades_that_the_older_of_two_ranges_does_not_show_yet():
    desk = Desk(Behind(Truth([(1000 + n, 100 * n, 0) for n in range(30)]), "/before", 600))
    query = trades("older", 0, 2_900)
    desk.ask(query)
    assert grades_where_rows_lack(desk, query, range(0, 2_900, 100)) <= {Grade.D}


def test_ids_that_the_older_of_two_pages_does_not_show_however_often_it_is_asked():
    """Neither answer has a row on both sides of them, so that two of these are not two witnesses."""
    desk = Desk(Behind(Truth([(1000 + n, 100 * n, 0) for n in range(12)]), "/from-id", 200))
    query = trades("counting", 0, 1_000)
    for _ in range(3):
        run = toy.drive(Run([query], desk.venues, desk.venue.clock, None), desk.venue)
        keep(run, desk.store)
        desk.venue.clock += MINUTE
        assert grades_where_rows_lack(desk, query, range(0, 1_000, 100)) <= {Grade.D}
