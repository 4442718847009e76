"""The session: what is held is not asked, what is asked is stored, and coverage comes with every answer."""

import asyncio
import inspect
import os
import signal
from contextlib import suppress
from decimal import Decimal

import pytest

from tradeflood import plugins
from tradeflood.coverage import Claim, Coverage, Dataset, Failure, Frame, Grade, State, Stretch
from tradeflood.errors import Incomplete, TransportError, UnknownMarket, UsageError, VenueError
from tradeflood.models import Candle, Market, Ticker, Trade
from tradeflood.models.time import HOUR, MINUTE, SECOND, iso, parse_time
from tradeflood.planner import Query
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.faults import Faults, FaultyDesk
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.execute import Patience
from tradeflood.runner.flood import Flood, HeldRows, demand, joined, run_sync
from tradeflood.spans import Spans
from tradeflood.testing import FakeClock, FakeTransport, answers_of, reply

NOW = parse_time("2026-03-04T05:06:07")
START = parse_time("2026-03-04T04:00:00")
BTC = "binance:BTC/USDT"
KLINES, OLD = "/api/v3/klines", "/api/v3/historicalTrades"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugins.load()


class Session:
    """A simulated Binance behind a fake transport, and a session with it. `rules` may answer first."""

    def __init__(self, store="memory://", faults=(), **config):
        self.clock = FakeClock(NOW)
        self.desk = FaultyDesk(
            desk_of("binance"), Simulated(3), Clock(1, NOW, monotonic=self.clock.now), Faults(faults, 1)
        )
        good = answers_of(self.desk, self.clock)
        self.rules = []

        async def answer(call):
            for rule in self.rules:
                told = rule(call)
                if told is not None:
                    return await told if inspect.isawaitable(told) else told
            return await good(call)

        self.transport = FakeTransport(answer, self.clock)
        settings = {"store": store, **config} if store else config
        self.flood = Flood(settings, transport=self.transport, clock=self.clock, patience=Patience(attempts=1))

    def __call__(self, work):
        async def main():
            async with self.flood:
                return await work(self.flood)

        return asyncio.run(main())

    def collect(self, model, *markets, first=0, last=60, **more):
        span = {"start": iso(START + first * MINUTE), "end": iso(START + last * MINUTE)}
        return self(lambda flood: flood.collect(model, *markets, **span, **more))


@pytest.fixture
def session():
    """A session whose memory store lasts for the test, however often it is entered."""
    made = Session()
    store = made.flood.open_store()
    store_close, store.close = store.close, lambda: None
    made.flood.close_store = lambda: None
    yield made
    store_close()


def test_rows_come_in_order_with_their_coverage(session):
    frame = session.collect(Candle, BTC, interval="1m")
    assert [row.open_time for row in frame] == list(range(START, START + HOUR, MINUTE))
    truth = Simulated(3).at("binance").candles("BTC/USDT", "1m", now=NOW, start=START, end=START + HOUR)
    assert [(c.open, c.high, c.low, c.close, c.volume) for c in frame] == [
        (c.open, c.high, c.low, c.close, c.volume) for c in truth
    ]
    ((dataset, parts),) = frame.coverage.parts.items()
    assert dataset == Dataset(Candle, "binance", "BTC/USDT", ("1m", "venue"))
    assert parts == [Stretch(START, START + HOUR, State.HELD, Grade.A, "closed candles on their grid")]


def test_what_the_store_holds_is_not_asked_again(session):
    first = session.collect(Trade, BTC, last=10)
    asked = len(session.transport.calls)
    assert list(session.collect(Trade, BTC, last=10)) == list(first)
    assert list(session.collect(Trade, BTC, first=2, last=5)) == [
        row for row in first if START + 2 * MINUTE <= row.venue_time < START + 5 * MINUTE
    ]
    assert len(session.transport.calls) == asked
    wider = session.collect(Trade, BTC, last=12)
    new = session.transport.calls[asked:]
    ids = [int(dict(call.request.params)["fromId"]) for call in new if call.request.path == OLD]
    assert min(ids) > int(first[-1].trade_id)
    assert [part.state for part in next(iter(wider.coverage.parts.values()))] == [State.HELD]
    truth = (
        Simulated(3).at("binance").trades("BTC/USDT", "raw", now=NOW, start=START, end=START + 12 * MINUTE, limit=10**6)
    )
    assert [row.trade_id for row in wider] == [row.trade_id for row in truth]


