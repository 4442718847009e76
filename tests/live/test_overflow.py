"""A consumer that stalls: what comes meanwhile waits, or is dropped, counted, claimed by nothing and asked for again.

Time is virtual; the venues are simulated, so that what they said is known.
"""

import asyncio
import random
from collections import Counter
from decimal import Decimal

import pytest
from attrs import evolve

from tradeflood.config import load_config
from tradeflood.coverage import Dataset, State, held
from tradeflood.errors import StoreError, UsageError
from tradeflood.live import Agreement
from tradeflood.models import Candle, Side, Trade
from tradeflood.models.time import MINUTE, SECOND, parse_time
from tradeflood.planner import Query
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.faults import Faults, FaultyDesk
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.flood import Flood
from tradeflood.runner.keeper import Keeper
from tradeflood.runner.overflow import Dropped
from tradeflood.runner.runner import Runner
from tradeflood.store import SCHEMES
from tradeflood.store.memory import MemoryStore
from tradeflood.testing import FakeTransport, answers_of
from tradeflood.testing.virtual import VirtualClock, run, sockets_of

START = parse_time("2026-03-04T05:06:07")
MARKETS = {"binance": "BTC/USDT", "bitget": "BTC/USDT", "nobitex": "USDT/IRT"}
FULL = 10
STALLED = 60 * SECOND
BEGUN = START + 2 * SECOND
"""When a stream is subscribed; some venues begin with older rows."""
ONE = Decimal(1)
BTC = Dataset(Trade, "bitget", "BTC/USDT", ("raw",))


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tradeflood.runner.stream.FULL", FULL)
    random.seed(7)


class Told:
    """What a consumer got and when, what was announced, and what the store holds of it in the end."""

    def __init__(self):
        self.rows, self.steps, self.claims, self.paused, self.waiting = [], [], [], [], []


def stalled(venue, overflow, *faults, pair=False, episodes=1):
    """What a consumer got that took rows every second, none for a minute, and rows every second again."""
    told = Told()

    async def main():
        clock = VirtualClock(START)
        desk = FaultyDesk(desk_of(venue), Simulated(5), Clock(1, START, monotonic=clock.now), Faults(faults, 1))
        config = {"store": "memory://", "venues": {venue: {"pair": pair}}}

        def observe(step, **facts):
            if step.startswith("stream."):
                told.steps.append((step, facts))

        transport = FakeTransport(answers_of(desk, clock), clock)
        async with Flood(config, transport=transport, clock=clock, observe=observe) as flood:
            opened = []
            flood.network = evolve(flood.network, sockets=sockets_of(desk, clock, opened=opened))
            stream = flood.stream(Trade, f"{venue}:{MARKETS[venue]}", overflow=overflow)
            keeper = Keeper(flood.venues, flood.store, pytest.fail, flood.store)

            def take():
                rows, proofs = stream.take(), stream.proofs()
                told.rows += rows
                told.claims += proofs
                keeper.write(rows, proofs)

            await stream.begin()
            for episode in range(2 * episodes + 1):
                if episode % 2:
                    await clock.sleep(STALLED)
                    told.paused += [not socket._reading.is_set() for socket in opened]
                    told.waiting.append(len(stream._rows))
                else:
                    for _ in range(30):
                        await clock.sleep(SECOND)
                        take()
            await stream.close()
            take()
            keeper.close()
            told.health, told.count = stream.health[venue], stream.count
            dataset = Dataset(Trade, venue, MARKETS[venue], ("raw",))
            told.held = held(flood.store.claims(dataset))
            return told

    return run(main())


def missing(venue, rows, since):
    """The trades from a moment to the last row that are not among the rows."""
    last = max(row.venue_time for row in rows)
    truth = Simulated(5).at(venue).trades(MARKETS[venue], "raw", now=last, start=since, end=last, limit=1 << 40)
    assert max(Counter(row.trade_id for row in rows).values()) == 1
    if venue != "nobitex":
        have = {row.trade_id for row in rows}
        return [row for row in truth if row.trade_id not in have]
    known = Counter(_looks(row) for row in rows)  # where trades have no ids, equal ones are counted
    lacking = []
    for row in truth:
        known[_looks(row)] -= 1
        lacking += [row] if known[_looks(row)] < 0 else []
    return lacking


def _looks(row):
    return row.venue_time, row.price, row.size


