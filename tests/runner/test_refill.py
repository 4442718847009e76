"""Refill in virtual time: what perishes first is saved first, what is gone is named once, and claims stay few."""

import asyncio
import random
import re
import threading
from collections import Counter
from decimal import Decimal
from itertools import pairwise

import pytest
from attrs import define, evolve

from tradeflood.coverage import Dataset, Grade, State, held, stretches
from tradeflood.coverage.claims import good_enough
from tradeflood.coverage.compact import compacted
from tradeflood.errors import UnknownMarket
from tradeflood.models import Candle, Ticker, Trade
from tradeflood.models.time import DAY, MINUTE, SECOND, parse_time
from tradeflood.planner import Query
from tradeflood.replay.desk import Clock, HttpAnswer, desk_of
from tradeflood.replay.faults import Faults, FaultyDesk
from tradeflood.replay.simulated import Listing, Simulated
from tradeflood.runner.flood import Flood
from tradeflood.runner.refill import Refiller
from tradeflood.runner.runner import Report, Runner
from tradeflood.runner.sweep import witnessed
from tradeflood.store.known import MANY
from tradeflood.testing import FakeClock, FakeTransport, answers_of
from tradeflood.testing.classes import SHAPES, Shape, Tape, venues
from tradeflood.testing.classes.connectors import Fill, Latest, LatestTrades, PolledTrades, Synthetic, SyntheticCandles
from tradeflood.testing.classes.desk import desk_for
from tradeflood.testing.classes.shapes import source_number
from tradeflood.testing.virtual import VirtualClock, run, sockets_of
from tradeflood.transport import Call, Limiter
from tradeflood.turns import Binding, Budget, Numbering, Page, Recent, Request, Rest, get, turn

START = parse_time("2026-03-04T05:06:07")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random.seed(7)
    with venues():
        declare()
        yield


def declare():
    """Two more venues: one whose budget is scarce, and one that has no feed and is asked once a minute unless more is needed."""

    class Scarce(Latest):
        """Few questions in ten minutes; the last sixty trades; candles of thirty days."""

        venue = "scarce"
        feed = None
        rest = Rest("http://scarce.invalid", Budget("requests", 1, per=10 * MINUTE))

    class Steady(Scarce):
        """The same, four questions a minute."""

        venue = "steady"
        rest = Rest("http://steady.invalid", Budget("requests", 4, per=MINUTE))

    class ScarceTrades(Binding[Trade], connector=Scarce, kind="raw"):
        """Trades without a feed."""

        numbering = Numbering.CONTIGUOUS
        horizon_rows = 60
        pack = LatestTrades.pack

        def __call__(self, venue, ask):
            return self.pack(venue.trades(ask.symbol).over(ask.spans), ask.venue, ask.market, ask.kind)

    class ScarceCandles(SyntheticCandles, connector=Scarce):
        """Candles."""

        horizon = 30 * DAY

    class Leisurely(Synthetic):
        """The last hundred rows, times to the second, no feed."""

        venue = "leisurely"
        rest = Rest("http://leisurely.invalid", Budget("requests", 1_000, per=MINUTE))

        @turn(list[Fill], pages=Recent(reached=lambda row: row.time * SECOND), every=MINUTE)
        def trades(self, page: Page, symbol: str) -> Request:
            """As many as the venue gives."""
            del page
            return get("/trades", symbol=symbol)

    class LeisurelyTrades(PolledTrades, connector=Leisurely, kind="raw"):
        """Trades."""

    for shape in EXTRA:
        desk_for(shape)


EXTRA = (
    Shape("scarce", Numbering.CONTIGUOUS, "last", 60, number=source_number),
    Shape("steady", Numbering.CONTIGUOUS, "last", 60, number=source_number),
    Shape("leisurely", Numbering.NONE, "last", 100, grain=SECOND, feed=False),
)


