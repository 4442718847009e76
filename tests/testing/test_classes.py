"""The eight venues: what each numbers, what is collected of it against the truth, and what its live rows prove."""

import asyncio
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
from attrs import evolve

from tradeflood.coverage import Dataset, Grade, held
from tradeflood.errors import RateLimited, Refused, Unavailable, UnknownMarket
from tradeflood.live import Offsets
from tradeflood.models import Candle, Market, Ticker, Trade
from tradeflood.models.time import HOUR, MINUTE, MS, SECOND, iso, parse_time
from tradeflood.planner import Query
from tradeflood.replay.desk import Clock, HttpRequest, desk_of
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.execute import Patience
from tradeflood.runner.flood import Flood
from tradeflood.runner.keeper import Keeper
from tradeflood.runner.runner import Runner
from tradeflood.spans import Spans
from tradeflood.store.memory import MemoryStore
from tradeflood.testing import FakeClock, FakeTransport, VenueTime
from tradeflood.testing.classes import SHAPES, VENUES, truth, venues
from tradeflood.testing.classes.connectors import INTERVALS, Contiguous
from tradeflood.testing.classes.desk import EPOCH, ClassFeed
from tradeflood.testing.classes.desk import INTERVALS as SERVED
from tradeflood.testing.classes.shapes import flake, jumped, time_of_flake, unjumped
from tradeflood.testing.transport import answers_of, reply
from tradeflood.turns import Numbering, registry

START = parse_time("2026-03-04T05:06:07")
SEED = 5
PAGED = tuple(venue for venue in VENUES if SHAPES[venue].paging != "last")
LAST = tuple(venue for venue in VENUES if SHAPES[venue].paging == "last")
FED = tuple(venue for venue in VENUES if SHAPES[venue].feed)


@pytest.fixture(autouse=True)
def here():
    with venues():
        yield


# ---------------------------------------------------------------- registered when asked for, and not before