def claimed(told, rows):
    """The rows that lie in what is held."""
    return [row for row in rows if told.held.touches(row.venue_time, row.venue_time + 1)]


def pending(told):
    return [claim for claim in told.claims if claim.state is State.PENDING and "rows were dropped" in claim.evidence]


@pytest.mark.parametrize("venue", MARKETS)
def test_what_waits_is_not_lost(venue):
    """The sockets are not read while the consumer is away; when it is back, all comes, in order."""
    told = stalled(venue, "wait")
    assert told.paused == [True]
    assert missing(venue, told.rows, BEGUN) == []
    assert told.health.dropped == 0
    counts = Counter(step for step, _ in told.steps)
    assert counts["stream.paused"] == counts["stream.resumed"] >= 1
    assert counts["stream.dropped"] == 0
    assert not pending(told)


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("venue", MARKETS)
def test_what_is_dropped_is_counted_and_held_by_nothing(venue, pair):
    """Numbers of ids, of messages, a second observer: whatever proves what came proves nothing of what was dropped."""
    told = stalled(venue, "drop", pair=pair)
    assert set(told.paused) == {False}
    assert told.waiting[0] <= FULL + 5  # what one reading brought on top
    lacking = missing(venue, told.rows, BEGUN)
    assert len(lacking) > FULL
    assert told.health.dropped == len(lacking)
    assert told.count == len(told.rows)
    assert [facts["rows"] for step, facts in told.steps if step == "stream.dropped"] == [len(lacking)]
    assert any(f"{venue}: {len(lacking)} rows were dropped" in text for text in told.health.trouble)
    (hole,) = pending(told)
    assert (hole.start, hole.end) == (lacking[0].venue_time, lacking[-1].venue_time + 1)
    assert not claimed(told, lacking)
    assert told.held or (venue == "bitget" and not pair)  # what came before and after is proved as ever
    assert told.rows[-1].venue_time > hole.end + 20 * SECOND  # and what came after was fresh


def test_every_stall_is_told_once():
    told = stalled("binance", "drop", episodes=3)
    counts = [facts["rows"] for step, facts in told.steps if step == "stream.dropped"]
    assert len(counts) == len(pending(told)) == 3
    assert sum(counts) == told.health.dropped == len(missing("binance", told.rows, BEGUN))


def test_what_is_dropped_while_connections_are_lost_is_held_by_nothing():
    """What was said while nobody was connected is missing too, and was not dropped."""
    told = stalled("binance", "drop", "cut=20")
    assert told.health.lost > 5
    lacking = missing("binance", told.rows, BEGUN)
    assert 0 < told.health.dropped < len(lacking)
    assert told.held
    assert not claimed(told, lacking)


def test_what_is_polled_is_not_dropped():
    """A feed that breaks again and again is stood in for: the venue's newest rows bring what was dropped of it once more."""
    told = stalled("nobitex", "drop", "cut=5")
    assert told.health.dropped > 0
    assert missing("nobitex", told.rows, BEGUN) == []


# ---------------------------------------------------------------- in a runner


class Refusing(MemoryStore):
    """A store that takes nothing while it is told so."""

    refuses = False

    def write(self, batches, claims=()):
        if Refusing.refuses:
            raise StoreError("store memory: it is read-only")
        super().write(batches, claims)


