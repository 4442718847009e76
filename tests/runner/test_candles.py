"""Candles from trades beside a store: whatever comes in whatever order, they are what the trades say, and held as these are."""

import asyncio
from decimal import Decimal

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tradeflood import plugins
from tradeflood.coverage import Claim, Dataset, Grade, State, held, stretches
from tradeflood.coverage.audit import whole
from tradeflood.coverage.candles import candles_of, place_of
from tradeflood.models import Candle, Side, Trade
from tradeflood.models.time import HOUR, MINUTE, SECOND, parse_time
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated
from tradeflood.runner import candles as module
from tradeflood.runner.candles import Maker, basis_of
from tradeflood.runner.flood import Flood
from tradeflood.spans import Spans
from tradeflood.store.base import order_of
from tradeflood.store.known import known
from tradeflood.store.memory import MemoryStore

START = parse_time("2026-03-04T05:00:00")
END = 1 << 62
TRADES = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
CANDLES = Dataset(Candle, "binance", "BTC/USDT", ("1m", "trades"))


def trade(number, at, price=1, size=1, name=None):
    return Trade("binance", "BTC/USDT", "raw", name or str(number), Decimal(price), Decimal(size), Side.BUY, START + at)


def claim(start, end, as_of=0, *, state=State.HELD, grade=Grade.A, **more):
    return Claim(TRADES, START + start, START + end, state, grade, "as told", as_of=START + (as_of or end), **more)


def dispute(start, end, refutes):
    return claim(start, end, refutes, state=State.DISPUTED, grade=None, refutes=START + refutes)


@pytest.fixture
def store():
    return known(MemoryStore())


def truth(store, text="1m"):
    """The candles of what is stored and held, as they must be."""
    sure = whole(text, held(store.claims(TRADES)))
    made = candles_of(store.read(TRADES, 0, END), text)
    return [evolve(row, closed=True) for row in made if sure.touches(row.open_time, row.open_time + 1)], sure


def have(store, dataset=CANDLES):
    sure = held(store.claims(dataset))
    rows = [row for row in store.read(dataset, 0, END) if sure.touches(row.open_time, row.open_time + 1)]
    return rows, sure


