"""Binance spot as it really was: recordings through the whole way, and against every independent answer beside them.

Counts come from the recordings themselves: what is stored is compared with the recorded bodies and frames as decimals,
read here with the standard library, not with our parsers. Run with `-s` to see what each test compared.
"""

import asyncio
import csv
import gzip
import io
import json
import re
import signal
import subprocess
import sys
from decimal import ROUND_DOWN, Decimal
from itertools import pairwise

import pytest

from as_recorded import FEED, KLINES, PAIRS, write_binance
from tradeflood import Flood
from tradeflood.connectors.binance import Binance, BinanceCandles, BinanceMarkets, BinanceMergedTrades, BinanceTrades
from tradeflood.coverage import Grade, State
from tradeflood.coverage.candles import candles_of
from tradeflood.errors import Refused, UnknownMarket
from tradeflood.models import Candle, Market, Side, Trade, interval
from tradeflood.models.time import HOUR, MS, iso, parse_time
from tradeflood.planner import Query
from tradeflood.replay.recorded import Recorded
from tradeflood.replay.server import serve
from tradeflood.turns import Reply, Rows

pytestmark = pytest.mark.recordings

MARKET = "binance:BTC/USDT"
AGG = "binance/rest_spot_aggtrades_btcusdt_1000.json"
RAW = "binance/rest_spot_trades_ethbtc_1000.json"
LIST = "binance/rest_spot_exchangeinfo_20211012.txt.gz"


@pytest.fixture(scope="module")
def folder(recordings, tmp_path_factory):
    """The recordings in the form that `run --record` writes."""
    return write_binance(recordings, tmp_path_factory.mktemp("recorded"))


def say(recording, expected, stored, note=""):
    """What a test compared, for whoever looks on."""
    sys.stdout.write(f"\n{recording}: expected {expected}, stored {stored}{note and f'; {note}'}")


def numbers(*texts):
    return tuple(Decimal(text) for text in texts)


def recorded_candles(recordings, *names):
    """Open time and the numbers of every candle in some bodies, as the venue sent them."""
    return [
        (row[0] * MS, *numbers(row[1], row[2], row[3], row[4], row[5], row[7]), row[8])
        for name in names
        for row in recordings.load(name)
    ]


def told(rows):
    return [(r.open_time, r.open, r.high, r.low, r.close, r.volume, r.quote_volume, r.trades) for r in rows]


def recorded_trades(recordings):
    """Id, price, size, side and time of every trade among the frames."""
    frames = (json.loads(event.payload) for event in recordings.events(FEED))
    return [
        (str(d["t"]), *numbers(d["p"], d["q"]), "sell" if d["m"] else "buy", d["T"] * MS)
        for d in (frame.get("data", {}) for frame in frames)
        if d.get("e") == "trade"
    ]


# ---------------------------------------------------------------- the whole way, as commands

RANGES = {
    "1d": (KLINES[:1], "2019-01-01", "2020-01-02", 366),
    "1h": (KLINES[1:3], "2020-04-30T21:00:00Z", "2020-07-01T04:00:00Z", 1_468),
    "1m": (KLINES[3:], "2020-05-06T04:42:00Z", "2020-05-06T05:42:00Z", 60),
}


def tradeflood(place, *words):
    """Standard output of a command that must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "tradeflood.cli.main", *words],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


class Replay:
    """`tradeflood replay` of a folder in a process of its own; a configuration that points Binance at it is written."""

    def __init__(self, place, folder):
        self.place, self.folder = place, folder

    def __enter__(self):
        words = ["replay", str(self.folder), "--port", "0", "--speed", "1000", "--for", "60s", "--json"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tradeflood.cli.main", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        lines = ""
        while not lines.endswith("}\n}\n") and (line := self.process.stdout.readline()):
            lines += line.strip() + "\n"
        urls = json.loads(lines)["binance"]
        (self.place / "tradeflood.toml").write_text(
            f'store = "chdb://./store"\n[venues.binance]\nrest_url = "{urls["rest_url"]}"\nfeed_url = "{urls["feed_url"]}"\n'
            f'[[collect]]\nmodel = "trade"\nmarkets = ["{MARKET}"]\n'
        )
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        with self.process:
            self.process.communicate(timeout=20)


DUMP = """
import json, sys
from tradeflood.models.forms import to_json
from tradeflood.plugins import load
from tradeflood.store import open_store

