"""OKX's server side, asked without a socket."""

import json
from decimal import Decimal
from itertools import pairwise

import pytest

from tradeflood.models import interval
from tradeflood.models.time import DAY, HOUR, MINUTE, MS, SECOND, parse_time
from tradeflood.replay.desk import Clock, Close, HttpRequest, Ping, Pong, desk_of
from tradeflood.replay.desks.okx import BARS, HORIZON, OKX
from tradeflood.replay.simulated import GENESIS, Simulated

NOW = parse_time("2026-03-04T05:06:07.089")
MINUTE_OF = NOW // MINUTE * MINUTE
PUBLIC, BUSINESS = "/ws/v5/public", "/ws/v5/business"


@pytest.fixture
def desk():
    return OKX(Simulated(3), Clock(1, NOW))


def ask(desk, path, now=NOW, client="127.0.0.1", method="GET", **params):
    request = HttpRequest(method, f"/api/v5/{path}", {k: str(v) for k, v in params.items()}, client=client)
    return desk.answer(request, now)


def rows(desk, path, now=NOW, **params):
    answer = ask(desk, path, now, **params)
    found = json.loads(answer.body)
    assert (answer.status, found["code"], found["msg"]) == (200, "0", ""), found
    return found["data"]


def code(answer):
    return answer.status, json.loads(answer.body)["code"]


def trades(desk, now=NOW, **params):
    return rows(desk, "market/history-trades", now, instId="BTC-USDT", **params)


def ids(found):
    return [int(row["tradeId"]) for row in found]


def opens(desk, name="history-candles", **params):
    return [int(row[0]) for row in rows(desk, f"market/{name}", instId="BTC-USDT", **params)]


def test_it_is_found_by_its_venue():
    assert desk_of("okx") is OKX