def test_without_a_store_nothing_is_kept():
    session = Session(store=None)
    assert len(session.collect(Candle, BTC, interval="1m")) == 60
    assert len(session.collect(Candle, BTC, interval="1m")) == 60
    assert session.transport.count[KLINES] == 2
    assert session.flood.store is None


def test_offline_asks_no_venue_and_says_what_is_unknown(session):
    session.collect(Candle, BTC, interval="1m", last=30)
    asked = len(session.transport.calls)
    frame = session.collect(Candle, BTC, interval="1m", offline=True)
    assert len(frame) == 30
    (parts,) = frame.coverage.parts.values()
    assert [(part.start, part.end) for part in parts] == [(START, START + 30 * MINUTE)]
    assert len(session.transport.calls) == asked
    with pytest.raises(Incomplete, match="is unknown"):
        session.collect(Candle, BTC, interval="1m", offline=True, strict=True)


def test_strict_refuses_the_running_candle_and_takes_what_is_whole(session):
    assert len(session.collect(Candle, BTC, interval="1m", strict=True)) == 60
    with pytest.raises(Incomplete, match=r"binance:BTC/USDT candle 1m venue: .* is open"):
        session.collect(Candle, BTC, interval="1m", last=67, strict=True)


def test_strict_takes_a_range_that_begins_between_two_candles(session):
    span = {"start": iso(START + 30 * SECOND), "end": iso(START + 10 * MINUTE + 30 * SECOND)}
    frame = session(lambda flood: flood.collect(Candle, BTC, interval="1m", strict=True, **span))
    assert len(frame) == 10
    session.transport.calls.clear()
    session(lambda flood: flood.collect(Candle, BTC, interval="1m", strict=True, **span))
    assert session.transport.calls == []


def test_a_failed_page_is_in_the_frame_and_asked_again_later(session):
    """Of 1,500 minutes two pages; the second fails: a thousand rows, one failure, and next time one request."""
    pages = []

    def rule(call):
        if call.request.path == KLINES:
            pages.append(call)
            if len(pages) == 2:
                return TransportError("the line was cut")
        return None

    session.rules.append(rule)
    begin = {"start": iso(START - 1_500 * MINUTE), "end": iso(START)}
    frame = session(lambda flood: flood.collect(Candle, BTC, interval="1m", **begin))
    assert len(frame) == 1_000
    (failure,) = frame.failures
    assert (failure.start, failure.end) == (START - 500 * MINUTE, START)
    with pytest.raises(Incomplete, match=r"the line was cut \(and 1 more\)"):
        demand(frame, [Query(Candle, BTC, interval="1m", **begin)])
    frame = session(lambda flood: flood.collect(Candle, BTC, interval="1m", strict=True, **begin))
    assert len(frame) == 1_500
    assert len(pages) == 3


def test_where_nothing_could_be_had_the_error_itself_is_raised(session):
    session.rules.append(lambda call: TransportError("no route"))
    with pytest.raises(TransportError, match="no route"):
        session.collect(Candle, BTC, interval="1m")


def test_an_unknown_market_is_the_venues_word(session):
    with pytest.raises(UnknownMarket):
        session.collect(Candle, "binance:NO/WHERE", interval="1m")


def test_several_markets_are_one_frame_and_one_plan(session):
    frame = session.collect(Candle, BTC, "binance:ETH/USDT", BTC, interval="1m", last=5)
    assert [(row.market, row.open_time) for row in frame] == [
        (market, START + minute * MINUTE) for market in ("BTC/USDT", "ETH/USDT") for minute in range(5)
    ]
    assert session.transport.count[KLINES] == 2
    assert len(frame.coverage.parts) == 2


def test_now_asked_twice_a_second_apart_asks_for_the_tail_only(session):
    """`end` left out is now: the second question begins where the first one was settled."""
    session(lambda flood: flood.collect(Candle, BTC, interval="1m", start=iso(START)))
    asyncio.run(session.clock.advance(SECOND))
    session.transport.calls.clear()
    session(lambda flood: flood.collect(Candle, BTC, interval="1m", start=iso(START)))
    ((_, limits),) = [(call, dict(call.request.params)) for call in session.transport.calls]
    assert limits["startTime"] * 1_000_000 >= NOW // MINUTE * MINUTE - MINUTE