@define
class Told:
    """What a run was: every request with its second, coverage per dataset, how many claims there were at most, rows."""

    asked: list
    parts: dict
    claims: dict
    stored: dict
    most: int = 0
    rows: dict = None
    flood: Flood = None
    states: list = None
    ended: int = 0
    report: Report = None

    def times(self, path):
        return [at for at, asked in self.asked if asked == path]

    def spans(self, dataset, *states, grade=None):
        """Where a dataset is in one of these states, in seconds from the start."""
        return [
            ((part.start - START) / SECOND, (part.end - START) / SECOND)
            for part in self.parts[dataset]
            if part.state in states and (grade is None or part.grade == grade)
        ]


def collected(*wants, seconds, source=None, faults=(), change=None, history="2m", limits=None, spent=0, pause=0):
    """What a run was. `change` (runner, desk, clock) goes on beside it; `pause` seconds after it there is another one."""
    told = Told([], {}, {}, {})
    source = source or Simulated(5)

    async def main():
        clock = VirtualClock(START)
        desks = {}
        for _, market in wants:
            venue = market.partition(":")[0]
            desks.setdefault(
                venue, FaultyDesk(desk_of(venue), source, Clock(1, START, monotonic=clock.now), Faults(faults, 1))
            )
        (desk,) = desks.values()
        config = {
            "store": "memory://",
            "venues": {venue: {"limits": limits} for venue in desks if limits},
            "collect": [
                {"markets": [market], "history": history, **({"model": model} if isinstance(model, str) else model)}
                for model, market in wants
            ],
        }
        wire = FakeTransport(answers_of(desk, clock), clock)
        send = wire.send

        async def noted(call):
            told.asked.append(((clock.now() - START) / SECOND, call.request.path))
            return await send(call)

        wire.send = noted
        async with Flood(config, transport=wire, clock=clock) as flood:
            flood.network = evolve(flood.network, sockets=sockets_of(desk, clock))
            runner = Runner(flood)
            told.states = []
            if spent:
                rest = flood.venues.connector(desk.venue).rest
                await flood.network.limiter.spend(Call(desk.venue, rest.url, get("/"), "rest", rest.budget, spent))

            async def watch():
                while True:
                    await clock.sleep(5 * SECOND)
                    told.most = max([told.most, *(len(flood.store.claims(d)) for d in flood.store.datasets())])
                    if runner.stream is not None:
                        told.states.append({d.market: str(c.state) for d, c in runner.stream.states().items()})

            beside = [asyncio.ensure_future(watch())]
            if change is not None:
                beside.append(asyncio.ensure_future(change(runner, desk, clock)))
            told.report = await runner.run(asyncio.Event(), seconds * SECOND)
            if pause:
                await clock.sleep(pause * SECOND)
                await Runner(flood).run(asyncio.Event(), seconds * SECOND)
            for task in beside:
                task.cancel()
            told.ended = clock.now()
            for dataset in flood.store.datasets():
                told.claims[dataset] = flood.store.claims(dataset)
                told.parts[dataset] = stretches(told.claims[dataset])
                told.stored[dataset] = flood.store.read(dataset, 0, 1 << 62)
            return told

    return run(main())


def whole(told, dataset, *, since, source=None):
    """Nothing, where what is held is there to the last row, and that is everything from some second to near the end."""
    ((start, end),) = held(told.claims[dataset])
    assert start <= START + since * SECOND
    assert end >= told.ended - 10 * SECOND
    agrees(told, dataset, source)


def agrees(told, dataset, source=None):
    """Nothing, where every row of the truth that lies in what is held is there."""
    shapes = {shape.venue: shape for shape in (*SHAPES.values(), *EXTRA)}
    tape = Tape(shapes[dataset.venue], (source or Simulated(5)).at(dataset.venue))
    have = Counter((row.venue_time, row.trade_id) for row in told.stored[dataset])
    for start, end in held(told.claims[dataset]):
        was = Counter((row.venue_time, row.trade_id) for row in tape.trades(dataset.market, start, end))
        assert not was - have


