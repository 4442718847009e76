"""A recording read anew: the same rows where nothing changed, corrected ones where a parser was, and whose word it is."""

import asyncio
import json
from decimal import Decimal

import pytest
from attrs import evolve

from tradeflood import plugins
from tradeflood.cli.main import main
from tradeflood.connectors.binance import Binance, BinanceTrades
from tradeflood.coverage import Dataset, Grade, State, held, stretches
from tradeflood.errors import UsageError
from tradeflood.models import Candle, Market, Ticker, Trade
from tradeflood.models.time import HOUR, MINUTE, MS, SECOND, iso, parse_time
from tradeflood.planner.proofs import parser_of
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.execute import Patience
from tradeflood.runner.flood import Flood
from tradeflood.runner.keeper import Keeper
from tradeflood.runner.line import Channel
from tradeflood.runner.stream import subscription
from tradeflood.spans import Spans
from tradeflood.store import open_store
from tradeflood.testing import FakeClock, FakeTransport, answers_of
from tradeflood.transport import Recorder
from tradeflood.turns import registry, turn_execution

NOW = parse_time("2026-03-04T05:06:07")
START = parse_time("2026-03-04T04:00:00")
BTC = "binance:BTC/USDT"
DATASET = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
TOPIC = "btcusdt@trade"


CLOSE = Flood.close_store


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Stores last for the test, however often a session is entered."""
    monkeypatch.chdir(tmp_path)
    plugins.load()
    left = []
    monkeypatch.setattr(Flood, "close_store", lambda flood: left.append(flood))  # noqa: PLW0108 - it is bound
    with registry.scope():
        yield
    for flood in left:
        CLOSE(flood)


def session(store="memory://", venue="binance", **config):
    clock = FakeClock(NOW)
    answer = answers_of(desk_of(venue)(Simulated(3), Clock(1, NOW, monotonic=clock.now)), clock)
    return Flood(
        {"store": store, **config}, transport=FakeTransport(answer, clock), clock=clock, patience=Patience(attempts=1)
    )


def inside(flood, work):
    async def run():
        async with flood:
            return await work(flood)

    return asyncio.run(run())


def collected(flood, *models, last=5):
    """What a session collects over REST, and records where it is told to."""
    span = {"start": iso(START), "end": iso(START + last * MINUTE)}

    async def work(flood):
        for model, market, words in models:
            await flood.collect(model, market, **({} if model in {Market, Ticker} else span), **words)

    inside(flood, work)
    return flood.store


def anew(flood, folder="kept", **more):
    return inside(flood, lambda flood: flood.reread(folder, **more))


def rows_of(store, dataset=DATASET):
    return store.read(dataset, START - HOUR, NOW)


def frame_of(number, price="10.50000000"):
    at = START + number * SECOND
    said = {"e": "trade", "E": at // MS, "s": "BTCUSDT", "t": number, "p": price, "q": "0.1", "T": at // MS, "m": True}
    return json.dumps({"stream": TOPIC, "data": {**said, "M": True}}).encode()


def streamed(flood, batches, folder="kept"):
    """Live frames as a line takes them in: recorded, heard, packed, stored with what they prove."""
    connector = flood.venues.connector("binance")
    binding = flood.venues.registry.binding(type(connector), Trade, ("raw",))
    store, recorder = flood.open_store(), Recorder(folder)
    recorder.open()
    (ask,) = inside(flood, lambda flood: flood.asks([flood.queries(Trade, [BTC], iso(START), iso(NOW))[0]]))
    channel, keeper = Channel(subscription(ask, connector, binding()), START), Keeper(flood.venues, store)
    number = recorder.connection()
    recorder.feed("binance", number, START, "connect", "", "wss://somewhere/stream")
    for at, frames in batches:
        for data in frames:
            recorder.feed("binance", number, at, "in", data)
            for event in connector.hear(data):
                channel.add(event)
        keeper.write(channel.models(at, pytest.fail))
    keeper.close()
    recorder.close()
    return store


BATCHES = [
    (START + at * SECOND + 7, [frame_of(n) for n in range(first, first + 3)])
    for at, first in enumerate(range(100, 130, 3))
]


# ---------------------------------------------------------------- nothing changed


@pytest.mark.parametrize("venue", ["binance", "okx", "bitget", "nobitex"])
def test_what_was_collected_is_read_out_of_its_recording(venue):
    """Markets, tickers, trades and candles: the same rows, each once, and claims no better than the venue's answers."""
    name = f"{venue}:BTC/{'IRT' if venue == 'nobitex' else 'USDT'}"
    wanted = ((Market, f"{venue}:*", {}), (Ticker, name, {}), (Trade, name, {}), (Candle, name, {"interval": "1m"}))
    first = collected(session(venue=venue, record="kept"), *wanted)
    other = session(venue=venue)
    told = anew(other)
    second = other.store
    assert told.unreadable == 0
    assert told.rows
    assert second.read_list(Market, venue) == first.read_list(Market, venue)
    assert second.read_list(Ticker, venue) == first.read_list(Ticker, venue)
    assert {each.dataset for each in first.summary()} <= {each.dataset for each in second.summary()}
    for dataset in (each.dataset for each in first.summary()):
        rows = {row.position: row for row in rows_of(second, dataset)}  # and some that came beside the range
        assert [rows[row.position] for row in rows_of(first, dataset)] == rows_of(first, dataset)
        for claim in second.claims(dataset):
            assert claim.state is State.HELD
            assert claim.grade is Grade.A
            assert claim.count == len([1 for row in rows_of(second, dataset) if claim_has(claim, row)])