def test_lists_are_stored_and_answered_offline(session):
    markets = session(lambda flood: flood.collect(Market, "binance:*"))
    tickers = session(lambda flood: flood.collect(Ticker, BTC))
    assert {row.market for row in markets} >= {"BTC/USDT", "ETH/USDT"}
    assert len(tickers) == 1
    offline = session(lambda flood: flood.collect(Market, "binance:*", offline=True))
    assert [row.market for row in offline] == [row.market for row in markets]
    assert offline.coverage.parts == {}


def test_a_market_that_a_list_names_no_more_is_stored_as_closed_until_one_names_it_again():
    """A list that fails says nothing of anybody."""
    session = Session()
    listed = session.desk.inner.listed

    async def work(flood):
        told = []
        gone = listed["ETHUSDT"]
        for change in (lambda: None, lambda: listed.pop("ETHUSDT"), lambda: listed.update(ETHUSDT=gone), "fails"):
            if change == "fails":
                session.rules.append(lambda call: reply(b"", status=500, at=NOW))
                listed.pop("ETHUSDT")
            else:
                change()
            with suppress(VenueError):
                await flood.collect(Market, "binance:*")
            rows = await flood.collect(Market, "binance:*", offline=True)
            told.append({row.market: row.status for row in rows})
        return told

    everything = {f"{base}/USDT": "trading" for base in ("BTC", "DOGE", "ETH", "SOL")}
    assert session(work) == [everything, everything | {"ETH/USDT": "closed"}, everything, everything]


def test_a_pattern_is_resolved_into_markets_that_trade(session):
    asks = session(lambda flood: flood.asks([Query(Trade, "binance:*/USDT"), Query(Trade, BTC)]))
    assert {ask.market for ask in asks} == {
        row.market for row in Simulated(3).at("binance").markets() if row.quote == "USDT"
    }
    assert len({ask.dataset for ask in asks}) == len(asks)
    assert {ask.symbol for ask in asks} >= {"BTCUSDT"}
    with pytest.raises(UsageError, match="no market matches"):
        session(lambda flood: flood.asks([Query(Trade, "binance:*/NONE")]))


def test_a_run_that_is_cancelled_leaves_nothing_half_counted(session):
    """Cancelled while a page is under way: nothing is claimed, and the next run has it all."""

    async def never(_call):
        await asyncio.sleep(3_600)

    session.rules.append(lambda call: never(call) if call.request.path == OLD else None)

    async def main(flood):
        task = asyncio.create_task(flood.collect(Trade, BTC, start=iso(START), end=iso(START + MINUTE)))
        for _ in range(50):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    session(main)
    assert session.transport.count[OLD] > 0
    assert session.flood.store.claims(Dataset(Trade, "binance", "BTC/USDT", ("raw",))) == []
    session.rules.clear()
    assert len(session.collect(Trade, BTC, last=1, strict=True)) > 0


def test_what_cannot_be_asked_is_said_before_anything_is_asked(session):
    for work, says in (
        (lambda flood: flood.collect(Trade), "say which market"),
        (lambda flood: flood.collect(Trade, "nowhere:BTC/USDT"), "no venue 'nowhere'"),
        (lambda flood: flood.collect(Candle, BTC, interval="7m"), "no interval '7m'"),
        (lambda flood: flood.collect(Trade, "binance:BTCUSDT"), "no market 'BTCUSDT'"),
    ):
        with pytest.raises(UsageError, match=says):
            session(work)
    with pytest.raises(UsageError, match="say which market"):
        session.flood.stream(Trade)
    assert session.transport.calls == []


# ---------------------------------------------------------------- parts of it


def frame_of(market, *stretches, rows=(), failures=()):
    dataset = Dataset(Trade, "binance", market, ("raw",))
    parts = [Stretch(start, end, state, grade, "e") for start, end, state, grade in stretches]
    return Frame(Trade, list(rows), Coverage({dataset: parts}), failures)