def test_instruments_are_the_spot_markets(desk):
    found = rows(desk, "public/instruments", instType="SPOT")
    assert [row["instId"] for row in found] == ["BTC-USDT", "ETH-USDT", "SOL-USDT", "DOGE-USDT"]
    assert (found[0]["tickSz"], found[0]["lotSz"], found[0]["state"]) == ("0.01", "0.00001", "live")
    assert found[0]["listTime"] == str(GENESIS // MS)
    assert rows(desk, "public/instruments", instType="SWAP") == []
    assert [row["instId"] for row in rows(desk, "public/instruments", instType="SPOT", instId="ETH-USDT")] == [
        "ETH-USDT"
    ]
    assert code(ask(desk, "public/instruments")) == (400, "50014")
    assert code(ask(desk, "public/instruments", instType="STOCK")) == (400, "51000")


def test_trades_come_newest_first_and_end_with_the_present(desk):
    found = trades(desk)
    assert len(found) == 100
    assert all(left == right + 1 for left, right in pairwise(ids(found)))
    assert int(found[0]["ts"]) * MS <= NOW
    assert rows(desk, "market/trades", instId="BTC-USDT") == found
    assert len(rows(desk, "market/trades", instId="BTC-USDT", limit=500)) == 500
    assert len(trades(desk, limit=500)) == 100


def test_after_is_older_and_before_is_newer_and_neither_includes_its_row(desk):
    some = trades(desk)
    middle = int(some[50]["tradeId"])
    assert trades(desk, after=middle, limit=10) == some[51:61]
    assert trades(desk, before=middle) == some[:50]
    assert trades(desk, before=middle, limit=10) == some[:10]
    assert trades(desk, before=middle, after=some[40]["tradeId"]) == some[41:50]
    time = int(some[50]["ts"])
    assert (
        trades(desk, type=2, after=time, limit=10)
        == [row for row in trades(desk, after=middle + 1) if int(row["ts"]) < time][:10]
    )
    assert code(ask(desk, "market/history-trades", instId="BTC-USDT", type=2, before=time)) == (200, "50039")
    assert code(ask(desk, "market/history-trades", instId="BTC-USDT", type=3)) == (400, "51000")


def test_trades_reach_back_three_months(desk):
    oldest = trades(desk, type=2, after=(NOW - HORIZON) // MS + 60_000)
    assert all(int(row["ts"]) * MS >= NOW - HORIZON for row in oldest)
    assert oldest
    assert trades(desk, type=2, after=(NOW - HORIZON) // MS) == []
    assert trades(desk, after=1_000) == []


def test_candles_are_newest_first_and_without_the_rows_at_their_cursors(desk):
    minute = MINUTE_OF // MS
    assert opens(desk, limit=3) == [minute, minute - 60_000, minute - 120_000]
    assert opens(desk, after=minute, limit=2) == [minute - 60_000, minute - 120_000]
    assert opens(desk, before=minute - 120_000) == [minute, minute - 60_000]
    assert opens(desk, before=minute - 300_000, limit=1) == [minute]
    assert opens(desk, after=minute, before=minute - 180_001) == [minute - 60_000 * n for n in (1, 2, 3)]
    assert opens(desk, after=minute, before=minute - 180_000) == [minute - 60_000 * n for n in (1, 2)]
    assert len(opens(desk)) == 100
    assert len(opens(desk, limit=1000)) == 300
    assert opens(desk, after=GENESIS // MS) == []
    assert opens(desk, after=GENESIS // MS + 1) == [GENESIS // MS]


def test_recent_candles_end_after_1440(desk):
    assert len(opens(desk, "candles", after=(MINUTE_OF - 1438 * MINUTE) // MS)) == 1
    assert opens(desk, "candles", after=(MINUTE_OF - 1439 * MINUTE) // MS) == []
    assert code(ask(desk, "market/candles", instId="BTC-USDT", bar="1s")) == (400, "51000")


@pytest.mark.parametrize("bar", BARS)
def test_bars_lie_on_their_grid_and_only_the_running_one_is_open(desk, bar):
    found = rows(desk, "market/history-candles", instId="BTC-USDT", bar=bar, limit=3)
    grid = interval(BARS[bar])
    times = [int(row[0]) * MS for row in found]
    assert [grid.floor(time) for time in times] == times
    assert times[0] == grid.floor(NOW)
    assert [grid.next(time) for time in times[1:]] == times[:-1]
    assert [row[8] for row in found] == ["0", "1", "1"]
    assert all(len(row) == 9 for row in found)


def test_seconds_reach_back_three_months(desk):
    assert opens(desk, bar="1s", after=(NOW - HORIZON) // MS) == []
    assert opens(desk, bar="1s", after=(NOW - HORIZON) // MS + 5_000)


def test_a_candle_is_the_fold_of_the_trades_of_its_minute(desk):
    _, candle = rows(desk, "market/history-candles", instId="ETH-USDT", limit=2)
    start = int(candle[0])
    found = rows(desk, "market/trades", instId="ETH-USDT", limit=500)[::-1]
    found = [row for row in found if start <= int(row["ts"]) < start + 60_000]
    prices = [Decimal(row["px"]) for row in found]
    assert [Decimal(text) for text in candle[1:5]] == [prices[0], max(prices), min(prices), prices[-1]]
    assert Decimal(candle[5]) == sum(Decimal(row["sz"]) for row in found)
    assert Decimal(candle[6]) == Decimal(candle[7]) == sum(Decimal(row["px"]) * Decimal(row["sz"]) for row in found)


def test_a_quiet_minute_repeats_the_close_before_it(desk):
    found = rows(desk, "market/history-candles", instId="DOGE-USDT", limit=300)[::-1]
    quiet = [(left, right) for left, right in pairwise(found) if Decimal(right[5]) == 0]
    assert quiet
    assert all(right[1:5] == [left[4]] * 4 for left, right in quiet)
    assert all(int(left[0]) + 60_000 == int(right[0]) for left, right in pairwise(found))


def test_tickers_of_one_and_of_all(desk):
    every = rows(desk, "market/tickers", instType="SPOT")
    assert [row["instId"] for row in every] == ["BTC-USDT", "ETH-USDT", "SOL-USDT", "DOGE-USDT"]
    assert rows(desk, "market/ticker", instId="BTC-USDT") == every[:1]
    bar = Simulated(3, "okx").bar("BTC/USDT", NOW - DAY + 1, NOW + 1, NOW)
    assert [Decimal(every[0][name]) for name in ("open24h", "high24h", "low24h", "vol24h", "volCcy24h")] == [
        bar.open, bar.high, bar.low, bar.volume, bar.quote_volume,
    ]  # fmt: skip
    assert Decimal(every[0]["askPx"]) - Decimal(every[0]["bidPx"]) == Decimal("0.01")
    assert rows(desk, "market/tickers", instType="SWAP") == []


def test_wrong_questions_have_the_codes_of_the_venue(desk):
    assert code(ask(desk, "market/trades")) == (400, "50014")
    assert code(ask(desk, "market/trades", instId="NO-USDT")) == (200, "51001")
    assert code(ask(desk, "market/trades", instId="BTC-USDT", limit="x")) == (400, "51000")
    assert code(ask(desk, "market/trades", instId="BTC-USDT", limit=0)) == (400, "51000")
    assert code(ask(desk, "market/history-candles", instId="BTC-USDT", bar="1d")) == (400, "51000")
    assert code(ask(desk, "market/nothing")) == (404, "404")
    assert code(ask(desk, "market/trades", method="POST", instId="BTC-USDT")) == (405, "50115")
    assert rows(desk, "public/time") == [{"ts": str(NOW // MS)}]


def test_every_endpoint_has_a_limit_of_its_own_per_address(desk):
    for _ in range(20):
        trades(desk, limit=1)
    assert code(ask(desk, "market/history-trades", instId="BTC-USDT")) == (429, "50011")
    assert ask(desk, "market/history-trades", instId="BTC-USDT", client="10.0.0.1").status == 200
    assert rows(desk, "market/trades", instId="BTC-USDT")
    assert trades(desk, NOW + 2 * SECOND)


def test_refusals_are_those_of_the_venue(desk):
    assert code(desk.refusal("limit", NOW)) == (429, "50011")
    assert code(desk.refusal("error", NOW)) == (200, "50011")
    assert desk.refusal("limit", NOW, 3).headers["Retry-After"] == "3"
    assert desk.refusal("ban", NOW).body.startswith(b"<")


# --- the feed ---


def say(conversation, now=NOW, op="subscribe", number="1", **args):
    message = {"id": number, "op": op, "args": [args] if args else []}
    return [json.loads(frame) for frame in conversation.receive(json.dumps(message), now)]


def heard(conversation, until):
    found = []
    while frames := conversation.advance(until):
        found += [json.loads(frame) if isinstance(frame, str) else frame for frame in frames]
        if any(isinstance(frame, Close) for frame in frames):
            break
    return found


def test_a_subscription_is_acknowledged_and_served_from_that_moment(desk):
    conversation = desk.connect(BUSINESS, {}, NOW)
    (ack,) = say(conversation, channel="trades-all", instId="BTC-USDT")
    assert ack == {"id": "1", "event": "subscribe", "arg": {"channel": "trades-all", "instId": "BTC-USDT"}, "connId": ack["connId"]}  # fmt: skip
    found = heard(conversation, NOW + 10 * SECOND)
    assert {frame["arg"]["channel"] for frame in found} == {"trades-all"}
    assert ids(frame["data"][0] for frame in found) == ids(trades(desk, NOW + 10 * SECOND)[::-1])[-len(found) :]
    assert say(conversation, NOW + 10 * SECOND, "unsubscribe", channel="trades-all", instId="BTC-USDT")[0]["event"] == "unsubscribe"  # fmt: skip
    assert heard(conversation, NOW + 20 * SECOND) == []


def test_merged_trades_chain_by_last_id_and_count(desk):
    conversation = desk.connect(PUBLIC, {}, NOW)
    say(conversation, channel="trades", instId="BTC-USDT")
    found = [frame["data"][0] for frame in heard(conversation, NOW + 20 * SECOND)]
    assert len(found) > 10
    assert {row["count"] for row in found} > {"1"}
    assert all(int(right["tradeId"]) - int(right["count"]) == int(left["tradeId"]) for left, right in pairwise(found))


def test_candles_run_once_a_second_and_are_confirmed_after_their_end(desk):
    conversation = desk.connect(BUSINESS, {}, NOW)
    say(conversation, channel="candle1m", instId="BTC-USDT")
    bars = [frame["data"][0] for frame in heard(conversation, MINUTE_OF + 2 * MINUTE + SECOND)]
    closed = [bar for bar in bars if bar[8] == "1"]
    assert closed == rows(desk, "market/history-candles", MINUTE_OF + 2 * MINUTE, instId="BTC-USDT", limit=3)[:0:-1]
    assert len(bars) > 60


@pytest.mark.parametrize(
    ("path", "channel", "symbol"),
    [
        (PUBLIC, "candle1m", "BTC-USDT"),
        (BUSINESS, "trades", "BTC-USDT"),
        (PUBLIC, "trades", "NO-USDT"),
        (BUSINESS, "candle1d", "BTC-USDT"),
    ],
)
def test_a_channel_that_is_not_there_is_refused_by_name(desk, path, channel, symbol):
    conversation = desk.connect(path, {}, NOW)
    (error,) = say(conversation, channel=channel, instId=symbol)
    assert (error["event"], error["code"], error["id"]) == ("error", "60018", "1")
    assert f"channel:{channel},instId:{symbol} doesn't exist" in error["msg"]
    assert heard(conversation, NOW + 5 * SECOND) == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("no json", "60012"),
        (b"\xff", "60012"),
        ("[]", "60012"),
        ('{"op":"shout","args":[]}', "60019"),
        ('{"op":"subscribe"}', "60013"),
        ('{"op":"subscribe","args":[]}', "60013"),
        ('{"op":"subscribe","args":["trades"]}', "60013"),
    ],
)
def test_a_message_that_makes_no_sense_is_an_error(desk, message, code):
    (error,) = desk.connect(PUBLIC, {}, NOW).receive(message, NOW)
    assert (json.loads(error)["event"], json.loads(error)["code"]) == ("error", code)


def test_a_silent_connection_is_closed_and_a_ping_keeps_it(desk):
    conversation = desk.connect(PUBLIC, {}, NOW)
    assert heard(conversation, NOW + 29 * SECOND) == []
    assert conversation.receive("ping", NOW + 29 * SECOND) == ["pong"]
    assert conversation.receive(Ping(), NOW + 29 * SECOND) == conversation.receive(Pong(), NOW + 29 * SECOND) == []
    assert heard(conversation, NOW + 58 * SECOND) == []
    assert heard(conversation, NOW + 60 * SECOND) == [Close(4004, "No data received in 30s")]


def test_data_keep_a_connection_open(desk):
    conversation = desk.connect(BUSINESS, {}, NOW)
    say(conversation, channel="trades-all", instId="BTC-USDT")
    assert not any(isinstance(frame, Close) for frame in heard(conversation, NOW + 2 * MINUTE))


def test_requests_and_connections_have_limits(desk):
    conversation = desk.connect(PUBLIC, {}, NOW)
    for _ in range(480):
        assert say(conversation, channel="trades", instId="BTC-USDT")[0]["event"] == "subscribe"
    assert say(conversation, channel="trades", instId="BTC-USDT")[0]["code"] == "60014"
    assert say(conversation, NOW + HOUR, channel="trades", instId="BTC-USDT")[0]["event"] == "subscribe"
    assert [getattr(desk.connect(PUBLIC, {}, NOW), "status", 101) for _ in range(3)] == [101, 101, 429]
    assert desk.connect("/ws/v5/private", {}, NOW).status == 404