def test_importing_registers_nothing():
    """Whoever looks at the classes, or at anything else of ours, has no more venues than before."""
    script = (
        "from tradeflood import plugins; import tradeflood.testing.classes as classes\n"
        "from tradeflood.turns import registry; from tradeflood.replay.desk import desks\n"
        "plugins.load(); before = set(registry.connectors), set(desks())\n"
        "assert not (before[0] | before[1]) & set(classes.VENUES), before\n"
        "with classes.venues() as names:\n"
        "    assert set(names) <= set(registry.connectors) and set(names) <= set(desks())\n"
        "assert (set(registry.connectors), set(desks())) == before\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)


def test_every_class_is_declared_as_it_is():
    """The connector says of its trades what the table says of the venue."""
    for venue, shape in SHAPES.items():
        connector = registry.connector(venue)
        binding = registry.binding(connector, Trade, (shape.kind,))
        assert binding.numbering is shape.numbering
        assert (connector.feed is not None, binding.has_live(), binding.has_history()) == (shape.feed, True, True)
        assert binding.horizon_rows == (shape.rows if shape.paging == "last" else None)
        candles = registry.binding(connector, Candle, ("1m", "venue"))
        assert candles.has_live() is shape.candles
    assert {shape.numbering for shape in SHAPES.values()} == set(Numbering)
    assert INTERVALS == SERVED


# ---------------------------------------------------------------- what is numbered


def test_jumping_ids_ascend_and_leave_some_out():
    """A quarter of the ids is never given, and the way back finds the next that was."""
    ids = [jumped(number) for number in range(1, 3_000)]
    assert all(one < other for one, other in pairwise(ids))
    assert {other - one for one, other in pairwise(ids)} >= {1, 2, 3}
    assert len(ids) * 1.3 < ids[-1] < len(ids) * 1.35
    taken = dict(zip(ids, range(1, 3_000), strict=True))
    for some in range(ids[0], ids[-1]):
        following = next(number for number in range(some, some + 50) if number in taken)
        assert unjumped(some) == taken[following]


def test_flakes_are_unique_and_tell_their_time():
    """They ascend from moment to moment, and within one they do not."""
    rows = truth("contiguous", seed=SEED).trades("BTC/USDT", START, START + 10 * MINUTE)
    ids = [flake(row) for row in rows]
    assert len(set(ids)) == len(ids)
    assert max(ids) < 1 << 63
    assert [time_of_flake(number) for number in ids] == [row.venue_time for row in rows]
    moments = {time: [i for i in ids if time_of_flake(i) == time] for time in map(time_of_flake, ids)}
    assert any(some != sorted(some) for some in moments.values())
    assert [max(some) for some in moments.values()] == sorted(max(some) for some in moments.values())


def test_chained_rows_begin_where_the_one_before_ended():
    """The last raw id less the count is the last raw id of the row before."""
    rows = truth("chained", seed=SEED).trades("BTC/USDT", START, START + MINUTE)
    assert {row.count for row in rows} == {1, 2, 3}
    for before, row in pairwise(rows):
        assert int(row.last_id) - row.count == int(before.last_id)
        assert (row.trade_id, int(row.first_id)) == (row.last_id, int(before.last_id) + 1)


@pytest.mark.parametrize("venue", [venue for venue in VENUES if SHAPES[venue].number is None])
def test_equal_trades_are_real(venue):
    """Many orders make equal trades in one moment, and the volume is what it was."""
    tape = truth(venue, seed=SEED)
    rows = tape.trades("BTC/USDT", START, START + MINUTE)
    said = Counter(row.trade_id.rpartition(":")[0] for row in rows)
    assert sum(count > 1 for count in said.values()) > 20
    assert len({row.trade_id for row in rows}) == len(rows)
    seconds = Simulated(SEED).at(venue).bar("BTC/USDT", START, START + MINUTE, START + HOUR)
    assert sum(row.size for row in rows) == seconds.volume
    assert len(rows) == seconds.trades


def test_polled_times_are_whole_seconds():
    """What happened within a second happened at its beginning."""
    rows = truth("polled", seed=SEED).trades("BTC/USDT", START + 1, START + 10 * SECOND)
    assert {row.venue_time % SECOND for row in rows} == {0}
    exact = (
        Simulated(SEED)
        .at("polled")
        .trades("BTC/USDT", "raw", now=START + HOUR, start=START + SECOND, end=START + 10 * SECOND)
    )
    assert {row.venue_time for row in rows} == {row.venue_time // SECOND * SECOND for row in exact}


# ---------------------------------------------------------------- the past, against the truth


def at_desk(venue, now):
    """A session whose network is the venue's desk, without a socket, at a moment."""
    clock = FakeClock(now)
    desk = desk_of(venue)(Simulated(SEED), Clock(1, START, monotonic=lambda: 0))
    transport = FakeTransport(answers_of(desk, clock), clock)
    return Flood({}, transport=transport, clock=clock), transport


def collected(venue, model, market, start, end, *, now=START + HOUR, **variant):
    """What is collected of [start, end), as it was without the time of reading; and the requests that it took."""

    async def main():
        flood, transport = at_desk(venue, now)
        async with flood:
            frame = await flood.collect(model, f"{venue}:{market}", start=iso(start), end=iso(end), **variant)
            return frame, transport

    frame, transport = asyncio.run(main())
    return [evolve(row, received_at=None) for row in frame], frame, transport


def in_order(rows):
    return sorted(rows, key=lambda row: (row.venue_time, row.trade_id))


def sure_of(frame):
    return Spans.of(*((part.start, part.end) for parts in frame.coverage.parts.values() for part in parts if part.state == "held"))  # fmt: skip


GRADES = {
    "contiguous": {Grade.A},
    "chained": {Grade.A},
    "snowflake": {Grade.B},
    "multiplicity": {Grade.B},
}


@pytest.mark.parametrize("market", ["BTC/USDT", "ETH/USDT", "DOGE/USDT"])
@pytest.mark.parametrize("venue", PAGED)
def test_history_is_the_truth(venue, market):
    """Ten minutes of pages are exactly what happened, and held throughout."""
    start, end = START + 123_456_789, START + 10 * MINUTE
    rows, frame, _ = collected(venue, Trade, market, start, end, kind=SHAPES[venue].kind)
    assert in_order(rows) == in_order(truth(venue, seed=SEED).trades(market, start, end))
    assert not frame.failures
    assert sure_of(frame) == Spans.of((start, end))
    if venue in GRADES:
        assert {part.grade for parts in frame.coverage.parts.values() for part in parts} == GRADES[venue]


@pytest.mark.parametrize("venue", LAST)
def test_a_last_page_is_as_much_of_the_truth_as_it_has(venue):
    """It holds what lies between its oldest and its newest moment, and says nothing of what is older."""
    start, now = START, START + 10 * MINUTE
    rows, frame, transport = collected(venue, Trade, "BTC/USDT", start, now, now=now)
    tape, sure = truth(venue, seed=SEED), sure_of(frame)
    assert len(transport.calls) == 1
    assert len(rows) == SHAPES[venue].rows
    [(low, high)] = sure
    assert now - MINUTE - 30 * SECOND < low < high <= now - 5 * SECOND
    within = [row for row in rows if low <= row.venue_time < high]
    assert in_order(within) == in_order(tape.trades("BTC/USDT", low, high))
    assert {row.trade_id for row in rows} <= {row.trade_id for row in tape.trades("BTC/USDT", start, now + 1)}


@pytest.mark.parametrize("venue", LAST)
def test_a_quiet_market_fits_on_a_last_page(venue):
    """Where the page reaches back beyond what is wanted, all of it is held."""
    start, end = START + 5 * MINUTE, START + 20 * MINUTE
    rows, frame, _ = collected(venue, Trade, "DOGE/USDT", start, end, now=START + 30 * MINUTE)
    assert in_order(rows) == in_order(truth(venue, seed=SEED).trades("DOGE/USDT", start, end))
    assert rows
    assert sure_of(frame) == Spans.of((start, end))


@pytest.mark.parametrize("venue", VENUES)
def test_candles_are_the_truth(venue):
    """An hour of minutes, those without trades absent."""
    start, end = START // MINUTE * MINUTE, START // MINUTE * MINUTE + HOUR
    for market, most in {"BTC/USDT": 60, "DOGE/USDT": 59}.items():
        rows, _, _ = collected(venue, Candle, market, start, end, now=START + 2 * HOUR, interval="1m")
        assert rows == truth(venue, seed=SEED).candles(market, "1m", start, end)
        assert len(rows) <= most


@pytest.mark.parametrize("venue", VENUES)
def test_markets_and_tickers(venue):
    """Lists name the source's markets, and a ticker the newest id where there are ids."""

    async def main():
        flood, _ = at_desk(venue, START)
        async with flood:
            markets = await flood.collect(Market, f"{venue}:*")
            [ticker] = await flood.collect(Ticker, f"{venue}:BTC/USDT")
            return markets, ticker

    markets, ticker = asyncio.run(main())
    assert {row.market for row in markets} == {"BTC/USDT", "ETH/USDT", "SOL/USDT", "DOGE/USDT"}
    newest = truth(venue, seed=SEED).trades("BTC/USDT", START - MINUTE, START + 1)[-1]
    assert ticker.last_trade_id == (None if SHAPES[venue].number is None else newest.trade_id)
    assert (ticker.last, ticker.venue_time) == (newest.price, START)
    step = next(row.size_increment for row in markets if row.market == "BTC/USDT")
    assert newest.size % step == 0


# ---------------------------------------------------------------- what the venue refuses


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("/nothing", {}, 404),
        ("/trades", {"symbol": "NO-USDT"}, 400),
        ("/trades", {"symbol": "BTC-USDT", "low": "x", "high": "2"}, 400),
        ("/candles", {"symbol": "BTC-USDT", "interval": "7m", "start": "0", "end": "1"}, 400),
        ("/candles", {"symbol": "BTC-USDT", "interval": "1m", "start": "0"}, 400),
    ],
)
def test_what_cannot_be_asked_is_refused(path, params, status):
    """With the reason in the body, and as an error of ours."""
    said = desk_of("contiguous")(Simulated(), Clock(1, START)).answer(HttpRequest("GET", path, params), START)
    assert said.status == status
    with pytest.raises(UnknownMarket if params.get("symbol") == "NO-USDT" else Refused, match="contiguous: "):
        Contiguous().judge(reply(said.body, said.status, at=START))