@pytest.mark.parametrize("overflow", ["wait", "drop"])
@pytest.mark.parametrize("venue", ["binance", "bitget"])
def test_the_hole_is_refilled_when_the_store_is_back(monkeypatch, venue, overflow):
    """The store refuses for a minute: what was dropped meanwhile is asked for by REST, and nothing is missing at the end."""
    monkeypatch.setitem(SCHEMES, "memory", Refusing)
    steps = []

    async def main():
        clock = VirtualClock(START)
        desk = FaultyDesk(desk_of(venue), Simulated(5), Clock(1, START, monotonic=clock.now), Faults((), 1))
        wants = [{"model": "trade", "markets": [f"{venue}:BTC/USDT"], "history": "2m"}]
        config = {"store": "memory://", "collect": wants, "overflow": overflow, "audit": False}
        transport = FakeTransport(answers_of(desk, clock), clock)
        async with Flood(
            config, transport=transport, clock=clock, observe=lambda step, **_: steps.append(step)
        ) as flood:
            flood.network = evolve(flood.network, sockets=sockets_of(desk, clock))
            runner = Runner(flood)

            async def moods():
                await clock.sleep(30 * SECOND)
                Refusing.refuses = True
                await clock.sleep(STALLED)
                Refusing.refuses = False

            mood = asyncio.ensure_future(moods())
            report = await runner.run(asyncio.Event(), 180 * SECOND)
            await mood
            dataset = Dataset(Trade, venue, "BTC/USDT", ("raw",))
            return report, held(flood.store.claims(dataset)), list(flood.store.read(dataset, 0, 1 << 62)), clock.now()

    report, sure, rows, ended = run(main())
    dropped = [text for text in report.failures if "live rows were dropped" in text]
    if overflow == "drop":
        assert report.dropped > FULL
        assert dropped == [
            f"{report.dropped} live rows were dropped, because too many waited; holes are asked for again"
        ]
        assert any("rows wait in memory, and what comes is dropped" in text for text in report.failures)
        assert steps.count("stream.dropped") >= 1
        assert "stream.paused" not in steps
    else:
        assert (report.dropped, dropped, steps.count("stream.dropped")) == (0, [], 0)
        assert steps.count("stream.paused") >= 1
    assert missing(venue, rows, START - 110 * SECOND) == []
    ((start, end),) = sure
    assert start <= START - 110 * SECOND
    assert end >= ended - 8 * SECOND


# ---------------------------------------------------------------- the parts


def trade(at):
    return Trade("bitget", "BTC/USDT", "raw", str(at), ONE, ONE, Side.BUY, at, at)


def test_a_hole_spans_what_was_dropped_since_it_was_last_told():
    dropped = Dropped()
    dropped.add(BTC, [trade(200), trade(300)], "p", 400)
    dropped.add(BTC, [trade(250)], "p", 500)
    (claim,) = dropped.claims()
    assert (claim.start, claim.end, claim.state, claim.evidence) == (200, 301, State.PENDING, "3 rows were dropped")
    assert (claim.grade, claim.as_of, claim.parser) == (None, 500, "p")
    assert dropped.claims() == []
    assert dropped.told() == {"bitget": 3}
    assert dropped.told() == {}


def test_a_late_row_that_is_dropped_refutes_what_was_claimed_of_its_time():
    """Rows up to 300 came and may prove that nothing is missing; the one of 250 was not kept."""
    dropped = Dropped()
    dropped.add(BTC, [trade(250), trade(350)], "p", 400, kept_until=300)
    hole, late = dropped.claims()
    assert (hole.start, hole.end, hole.state) == (250, 351, State.PENDING)
    assert (late.start, late.end, late.state, late.refutes) == (250, 300, State.DISPUTED, 400)


def test_of_candles_the_whole_interval_is_a_hole_and_none_is_late():
    candle = Candle(
        "bitget", "BTC/USDT", "1m", "venue", START // MINUTE * MINUTE, ONE, ONE, ONE, ONE, ONE, closed=False
    )
    dropped = Dropped()
    dropped.add(Dataset(Candle, "bitget", "BTC/USDT", ("1m", "venue")), [candle], "p", START, kept_until=START)
    (claim,) = dropped.claims()
    assert (claim.start, claim.end) == (candle.open_time, candle.open_time + MINUTE)


def test_two_observers_do_not_agree_on_what_neither_kept():
    agreement = Agreement(BTC, "p")
    for side in (0, 1):
        agreement.came(side, [trade(10), trade(20)], 0, 0)
        agreement.missed(side, [trade(30), trade(40), trade(50)], 0)
        agreement.came(side, [trade(60), trade(70)], 0, 0)
    assert [(claim.start, claim.end) for claim in agreement.claims(rest=True)] == [(11, 20), (61, 70)]


def test_the_setting_is_one_of_two():
    assert load_config({}).overflow == "wait"
    with pytest.raises(UsageError, match="overflow: must be 'wait' or 'drop', not 'block'"):
        load_config({"overflow": "block"})
    with pytest.raises(UsageError, match="overflow must be 'wait' or 'drop', not 'block'"):
        Flood().stream(Trade, "binance:BTC/USDT", overflow="block")


def test_a_stream_may_differ_from_what_is_configured():
    flood = Flood({"overflow": "drop"})
    asked = [flood.stream(Trade, "binance:BTC/USDT", overflow=word) for word in (None, "wait", "drop")]
    assert [stream._wires.room.drops for stream in asked] == [True, False, True]
    assert flood.stream_of([Query(Trade, "binance:BTC/USDT")])._wires.room.drops