# ---------------------------------------------------------------- polling


class Quickened:
    """A market of which a few orders in many are shown until a moment, and all after it."""

    recorded = False

    def __init__(self, at, share, inner=None, venue="polled"):
        self._at, self._share, self.venue = at, share, venue
        self._inner = inner or Simulated(5, venue, (Listing("BTC", "USDT", 6_000_000, 2, 40_000, 5, 24_000, (1,)),))

    def at(self, venue):
        return Quickened(self._at, self._share, self._inner.at(venue), venue)

    def markets(self):
        return self._inner.markets()

    def trades(self, market, kind, *, now, start=None, end=None, limit=1_000, newest=False):
        if newest and start is None:
            start = now - 10 * MINUTE
        rows = self._inner.trades(market, kind, now=now, start=start, end=end, limit=1 << 40)
        rows = [row for row in rows if row.venue_time >= self._at or int(row.trade_id) % self._share == 0]
        return rows[-limit:] if newest else rows[:limit]

    def bar(self, *_, **__):
        return None


def test_a_market_without_a_feed_that_speeds_up_is_polled_faster_and_loses_nothing():
    """A trade or so a second, then nearly seven: its hundred newest rows, that lasted for more than a minute, last for fifteen seconds."""
    source = Quickened(START + 120 * SECOND, 5)
    told = collected(("trade", "leisurely:BTC/USDT"), seconds=300, source=source, history="30s")
    dataset = Dataset(Trade, "leisurely", "BTC/USDT", ("raw",))
    whole(told, dataset, since=-29, source=source)
    assert len(told.stored[dataset]) > 1_000
    slow, fast = ([at for at in told.times("/trades") if low < at < low + 60] for low in (50, 200))
    assert len(slow) < 12
    assert 20 <= len(fast) < 60


def test_polls_do_not_take_more_than_the_budget_leaves():
    """Four questions a minute, of which refills have a fifth: what comes faster than that is lost, and named."""
    source = Quickened(START, 10)
    told = collected(("trade", "leisurely:BTC/USDT"), seconds=600, source=source, history="1m", limits={"requests": 4})
    assert len([at for at in told.times("/trades") if 60 < at <= 540]) <= 4 * 8
    dataset = Dataset(Trade, "leisurely", "BTC/USDT", ("raw",))
    agrees(told, dataset, source)
    assert told.spans(dataset, State.LOST)
    named(told, dataset)


def named(told, dataset, until=30):
    """Nothing, where every moment between the first and the last that is known has a state."""
    parts = sorted(told.parts[dataset], key=lambda part: part.start)
    assert all(one.end == other.start for one, other in pairwise(parts))
    assert parts[-1].end >= told.ended - until * SECOND


# ---------------------------------------------------------------- deadlines


TRADES = Dataset(Trade, "scarce", "BTC/USDT", ("raw",))
CANDLES = Dataset(Candle, "scarce", "BTC/USDT", ("1m", "venue"))
THREE_SECONDS = Simulated(5, "simulated", (Listing("BTC", "USDT", 6_000_000, 2, 40_000, 5, 1_200, (1,)),))
"""A trade in three seconds, so that sixty of them are three minutes."""

BOTH_ORDERS = pytest.mark.parametrize("first", ["trade", "candle"])


def scarce(first, venue="scarce", **options):
    """A run over trades that perish in three minutes and candles that do in thirty days, of one budget."""
    wants = [("trade", f"{venue}:BTC/USDT"), ({"model": "candle", "interval": "1m"}, f"{venue}:BTC/USDT")]
    if first == "candle":
        wants.reverse()
    return collected(*wants, source=THREE_SECONDS, **{"history": "10m", **options})


