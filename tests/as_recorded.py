"""Puts shared recordings into the form that `tradeflood run --record` writes, so that `tradeflood replay` serves them.

    python tests/as_recorded.py FOLDER [RECORDINGS]

Nothing of what a venue said is changed. The bodies do not tell when they were asked for: they are dated an hour after
the last thing in them, when that was over. Frames keep the recorder's clock.
"""

import json
import sys
from pathlib import Path

from tradeflood.models import interval
from tradeflood.models.time import HOUR, MS, parse_time
from tradeflood.transport.record import Recorder
from tradeflood.turns import Reply, get

FEED = "binance/ws_spot_btcusdt_20240808.txt.gz"
KLINES = [
    "binance/rest_spot_klines_btcusdt_1d_2019.json",
    "binance/rest_spot_klines_btcusdt_1h_page1.json",
    "binance/rest_spot_klines_btcusdt_1h_page2.json",
    "binance/rest_spot_klines_btcusdt_1m_60.json",
]
TRADES = ["binance/rest_spot_aggtrades_btcusdt_1000.json", "binance/rest_spot_trades_ethbtc_1000.json"]
PAIRS = "binance/rest_spot_aggtrades_xrpeth_20191011_ccxt_pairs.jsonl.gz"
LISTS = ["binance/rest_spot_exchangeinfo_20211012.txt.gz", "binance/rest_spot_exchangeinfo_2025_part.json"]


class _Call:
    """What the recorder reads of a call."""

    def __init__(self, venue, request):
        self.venue, self.request = venue, request


def write_binance(recordings, folder):
    """Writes Binance's spot recordings below a folder; returns the folder."""
    recorder = Recorder(folder)
    answers = [*_klines(recordings), *_trades(recordings), *_pages(recordings), *_lists(recordings)]
    answers += _frames(recordings, recorder)
    for at, path, params, body in sorted(answers, key=lambda answer: answer[0]):
        recorder.rest(_Call("binance", get(path, **params)), Reply(200, body.encode(), {}, at))
    recorder.close()
    return Path(folder)


def _request(recordings, name):
    entry = next(entry for entry in recordings.index if entry["file"] == name)
    return entry["request"]["path"], entry["request"]["params"] or {}


def _body(recordings, name):
    (event,) = recordings.events(name)
    return event


def _klines(recordings):
    for name in KLINES:
        path, params = _request(recordings, name)
        body = _body(recordings, name).payload
        last = json.loads(body)[-1][0] * MS
        yield interval(params["interval"]).next(last) + HOUR, path, params, body


def _trades(recordings):
    for name in TRADES:
        path, params = _request(recordings, name)
        body = _body(recordings, name).payload
        last = json.loads(body)[-1]
        yield last.get("T", last.get("time")) * MS + HOUR, path, params, body


def _pages(recordings):
    """The rows of the pairs, in pages of a thousand by id: rows, ids and numbers are as sent, the pages are ours."""
    rows = [event.payload for event in recordings.events(PAIRS)]
    for at in range(0, len(rows), 1_000):
        page = rows[at : at + 1_000]
        first, last = json.loads(page[0]), json.loads(page[-1])
        params = {"symbol": "XRPETH", "fromId": str(first["a"]), "limit": "1000"}
        yield last["T"] * MS + HOUR, "/api/v3/aggTrades", params, f"[{','.join(page)}]"


def _lists(recordings):
    for name in LISTS:
        path, params = _request(recordings, name)
        event = _body(recordings, name)
        yield event.received_at or parse_time("2025-01-01"), path, params, event.payload


def _frames(recordings, recorder):
    """Writes the frames, and returns the one REST body that stands among them."""
    url = "wss://stream.binance.com:9443/stream"
    for number, event in enumerate(recordings.events(FEED)):
        if not number:
            recorder.feed("binance", 1, event.received_at, "connect", "", url)
        if event.payload.startswith('{"lastUpdateId"'):
            yield event.received_at, "/api/v3/depth", {"symbol": "BTCUSDT", "limit": "1000"}, event.payload
        else:
            recorder.feed("binance", 1, event.received_at, "in", event.payload)


if __name__ == "__main__":
    from conftest import Recordings, recordings_folder

    found = Path(sys.argv[2]) if len(sys.argv) > 2 else recordings_folder()
    write_binance(Recordings(found), sys.argv[1])
