"""Bitget's server side, asked without a socket."""

import json
from decimal import Decimal

import pytest

from tradeflood.models import interval
from tradeflood.models.time import DAY, HOUR, MINUTE, MS, SECOND, parse_time
from tradeflood.replay.desk import Clock, Close, HttpRequest, Ping, desk_of
from tradeflood.replay.desks.bitget import CHANNELS, GRANULARITIES, SETTLE, Bitget
from tradeflood.replay.simulated import GENESIS, Simulated

NOW = parse_time("2026-03-04T05:06:07.089")
MINUTE_OF = NOW // MINUTE * MINUTE


@pytest.fixture
def desk():
    return Bitget(Simulated(3), Clock(1, NOW))


@pytest.fixture
def feed(desk):
    return desk.connect("/v2/ws/public", {}, NOW)


def ask(desk, path, now=NOW, client="127.0.0.1", **params):
    return desk.answer(HttpRequest("GET", path, {k: str(v) for k, v in params.items()}, client=client), now)


def rows(desk, path, now=NOW, **params):
    answer = ask(desk, f"/api/v2/spot/{path}", now, **params)
    assert answer.status == 200, answer.body
    said = json.loads(answer.body)
    assert (said["code"], said["msg"], said["requestTime"]) == ("00000", "success", now // MS)
    return said["data"]


def refused(desk, path, **params):
    answer = ask(desk, f"/api/v2/spot/{path}", **params)
    said = json.loads(answer.body)
    assert said["data"] is None
    return answer.status, said["code"], said["msg"]


def test_it_is_found():
    assert desk_of("bitget") is Bitget


def test_symbols(desk):
    markets = rows(desk, "public/symbols")
    assert [row["symbol"] for row in markets] == ["BTCUSDT", "ETHUSDT", "SOLUSDT", "DOGEUSDT"]
    assert (markets[0]["pricePrecision"], markets[0]["quantityPrecision"], markets[0]["status"]) == ("2", "5", "online")
    assert [row["symbol"] for row in rows(desk, "public/symbols", symbol="ETHUSDT")] == ["ETHUSDT"]


def test_fills_are_the_newest_first_with_milliseconds(desk):
    fills = rows(desk, "market/fills", symbol="BTCUSDT")
    assert len(fills) == 100
    assert len(rows(desk, "market/fills", now=NOW + SECOND, symbol="BTCUSDT", limit=9999)) == 500
    ids = [int(row["tradeId"]) for row in fills]
    assert ids == sorted(ids, reverse=True)
    assert any(int(row["ts"]) % 1000 for row in fills)
    assert {row["side"] for row in fills} == {"buy", "sell"}


def test_the_history_of_fills_cuts_times_to_seconds_and_walks_back_by_id(desk):
    start, end = NOW // MS - 3_600_000, NOW // MS - 60_000
    first = rows(desk, "market/fills-history", symbol="BTCUSDT", startTime=start, endTime=end, limit=1000)
    assert len(first) == 1000
    assert all(int(row["ts"]) % 1000 == 0 for row in first)
    assert {row["side"] for row in first} == {"Buy", "Sell"}
    last = int(first[-1]["tradeId"])
    second = rows(desk, "market/fills-history", symbol="BTCUSDT", startTime=start, endTime=end, idLessThan=last)
    assert len(second) == 500
    assert int(second[0]["tradeId"]) == last - 1  # exclusive
    exact = desk.source.trades("BTC/USDT", "raw", now=NOW, start=start * MS, end=(end + 1) * MS, limit=1, newest=True)
    assert first[0]["tradeId"] == exact[0].trade_id


def test_both_times_of_the_history_of_fills_are_inclusive(desk):
    (trade,) = desk.source.trades("BTC/USDT", "raw", now=NOW, start=NOW - HOUR, limit=1)
    at = trade.venue_time // MS
    assert trade.trade_id in {
        row["tradeId"] for row in rows(desk, "market/fills-history", symbol="BTCUSDT", startTime=at, endTime=at)
    }


def test_candles_end_with_the_running_one(desk):
    bars = rows(desk, "market/candles", symbol="BTCUSDT", granularity="1min")
    assert [int(bar[0]) * MS for bar in bars] == [MINUTE_OF - n * MINUTE for n in range(99, -1, -1)]
    start, end = (MINUTE_OF - HOUR) // MS, MINUTE_OF // MS
    hour = rows(desk, "market/candles", symbol="BTCUSDT", granularity="1min", startTime=start, endTime=end, limit=1000)
    assert [int(hour[0][0]), int(hour[-1][0]), len(hour)] == [start, end - 60_000, 60]
    assert len(hour[0]) == 8


def test_the_history_of_candles_ends_before_its_end(desk):
    end = MINUTE_OF // MS
    bars = rows(desk, "market/history-candles", symbol="BTCUSDT", granularity="1min", endTime=end, limit=999)
    assert [int(bars[0][0]), int(bars[-1][0]), len(bars)] == [end - 200 * 60_000, end - 60_000, 200]
    later = rows(desk, "market/history-candles", symbol="BTCUSDT", granularity="1min", endTime=end + 59_999, limit=1)
    assert int(later[0][0]) == end - 60_000  # the bound acts on the close
    running = rows(desk, "market/history-candles", symbol="BTCUSDT", granularity="1min", endTime=end + 60_000, limit=1)
    assert int(running[0][0]) == end


@pytest.mark.parametrize(("name", "text"), GRANULARITIES.items())
def test_every_granularity_opens_where_it_should(desk, name, text):
    (bar,) = rows(desk, "market/history-candles", symbol="ETHUSDT", granularity=name, endTime=NOW // MS, limit=1)
    grid = interval(text)
    assert int(bar[0]) * MS == grid.floor(grid.floor(NOW) - 1)
    expected = desk.source.bar("ETH/USDT", int(bar[0]) * MS, grid.next(int(bar[0]) * MS), NOW)
    assert [Decimal(part) for part in bar[1:]] == [
        expected.open, expected.high, expected.low, expected.close, expected.volume, expected.quote_volume,
        expected.quote_volume,
    ]  # fmt: skip


def test_candles_reach_back_as_far_as_documented(desk):
    old = (NOW - 40 * DAY) // MS
    few = rows(desk, "market/candles", symbol="BTCUSDT", granularity="1min", startTime=old, endTime=old + 3_600_000)
    assert few == []
    start = GENESIS // MS
    assert rows(desk, "market/history-candles", symbol="BTCUSDT", granularity="1h", endTime=start) == []
    assert len(rows(desk, "market/history-candles", symbol="BTCUSDT", granularity="1h", endTime=start + 7_200_000)) == 2


def test_tickers(desk):
    assert [row["symbol"] for row in rows(desk, "market/tickers")] == ["BTCUSDT", "ETHUSDT", "SOLUSDT", "DOGEUSDT"]
    (one,) = rows(desk, "market/tickers", symbol="ETHUSDT")
    assert Decimal(one["lastPr"]) == desk.source.last_trade("ETH/USDT", "raw", NOW).price
    assert Decimal(one["bidPr"]) < Decimal(one["askPr"])


def test_server_time(desk):
    assert json.loads(ask(desk, "/api/v2/public/time").body)["data"] == {"serverTime": str(NOW // MS)}


@pytest.mark.parametrize(
    ("path", "params", "said"),
    [
        ("market/fills", {"symbol": "XX"}, (400, "40034", "Parameter XX does not exist")),
        ("market/fills", {}, (400, "40019", "Parameter symbol cannot be empty")),
        ("market/history-candles", {"symbol": "BTCUSDT", "granularity": "1min"}, (400, "40019", "Parameter endTime cannot be empty")),
        ("market/candles", {"symbol": "BTCUSDT", "granularity": "2m"}, (400, "40020", "Parameter granularity error")),
        ("market/fills", {"symbol": "BTCUSDT", "limit": "x"}, (400, "40017", "Parameter verification failed limit")),
        ("market/fills-history", {"symbol": "BTCUSDT", "startTime": 5, "endTime": 4}, (400, "40707", "Start time is greater than end time")),
        ("market/fills-history", {"symbol": "BTCUSDT", "startTime": 0, "endTime": 700_000_000}, (400, "40705", "The start and end time cannot exceed 7 days")),
        ("nothing", {}, (404, "40404", "Request URL NOT FOUND")),
    ],
)  # fmt: skip
def test_errors(desk, path, params, said):
    assert refused(desk, path, **params) == said


@pytest.mark.parametrize(
    ("path", "limit"), [("market/fills", 10), ("market/fills-history", 10), ("market/tickers", 20)]
)
def test_each_path_has_its_limit_a_second_and_client(desk, path, limit):
    now = NOW // SECOND * SECOND
    for _ in range(limit):
        rows(desk, path, now=now, symbol="BTCUSDT")
    answer = ask(desk, f"/api/v2/spot/{path}", now=now, symbol="BTCUSDT")
    assert (answer.status, json.loads(answer.body)["code"]) == (429, "429")
    assert ask(desk, f"/api/v2/spot/{path}", now=now, client="b", symbol="BTCUSDT").status == 200
    assert ask(desk, f"/api/v2/spot/{path}", now=now + SECOND, symbol="BTCUSDT").status == 200


def test_refusals(desk):
    assert desk.refusal("limit", NOW, 3).headers["Retry-After"] == "3"
    assert (desk.refusal("ban", NOW).status, desk.refusal("error", NOW).status) == (403, 200)


# ---------------------------------------------------------------- the feed


def say(feed, op, *topics, now=NOW, kind="SPOT"):
    args = [{"instType": kind, "channel": channel, "instId": symbol} for channel, symbol in topics]
    return [json.loads(frame) for frame in feed.receive(json.dumps({"op": op, "args": args}), now)]


def heard(feed, up_to):
    out = []
    while frames := feed.advance(up_to):
        out += [json.loads(frame) for frame in frames]
    return out


def test_other_paths_are_not_found(desk):
    assert desk.connect("/v3/ws/public", {}, NOW).status == 404


def test_every_argument_is_acknowledged(feed):
    acks = say(feed, "subscribe", ("trade", "BTCUSDT"), ("candle1m", "ETHUSDT"))
    assert acks[0] == {"event": "subscribe", "arg": {"instType": "SPOT", "channel": "trade", "instId": "BTCUSDT"}}
    assert len(acks) == 2


@pytest.mark.parametrize(
    ("topic", "kind"), [(("trade", "XX"), "SPOT"), (("nothing", "BTCUSDT"), "SPOT"), (("trade", "BTCUSDT"), "MC")]
)
def test_what_does_not_exist_is_said_with_its_argument(feed, topic, kind):
    (error,) = say(feed, "subscribe", topic, kind=kind)
    assert (error["event"], error["code"], error["arg"]["channel"], error["op"]) == (
        "error",
        30001,
        topic[0],
        "subscribe",
    )


def test_trades_begin_with_a_snapshot_and_go_on_without_a_gap(desk, feed):
    say(feed, "subscribe", ("trade", "BTCUSDT"))
    first, *updates = heard(feed, NOW + 20 * SECOND)
    assert (first["action"], len(first["data"])) == ("snapshot", 50)
    assert {update["action"] for update in updates} == {"update"}
    ids = [int(row["tradeId"]) for push in (first, *updates) for row in reversed(push["data"])]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert str(ids[-1]) == desk.source.last_trade("BTC/USDT", "raw", NOW + 20 * SECOND).trade_id
    assert any(len(update["data"]) > 1 for update in updates)


@pytest.mark.parametrize(("name", "text"), CHANNELS.items())
def test_candles_begin_with_a_snapshot_that_ends_with_the_running_one(feed, name, text):
    say(feed, "subscribe", (f"candle{name}", "ETHUSDT"))
    first = heard(feed, NOW + 1)[0]
    assert first["action"] == "snapshot"
    assert int(first["data"][-1][0]) * MS == interval(text).floor(NOW)


def test_at_the_boundary_the_last_state_comes_and_then_the_new_candle(desk, feed):
    say(feed, "subscribe", ("candle1m", "BTCUSDT"))
    boundary = MINUTE_OF + MINUTE
    pushes = [push for push in heard(feed, boundary + SECOND) if push["ts"] * MS == boundary + SETTLE]
    old, new = (push["data"][0] for push in pushes)
    assert [int(old[0]) * MS, int(new[0]) * MS] == [MINUTE_OF, boundary]
    assert Decimal(old[4]) == desk.source.bar("BTC/USDT", MINUTE_OF, boundary, boundary).close


def test_unsubscribing_ends_a_channel(feed):
    say(feed, "subscribe", ("trade", "BTCUSDT"))
    (ack,) = say(feed, "unsubscribe", ("trade", "BTCUSDT"))
    assert ack["event"] == "unsubscribe"
    assert heard(feed, NOW + 10 * SECOND) == []


def test_a_ping_is_answered_and_silence_ends_the_connection(feed):
    assert feed.receive("ping", NOW + MINUTE) == ["pong"]
    assert feed.receive(Ping(b""), NOW) == []
    assert feed.advance(NOW + 2 * MINUTE) == []
    assert feed.advance(NOW + 3 * MINUTE) == [Close(1000, "no ping")]


def test_a_connection_lives_for_a_day(feed):
    for hour in range(24 * 60):
        feed.receive("ping", NOW + hour * MINUTE)
    assert feed.advance(NOW + 24 * HOUR) == [Close(1000, "24 hours")]


def test_too_many_messages_end_the_connection_and_subscriptions_are_counted_by_the_hour(feed):
    for number in range(240):
        assert say(feed, "subscribe", ("trade", "BTCUSDT"), now=NOW + number * SECOND)[0]["event"] == "subscribe"
    assert say(feed, "subscribe", ("trade", "BTCUSDT"), now=NOW + 240 * SECOND)[0]["code"] == 30006
    for _ in range(9):
        feed.receive("ping", NOW + 240 * SECOND)
    assert feed.receive("ping", NOW + 240 * SECOND) == [Close(1008, "Too many messages")]


@pytest.mark.parametrize(
    "message", ["{", "[]", '{"op":"login","args":[]}', '{"op":"subscribe","args":["x"]}', " " * 4097]
)
def test_nonsense_is_a_parameter_error(feed, message):
    (frame,) = feed.receive(message, NOW)
    assert json.loads(frame)["code"] == 30016