@pytest.mark.parametrize(("reason", "error"), [("limit", RateLimited), ("ban", Unavailable), ("error", Unavailable)])
def test_faults_are_said_in_the_venues_own_words(reason, error):
    """A limit names its end."""
    said = desk_of("contiguous")(Simulated(), Clock(1, START)).refusal(reason, START, 2)
    headers = {name.lower(): value for name, value in said.headers.items()}
    with pytest.raises(error) as caught:
        Contiguous().judge(reply(said.body, said.status, at=START, headers=headers))
    if error is RateLimited:
        assert caught.value.until == START + 2 * SECOND


def test_a_feed_answers_each_topic():
    """Those that there are together, the others one by one."""
    feed = desk_of("snowflake")(Simulated(), Clock(1, START)).connect("/feed", {}, START)
    assert isinstance(feed, ClassFeed)
    connector = registry.connector("snowflake")()
    topics = ["trades:BTC-USDT", "trades:NO-USDT", "candles:BTC-USDT:1m"]
    [message] = connector.say("subscribe", topics, 7)
    heard = [event for frame in feed.receive(message, START) for event in connector.hear(frame.encode())]
    assert [event.topics for event in heard] == [(topic,) for topic in topics]
    assert [type(event).__name__ for event in heard] == ["Acked", "Denied", "Denied"]
    [odd] = feed.receive("{", START)
    assert "not understood" in odd
    [leaving] = [event for frame in feed.notice(START) for event in connector.hear(frame.encode())]
    assert type(leaving).__name__ == "Leaving"