def trades(first, last):
    return Query(Trade, BTC, start=iso(first), end=iso(last))


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([(0, 100, State.HELD, Grade.A)], None),
        ([(0, 60, State.HELD, Grade.A), (60, 100, State.HELD, Grade.B)], None),
        ([(0, 60, State.HELD, Grade.A), (60, 100, State.HELD, Grade.D)], "is held D"),
        ([(0, 60, State.HELD, Grade.A), (60, 100, State.OPEN, None)], "is open"),
        ([(0, 60, State.HELD, Grade.A), (60, 100, State.LOST, None)], "is lost"),
        ([(0, 100, State.DISPUTED, None)], "is disputed"),
        ([(0, 60, State.HELD, Grade.A)], "is unknown"),
        ([], "is unknown"),
    ],
)
def test_strict_names_the_first_place_that_is_not_complete(parts, says):
    frame = frame_of("BTC/USDT", *parts)
    if says is None:
        demand(frame, [trades(0, 100)])
        return
    with pytest.raises(Incomplete, match=says):
        demand(frame, [trades(0, 100)])


def test_strict_refuses_an_answer_about_nothing():
    with pytest.raises(Incomplete, match="nothing is known of binance:BTC/USDT"):
        demand(Frame(Trade, []), [trades(0, 100)])
    one = frame_of("BTC/USDT", (0, 100, State.HELD, Grade.A))
    eth = Query(Trade, "binance:ETH/USDT", start=iso(0), end=iso(100))
    with pytest.raises(Incomplete, match="nothing is known of binance:ETH/USDT"):
        demand(one, [trades(0, 100), eth])
    failure = Failure(None, 0, 100, TransportError("cut"))
    with pytest.raises(Incomplete, match="cut"):
        demand(Frame(Trade, [], failures=[failure]), [trades(0, 100)])


def test_frames_are_joined_with_each_dataset_once():
    row = Trade("binance", "BTC/USDT", "raw", "1", Decimal(1), Decimal(1), None, 5)
    one, other = (
        frame_of("BTC/USDT", (0, 9, State.HELD, Grade.A), rows=[row]),
        frame_of("ETH/USDT", (0, 9, State.OPEN, None)),
    )
    both = joined(Trade, [one, other, one])
    assert list(both) == [row]
    assert len(both.coverage.parts) == 2
    assert joined(Trade, [one]) is one


def test_held_rows_are_those_of_the_spans(session):
    store = session.flood.store
    dataset = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
    rows = [Trade("binance", "BTC/USDT", "raw", str(at), Decimal(1), Decimal(1), None, at) for at in range(10)]
    claim = Claim(dataset, 0, 10, State.HELD, Grade.A, "ids")
    store.write({Trade: rows}, [claim])
    assert HeldRows(store).claims(dataset) == [claim]
    assert [row.venue_time for row in HeldRows(store).rows(dataset, Spans.of((1, 3), (8, 12)))] == [1, 2, 8, 9]


def test_a_coroutine_is_run_with_and_without_a_loop_around():
    async def work():
        return 5

    async def inside():
        return run_sync(work)

    async def wrong():
        raise UsageError("no")

    async def around():
        return run_sync(wrong)

    assert run_sync(work) == 5
    assert asyncio.run(inside()) == 5
    for tried in (lambda: asyncio.run(around()), lambda: run_sync(wrong)):
        with pytest.raises(UsageError, match="no") as error:
            tried()
        assert error.value.__context__ is None  # it does not follow from there being no loop
        assert error.traceback[-1].name == "wrong"  # where it went wrong can be seen


def test_a_session_that_cannot_end_its_streams_releases_its_store_all_the_same():
    async def main():
        flood = Flood({"store": "memory://"})

        async def closing():
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            async with flood:
                flood.stream(Trade, BTC).close = closing
        assert flood.store is None

    asyncio.run(main())


def test_an_interrupted_cell_of_a_notebook_leaves_no_work_behind():
    """The interrupt comes to the thread with the notebook's loop, the work is in another."""
    told = []

    async def work():
        await asyncio.sleep(0.2)  # as long as a thread is being made, Python may lose an interrupt in a finalizer
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)  # a session closes
            told.append("closed")

    async def cell():
        with pytest.raises(KeyboardInterrupt):
            run_sync(work)
        assert told == ["closed"]

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs tests side by side ignores it
    loop = asyncio.new_event_loop()  # `asyncio.run` would take the signal for itself
    try:
        loop.run_until_complete(cell())
    finally:
        loop.close()
        signal.signal(signal.SIGINT, before)