load()
with open_store("chdb://./store") as store:
    json.dump({" ".join(d.variant): [to_json(row) for row in store.read(d, 0, 1 << 62)] for d in store.datasets()}, sys.stdout)
"""


@pytest.mark.loopback
def test_recordings_are_stored_exactly_by_the_commands_and_only_once(recordings, folder, tmp_path):
    """`tradeflood run` and `tradeflood collect` against `tradeflood replay`: each row of the recordings, no other, once."""
    pytest.importorskip("chdb")
    trades = recorded_trades(recordings)
    assert len(trades) == 9_757
    for number, new in enumerate([len(trades), 0]):  # a replay of its own for each run, so that every frame comes twice
        with Replay(tmp_path, folder):
            (line,) = json.loads(tradeflood(tmp_path, "run", "--for", "2s", "--json"))["collected"]
            for name, (_, start, end, _) in RANGES.items() if not number else [("1h", RANGES["1h"])]:
                words = ("candle", MARKET, "--interval", name, "--start", start, "--end", end, "--out", "store")
                tradeflood(tmp_path, "collect", *words)
        say(f"{FEED}, run {number + 1}", f"{new} new", f"{line['new']} new")
        assert (line["rows"], line["new"]) == (len(trades), new)
    done = subprocess.run([sys.executable, "-c", DUMP], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    stored = json.loads(done.stdout)
    say(FEED, len(trades), len(stored["raw"]))
    assert [
        (r["trade_id"], *numbers(r["price"], r["size"]), r["aggressor"], parse_time(r["venue_time"]))
        for r in stored["raw"]
    ] == trades
    names = "open high low close volume quote_volume".split()
    for name, (files, _, _, count) in RANGES.items():
        rows, expected = stored[f"{name} venue"], recorded_candles(recordings, *files)
        say(" + ".join(files), count, len(rows))
        assert len(expected) == count
        assert [(parse_time(r["open_time"]), *numbers(*(r[n] for n in names)), r["trades"]) for r in rows] == expected


# ---------------------------------------------------------------- the same, in one process and looked at closely


async def twice(settings, *query, **words):
    """The frames of asking twice with one store, and how many requests each took."""
    frames, asked, nodes = [], [], []
    async with Flood({"store": "memory://", "venues": settings}) as flood:
        for _ in range(2):
            before = len(nodes)
            (frame,) = await flood.run(flood.plan(Query(*query, **words)), lambda *_: nodes.append(1))
            frames.append(frame)
            asked.append(len(nodes) - before)
        rows = sum(summary.rows for summary in flood.store.summary())
    return frames, asked, rows


def replayed(folder, *query, **words):
    async def main():
        async with serve(Recorded.load(folder), ["binance"]) as served:
            return await twice(served.settings(), *query, **words)

    return asyncio.run(asyncio.wait_for(main(), 20))


@pytest.mark.loopback
@pytest.mark.parametrize("name", RANGES)
def test_recorded_candles_are_collected_exactly_and_asked_for_once(recordings, folder, name):
    files, start, end, count = RANGES[name]
    (frame, again), asked, rows = replayed(folder, Candle, MARKET, start=start, end=end, interval=name)
    expected = recorded_candles(recordings, *files)
    say(" + ".join(files), len(expected), rows, f"{asked[0]} requests, then {asked[1]}")
    assert len(expected) == rows == count
    assert told(frame) == told(again) == expected
    assert {row.closed for row in frame} == {True}
    assert asked == [-(-count // 1_000), 0]


@pytest.mark.loopback
def test_the_hole_of_2020_is_held_as_absent_between_two_rows(recordings, folder):
    """The venue stood still from 02:00 to 05:00 on 2020-06-28: three hours have no candle, then or ever."""
    _, start, end, _ = RANGES["1h"]
    (frame, _), *_ = replayed(folder, Candle, MARKET, start=start, end=end, interval="1h")
    (parts,) = frame.coverage.parts.values()
    for part in parts:
        sys.stdout.write(f"\n{iso(part.start)} … {iso(part.end)}  {part.state} {part.grade}  {part.evidence}")
    hole = parse_time("2020-06-28T02:00:00Z"), parse_time("2020-06-28T05:00:00Z")
    steps = [
        (one.open_time + HOUR, two.open_time) for one, two in pairwise(frame) if two.open_time - one.open_time != HOUR
    ]
    assert steps == [hole]
    assert [(part.start, part.end, part.state, part.grade, part.evidence) for part in parts] == [
        (parse_time(start), hole[0], State.HELD, Grade.A, "closed candles on their grid"),
        (*hole, State.HELD, Grade.B, "absent between two rows"),
        (hole[1], parse_time(end), State.HELD, Grade.A, "closed candles on their grid"),
    ]


@pytest.mark.loopback
def test_recorded_merged_trades_are_collected_by_time(recordings, folder):
    """Two days and a half, in pages that the planner cut, from ids that it found by time."""
    rows = [pair["info"] for pair in recordings.load(PAIRS)]
    span = {"start": "2019-10-11", "end": "2019-10-13T11:20:00Z"}
    (frame, again), asked, stored = replayed(folder, Trade, "binance:XRP/ETH", kind="merged", **span)
    say(PAIRS, len(rows), stored, f"{asked[0]} requests, then {asked[1]}")
    assert len(rows) == stored == 12_477
    assert [row.trade_id for row in frame] == [row.trade_id for row in again] == [str(row["a"]) for row in rows]
    (parts,) = frame.coverage.parts.values()
    assert parts[0].state is State.PENDING  # what lies before the oldest row is asked for twice, and nothing else is
    assert asked[1] == 3


@pytest.mark.loopback
def test_the_recorded_list_is_collected(recordings, folder):
    """Asked in other words than it was recorded: the newest list, as it was told."""
    (frame, _), *_ = replayed(folder, Market, "binance:*")
    expected = recordings.load("binance/rest_spot_exchangeinfo_2025_part.json")["symbols"]
    say("binance/rest_spot_exchangeinfo_2025_part.json", len(expected), len(frame))
    assert {row.symbol for row in frame} == {row["symbol"] for row in expected}


# ---------------------------------------------------------------- independent answers

BEYOND = {  # oracles of what this library does not read yet
    "binance/rest_spot_depth_20211012.txt.gz": "books",
    "binance/ws_spot_mixed_20211012.txt": "its oracle is about books; its trades and candles are read below",
    "binance/ws_spot_btcusdt_20240808.txt.gz": "its oracle is about books; its trades are stored above",
}
CHECKED = {
    "binance/candles_xrpeth_1m_20191011.csv.gz", "binance/candles_xrpeth_5m_20191011.csv.gz", AGG, PAIRS, LIST,
    *KLINES[1:3], RAW, "binance/ws_tardis_pairs_spot.json", "binance/ws_klines_2026_ccxt.json",
}  # fmt: skip


def test_every_spot_recording_with_an_oracle_is_checked_or_has_a_reason(recordings):
    ours = {"market", "trade", "candle", "ticker"}
    found = {
        entry["file"]
        for entry in recordings.index
        if entry["venue"] == "binance" and entry["oracle"] and entry["product"] in {"spot", "mixed", None}
        and (ours & set(entry["models"]) or entry["file"] in BEYOND)
    }  # fmt: skip
    assert found <= CHECKED | BEYOND.keys(), found - CHECKED - BEYOND.keys()


def text_of(recordings, name):
    (event,) = recordings.events(name)
    return event.payload.encode()


def packed(binding, turn, text, *words, pack="pack"):
    return getattr(binding, pack).pure(turn.decode(text), *words)


def test_merged_trades_are_what_ccxt_reads(recordings):
    """12,477 rows, field by field. ccxt's numbers are binary floats printed again; its `cost` is ours times price."""
    pairs = recordings.load(PAIRS)
    raw = [event.payload for event in recordings.events(PAIRS)]
    rows = packed(BinanceMergedTrades, Binance().merged_trades, f"[{','.join(raw)}]".encode(), "XRP/ETH")
    assert len(rows) == len(pairs) == 12_477
    for row, pair in zip(rows, pairs, strict=True):
        assert (row.trade_id, row.venue_time, row.market, row.aggressor) == (
            pair["id"], pair["timestamp"] * MS, pair["symbol"], pair["side"],
        )  # fmt: skip
        assert (row.price, row.size) == (pair["price"], pair["amount"])
        assert abs(row.price * row.size - pair["cost"]) < Decimal("1e-12"), "a float's last digits, no more"