@BOTH_ORDERS
def test_of_two_holes_and_one_request_the_one_that_perishes_is_saved(first):
    """Must show: three minutes against thirty days, and budget for one; the other hole is filled when there is budget again."""
    told = scarce(first, seconds=500, limits={"requests": 8}, spent=7)
    assert [path for at, path in told.asked if at < 500] == ["/trades"]
    ((start, end),) = told.spans(TRADES, State.HELD)
    assert start < -140
    assert end > -20
    assert told.spans(TRADES, State.LOST)[0] == (-600, start)
    assert told.spans(CANDLES, State.PENDING)
    agrees(told, TRADES, THREE_SECONDS)

    later = scarce(first, seconds=660, limits={"requests": 8}, spent=7)
    assert min(later.times("/candles")) >= 600
    ((start, end),) = later.spans(CANDLES, State.HELD)
    assert start < -530
    assert end >= 530


@BOTH_ORDERS
def test_what_the_budget_never_suffices_for_is_lost_and_named(first):
    """One request in ten minutes for trades of which each answer shows three: the rest is lost, and coverage says where."""
    told = scarce(first, seconds=45 * 60, limits={"requests": 1})
    assert len(told.asked) <= 6
    assert len(told.times("/trades")) >= 4
    lost = told.spans(TRADES, State.LOST)
    assert len(lost) >= 2
    assert sum(end - start for start, end in lost) > 600
    agrees(told, TRADES, THREE_SECONDS)
    assert told.spans(CANDLES, State.PENDING)  # they can wait: thirty days
    parts = sorted(told.parts[TRADES], key=lambda part: part.start)
    assert all(one.end == other.start for one, other in pairwise(parts))


@BOTH_ORDERS
def test_what_perishes_finds_room_in_a_long_window_that_much_else_would_fill(first):
    """Twenty requests in ten minutes, and a month of candles takes more than eighty: trades, new every three minutes, are all saved."""
    told = scarce(first, seconds=40 * 60, history="29d", limits={"requests": 20})
    ((start, end),) = told.spans(TRADES, State.HELD)
    assert start < -140
    assert end > 40 * 60 - 120
    agrees(told, TRADES, THREE_SECONDS)
    assert len(told.times("/candles")) >= 4 * 9  # and candles have what is left


def test_a_venue_that_told_us_to_wait_is_named_in_the_report():
    told = collected(("trade", "steady:BTC/USDT"), seconds=60, faults=("429=3600#1:/trades",))
    (pause,) = told.report.pauses
    assert (pause.venue, pause.budget, pause.held) == ("steady", "requests", ("/trades",))
    assert START + 3600 * SECOND <= pause.until < START + 3660 * SECOND
    told = r"steady: not to be asked before 2026-03-04T06:0[67]:\d\dZ \(its limit of requests\); waiting: /trades"
    assert re.fullmatch(told, str(pause))


def test_the_last_pass_of_a_run_leaves_room_for_nobody():
    """Trades of the last sixty rows keep candles waiting for their sake; once the run has ended there is nothing to wait for."""
    markets = ("BTC/IRT", "USDT/IRT")
    candles = [({"model": "candle", "interval": "1m"}, f"nobitex:{market}") for market in markets]
    told = collected(*candles, *(("trade", f"nobitex:{market}") for market in markets), seconds=120, history="15m")
    for market in markets:
        claims = told.claims[Dataset(Candle, "nobitex", market, ("1m", "venue"))]
        assert held(claims).bounds[1] == told.ended // MINUTE * MINUTE