def told(store, dataset=CANDLES):
    return [
        ((part.start - START) // SECOND, (part.end - START) // SECOND, str(part.state), part.grade, part.evidence)
        for part in stretches(store.claims(dataset))
    ]


# ---------------------------------------------------------------- one after the other


def test_a_candle_is_made_when_all_its_trades_are_held_and_a_quiet_one_is_told_from_an_unknown_one(store):
    maker = Maker(store, [CANDLES])
    store.write({Trade: [trade(1, 10 * SECOND, 5), trade(2, 50 * SECOND, 7)]})
    assert maker.bring_up_to_date() == 0
    store.write({Trade: [trade(3, 190 * SECOND, 6)]}, [claim(0, 190 * SECOND)])
    assert maker.bring_up_to_date() == 1
    assert have(store) == truth(store)
    (row,) = store.read(CANDLES, 0, END)
    assert (row.open, row.close, row.trades, row.closed) == (5, 7, 2, True)
    assert told(store) == [(0, 60, "held", "A", "made from trades"), (60, 180, "held", "A", "nothing traded")]
    assert [part.count for part in store.claims(CANDLES)] == [1, 0]


def test_trades_that_come_in_order_are_not_read_again(store, monkeypatch):
    maker = Maker(store, [CANDLES])
    read = []
    inner = store.inner.read
    monkeypatch.setattr(store.inner, "read", lambda *what: read.append(what) or inner(*what))
    for minute in range(5):
        rows = [trade(10 * minute + n, minute * MINUTE + n * SECOND) for n in range(1, 9)]
        store.write({Trade: rows}, [claim(minute * MINUTE, (minute + 1) * MINUTE)])
        maker.bring_up_to_date()
    assert have(store) == truth(store)
    assert len(have(store)[0]) == 5
    assert all(
        what[1] < START + MINUTE for what in read
    )  # of the minute in which it began, trades may be there already


def test_a_late_trade_amends_its_candle_minutes_after(store):
    """The late trade refutes the trades' claim, so the candle is disputed; refilled, it is made again, and wins."""
    maker = Maker(store, [CANDLES])
    rows = [trade(number, number * 20 * SECOND, number) for number in range(1, 20)]
    store.write({Trade: rows}, [claim(0, 5 * MINUTE)])
    maker.bring_up_to_date()
    late = trade(100, 70 * SECOND, 99, name="0x1")
    store.write({Trade: [late]}, [dispute(70 * SECOND, 70 * SECOND + 1, 5 * MINUTE)])
    maker.bring_up_to_date()
    assert [(start, end, state) for start, end, state, *_ in told(store)] == [
        (0, 60, "held"), (60, 120, "disputed"), (120, 300, "held"),
    ]  # fmt: skip
    store.write({}, [claim(60 * SECOND, 120 * SECOND, 6 * MINUTE)])
    assert maker.bring_up_to_date() == 1
    assert have(store) == truth(store)
    (row,) = store.read(CANDLES, START + MINUTE, START + 2 * MINUTE)
    assert (row.high, row.trades) == (99, 4)
    assert {state for _, _, state, *_ in told(store)} == {"held"}


def test_a_repeated_trade_changes_nothing(store):
    """A refill that overlaps what is there: the candle is read again, and is as it was; nothing is written."""
    maker = Maker(store, [CANDLES])
    rows = [trade(number, number * 10 * SECOND) for number in range(1, 12)]
    store.write({Trade: rows}, [claim(0, MINUTE)])
    maker.bring_up_to_date()
    claims = store.claims(CANDLES)
    store.write({Trade: rows[:4]}, [claim(0, MINUTE, 2 * MINUTE)])
    assert (maker.bring_up_to_date(), store.claims(CANDLES)) == (0, claims)


def test_each_candle_has_the_weakest_grade_of_its_trades(store):
    maker = Maker(store, [CANDLES])
    rows = [trade(number, number * 30 * SECOND) for number in range(1, 10)]
    store.write(
        {Trade: rows},
        [claim(0, 100 * SECOND), claim(100 * SECOND, 130 * SECOND, grade=Grade.D), claim(130 * SECOND, 240 * SECOND)],
    )
    maker.bring_up_to_date()
    assert [part[:4] for part in told(store)] == [
        (0, 60, "held", "A"), (60, 180, "held", "D"), (180, 240, "held", "A"),
    ]  # fmt: skip


def test_what_an_earlier_run_left_is_gone_on_with(store):
    """A run that was killed between a dispute, its refill and the candle: the next one makes that candle, and no other."""
    first = Maker(store, [CANDLES])
    rows = [trade(number, number * 20 * SECOND) for number in range(1, 20)]
    store.write({Trade: rows}, [claim(0, 5 * MINUTE)])
    first.bring_up_to_date()
    store.listeners.clear()
    store.write({Trade: [trade(100, 70 * SECOND, 99)]}, [dispute(70 * SECOND, 71 * SECOND, 5 * MINUTE)])
    store.write({}, [claim(60 * SECOND, 120 * SECOND, 6 * MINUTE)])
    assert have(store) != truth(store)
    assert Maker(store, [CANDLES]).bring_up_to_date() == 1
    assert have(store) == truth(store)


def test_long_histories_go_in_portions(store, monkeypatch):
    """A day candle of many reads, and minutes of which only some are made at a time; memory holds a portion."""
    monkeypatch.setattr(module, "ROWS", 10)
    monkeypatch.setattr(module, "AT_ONCE", 2)
    days = Dataset(Candle, "binance", "BTC/USDT", ("1d", "trades"))
    rows = [trade(number, number * 17 * MINUTE, number % 7 + 1) for number in range(1, 400)]
    store.write({Trade: rows}, [claim(-5 * HOUR, 100 * HOUR)])
    maker = Maker(store, [CANDLES, days])
    passes = 0
    while maker.is_behind:
        maker.bring_up_to_date()
        passes += 1
    assert passes > 3
    assert have(store) == truth(store)
    assert have(store, days) == truth(store, "1d")
    assert len(have(store, days)[0]) == 4


def test_what_it_is_made_of():
    assert basis_of(CANDLES) == TRADES
    assert basis_of(Dataset(Candle, "binance", "BTC/USDT", ("1m", "venue"))) is basis_of(TRADES) is None


@given(st.lists(st.sampled_from(["1", "2", "10", "9" * 19, "1" * 20, "x:1", "", "²"]), min_size=2, max_size=6))
def test_the_order_of_trades_is_that_of_the_store(names):
    rows = [trade(0, len(name) % 2, name=name) for name in names]
    assert sorted(rows, key=place_of) == sorted(rows, key=order_of(Trade))


# ---------------------------------------------------------------- whatever comes

steps = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(1, 60), st.integers(0, 299)), max_size=5),  # trades: id, second
        st.lists(st.tuples(st.integers(-10, 300), st.integers(1, 200), st.sampled_from("AD")), max_size=2),  # claims
        st.none() | st.tuples(st.integers(0, 299), st.integers(1, 30)),  # a dispute
        st.booleans(),  # whether the maker looks then
        st.booleans(),  # whether the process ends then, and another begins
    ),
    max_size=12,
)


