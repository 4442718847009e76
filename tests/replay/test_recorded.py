"""Recordings served again: what was said is said again, and what was not said is answered from what was."""

import asyncio
import json
from base64 import b64encode
from email.utils import formatdate
from fractions import Fraction

import httpx
import pytest
import websockets

from tradeflood import Flood
from tradeflood.errors import UsageError
from tradeflood.models import Candle, Market, Trade
from tradeflood.models.time import HOUR, MINUTE, MS, SECOND, iso, parse_time
from tradeflood.plugins import load
from tradeflood.replay.desk import Clock, HttpRequest, desk_of
from tradeflood.replay.recorded import Recorded
from tradeflood.replay.recording import read
from tradeflood.replay.server import serve
from tradeflood.transport.record import Recorder
from tradeflood.turns import Reply, get

load()

AT = parse_time("2024-01-02T00:00:00")
NOW = parse_time("2026-03-04T05:06:07.089")
STREAMS = ["btcusdt@trade", "ethusdt@trade"]


class Call:
    def __init__(self, request, venue="binance"):
        self.request, self.venue = request, venue


def kline(minute, close="2.00000000"):
    opened = (AT + minute * MINUTE) // MS
    return [opened, "1.00000000", "3.00000000", "0.50000000", close, "7.0", opened + 59_999, "9.0", 4, "1", "1", "0"]


def frame(stream, number, at):
    """A frame as the venue might write it, spaces and unknown fields included."""
    symbol = stream.partition("@")[0].upper()
    return (
        f'{{"stream": "{stream}", "data":{{"e":"trade","E":{at // MS},"s":"{symbol}","t":{number},"p":"10.50000000",'
        f'"q":"0.1000","T":{at // MS},"m":true,"M":true,"new":null}}}}'
    )


FRAMES = [(AT + n * SECOND, frame(STREAMS[n % 3 == 2], 100 + n, AT + n * SECOND)) for n in range(9)]
ACK = '{"result":null,"id":1}'