def test_a_pass_is_planned_in_a_thread_and_budgets_are_looked_at_in_the_loop(monkeypatch):
    """What others spend meanwhile is written into the same lists."""
    threads, left, plan = {}, Limiter.left, Refiller._plan

    def noted(name, made):
        def call(*told, **more):
            threads[name] = threading.get_ident()
            return made(*told, **more)

        return call

    monkeypatch.setattr(Limiter, "left", noted("left", left))
    monkeypatch.setattr(Refiller, "_plan", noted("plan", plan))

    async def main():
        clock = FakeClock(START)
        desk = FaultyDesk(desk_of("contiguous"), Simulated(5), Clock(1, START, monotonic=clock.now), Faults((), 1))
        config = {"store": "memory://"}
        async with Flood(config, transport=FakeTransport(answers_of(desk, clock), clock), clock=clock) as flood:
            blamed = []
            refiller = Refiller(flood, flood.store, blamed.append)
            (ask,) = await flood.asks([Query(Trade, "contiguous:BTC/USDT")])
            refiller.add(ask, START - MINUTE)
            assert await refiller.one_pass("contiguous")
            assert not blamed

    asyncio.run(main())
    assert threads["left"] == threading.get_ident() != threads["plan"]


@pytest.mark.chaos
@BOTH_ORDERS
def test_a_long_pass_does_not_hold_up_what_perishes_meanwhile(first):
    """A month of candles takes an hour of this budget; trades must be had every three minutes, and are."""
    told = scarce(first, "steady", seconds=20 * 60, history="29d")
    sure = held(told.claims[TRADES._replace(venue="steady")])
    assert len(sure) == 1
    assert sure.bounds[0] < START - 100 * SECOND
    assert sure.bounds[1] > told.ended - 120 * SECOND
    assert len(told.times("/candles")) >= 10
    days = sum(end - start for start, end in told.spans(CANDLES._replace(venue="steady"), State.HELD)) * SECOND / DAY
    assert days > 3


# ---------------------------------------------------------------- what becomes of a stretch


@pytest.mark.parametrize(("venue", "market"), [("offsets", "BTC/USDT"), ("nobitex", "USDT/IRT")])
def test_what_only_the_transport_proves_is_looked_at_once_more_and_bracketed(venue, market):
    """D by its offsets, until an answer has rows on both sides: then B; what was lost at first is asked for once."""
    told = collected(("trade", f"{venue}:{market}"), seconds=600)
    dataset = Dataset(Trade, venue, market, ("raw",))
    (sure,) = told.spans(dataset, State.HELD, grade=Grade.B)
    assert sure[0] < -30
    assert sure[1] > 530
    assert all(part.start > START + 530 * SECOND for part in told.parts[dataset] if part.grade is Grade.D)
    assert told.spans(dataset, State.LOST) == [(-120, sure[0])]
    assert len(told.asked) < 40  # trap 8: not again and again


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("venue", "most"),
    [("contiguous", 15), ("jumping", 180), ("snowflake", 65), ("last60", 8), ("offsets", 160), ("multiplicity", 65)],
)
def test_claims_stay_few_for_an_hour_and_so_do_questions(venue, most):
    told = collected(("trade", f"{venue}:BTC/USDT"), seconds=3_600)
    (dataset,) = told.claims
    assert told.most < 2 * MANY
    assert len(compacted(told.claims[dataset])) < 20
    assert len(told.asked) <= most + 10
    assert sum(end - start for start, end in told.spans(dataset, State.HELD)) > 3_570


def test_a_run_goes_on_where_the_one_before_it_left_off():
    """Five minutes in which nobody ran are filled, though only ten seconds of history are wanted of the second run."""
    told = collected(("trade", "contiguous:BTC/USDT"), seconds=60, history="10s", pause=300, faults=("withhold=0.1",))
    (dataset,) = told.claims
    whole(told, dataset, since=-5)
    assert told.ended >= START + 420 * SECOND


def test_ids_that_jump_are_believed_where_they_were_asked_for_twice_and_join():
    """Three questions a minute, each for what is new and what it confirms: one claim, however long the run."""
    told = collected(("trade", "jumping:BTC/USDT"), seconds=600)
    (dataset,) = told.claims
    assert told.spans(dataset, State.HELD, grade=Grade.B) == [(-120, 535)]
    assert len(compacted(told.claims[dataset])) < 10
    assert len(told.asked) <= 35
    agrees(told, dataset)


