"""What the supervisor makes of refusals, snapshots, queues and clocks: nothing mute is believed, nothing that waits is suspected.

The runner works in virtual time against synthetic venues whose conversations are tampered with on the way.
"""

import asyncio
import json
import random
from collections import Counter
from itertools import pairwise

import pytest
from attrs import evolve

from tradeflood.coverage import Dataset
from tradeflood.errors import TransportError
from tradeflood.live import Escalation, Freshness
from tradeflood.live.escalation import RAREST, RETRY, SETTLED
from tradeflood.models import Trade
from tradeflood.models.time import HOUR, MINUTE, MS, SECOND, parse_time
from tradeflood.replay.desk import Clock, Conversation, desk_of
from tradeflood.replay.faults import Faults, FaultyDesk
from tradeflood.replay.simulated import Listing, Simulated
from tradeflood.runner.flood import Flood
from tradeflood.runner.runner import Runner
from tradeflood.testing import FakeTransport, answers_of
from tradeflood.testing.classes import venues
from tradeflood.testing.virtual import VirtualClock, run, sockets_of

START = parse_time("2026-03-04T05:06:07")
PASS, SLACK = 5 * SECOND, 4 * SECOND
BUSY = ("BTC/USDT", "ETH/USDT", "SOL/USDT")


@pytest.fixture(autouse=True)
def synthetic(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random.seed(7)
    with venues():
        yield


class Tampered(Conversation):
    """A conversation whose rows pass only where `lets` says so, and whose answers are what `says` makes of them."""

    def __init__(self, inner, lets, says):
        super().__init__(inner.clock, inner.sent_to)
        self._inner, self._lets, self._says = inner, lets, says

    def receive(self, message, now):
        return [new for frame in self._inner.receive(message, now) for new in self._says(frame)]

    def due(self, after, up_to):
        return ()

    def advance(self, now):
        return [frame for frame in self._inner.advance(now) if self._lets(frame, now)]


class Tampering:
    """A desk whose every conversation is tampered with."""

    def __init__(self, inner, lets=lambda frame, now: True, says=lambda frame: [frame]):
        self.inner, self.lets, self.says = inner, lets, says

    def connect(self, path, params, now, client):
        return Tampered(self.inner.connect(path, params, now, client), self.lets, self.says)


class Told:
    """What a run was: its steps with their moments in seconds, its states second by second, its questions and its health."""

    def __init__(self):
        self.steps, self.states = [], []

    def times(self, name, market=None):
        return [at for step, at, of in self.steps if step == f"stream.{name}" and market in {None, of}]

    def seen(self, market):
        return {states[market] for states in self.states}


def collected(
    *faults, venue="contiguous", markets=BUSY, seconds=120, feed=None, pair=False, lets=None, says=None, ahead=0, listings=None,
    change=None, wants=None,
):  # fmt: skip
    """What a run was. The venue's clock is `ahead` ns; `change` (runner, clock) goes on beside it."""
    told = Told()

    async def main():
        clock = VirtualClock(START)
        source = Simulated(5) if listings is None else Simulated(5, listings=listings)
        desk = FaultyDesk(desk_of(venue), source, Clock(1, START + ahead, monotonic=clock.now), Faults(faults, 1))
        theirs = VirtualClock(START + ahead)
        config = {
            "store": "memory://",
            "venues": {venue: {"feed": feed or {}, "pair": pair}},
            "collect": [
                {"markets": [f"{venue}:{m}" for m in markets], "history": "2m", **(wants or {"model": "trade"})}
            ],
        }

        def observe(step, **facts):
            if step.startswith("stream."):
                dataset = facts.get("dataset")
                told.steps.append((step, (clock.now() - START) / SECOND, dataset and dataset.market))

        transport = FakeTransport(answers_of(desk, theirs), clock)
        async with Flood(config, transport=transport, clock=clock, observe=observe) as flood:
            tampered = Tampering(desk, *(each for each in (lets, says) if each)) if lets else desk
            flood.network = evolve(flood.network, sockets=sockets_of(tampered, theirs))
            runner = Runner(flood)

            async def watch():
                while True:
                    await clock.sleep(SECOND)
                    if runner.stream is not None:
                        told.states.append({d.market: str(c.state) for d, c in runner.stream.states().items()})

            beside = [asyncio.ensure_future(watch())]
            if change is not None:
                beside.append(asyncio.ensure_future(change(runner, clock)))
            await runner.run(asyncio.Event(), seconds * SECOND)
            for task in beside:
                task.cancel()
            told.health = runner.stream.health[venue]
            told.asked = Counter(call.request.path for call in transport.calls)
            return told

    return run(main())


def is_of(frame, market):
    """Whether a frame brings rows of a market."""
    return isinstance(frame, str) and '"rows"' in frame and market.replace("/", "-") in frame


def without(market):
    """Everything passes but the rows of a market."""
    return lambda frame, now: not is_of(frame, market)


# ---------------------------------------------------------------- refused, never acknowledged


def test_a_market_that_is_refused_when_it_is_subscribed_anew_ends_no_run():
    """The venue has it: it acknowledged it before. The connection is opened anew, and the feed speaks again."""
    acknowledged = []

    def says(frame):
        if '"done"' in frame and "BTC" in frame:
            acknowledged.append(frame)
            if len(acknowledged) == 2:
                number, why = json.loads(frame)["number"], {"code": "x", "message": "already subscribed"}
                return [json.dumps({"error": why, "topics": ["trades:BTC-USDT"], "number": number})]
        return [frame]

    def lets(frame, now):
        return not is_of(frame, "BTC/USDT") or not START + 30 * SECOND < now < START + 60 * SECOND

    told = collected(markets=("BTC/USDT",), lets=lets, says=says)
    assert len(acknowledged) > 2
    assert (told.health.mute, told.health.recovered, told.health.lost) == (1, 1, 1)
    assert told.states[-1]["BTC/USDT"] == "fresh"


def test_what_was_never_acknowledged_holds_up_no_successor():
    """One topic of three is left out of every acknowledgement: the others' connection is replaced all the same."""

    def says(frame):
        if '"done"' not in frame:
            return [frame]
        told = json.loads(frame)
        return [json.dumps(told | {"done": [topic for topic in told["done"] if "SOL" not in topic]})]

    told = collected(seconds=400, feed={"lifetime": 150 * SECOND}, lets=without("SOL/USDT"), says=says)
    assert told.health.lost == 0
    assert told.health.replaced >= 2
    assert told.health.opened == 1 + told.health.replaced
    assert told.seen("SOL/USDT") >= {"mute", "polled"}


def test_a_feed_that_stays_mute_is_tried_again_ever_more_rarely():
    """Each try opens the connection of all the others anew."""
    ladder = Escalation()
    _, _, *tried = (at for at in range(0, 3 * HOUR, SECOND) if ladder.contradicted(at) is not None)
    gaps = [after - before for before, after in pairwise(tried)]
    assert gaps[:5] == [RETRY, 2 * RETRY, 4 * RETRY, 8 * RETRY, RAREST]
    assert set(gaps[5:]) == {RAREST}
    assert ladder.spoke()
    for at in range(4):
        ladder.contradicted(4 * HOUR + at)
    assert ladder.contradicted(4 * HOUR + 2 + RETRY) is not None


# ---------------------------------------------------------------- old rows, and nothing after them


def test_a_snapshot_is_no_recovery():
    """Bitget begins every subscription with rows that there were, and is mute: the ladder is climbed, not begun anew for ever."""

    def lets(frame, now):
        return not (isinstance(frame, str) and '"action":"update"' in frame and now > START + 30 * SECOND)

    told = collected(venue="bitget", markets=("BTC/USDT",), lets=lets)
    assert (told.health.mute, told.health.resubscribed, told.health.recovered) == (1, 1, 0)
    assert told.times("fallback")
    assert {states["BTC/USDT"] for states in told.states[70:]} == {"polled"}


def test_it_speaks_once_something_came_later_than_the_old_rows_with_which_venues_begin():
    ladder = Escalation()
    ladder.contradicted(10 * SECOND)
    assert not ladder.is_over(None, 0)
    assert not ladder.is_over(10 * SECOND + SETTLED, 0)
    assert ladder.is_over(11 * SECOND + SETTLED, 0)
    assert not ladder.is_over(11 * SECOND + SETTLED, 12 * SECOND)


# ---------------------------------------------------------------- waiting in line, lost, paused


def test_what_waits_in_line_to_be_subscribed_is_not_suspected():
    """Four a minute, of sixteen: each is listened to from the moment when it was said, which for the last is after three minutes."""
    listings = tuple(Listing(f"M{n:02}", "USDT", 12_345, 5, 9_000, 0, 3_600, (1,)) for n in range(16))
    markets = [listing.market for listing in listings]
    told = collected(
        markets=markets, listings=listings, seconds=240, feed={"topics_per_message": 1, "subscriptions": [4, MINUTE]}
    )
    assert (told.health.mute, told.health.opened, told.health.replaced) == (0, 1, 0)
    assert {states["M15/USDT"] for states in told.states[:180]} == {"starting"}
    assert set(told.states[-1].values()) == {"fresh"}


def test_silence_counts_anew_once_a_lost_connection_is_back():
    """Nobody could have brought anything meanwhile: after an outage a market that trades is neither mute nor called quiet."""

    async def change(runner, clock):
        await clock.sleep(30 * SECOND)
        network, sockets = runner.stream._network, runner.stream._network.sockets
        object.__setattr__(network, "sockets", _nobody)
        for line in list(runner.stream._wires.lines):
            line.lost("cut")
        await clock.sleep(90 * SECOND)
        object.__setattr__(network, "sockets", sockets)

    told = collected(markets=("BTC/USDT", "DOGE/USDT"), seconds=240, change=change)
    assert told.health.opened == 2
    assert not told.health.mute
    assert "quiet" not in told.seen("BTC/USDT")
    assert {states["BTC/USDT"] for states in told.states[40:110]} == {"suspicious"}


async def _nobody(*_, **__):
    raise TransportError("nobody there")


def test_a_connection_that_is_replaced_for_one_does_not_excuse_the_silence_of_another():
    """BTC is mute, so that its connection is replaced again and again; what DOGE did not bring before is not forgotten."""
    told = collected("mute", markets=("BTC/USDT", "DOGE/USDT"), seconds=240)
    (traded, *_) = (
        Simulated(5)
        .at("contiguous")
        .trades("DOGE/USDT", "raw", now=START + HOUR, start=START, end=START + HOUR, limit=1)
    )
    after = (traded.venue_time - START) / SECOND
    assert told.times("mute", "DOGE/USDT")[0] <= after + 60 + (PASS + SLACK) / SECOND


def test_two_that_are_mute_at_once_are_both_subscribed_anew():
    listings = tuple(Listing(name, "USDT", 12_345, 5, 9_000, 0, 300, (1,)) for name in ("ONE", "TWO"))
    told = collected("mute", markets=("ONE/USDT", "TWO/USDT"), listings=listings, seconds=80)
    assert told.times("mute", "ONE/USDT") == told.times("mute", "TWO/USDT")
    assert told.times("resubscribed") == 2 * told.times("mute", "ONE/USDT")


def test_one_for_which_there_is_no_subscription_left_is_opened_anew():
    """The budget of subscriptions is spent: the first thing done is the next rung, and it is done."""
    told = collected("mute", markets=("BTC/USDT",), seconds=25, feed={"subscriptions": [1, HOUR]})
    assert told.times("mute")
    assert not told.times("resubscribed")
    assert told.times("reopened") == told.times("mute")
    assert told.health.opened == 2


def test_a_market_that_lives_again_while_its_connection_is_replaced_is_listened_to():
    """The successor was opened when the market was dead: it is told before it takes over."""

    async def change(runner, clock):
        dataset = Dataset(Trade, "contiguous", "ETH/USDT", ("raw",))
        other = Dataset(Trade, "contiguous", "DOGE/USDT", ("raw",))
        await clock.sleep(5 * SECOND)
        runner.stream.shut(dataset, clock.now())
        while len(runner.stream._wires.lines) < 2:
            await clock.sleep(20 * MS)
        runner.stream.wake(dataset, clock.now())
        runner.stream.shut(other, clock.now())

    told = collected(
        markets=("BTC/USDT", "ETH/USDT", "DOGE/USDT"), feed={"lifetime": 30 * SECOND}, seconds=60, change=change
    )
    assert told.health.replaced >= 1
    assert told.states[-1] == {"BTC/USDT": "fresh", "ETH/USDT": "fresh", "DOGE/USDT": "closed"}


async def lose(runner, clock):
    """The connection is lost, and another one is open."""
    (line,) = runner.stream._wires.lines
    line.lost("the test says so")
    while runner.stream.health["contiguous"].opened < 2 or not runner.stream._groups[0].line:
        await clock.sleep(20 * MS)


@pytest.mark.parametrize("again", ["later", "while it is opened"])
def test_a_market_that_lives_again_after_its_connection_was_lost_is_heard(again):
    """The connection that came after the loss was opened without it, and takes its rows all the same."""

    async def change(runner, clock):
        dataset = Dataset(Trade, "contiguous", "ETH/USDT", ("raw",))
        other = Dataset(Trade, "contiguous", "DOGE/USDT", ("raw",))
        await clock.sleep(5 * SECOND)
        runner.stream.shut(dataset, clock.now())
        losing = asyncio.ensure_future(lose(runner, clock))
        if again == "later":
            await losing
            await clock.sleep(5 * SECOND)
        else:
            while not runner.stream._wires.opened > 1:
                await clock.sleep(MS)
            assert runner.stream._groups[0].line is None
        runner.stream.wake(dataset, clock.now())
        runner.stream.shut(other, clock.now())
        await losing

    slow = {"attempts": [1, 10 * SECOND]}  # so that there is time while it is opened
    told = collected(markets=("BTC/USDT", "ETH/USDT", "DOGE/USDT"), feed=slow, seconds=40, change=change)
    assert told.health.opened == 2
    assert not told.times("mute")
    assert told.states[-1] == {"BTC/USDT": "fresh", "ETH/USDT": "fresh", "DOGE/USDT": "closed"}


def test_whoever_looks_from_another_thread_does_nothing_about_a_silence():
    """A pass is planned in a thread, where nothing of a connection may be touched: what is to be done is left to the loop."""

    async def main():
        clock = VirtualClock(START)
        desk = FaultyDesk(
            desk_of("contiguous"), Simulated(5), Clock(1, START, monotonic=clock.now), Faults(["mute"], 1)
        )
        transport, steps = FakeTransport(answers_of(desk, clock), clock), []
        async with Flood({}, transport=transport, clock=clock, observe=lambda step, **_: steps.append(step)) as flood:
            flood.network = evolve(flood.network, sockets=sockets_of(desk, clock))
            stream = flood.stream(Trade, "contiguous:BTC/USDT", "contiguous:ETH/USDT")
            stream._witness = None
            await stream.begin()
            await clock.sleep(2 * MINUTE)
            (group,) = stream._groups
            topic, channel = next(iter(group.channels.items()))
            group.line.conversation.acked.discard(topic)  # it has acknowledged the other one
            assert await asyncio.to_thread(stream.is_polled, channel.sub.ask.dataset) is False
            assert "stream.mute" not in steps
            stream.take()
            assert "stream.mute" in steps
            await stream.close()

    run(main())


# ---------------------------------------------------------------- witnesses


@pytest.mark.parametrize("ahead", [-30 * SECOND, 30 * SECOND])
def test_a_clock_that_is_wrong_hides_no_mute_feed(ahead):
    """Half a minute, which is more than the patience with this market: by whose clock it is silent makes no difference."""
    told = collected("mute", markets=("BTC/USDT",), ahead=ahead)
    assert told.times("mute")[0] <= (10 * SECOND + PASS + SLACK + max(0, ahead)) / SECOND
    assert told.times("fallback")
    assert "quiet" not in told.seen("BTC/USDT")


@pytest.mark.parametrize("ahead", [-30 * SECOND, 30 * SECOND])
def test_a_clock_that_is_wrong_makes_no_feed_mute(ahead):
    told = collected(markets=("BTC/USDT", "DOGE/USDT"), ahead=ahead, seconds=240)
    assert not told.times("mute")


def test_what_a_witness_shows_too_late_counts_all_the_same():
    """REST is half a minute behind, which is more than the patience with this market: its empty answers vouch for nothing."""
    told = collected("mute", "lagging=30%100", markets=("BTC/USDT",))
    assert told.times("mute")
    assert told.times("mute")[0] <= 30 + (10 * SECOND + PASS + SLACK) / SECOND


@pytest.mark.parametrize("venue", ["contiguous", pytest.param("multiplicity", marks=pytest.mark.chaos)])
def test_a_bulk_ticker_that_is_served_again_and_again_vouches_for_nobody(venue):
    """Its clock moves, and what it tells is as old as the run: those that speak show it. One that is new saves questions."""
    sparse = tuple(Listing(f"M{n:02}", "USDT", 12_345, 5, 9_000, 0, 6, (1,)) for n in range(10))
    listings = (*sparse, *(Listing(f"BUSY{n}", "USDT", 12_345, 5, 9_000, 0, 1_200, (1,)) for n in range(2)))
    markets = [listing.market for listing in listings]

    def found(*, stale):
        first = {}

        async def change(runner, clock):
            while runner._refiller is None:
                await clock.sleep(MS)
            sweeper = runner.refiller._sweeper
            tickers = sweeper._tickers

            async def served(venue, markets):
                told, run = await tickers(venue, markets)
                for market, ticker in told.items():
                    first.setdefault(market, ticker)
                return {m: evolve(first[m], venue_time=told[m].venue_time) for m in told} if stale else told, run

            sweeper._tickers = served

        def lets(frame, now):
            return not (isinstance(frame, str) and '"trades:M' in frame and '"rows"' in frame)

        told = collected(venue=venue, markets=markets, listings=listings, seconds=400, change=change, lets=lets)
        assert set(first) == set(markets)
        return told

    truth, judged = Simulated(5, listings=listings).at(venue), 0
    good, stale = found(stale=False), found(stale=True)
    for market in markets[:10]:
        for row in truth.trades(market, "raw", now=START + HOUR, start=START, end=START + 300 * SECOND, limit=1):
            traded, judged = (row.venue_time - START) / SECOND, judged + 1
            for told in (good, stale):
                assert told.times("mute", market)[0] <= traded + 60 + (PASS + SLACK) / SECOND
    assert judged > 1
    assert good.asked["/trades"] < stale.asked["/trades"]


def test_a_believed_silence_is_no_silence_that_ended():
    fresh = Freshness(0, SECOND)
    fresh.quiet(30 * SECOND)
    assert (fresh.silent_since, fresh.doubtful_since) == (0, 30 * SECOND)
    fresh.mute(60 * SECOND)
    assert (fresh.silent_since, fresh.doubtful_since) == (60 * SECOND, 60 * SECOND)


def test_silent_candles_are_found_mute_too():
    """A candle that closed since, and did not come, contradicts; one in which nothing traded does not."""
    told = collected("mute", wants={"model": "candle", "interval": "1m"}, seconds=400)
    for market in BUSY:
        assert told.times("mute", market)[0] <= 60 + 60 + 10 + PASS / SECOND
    assert told.times("resubscribed")
    assert told.times("reopened")


def test_quiet_candles_are_told_from_mute_ones():
    told = collected(markets=("BTC/USDT", "DOGE/USDT"), wants={"model": "candle", "interval": "1m"}, seconds=600)
    assert not told.times("mute")
    assert "quiet" in told.seen("DOGE/USDT")


def test_markets_of_which_nothing_came_yet_are_not_asked_for_with_every_pass():
    """Forty that trade twice an hour: asked for when they begin and when their silence is suspicious, and at the end."""
    listings = tuple(Listing(f"M{n:02}", "USDT", 12_345, 5, 9_000, 0, 2, (1,)) for n in range(40))
    markets = [listing.market for listing in listings]
    told = collected(markets=markets, listings=listings, seconds=55)
    assert told.asked["/trades"] <= 3 * 40 * 2 + 10  # three requests tell of one edge


@pytest.mark.parametrize("what", ["a line", "the stream"])
def test_whoever_ends_something_may_be_cancelled_meanwhile_and_hears_of_it(what):
    """A group that closes its old connection, when its stream is closed, would otherwise go on for ever, and be waited for."""

    async def main():
        clock = VirtualClock(START)
        desk = FaultyDesk(desk_of("contiguous"), Simulated(5), Clock(1, START, monotonic=clock.now), Faults((), 1))
        async with Flood({}, transport=FakeTransport(answers_of(desk, clock), clock), clock=clock) as flood:
            flood.network = evolve(flood.network, sockets=sockets_of(desk, clock))
            stream = flood.stream(Trade, "contiguous:BTC/USDT")
            await stream.begin()
            await clock.sleep(2 * SECOND)
            (group,), tasks = stream._groups, list(stream._tasks)
            closing = asyncio.create_task(group.line.close() if what == "a line" else stream.close())
            await asyncio.sleep(0)  # it waits for what it has cancelled
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            await stream.close()
            assert tasks
            assert all(task.done() for task in tasks)

    run(main())


def test_a_run_that_is_cancelled_while_it_stops_hears_of_it_and_keeps_what_came():
    async def main():
        clock, stop = VirtualClock(START), asyncio.Event()
        desk = FaultyDesk(desk_of("contiguous"), Simulated(5), Clock(1, START, monotonic=clock.now), Faults((), 1))
        config = {"store": "memory://", "collect": [{"model": "trade", "markets": ["contiguous:BTC/USDT"]}]}
        async with Flood(config, transport=FakeTransport(answers_of(desk, clock), clock), clock=clock) as flood:
            flood.network = evolve(flood.network, sockets=sockets_of(desk, clock))
            runner = Runner(flood)
            running = asyncio.create_task(runner.run(stop))
            await clock.sleep(10 * SECOND)
            close = runner.stream.close

            async def slowly():
                await clock.sleep(5 * SECOND)
                await close()

            runner.stream.close = slowly
            stop.set()
            await clock.sleep(SECOND)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await clock.sleep(10 * SECOND)
            rows = flood.store.read(Dataset(Trade, "contiguous", "BTC/USDT", ("raw",)), START, START + HOUR)
            assert len(rows) == runner.stream.count
            assert max(row.venue_time for row in rows) > START + 12 * SECOND

    run(main())