@pytest.mark.parametrize(("name", "count"), [("1m", 2_469), ("5m", 706)])
def test_candles_from_trades_are_what_freqtrade_built(recordings, name, count):
    """Every bar; freqtrade keeps no sum of money and no count, and its volume is a sum of floats."""
    raw = [event.payload for event in recordings.events(PAIRS)]
    trades = packed(BinanceMergedTrades, Binance().merged_trades, f"[{','.join(raw)}]".encode(), "XRP/ETH")
    made = list(candles_of(trades, name))
    path = recordings.path(f"binance/candles_xrpeth_{name}_20191011.csv.gz")
    bars = list(csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode())))
    say(path.name, len(bars), len(made))
    assert len(bars) == count
    assert [(r.open_time, r.open, r.high, r.low, r.close, r.volume) for r in made] == [
        (int(b["time_ms"]) * MS, *numbers(b["open"], b["high"], b["low"], b["close"], b["volume"])) for b in bars
    ]


def test_first_and_last_ids_of_merged_trades_chain(recordings):
    rows = packed(BinanceMergedTrades, Binance().merged_trades, text_of(recordings, AGG), "BTC/USDT")
    assert len(rows) == 1_000
    assert all(int(two.first_id) == int(one.last_id) + 1 for one, two in pairwise(rows))
    assert all(int(two.trade_id) == int(one.trade_id) + 1 for one, two in pairwise(rows))
    assert all(row.count == int(row.last_id) - int(row.first_id) + 1 for row in rows)