def test_an_edge_that_was_asked_for_in_vain_does_not_wait_for_its_next_turn():
    """Nothing but its answers tells of this market's holes: what a feed withholds is healed within the minute, though one answer fails."""
    failed = []

    async def fail_once(runner, desk, clock):
        await clock.sleep(30 * SECOND)
        answer = desk.answer

        def broken(request, now):
            failed.append((now - START) / SECOND)
            desk.answer = answer
            return HttpAnswer(200, {"Content-Type": "application/json"}, b'[{"id": true}]')

        desk.answer = broken

    told = collected(("trade", "jumping:BTC/USDT"), seconds=200, change=fail_once)
    (at,) = failed
    after = min(asked for asked in told.times("/trades") if asked > at)
    assert after - at <= 10


@pytest.mark.parametrize("venue", ["jumping", "snowflake"])
def test_what_was_weak_at_the_end_of_a_run_is_looked_at_by_the_next(venue):
    told = collected(("trade", f"{venue}:BTC/USDT"), seconds=130, history="10s", pause=60)
    (dataset,) = told.claims
    (start, end), *_ = told.spans(dataset, State.HELD, grade=Grade.B)
    assert start <= -10
    assert end > 200


def test_what_a_venue_has_no_history_of_is_lost():
    """Merged trades of OKX: what the feed did not bring nobody has."""
    told = collected(({"model": "trade", "kind": "merged"}, "okx:BTC/USDT"), seconds=120, faults=("withhold=0.05",))
    (dataset,) = told.claims
    assert told.spans(dataset, State.LOST)
    assert told.spans(dataset, State.HELD)
    assert not told.asked


@pytest.mark.parametrize("interval", ["1m", "1d"])
def test_a_candle_that_still_runs_is_no_hole(interval):
    """Nor is the part of it that lies before the run began: it is the right edge."""
    told = collected(({"model": "candle", "interval": interval}, "binance:BTC/USDT"), seconds=20, history="3d")
    ((_, parts),) = told.parts.items()
    assert [part.state for part in parts] == [State.HELD, State.OPEN]


def test_what_lies_past_the_horizon_is_lost_and_not_asked_for():
    told = collected(({"model": "candle", "interval": "1m"}, "scarce:BTC/USDT"), seconds=60, history="31d", source=THREE_SECONDS,
                     limits={"requests": 200})  # fmt: skip
    parts = sorted(told.parts[CANDLES], key=lambda part: part.start)
    assert parts[0].state is State.LOST
    assert abs(parts[0].end - (START - 30 * DAY)) < 5 * MINUTE


@pytest.mark.parametrize("fault", ["late=20%5", "lagging=8%30"])
def test_a_row_that_came_late_disputes_and_is_healed(fault):
    """What is held in the end is there, whatever came when."""
    told = collected(("trade", "binance:BTC/USDT"), seconds=300, faults=(fault, "withhold=0.05"))
    dataset = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
    source = Simulated(5).at("binance")
    have = {row.trade_id for row in told.stored[dataset]}
    sure = held(told.claims[dataset])
    assert not told.spans(dataset, State.DISPUTED)
    for start, end in sure:
        rows = source.trades("BTC/USDT", "raw", now=end, start=start, end=end, limit=1 << 40)
        assert not [row for row in rows if row.trade_id not in have]
    assert sum(end - start for start, end in sure) > 400 * SECOND