def test_offsets_are_counted_within_an_epoch():
    """Whoever subscribes goes on in the running epoch, or finds a new one; a withheld message has had its number."""
    desk = desk_of("offsets")(Simulated(SEED), Clock(1, START))
    connector = registry.connector("offsets")()

    def heard(since, until):
        feed = desk.connect("/feed", {}, since)
        [message] = connector.say("subscribe", ["trades:BTC-USDT"], 1)
        feed.receive(message, since)
        frames = [frame for _, frame in feed.due(since, until)]
        return [event for frame in frames for event in connector.hear(frame.encode())]

    early, late, later = (heard(START + at * SECOND, START + 40 * SECOND) for at in (0, 10, 35))
    assert [event.sequence for event in early] == list(range(1, len(early) + 1))
    assert {event.epoch for event in early + late} == {early[0].epoch}
    assert [event.sequence for event in late] == [event.sequence for event in early][-len(late) :]
    assert {event.epoch for event in later} != {early[0].epoch}
    assert EPOCH == 30 * SECOND
    assert later[0].sequence < late[-1].sequence


# ---------------------------------------------------------------- what live rows prove

LIVE_GRADES = {"contiguous": Grade.A, "chained": Grade.A, "last60": Grade.A}


@pytest.mark.parametrize("venue", VENUES)
def test_what_live_rows_prove_by_themselves(venue):
    """Linked ids hold all but the place of the row that did not come; any others hold nothing."""
    kind = SHAPES[venue].kind
    rows = truth(venue, seed=SEED).trades("BTC/USDT", START, START + 30 * SECOND)
    withheld = next(row for row in rows[20:] if sum(other.venue_time == row.venue_time for other in rows) == 1)
    came = [evolve(row, received_at=row.venue_time) for row in rows if row is not withheld]
    store, dataset = MemoryStore(), Dataset(Trade, venue, "BTC/USDT", (kind,))
    store.migrate()
    keeper = Keeper(Flood({}).venues, store)
    for at in range(0, len(came), 7):
        keeper.write(came[at : at + 7])
    keeper.close()
    claims = store.claims(dataset)
    sure = held(claims)
    assert {claim.grade for claim in claims if claim.state == "held"} == ({LIVE_GRADES[venue]} & {*LIVE_GRADES.values()} if venue in LIVE_GRADES else set())  # fmt: skip
    assert not sure.touches(withheld.venue_time, withheld.venue_time + 1)
    if venue in LIVE_GRADES:
        place = rows.index(withheld)
        before, after = rows[place - 1].venue_time, rows[place + 1].venue_time
        assert sure == Spans.of((rows[0].venue_time + 1, before), (after + 1, rows[-1].venue_time))