def test_price_times_size_is_the_quote_quantity_of_raw_trades(recordings):
    """The venue cuts the product to eight decimals: it does not round."""
    rows = packed(BinanceTrades, Binance().old_trades, text_of(recordings, RAW), "ETH/BTC")
    theirs = [Decimal(row["quoteQty"]) for row in recordings.load(RAW)]
    assert len(rows) == 1_000
    assert [(row.price * row.size).quantize(Decimal("1e-8"), ROUND_DOWN) for row in rows] == theirs
    assert all(int(two.trade_id) == int(one.trade_id) + 1 for one, two in pairwise(rows))


def test_markets_are_those_that_the_recorder_subscribed_to(recordings):
    """The `configuration:` line names base and quote of four of the symbols, in another program's spelling."""
    text = gzip.decompress(recordings.path(LIST).read_bytes()).decode()
    named = set(json.loads(re.search(r"^configuration: (.*)$", text, re.MULTILINE)[1])["trades"])
    markets = packed(BinanceMarkets, Binance().markets, text_of(recordings, LIST))
    assert len(markets) == 1_695
    ours = {f"{row.base}-{row.quote}": row for row in markets}
    assert len(named) == 4
    for name in named:
        assert ours[name].symbol == name.replace("-", "")
        assert ours[name].market == name.replace("-", "/")
    assert all(row.symbol == Binance.symbols.spell(row.market) for row in markets), "the declared spelling holds"


def test_pages_of_candles_join(recordings):
    one, two = (
        packed(BinanceCandles, Binance().klines, text_of(recordings, name), "BTC/USDT", "1h") for name in KLINES[1:3]
    )
    assert interval("1h").next(one[-1].open_time) == two[0].open_time