@given(steps, st.booleans())
def test_candles_are_what_the_trades_say_and_held_where_these_are(steps, numbered):
    """Late, twice, disputed, held again, in any order, also across restarts."""
    store = known(MemoryStore())
    maker = Maker(store, [CANDLES])
    moment, seen = SECOND, {}
    for rows, claims, against, looks, ends in steps:
        moment += SECOND
        batch = []
        for number, second in rows:
            at = seen.setdefault(number, second)  # the same trade is the same, whenever it comes
            name = str(at * 100 + number) if numbered else f"{at}:x{number}"
            batch.append(trade(0, at * SECOND, number % 7 + 1, number, name))
        late = [row for row in batch if held(store.claims(TRADES)).touches(row.venue_time, row.venue_time + 1)]
        made = [claim(start * SECOND, (start + wide) * SECOND, moment, grade=Grade(g)) for start, wide, g in claims]
        if against:
            made.append(dispute(against[0] * SECOND, sum(against) * SECOND, moment - SECOND))
        if not looks:  # whoever writes a late trade disputes what it refutes, and a maker is not there to see it
            made += [dispute(at, at + 1, moment - SECOND) for row in late for at in [row.venue_time - START]]
        store.write({Trade: batch}, made)
        if looks:
            maker.bring_up_to_date()
            assert not [d for d in store.claims(CANDLES) if d.state is State.HELD and d.grade is None]
            assert have(store) == truth(store)
        if ends:
            store = known(store.inner)
            maker = Maker(store, [CANDLES])
    maker.bring_up_to_date()
    assert have(store) == truth(store)
    of_candles = [part for part in stretches(store.claims(CANDLES)) if part.state is State.HELD]
    weak = Spans.of(*((p.start, p.end) for p in stretches(store.claims(TRADES)) if p.grade is Grade.D))
    assert all((part.grade is Grade.D) == weak.touches(part.start, part.end) for part in of_candles)


# ---------------------------------------------------------------- in a stream


@pytest.mark.loopback
def test_a_stream_of_candles_is_made_of_the_live_trades():
    """Those that are called closed are the venue's own, figure by figure; the others run, or begin or end with us."""
    plugins.load()
    began = parse_time("2026-03-04T05:06:50")

    async def main():
        last = {}
        async with serve(seed=5, venues=("binance",), speed=60, start=began) as served:
            config = {"venues": served.settings()}
            async with Flood(config) as flood:
                async with asyncio.timeout(3.6):
                    async for batch in flood.stream(
                        Candle, "binance:BTC/USDT", interval="1m", origin="trades"
                    ).batches():
                        last |= {row.open_time: row for row in batch}
                        if [row.closed for row in last.values()].count(True) >= 2:
                            break
        return last

    last = asyncio.run(main())
    closed = [row for _, row in sorted(last.items()) if row.closed]
    source = Simulated(5).at("binance")
    truth = {
        row.open_time: row
        for row in source.candles("BTC/USDT", "1m", now=began + HOUR, start=began - HOUR, end=began + HOUR, limit=1_000)
    }
    assert len(closed) >= 2
    for row in closed:
        their = truth[row.open_time]
        names = ("open", "high", "low", "close", "volume")
        assert [getattr(row, name) for name in names] == [getattr(their, name) for name in names]
        assert row.origin == "trades"
    assert min(last.values(), key=lambda row: row.open_time).closed is not True