def test_offsets_prove_that_no_message_was_lost():
    """All is held but the place of the message that did not come, and what lies between two epochs."""
    desk, connector = desk_of("offsets")(Simulated(SEED), Clock(1, START)), registry.connector("offsets")()
    binding = registry.binding(type(connector), Trade, ("raw",))
    proofs = Offsets(Dataset(Trade, "offsets", "BTC/USDT", ("raw",)), "p")
    frames = []
    for since, until in ((START, START + 20 * SECOND), (START + EPOCH, START + EPOCH + 20 * SECOND)):
        feed = desk.connect("/feed", {}, since)
        [message] = connector.say("subscribe", ["trades:BTC-USDT"], 1)
        feed.receive(message, since)
        frames += feed.due(since, until)
    moments = Counter(time for time, _ in frames)
    withheld = next(time for time, _ in frames[10:] if moments[time] == 1)
    for time, frame in frames:
        [event] = connector.hear(frame.encode())
        if time != withheld:
            rows = binding.pack.pure(event.rows, "offsets", "BTC/USDT", "raw")
            proofs.came(event.sequence, event.epoch, rows, time)
    claims = proofs.claims(rest=True)
    sure = held(claims)
    assert {claim.grade for claim in claims if claim.state == "held"} == {Grade.D}
    assert not sure.touches(withheld, withheld + 1)
    assert not sure.touches(START + 20 * SECOND, START + EPOCH)
    assert sure.size > 30 * SECOND


# ---------------------------------------------------------------- served on loopback


QUICK = Patience(attempts=2, first_delay=20 * MS)


@pytest.fixture(scope="module", params=[None, 300 * MS], ids=["one connection", "many in a row"])
def streamed(request):
    """Live trades of every venue at once, at twenty times the speed, and the health of each feed; with or without a lifetime."""

    async def main():
        async with serve(seed=SEED, venues=VENUES, speed=20, start=START) as served:
            settings = served.settings()
            if request.param is not None:
                for venue in FED:
                    settings[venue] |= {"feed": {"lifetime": request.param}}
            async with Flood({"venues": settings}, clock=VenueTime(served.clock), patience=QUICK) as flood:
                queries = [Query(Trade, f"{venue}:BTC/USDT", kind=SHAPES[venue].kind) for venue in VENUES]
                stream, rows = flood.stream_of(queries), []

                async def take():
                    async for batch in stream.batches():
                        rows.extend(batch)

                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(take(), 2)
                return rows, stream.health

    with venues():
        rows, health = asyncio.run(asyncio.wait_for(main(), 30))
    return {venue: ([row for row in rows if row.venue == venue], health[venue]) for venue in VENUES}, request.param


def differences(venue, rows):
    """What was delivered and did not happen, or twice; and what happened between the first and the last and was not."""
    low, high = min(row.venue_time for row in rows) + 1, max(row.venue_time for row in rows)
    have = Counter(row.trade_id for row in rows if low <= row.venue_time < high)
    want = Counter(row.trade_id for row in truth(venue, seed=SEED).trades("BTC/USDT", low, high))
    return have - want, want - have