@pytest.mark.parametrize(
    ("venue", "market", "most"),
    [
        ("binance", "BTC/USDT", 21),
        ("bitget", "BTC/USDT", 21),
        ("nobitex", "BTC/IRT", 42),
        ("contiguous", "BTC/USDT", 34),
    ],
)
def test_no_candle_of_a_replica_that_lags_is_believed_before_it_is_final(venue, market, most):
    """Three of ten answers are thirty seconds behind, and the feed is mute: as many questions as if they were not."""
    told = collected(
        ({"model": "candle", "interval": "1m"}, f"{venue}:{market}"), seconds=1_200, history="10m", faults=("lagging=30%30", "mute")
    )  # fmt: skip
    (dataset,) = told.claims
    source = Simulated(5).at(venue)
    real = source.candles(market, "1m", now=1 << 62, start=START - 20 * MINUTE, end=told.ended, limit=1 << 40)
    stored = {candle.open_time: candle for candle in told.stored[dataset]}
    sure = [part for part in told.parts[dataset] if part.state is State.HELD and good_enough(part.grade, Grade.B)]
    for candle in real:
        if any(part.start <= candle.open_time < part.end for part in sure):
            assert figures(stored.get(candle.open_time)) == figures(candle)
    assert sure[-1].end > told.ended - 3 * MINUTE
    assert len(told.asked) <= most


def figures(candle):
    return candle and (candle.open, candle.high, candle.low, candle.close, candle.volume)


# ---------------------------------------------------------------- lists as witnesses


def ticker(at, last=None, volume=None):
    return Ticker("v", "A/B", at, last_trade_id=last, volume=None if volume is None else Decimal(volume))


def test_a_ticker_testifies_of_what_came_after_a_moment_only_if_an_older_one_is_known():
    one, other = ticker(10, "7"), ticker(90, "7")
    assert witnessed([one], other, 20) is False
    assert witnessed([one], ticker(90, "8"), 20) is True
    assert witnessed([one], other, 5) is None  # what traded between 5 and 10 is not known
    assert witnessed([one], ticker(15, "7"), 20) is None  # an old ticker served again
    assert witnessed([ticker(10, "6"), ticker(30, "7")], other, 40) is False
    assert witnessed([ticker(10, volume=5)], ticker(90, volume=4), 20) is None
    assert witnessed([], other, 20) is None


@pytest.mark.chaos
def test_one_bulk_ticker_answers_for_all_silent_markets():
    """Eight markets that hardly trade: their silences are asked about together, and none is taken for mute."""
    quiet = tuple(
        Listing(base, "USDT", 6_000_000, 2, 40_000, 5, 4, (1,))
        for base in ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG", "HHH")
    )
    source = Simulated(5, "simulated", quiet)
    wants = [("trade", f"contiguous:{listing.market}") for listing in quiet]
    told = collected(*wants, seconds=3_600, source=source)
    assert len(told.times("/tickers")) <= 62
    asked = [at for at in told.times("/trades") if at > 130]
    assert len(asked) < 1_200  # without the tickers they are more than thirteen hundred
    assert {state for states in told.states[-60:] for state in states.values()} <= {
        "fresh",
        "quiet",
        "suspicious",
        "starting",
    }
    for dataset in told.claims:
        agrees(told, dataset, source)


# ---------------------------------------------------------------- markets that are not there


def test_a_market_that_the_venue_does_not_list_and_refuses_is_a_mistake_that_is_told_at_once():
    says = r"collect\[0\]: steady: no market 'BTC/USTD'; did you mean steady:BTC/USDT\?"
    with pytest.raises(UnknownMarket, match=says):
        collected(("trade", "steady:BTC/USTD"), seconds=600, limits={"requests": 100})


def test_a_market_that_the_venue_does_not_know_is_left_alone_longer_and_longer():
    """Nothing says that it will ever be there: asked for at every pass, it would cost as much as all others together.

    Its venue gives no list, which would have told that it is a mistake.
    """
    told = collected(("trade", "steady:BTC/XYZ"), seconds=600, limits={"requests": 100}, faults=("html=503:/markets",))
    times = told.times("/trades")
    assert 3 <= len(times) <= 10
    assert times[-1] > 100