def claim_has(claim, row):
    if isinstance(row, Candle):
        return claim.start <= row.open_time < claim.end
    return int(claim.left) <= int(row.trade_id) < int(claim.right)


def test_frames_are_read_as_they_were_heard():
    """The same rows, the same moments and the same claims as the live feed had."""
    flood = session()
    first = streamed(flood, BATCHES)
    other = session()
    told = anew(other)
    assert told.rows == {DATASET: 30}
    assert rows_of(other.store) == rows_of(first)
    assert stretches(other.store.claims(DATASET)) == stretches(first.claims(DATASET))
    assert held(first.claims(DATASET))


def test_reading_it_twice_changes_nothing():
    streamed(session(), BATCHES)
    flood = session()
    anew(flood)
    rows, claims = rows_of(flood.store), flood.store.claims(DATASET)
    anew(flood)
    assert rows_of(flood.store) == rows
    assert flood.store.claims(DATASET) == claims


def test_a_refill_that_came_later_joins_what_the_feed_brought():
    """Frames with a hole, the hole by REST: read anew, it is one run of ids."""
    flood = session()
    source = Simulated(3).at("binance")
    truth = source.trades("BTC/USDT", "raw", now=NOW, start=START, end=START + 3 * MINUTE, limit=10**6)
    recorder = Recorder("kept")
    recorder.open()
    for row in truth:
        if not START + MINUTE <= row.venue_time < START + 2 * MINUTE:
            said = {"e": "trade", "E": 1, "s": "BTCUSDT", "t": int(row.trade_id), "p": str(row.price), "M": True}
            said |= {"q": str(row.size), "T": row.venue_time // MS, "m": row.aggressor == "sell"}
            text = json.dumps({"stream": TOPIC, "data": said})
            recorder.feed("binance", 1, row.venue_time + 5 * MS, "in", text)
    recorder.close()
    collected(session(record="kept"), (Trade, BTC, {}), last=2)
    told = anew(flood)
    assert told.unreadable == 0
    stored = [row.trade_id for row in rows_of(flood.store) if row.venue_time < START + 3 * MINUTE]
    assert stored == [row.trade_id for row in truth]
    lacking = Spans.of((truth[0].venue_time + 1, truth[-1].venue_time)) - held(flood.store.claims(DATASET))
    assert not lacking


def test_times_stay_as_fine_as_the_feed_told_them():
    """Bitget's feed tells milliseconds, and the same trades by REST whole seconds: once collected, and read anew."""
    truth = Simulated(3).at("bitget").trades("BTC/USDT", "raw", now=NOW, start=START, end=START + MINUTE, limit=10**6)
    recorder = Recorder("kept")
    recorder.open()
    for row in truth:
        said = {"ts": str(row.venue_time // MS), "price": str(row.price), "size": str(row.size)}
        said |= {"side": row.aggressor, "tradeId": row.trade_id}
        about = {"instType": "SPOT", "channel": "trade", "instId": "BTCUSDT"}
        text = json.dumps({"action": "update", "arg": about, "data": [said], "ts": row.venue_time // MS})
        recorder.feed("bitget", 1, row.venue_time + 5 * MS, "in", text)
    recorder.close()
    dataset = Dataset(Trade, "bitget", "BTC/USDT", ("raw",))
    flood = session(venue="bitget", record="kept")
    flood.open_store().write({Trade: [evolve(row, received_at=row.venue_time + 5 * MS) for row in truth]})
    for store in (collected(flood, (Trade, "bitget:BTC/USDT", {}), last=2), anew_of("bitget").store):
        times = {row.trade_id: row.venue_time for row in rows_of(store, dataset)}
        assert times.items() >= {row.trade_id: row.venue_time for row in truth}.items()
        assert {at % SECOND for name, at in times.items() if int(name) > int(truth[-1].trade_id)} == {0}


def anew_of(venue):
    flood = session(venue=venue)
    assert anew(flood).unreadable == 0
    return flood


@pytest.mark.loopback
@pytest.mark.parametrize("venue", ["binance", "okx", "bitget"])
def test_a_live_run_is_read_out_of_its_recording(venue):
    """Over a real connection: every row as it was handed on, to the moment of its arrival."""
    live = []

    async def main():
        async with (
            serve(venues=[venue], speed=60) as served,
            Flood({"venues": served.settings(), "record": "kept"}) as flood,
        ):
            async for batch in flood.stream(Trade, f"{venue}:BTC/USDT").batches():
                live.extend(batch)
                if len(live) >= 50:
                    break
        async with Flood({"store": "memory://"}) as flood:
            told = await flood.reread("kept")
            dataset = Dataset(Trade, venue, "BTC/USDT", ("raw",))
            return told, {row.position: row for row in flood.store.read(dataset, 0, 1 << 62)}

    told, rows = asyncio.run(asyncio.wait_for(main(), 20))
    assert told.unreadable == 0
    assert [rows[row.position] for row in live] == live


# ---------------------------------------------------------------- a parser that is corrected


class Wrong:
    """A connector that takes the price for ten times what it is, and its bindings."""

    def __init__(self):
        class WrongBinance(Binance):
            version = 1

        class WrongTrades(BinanceTrades, connector=WrongBinance):
            @turn_execution
            def pack(self, rows, market):
                return [evolve(row, price=row.price * 10) for row in BinanceTrades.pack.pure(rows, market)]

            @turn_execution
            def pack_live(self, rows, market):
                return [evolve(row, price=row.price * 10) for row in BinanceTrades.pack_live.pure(rows, market)]

        self.connector, self.trades = WrongBinance, WrongTrades


def correct(wrong):
    class RightBinance(wrong.connector):
        version = 2

    class RightTrades(wrong.trades, connector=RightBinance):
        pack = BinanceTrades.pack
        pack_live = BinanceTrades.pack_live

    return RightBinance


@pytest.mark.parametrize("url", ["memory://", "chdb://./store"])
def test_a_corrected_parser_replaces_what_the_wrong_one_stored(url):
    """Answers and frames: values corrected, nothing doubled, and the claims say which parser they trust."""
    wrong = Wrong()
    flood = session(record="kept", store=url)
    old = parser_of(flood.venues.connector("binance"))
    store = collected(flood, (Trade, BTC, {}))
    truth = (
        Simulated(3).at("binance").trades("BTC/USDT", "raw", now=NOW, start=START, end=START + 5 * MINUTE, limit=10**6)
    )
    assert [row.price for row in rows_of(store)] == [row.price * 10 for row in truth]
    before = store.claims(DATASET)
    assert {claim.parser for claim in before} == {old}

    correct(wrong)
    other = session()
    other._store = store
    told = anew(other)
    new = parser_of(other.venues.connector("binance"))
    assert told.unreadable == 0
    assert told.parsers == {"binance": new}
    assert new != old
    assert new.endswith(" 2")
    rows = rows_of(store)
    assert [(row.trade_id, row.price, row.size) for row in rows] == [
        (row.trade_id, row.price, row.size) for row in truth
    ]
    claims = store.claims(DATASET)
    assert [claim for claim in claims if claim.parser == old] == before
    assert sum(claim.count for claim in claims if claim.parser == new) >= len(truth) - 2


def test_wrong_frames_are_corrected_too():
    """Live rows are stamped with the moment that is recorded, so that what is read anew counts as no older."""
    wrong = Wrong()
    store = streamed(session(), BATCHES)
    old = {claim.parser for claim in store.claims(DATASET)}
    assert {row.price for row in rows_of(store)} == {Decimal(105)}
    correct(wrong)
    other = session()
    other._store = store
    anew(other)
    rows = rows_of(store)
    assert {row.price for row in rows} == {Decimal("10.5")}
    assert [row.trade_id for row in rows] == [str(n) for n in range(100, 130)]
    claims = store.claims(DATASET)
    by_parser = {name: held(claim for claim in claims if claim.parser == name) for name in {c.parser for c in claims}}
    assert len(by_parser) == 2
    assert len(set(by_parser.values())) == 1
    assert old < set(by_parser)


# ---------------------------------------------------------------- what cannot be read


def test_what_cannot_be_read_is_counted_and_the_rest_is_stored():
    recorder = Recorder("kept")
    recorder.open()
    broken = frame_of(101).replace(b'"t": 101', b'"t": "x"')
    for number, data in enumerate([frame_of(100), broken, b"\xff\x00", frame_of(102)]):
        recorder.feed("binance", 1, START + number, "in", data)
    recorder.close()
    with (next(iter((recorder.folder / "binance").iterdir()))).open("ab") as file:
        file.write(b'{"at":17')  # killed while it wrote
    flood = session()
    told = anew(flood)
    assert [row.trade_id for row in rows_of(flood.store)] == ["100", "102"]
    assert told.rows == {DATASET: 2}


def test_where_there_is_no_recording_it_says_so(tmp_path):
    with pytest.raises(UsageError, match="there is no such folder"):
        anew(session(), "nowhere")
    (tmp_path / "empty" / "binance").mkdir(parents=True)
    with pytest.raises(UsageError, match="no recording in empty"):
        anew(session(), "empty")
    (tmp_path / "odd" / "utopia").mkdir(parents=True)
    (tmp_path / "odd" / "utopia" / "rest-1.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match="no venue 'utopia'"):
        anew(session(), "odd")


# ---------------------------------------------------------------- the command


def test_the_command_reads_a_recording_into_a_store(capsys, monkeypatch):
    streamed(session(), BATCHES)
    monkeypatch.setattr(Flood, "close_store", CLOSE)

    def run(*words):
        with pytest.raises(SystemExit) as end:
            main(["replay", *words])
        return end.value.code, *capsys.readouterr()

    code, out, err = run("kept", "--into", "chdb://./store")
    assert (code, err) == (0, "")
    assert "30" in out
    with open_store("chdb://./store") as store:
        assert len(rows_of(store)) == 30
    code, out, _ = run("kept", "--into", "chdb://./store", "--json")
    document = json.loads(out)
    assert document["rows"] == 30
    assert document["parsers"] == {"binance": "tradeflood.connectors.binance.Binance 1"}
    assert run("--into", "chdb://./store")[0] == 2
    assert run("kept", "--into", "nonsense")[0] == 2
    assert run("kept", "--into", "chdb://./store", "--port", "9")[0] == 2