@pytest.mark.loopback
@pytest.mark.parametrize("venue", VENUES)
def test_a_stream_delivers_what_happened(venue, streamed):
    """Every trade once, with the venue's id, also while connections overlap: with ids, with offsets, and with neither."""
    told, lifetime = streamed
    rows, health = told[venue]
    assert len(rows) > 10
    assert (health.lost, health.unreadable) == (0, 0)
    assert (health.replaced > 1) is (lifetime is not None and SHAPES[venue].feed)
    assert differences(venue, rows) == (Counter(), Counter())


def lies(venue, dataset, rows, claims, end):
    """Everything that is stored of a venue's trades and that is not so."""
    tape, sure = truth(venue, seed=SEED), held(claims)
    first = min([*(row.venue_time for row in rows), *([sure.bounds[0]] if sure else [])], default=START)
    want = {row.trade_id: row for row in tape.trades(dataset.market, first - MINUTE, end)}
    have = {row.trade_id: evolve(row, received_at=None) for row in rows}
    wrong = [f"{row} did not happen" for number, row in have.items() if want.get(number) != row]
    wrong += [
        f"{row} is absent and held"
        for number, row in want.items()
        if number not in have and sure.touches(row.venue_time, row.venue_time + 1)
    ]
    return [*wrong, *(["a trade is there twice"] if len(have) != len(rows) else [])]


@pytest.fixture(scope="module")
def run():
    """The store and the report of a run over every venue, with a fifth of the feeds' messages withheld, and its end."""

    async def main():
        faults = [f"withhold=0.2@{venue}" for venue in FED] + ["lagging=3@polled%20"]
        async with serve(seed=SEED, venues=VENUES, speed=8, start=START, faults=faults) as served:
            wants = []
            for venue in VENUES:
                names = [f"{venue}:{market}" for market in MARKETS]
                wants += [
                    {"model": "trade", "markets": names, "history": "1m", "kind": SHAPES[venue].kind},
                    {"model": "candle", "markets": names[:1], "history": "3m", "interval": "1m"},
                ]
            config = {"store": "memory://", "venues": served.settings(), "collect": wants}
            async with Flood(config, clock=VenueTime(served.clock), patience=QUICK) as flood:
                report = await Runner(flood).run(asyncio.Event(), 16 * SECOND)
                # the session closes its store when it ends; what is looked at is taken out of it before
                kept = {}
                for dataset in flood.store.datasets():
                    kept[dataset] = (flood.store.read(dataset, 0, 1 << 62), flood.store.claims(dataset))
                return kept, report, served.clock.now()

    with venues():
        return asyncio.run(asyncio.wait_for(main(), 40))


MARKETS = ("BTC/USDT", "DOGE/USDT")
REACH = {"last60": 20, "offsets": 30, "polled": 30}
"""Seconds of BTC/USDT that a last page has at the least."""


@pytest.mark.loopback
@pytest.mark.parametrize("venue", VENUES)
def test_a_run_holds_no_more_than_it_has(venue, run):
    """All that is called held is there, and nothing is there twice; what the venue still had is held."""
    kept, report, end = run
    for market in MARKETS:
        dataset = Dataset(Trade, venue, market, (SHAPES[venue].kind,))
        rows, claims = kept.get(dataset, ([], []))
        assert lies(venue, dataset, rows, claims, end + HOUR) == []
        if market == "BTC/USDT":
            assert len(rows) > 60
            assert held(claims).size > REACH.get(venue, 60) * SECOND
    rows, _ = kept[Dataset(Candle, venue, "BTC/USDT", ("1m", "venue"))]
    have = [evolve(row, received_at=None) for row in rows if row.closed]
    real = truth(venue, seed=SEED).candles("BTC/USDT", "1m", START - 4 * MINUTE, START + MINUTE)
    assert len(have) > 1
    assert [row for row in real if row in have] == have
    assert not [text for text in report.failures if text.startswith(venue)]