def test_frames_are_what_tardis_reads(recordings):
    """Trades agree field by field. Books and book tickers are not read here; `@ticker` gives tardis nothing either."""
    venue, read = Binance(), 0
    for pair in recordings.load("binance/ws_tardis_pairs_spot.json"):
        frame = json.dumps(pair["raw"]).encode()
        expected = [row for row in pair["expected"] if row["type"] == "trade"]
        if not expected:
            assert not any(isinstance(event, Rows) for event in heard(venue, frame))
            continue
        (event,) = venue.hear(frame)
        (theirs,) = expected
        (row,) = BinanceTrades.pack_live.pure(list(event.rows), "BNB/BTC")
        assert event.topic == f"{theirs['symbol'].lower()}@trade"
        assert (row.venue, row.trade_id, row.price, row.size, row.aggressor, iso(row.venue_time)) == (
            theirs["exchange"], theirs["id"], theirs["price"], theirs["amount"], theirs["side"], theirs["timestamp"],
        )  # fmt: skip
        read += 1
    assert read == 2


def heard(venue, frame):
    """What a frame says; nothing where it is of a kind that the connector does not know."""
    try:
        return list(venue.hear(frame))
    except ValueError:
        return []


def test_kline_frames_are_what_ccxt_reads(recordings):
    """The spot case. ccxt keeps six columns; frames of `/ws` are bare, so the stream's name is put around them."""
    venue, read = Binance(), 0
    for case in recordings.load("binance/ws_klines_2026_ccxt.json")["cases"]:
        if "//stream.binance.com" not in case["url"]:
            continue  # futures are another venue to us
        market, name = case["input"]
        frames = [message for message in case["messages"] if message.get("e") == "kline"]
        for data, ((time, *columns),) in zip(frames, case["parsedResponses"], strict=True):
            stream = f"{data['s'].lower()}@kline_{name}"
            (event,) = venue.hear(json.dumps({"stream": stream, "data": data}).encode())
            (row,) = BinanceCandles.pack_live.pure(list(event.rows), market, name)
            assert (row.open_time, [row.open, row.high, row.low, row.close, row.volume]) == (time * MS, columns)
            assert row.closed is False
            assert row.trades == data["k"]["L"] - data["k"]["f"] + 1
            read += 1
    assert read == 2


def test_the_mixed_capture_is_read(recordings):
    """Old frames: two merged trades and two candles among books, none of another shape than declared."""
    venue, rows = Binance(), []
    for event in recordings.events("binance/ws_spot_mixed_20211012.txt"):
        if event.direction == "in":
            rows += [
                row for said in heard(venue, event.payload.encode()) if isinstance(said, Rows) for row in said.rows
            ]
    kinds = [type(row).__name__ for row in rows]
    assert sorted(kinds) == ["AggTrade", "AggTrade", "KlineFrame", "KlineFrame"]


def test_recorded_error_bodies_are_errors(recordings):
    """As they were sent, with the status that the venue's page gives such codes and inside HTTP 200."""
    found = recordings.load("binance/rest_errors.json")
    assert len(found) == 4
    for case in found:
        body = json.dumps(case["body"]).encode()
        kind = UnknownMarket if case["body"]["code"] == -1121 else Refused
        for status in (400, 200):
            with pytest.raises(Refused, match=re.escape(case["body"]["msg"])) as caught:
                Binance().judge(Reply(status, body))
            assert type(caught.value) is kind


def test_sides_follow_the_maker_flag(recordings):
    """In the real frames: where the buyer was the maker, the taker sold."""
    sides = {}
    for event in recordings.events(FEED):
        if '"e":"trade"' in event.payload:
            (said,) = Binance().hear(event.payload.encode())
            (row,) = BinanceTrades.pack_live.pure(list(said.rows), "BTC/USDT")
            sides.setdefault('"m":true' in event.payload, set()).add(row.aggressor)
    assert sides == {True: {Side.SELL}, False: {Side.BUY}}