@pytest.fixture
def folder(tmp_path):
    """Three minutes of candles with a hole in them, one still running; merged trades, an error, frames."""
    recorder = Recorder(tmp_path / "kept")

    def rest(at, path, body, status=200, headers=(), **params):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        recorder.rest(Call(get(path, **params)), Reply(status, body, dict(headers), at))

    rows = [kline(0), kline(1), kline(4), kline(5)]
    dated = {"date": formatdate((AT + 5 * MINUTE + 30 * SECOND) // SECOND, usegmt=True), "content-type": "x/y"}
    rest(AT + 6 * MINUTE - 1, "/api/v3/klines", rows, headers=dated, symbol="BTCUSDT", interval="1m", limit=4)
    rest(AT + HOUR, "/api/v3/aggTrades", [], symbol="BTCUSDT", limit=1)
    rest(AT + HOUR + 1, "/api/v3/aggTrades", [
        {"a": 5, "p": "10.50", "q": "1", "f": 50, "l": 52, "T": AT // MS, "m": False, "M": True}
    ], symbol="BTCUSDT", limit=1)  # fmt: skip
    rest(AT + HOUR, "/api/v3/klines", {"code": -1121, "msg": "Invalid symbol."}, 400, symbol="NOPE", interval="1m")
    rest(AT + HOUR, "/api/v3/odd", b"\xff\xfe", symbol="BTCUSDT")
    rest(AT + HOUR, "/api/v3/ticker/24hr", [{"symbol": "BTCUSDT"}], symbols='["BTCUSDT"]')
    recorder.feed("binance", 1, AT, "connect", "", "wss://stream.binance.com:9443/stream")
    recorder.feed("binance", 1, AT, "out", '{"method":"SUBSCRIBE"}')
    recorder.feed("binance", 1, AT, "in", ACK)
    for at, text in FRAMES:
        recorder.feed("binance", 1, at, "in", text)
    recorder.feed("binance", 1, AT + HOUR, "in", b"\x00\xff not a frame")
    recorder.close()
    return tmp_path / "kept"


class Hand:
    """A clock that is moved by hand, in real ns."""

    def __init__(self):
        self.real = 0

    def __call__(self):
        return self.real


def desk_and_clock(folder, speed=1):
    hand = Hand()
    clock = Clock(1, NOW, monotonic=hand)
    kind = Recorded.load(folder).desk(desk_of("binance"), clock, Fraction(speed))
    return kind(Recorded.load(folder), clock), clock, hand


def ask(desk, path, **params):
    return desk.answer(HttpRequest("GET", path, {name: str(value) for name, value in params.items()}), NOW)


# --- REST ---


def test_an_equal_request_gets_the_recorded_bytes_status_and_date(folder):
    desk, *_ = desk_and_clock(folder)
    answer = ask(desk, "/api/v3/klines", symbol="BTCUSDT", interval="1m", limit=4)
    assert answer.body == json.dumps([kline(0), kline(1), kline(4), kline(5)]).encode()
    assert answer.headers == {"date": "Tue, 02 Jan 2024 00:05:30 GMT", "content-type": "x/y"}
    refused = ask(desk, "/api/v3/klines", symbol="NOPE", interval="1m")
    assert (refused.status, refused.body) == (400, b'{"code": -1121, "msg": "Invalid symbol."}')
    assert ask(desk, "/api/v3/odd", symbol="BTCUSDT").body == b"\xff\xfe"


def test_equal_requests_get_their_answers_in_order_and_then_the_last_one(folder):
    desk, *_ = desk_and_clock(folder)
    found = [json.loads(ask(desk, "/api/v3/aggTrades", symbol="BTCUSDT", limit=1).body) for _ in range(3)]
    assert [len(rows) for rows in found] == [0, 1, 1]


def test_other_pages_are_cut_from_the_rows_and_a_hole_stays_a_hole(folder):
    """The running candle of the recording was never closed in it: it is not shown as if it had been."""
    desk, *_ = desk_and_clock(folder)

    def opens(**params):
        rows = json.loads(ask(desk, "/api/v3/klines", symbol="BTCUSDT", interval="1m", **params).body)
        return [(row[0] * MS - AT) // MINUTE for row in rows]

    assert opens() == [0, 1, 4]
    assert opens(startTime=AT // MS + 1) == [1, 4]
    assert opens(limit=2) == [1, 4]
    assert opens(startTime=0, limit=2) == [0, 1]
    assert opens(startTime=0, endTime=AT // MS + 60_000) == [0, 1]
    rows = json.loads(ask(desk, "/api/v3/klines", symbol="BTCUSDT", interval="1m").body)
    assert rows[0][:6] == [AT // MS, "1.00000000", "3.00000000", "0.50000000", "2.00000000", "7.00000000"]
    assert (rows[0][7], rows[0][8]) == ("9.00000000", 4)


def test_frames_are_read_too_so_that_a_cut_can_be_refilled(folder):
    desk, *_ = desk_and_clock(folder)
    rows = json.loads(ask(desk, "/api/v3/historicalTrades", symbol="BTCUSDT", fromId=103, limit=2).body)
    assert [(row["id"], row["price"], row["isBuyerMaker"]) for row in rows] == [
        (103, "10.50000000", True),
        (104, "10.50000000", True),
    ]
    merged = json.loads(ask(desk, "/api/v3/aggTrades", symbol="BTCUSDT", startTime=AT // MS).body)
    assert [(row["a"], row["f"], row["l"]) for row in merged] == [(5, 50, 52)]


def test_a_list_asked_for_otherwise_is_the_list_as_it_was_told(folder):
    desk, *_ = desk_and_clock(folder)
    assert ask(desk, "/api/v3/ticker/24hr", symbols='["ETHUSDT"]').body == b'[{"symbol": "BTCUSDT"}]'


def test_without_a_list_the_markets_are_those_of_which_there_is_something(folder):
    found = Recorded.load(folder).at("binance").markets()
    assert sorted((row.market, row.symbol) for row in found) == [("BTC/USDT", "BTCUSDT"), ("ETH/USDT", "ETHUSDT")]


def test_a_lagging_replica_hides_rows_of_a_recording_too(folder):
    source = Recorded.load(folder).at("binance")
    assert len(source.trades("BTC/USDT", "raw", now=AT + 3 * SECOND)) == 3
    assert source.bar("BTC/USDT", AT, AT + MINUTE, AT + SECOND).trades == 2
    assert source.bars("BTC/USDT", "1m", now=AT + 4 * MINUTE - 1) == source.bars("BTC/USDT", "1m", now=NOW, limit=2)


# --- frames ---


def connected(desk, hand, *streams):
    said = desk.connect("/stream", {}, NOW + hand.real)
    if streams:
        subscribe(said, hand, *streams)
    return said


def subscribe(said, hand, *streams, verb="SUBSCRIBE"):
    said.receive(json.dumps({"method": verb, "params": streams, "id": 1}), NOW + hand.real)


def heard(said, hand, until):
    """Everything that is sent up to a moment of the recording at speed 1."""
    hand.real = until
    found = []
    while frames := said.advance(NOW + hand.real):
        found += frames
    return [frame for frame in found if isinstance(frame, str)]


def of(*streams, first=0, last=9):
    return [text for n, (_, text) in enumerate(FRAMES) if STREAMS[n % 3 == 2] in streams and first <= n < last]


def test_frames_are_sent_byte_for_byte_by_topic_and_paced(folder):
    desk, _, hand = desk_and_clock(folder)
    said = connected(desk, hand, "btcusdt@trade")
    assert heard(said, hand, 0) == of("btcusdt@trade", last=1)
    assert heard(said, hand, 4 * SECOND - 1) == of("btcusdt@trade", first=1, last=4)
    assert heard(said, hand, 30 * SECOND) == of("btcusdt@trade", first=4)
    assert heard(said, hand, MINUTE) == []
    assert not said.ended, "a connection outlives its tape"


def test_speed_makes_the_tape_run_faster(folder):
    desk, _, hand = desk_and_clock(folder, speed=8)
    said = connected(desk, hand, *STREAMS)
    assert heard(said, hand, SECOND) == of(*STREAMS)


def test_the_tape_waits_for_the_first_subscriber(folder):
    desk, _, hand = desk_and_clock(folder)
    assert heard(connected(desk, hand, "solusdt@trade"), hand, MINUTE) == []
    assert heard(connected(desk, hand, *STREAMS), hand, MINUTE) == of(*STREAMS, last=1)


def test_a_topic_that_nobody_had_comes_whole_and_one_that_was_played_goes_on(folder):
    """As after a cut: what was sent meanwhile is not sent again, REST has it."""
    desk, _, hand = desk_and_clock(folder)
    first = connected(desk, hand, "btcusdt@trade")
    heard(first, hand, 3 * SECOND)
    second = connected(desk, hand, "btcusdt@trade", "ethusdt@trade")
    assert heard(second, hand, 5 * SECOND) == [*of("ethusdt@trade", last=3), *of(*STREAMS, first=4, last=6)]
    subscribe(first, hand, "ethusdt@trade")
    assert heard(first, hand, MINUTE) == [*of("btcusdt@trade", first=4, last=6), *of(*STREAMS, first=6)]


def test_unsubscribing_ends_a_topic(folder):
    desk, _, hand = desk_and_clock(folder)
    said = connected(desk, hand, *STREAMS)
    heard(said, hand, 3 * SECOND)
    subscribe(said, hand, "btcusdt@trade", verb="UNSUBSCRIBE")
    assert heard(said, hand, MINUTE) == of("ethusdt@trade", first=4)


def test_files_are_merged_by_time_and_each_keeps_its_order(tmp_path):
    """A clock that was set back does not reorder what one connection said."""
    place = tmp_path / "binance"
    place.mkdir()
    for name, times in {"feed-1-1": [10, 30, 20, 40], "feed-2-1": [15, 35]}.items():
        lines = [{"at": at, "dir": "in", "text": f"{name}:{at}"} for at in times]
        (place / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    texts = [line.text.removeprefix("feed-") for line in read(tmp_path)["binance"].frames]
    assert texts == ["1-1:10", "2-1:15", "1-1:30", "1-1:20", "2-1:35", "1-1:40"]


# --- what is wrong is said in one line ---

GOOD = {"at": 1, "method": "GET", "path": "/", "params": {}, "status": 200}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("rest-1.jsonl", "{", "no line of a recording"),
        ("rest-1.jsonl", json.dumps({**GOOD, "body": 3}), r"Expected `str \| null`.*\$.body"),
        ("rest-1.jsonl", json.dumps(GOOD), "neither body nor base64"),
        ("rest-1.jsonl", json.dumps({**GOOD, "base64": "%"}), "base64|Non-base64"),
        ("rest-1.jsonl", json.dumps({"at": 1}), "missing required field"),
        ("feed-1-1.jsonl", json.dumps({"at": 1, "dir": "sideways", "text": ""}), "sideways"),
        ("feed-1-1.jsonl", json.dumps({"at": 1, "dir": "in"}), "neither text nor base64"),
        ("feed-1-1.jsonl", '{"at":1,"dir":"in","te', "JSON is malformed"),
    ],
)
def test_a_malformed_line_is_named_with_its_file_and_number(tmp_path, name, text, says):
    place = tmp_path / "binance"
    place.mkdir()
    good = {"at": 1, "dir": "in", "text": "x"} if name.startswith("feed") else {**GOOD, "body": ""}
    (place / name).write_text(f"{json.dumps(good)}\n\n{text}\n")
    with pytest.raises(UsageError, match=says) as caught:
        Recorded.load(tmp_path)
    assert f"{name}, line 3" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(UsageError, match="there is no such folder"):
        Recorded.load(tmp_path / "nothing")
    with pytest.raises(UsageError, match="no recording in"):
        Recorded.load(tmp_path)
    (tmp_path / "utopia").mkdir()
    (tmp_path / "utopia" / "rest-1.jsonl").write_text(json.dumps({**GOOD, "body": ""}))
    with pytest.raises(UsageError, match="no venue 'utopia'"):
        Recorded.load(tmp_path)


def test_a_venue_that_was_not_recorded(folder):
    with pytest.raises(UsageError, match="no recording of okx; there is binance"):
        Recorded.load(folder).at("okx")


def test_binary_frames_stay_binary(tmp_path):
    place = tmp_path / "binance"
    place.mkdir()
    line = {"at": 1, "dir": "in", "base64": b64encode(b"\xff\x00").decode()}
    (place / "feed-1-1.jsonl").write_text(json.dumps(line))
    assert read(tmp_path)["binance"].frames[0].frame == b"\xff\x00"


# --- on the wire ---


@pytest.mark.loopback
def test_the_wire_says_what_was_recorded(folder):
    """One Date, the recorded one; frames unchanged; the connection is open when the tape is over."""

    async def main():
        async with serve(Recorded.load(folder), speed=1000, venues=["binance"]) as served:
            rest, feed = served["binance"]
            async with httpx.AsyncClient(base_url=rest) as http:
                params = {"symbol": "BTCUSDT", "interval": "1m", "limit": 4}
                told = await http.get("/api/v3/klines", params=params)
                cut = await http.get("/api/v3/klines", params={**params, "limit": 2})
            async with websockets.connect(f"{feed}/stream?streams={'/'.join(STREAMS)}") as client:
                frames = [await client.recv() for _ in FRAMES]
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.recv(), 0.05)
                await asyncio.wait_for(await client.ping(), 1)
            return told.headers.get_list("date"), cut.headers.get_list("date"), frames

    told, cut, frames = asyncio.run(asyncio.wait_for(main(), 10))
    assert told == ["Tue, 02 Jan 2024 00:05:30 GMT"]
    assert len(cut) == 1
    assert "2024" not in cut[0]
    assert frames == [text for _, text in FRAMES]


MARKETS = {
    "binance": ("BTC/USDT", "1m"),
    "okx": ("BTC/USDT", "1m"),
    "bitget": ("BTC/USDT", "1m"),
    "nobitex": ("BTC/IRT", "1m"),
}


async def collected(settings, venue, start, end, wanted, **config):
    """Markets, trades and candles of a span, and the ids of some live trades."""
    market, interval = MARKETS[venue]
    name = f"{venue}:{market}"
    live = []
    async with Flood({"venues": settings, **config}) as flood:
        found = [
            await flood.collect(Market, f"{venue}:*"),
            await flood.collect(Trade, name, start=start, end=end),
            await flood.collect(Candle, name, start=start, end=end, interval=interval),
        ]
        async for batch in flood.stream(Trade, name).batches():
            live += batch
            if len(live) >= wanted:
                break
    for row in (row for frame in found[1:] for row in frame):
        row.received_at = None
    assert not any(frame.failures for frame in found)
    return [list(frame) for frame in found], [row.trade_id for row in live]


@pytest.mark.loopback
@pytest.mark.parametrize("venue", MARKETS)
def test_what_run_records_is_collected_again_from_the_recording(venue, tmp_path):
    """Recorded from the simulated market and asked again, in other words and by another clock: the same rows."""

    async def main():
        async with serve(venues=[venue], speed=60) as served:
            now = served.clock.now() // MINUTE * MINUTE
            span = iso(now - 10 * MINUTE), iso(now)
            first = await collected(served.settings(), venue, *span, 4, record=str(tmp_path))
        async with serve(Recorded.load(tmp_path), [venue], speed=1000) as served:
            return first, await collected(served.settings(), venue, *span, len(first[1]))

    (rows, live), (again, live_again) = asyncio.run(asyncio.wait_for(main(), 20))
    assert all(rows)
    assert len(rows[2]) == 10
    assert again == rows
    assert live_again[: len(live)] == live
