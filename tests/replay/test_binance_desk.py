"""Binance's server side, asked without a socket."""

import json
from decimal import Decimal
from itertools import pairwise

import pytest

from tradeflood.models.time import DAY, HOUR, MINUTE, MS, SECOND, US, parse_time
from tradeflood.replay.desk import Clock, Close, HttpRequest, Ping, Pong
from tradeflood.replay.desks.binance import INTERVALS, Binance
from tradeflood.replay.simulated import GENESIS, Simulated

NOW = parse_time("2026-03-04T05:06:07.089")
MINUTE_OF = NOW // MINUTE * MINUTE


@pytest.fixture
def desk():
    return Binance(Simulated(3), Clock(1, NOW))


def ask(desk, path, now=NOW, client="127.0.0.1", **params):
    return desk.answer(
        HttpRequest("GET", path, {name: str(value) for name, value in params.items()}, client=client), now
    )


def rows(desk, path, now=NOW, **params):
    answer = ask(desk, f"/api/v3/{path}", now, **params)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def test_exchange_info_lists_the_usdt_markets_with_their_increments(desk):
    info = rows(desk, "exchangeInfo")
    assert [row["symbol"] for row in info["symbols"]] == ["BTCUSDT", "ETHUSDT", "SOLUSDT", "DOGEUSDT"]
    filters = {entry["filterType"]: entry for entry in info["symbols"][0]["filters"]}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert filters["LOT_SIZE"]["stepSize"] == "0.00001000"
    assert info["rateLimits"][0] == {
        "rateLimitType": "REQUEST_WEIGHT",
        "interval": "MINUTE",
        "intervalNum": 1,
        "limit": 6000,
    }
    assert [row["symbol"] for row in rows(desk, "exchangeInfo", symbols='["ETHUSDT"]')["symbols"]] == ["ETHUSDT"]
    assert rows(desk, "exchangeInfo", symbolStatus="BREAK")["symbols"] == []


def test_recent_trades_are_the_newest_ascending(desk):
    trades = rows(desk, "trades", symbol="BTCUSDT")
    assert len(trades) == 500
    assert all(left["id"] + 1 == right["id"] for left, right in pairwise(trades))
    assert trades[-1]["time"] * MS <= NOW
    assert Decimal(trades[0]["quoteQty"]) == Decimal(trades[0]["price"]) * Decimal(trades[0]["qty"])
    assert len(trades[0]["price"].partition(".")[2]) == 8
    assert rows(desk, "historicalTrades", symbol="BTCUSDT") == trades


def test_old_trades_begin_with_the_id_that_is_asked(desk):
    assert [row["id"] for row in rows(desk, "historicalTrades", symbol="BTCUSDT", fromId=1, limit=3)] == [1, 2, 3]
    assert [row["id"] for row in rows(desk, "historicalTrades", symbol="BTCUSDT", fromId=0, limit=2)] == [1, 2]
    last = rows(desk, "trades", symbol="BTCUSDT", limit=1)[0]
    assert rows(desk, "historicalTrades", symbol="BTCUSDT", fromId=last["id"], limit=1000) == [last]
    assert rows(desk, "historicalTrades", symbol="BTCUSDT", fromId=last["id"] + 1) == []


def test_aggregates_include_both_ends_of_their_times(desk):
    some = rows(desk, "aggTrades", symbol="BTCUSDT", limit=20)
    start, end = some[3]["T"], some[10]["T"]
    assert rows(desk, "aggTrades", symbol="BTCUSDT", startTime=start, endTime=end) == [
        row for row in some if start <= row["T"] <= end
    ]
    assert rows(desk, "aggTrades", symbol="BTCUSDT", startTime=start, limit=4)[0]["T"] == start
    assert rows(desk, "aggTrades", symbol="BTCUSDT", endTime=end, limit=4)[-1]["T"] == end
    assert rows(desk, "aggTrades", symbol="BTCUSDT", fromId=some[5]["a"], limit=3) == some[5:8]
    assert all(left["l"] + 1 == right["f"] for left, right in pairwise(some))


def test_microseconds_are_taken_for_times(desk):
    start = (NOW - HOUR) // MS
    one = rows(desk, "aggTrades", symbol="BTCUSDT", startTime=start, limit=3)
    assert rows(desk, "aggTrades", symbol="BTCUSDT", startTime=start * MS // US, limit=3) == one


@pytest.mark.parametrize("name", INTERVALS)
def test_klines_of_every_interval_lie_on_its_grid_and_end_with_the_running_one(desk, name):
    klines = rows(desk, "klines", symbol="BTCUSDT", interval=name, limit=3)
    assert len(klines) == 3
    assert all(left[6] + 1 == right[0] for left, right in pairwise(klines))
    assert klines[-1][0] <= NOW // MS <= klines[-1][6]
    assert all(len(row) == 12 for row in klines)


def test_klines_include_both_ends_of_their_times(desk):
    start = (MINUTE_OF - HOUR) // MS
    opens = [
        row[0]
        for row in rows(desk, "klines", symbol="BTCUSDT", interval="1m", startTime=start, endTime=start + 120_000)
    ]
    assert opens == [start, start + 60_000, start + 120_000]
    opens = [
        row[0]
        for row in rows(desk, "klines", symbol="BTCUSDT", interval="1m", startTime=start + 1, endTime=start + 119_999)
    ]
    assert opens == [start + 60_000]
    opens = [row[0] for row in rows(desk, "klines", symbol="BTCUSDT", interval="1m", endTime=start, limit=2)]
    assert opens == [start - 60_000, start]
    assert rows(desk, "klines", symbol="BTCUSDT", interval="1m", startTime=NOW // MS + 60_000) == []
    assert len(rows(desk, "klines", symbol="BTCUSDT", interval="1m", limit=5000)) == 1000
    assert len(rows(desk, "klines", symbol="BTCUSDT", interval="1m")) == 500


def test_the_first_kline_is_the_one_of_the_first_trade(desk):
    assert rows(desk, "klines", symbol="BTCUSDT", interval="1m", startTime=0, limit=1)[0][0] == GENESIS // MS


def test_a_quiet_minute_is_a_flat_bar_at_the_close_before_it(desk):
    klines = rows(desk, "klines", symbol="DOGEUSDT", interval="1m", limit=300)
    assert all(left[0] + 60_000 == right[0] for left, right in pairwise(klines))
    quiet = [(left, right) for left, right in pairwise(klines) if right[8] == 0]
    assert quiet
    for left, right in quiet:
        assert right[1:5] == [left[4]] * 4
        assert right[5] == right[7] == "0.00000000"


def test_a_kline_is_the_fold_of_the_trades_of_its_minute(desk):
    kline = rows(desk, "klines", symbol="ETHUSDT", interval="1m", limit=2)[0]
    trades = [row for row in rows(desk, "trades", symbol="ETHUSDT", limit=1000) if kline[0] <= row["time"] <= kline[6]]
    prices = [Decimal(row["price"]) for row in trades]
    assert [Decimal(text) for text in kline[1:5]] == [prices[0], max(prices), min(prices), prices[-1]]
    assert Decimal(kline[5]) == sum(Decimal(row["qty"]) for row in trades)
    assert Decimal(kline[7]) == sum(Decimal(row["quoteQty"]) for row in trades)
    assert kline[8] == len(trades)
    assert Decimal(kline[9]) == sum(Decimal(row["qty"]) for row in trades if not row["isBuyerMaker"])


def test_tickers_of_one_some_and_all(desk):
    one = rows(desk, "ticker/24hr", symbol="BTCUSDT")
    assert one["closeTime"] == NOW // MS
    assert one["count"] == one["lastId"] - one["firstId"] + 1
    assert Decimal(one["bidPrice"]) < Decimal(one["askPrice"])
    assert [row["symbol"] for row in rows(desk, "ticker/24hr", symbols='["ETHUSDT","BTCUSDT"]')] == [
        "ETHUSDT",
        "BTCUSDT",
    ]
    assert one in rows(desk, "ticker/24hr")
    assert "priceChange" not in rows(desk, "ticker/24hr", symbol="BTCUSDT", type="MINI")
    assert rows(desk, "ticker/price", symbol="BTCUSDT") == {"symbol": "BTCUSDT", "price": one["lastPrice"]}
    assert len(rows(desk, "ticker/price")) == 4


@pytest.mark.parametrize(
    ("path", "params", "status", "code"),
    [
        ("klines", {"symbol": "NOPEUSDT", "interval": "1m"}, 400, -1121),
        ("klines", {"symbol": "BTCIRT", "interval": "1m"}, 400, -1121),
        ("klines", {"symbol": "btcusdt", "interval": "1m"}, 400, -1100),
        ("klines", {"interval": "1m"}, 400, -1102),
        ("klines", {"symbol": "BTCUSDT"}, 400, -1102),
        ("klines", {"symbol": "BTCUSDT", "interval": "7m"}, 400, -1120),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "x"}, 400, -1100),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "0"}, 400, -1130),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "startTime": "2024-01-01"}, 400, -1100),
        ("trades", {"symbol": "BTCUSDT", "fromId": "1"}, 400, -1104),
        ("aggTrades", {"symbol": "BTCUSDT", "fromId": "1", "startTime": "1"}, 400, -1128),
        ("ticker/24hr", {"symbol": "BTCUSDT", "symbols": '["BTCUSDT"]'}, 400, -1128),
        ("ticker/24hr", {"symbols": "BTCUSDT"}, 400, -1100),
        ("ticker/24hr", {"symbols": '["NOPE"]'}, 400, -1121),
        ("nothing", {}, 404, -1000),
    ],
)
def test_a_wrong_request_gets_the_venues_own_error(desk, path, params, status, code):
    answer = ask(desk, f"/api/v3/{path}", **params)
    assert (answer.status, json.loads(answer.body)["code"]) == (status, code)


def test_weights_are_counted_by_the_minute_and_shown(desk):
    calls = [
        ("time", {}),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m"}),
        ("trades", {"symbol": "BTCUSDT"}),
        ("exchangeInfo", {}),
        ("ticker/24hr", {}),
    ]
    shown = [ask(desk, f"/api/v3/{path}", **params).headers["X-MBX-USED-WEIGHT-1M"] for path, params in calls]
    assert shown == ["1", "3", "28", "48", "128"]
    assert ask(desk, "/api/v3/time", NOW + MINUTE).headers["X-MBX-USED-WEIGHT-1M"] == "1"


def test_a_breach_is_429_until_the_minute_is_over_and_a_ban_when_it_goes_on(desk):
    answers = [ask(desk, "/api/v3/trades", symbol="NOPE") for _ in range(240)]
    assert {answer.status for answer in answers} == {400}
    refused = ask(desk, "/api/v3/time")
    assert (refused.status, json.loads(refused.body)["code"]) == (429, -1003)
    assert refused.headers["Retry-After"] == "53"
    assert ask(desk, "/api/v3/time", client="10.0.0.2").status == 200
    assert [ask(desk, "/api/v3/time").status for _ in range(10)] == [429] * 9 + [418]
    assert ask(desk, "/api/v3/time", NOW + MINUTE).headers["Retry-After"] == "60"
    assert ask(desk, "/api/v3/time", NOW + 2 * MINUTE).status == 200


def frames(feed, now):
    found = []
    while said := feed.advance(now):
        found += said
    return found


def data(feed, now):
    return [json.loads(frame) for frame in frames(feed, now) if isinstance(frame, str)]


def test_a_raw_stream_gives_every_trade_after_the_connection(desk):
    feed = desk.connect("/ws/btcusdt@trade", {}, NOW)
    got = data(feed, NOW + 30 * SECOND)
    want = [row for row in rows(desk, "trades", NOW + 30 * SECOND, symbol="BTCUSDT") if row["time"] * MS > NOW]
    assert [(row["t"], row["p"], row["q"], row["T"], row["m"]) for row in got] == [
        (row["id"], row["price"], row["qty"], row["time"], row["isBuyerMaker"]) for row in want
    ]
    assert {row["e"] for row in got} == {"trade"}


def test_combined_streams_are_wrapped_and_in_the_order_of_time(desk):
    feed = desk.connect("/stream", {"streams": "btcusdt@aggTrade/ethusdt@trade/nope@trade"}, NOW)
    got = data(feed, NOW + 30 * SECOND)
    assert {row["stream"] for row in got} == {"btcusdt@aggTrade", "ethusdt@trade"}
    assert all(left["data"]["T"] <= right["data"]["T"] for left, right in pairwise(got))


def test_subscriptions_are_acknowledged_and_owed_from_then_on(desk):
    feed = desk.connect("/ws", {}, NOW)
    assert data(feed, NOW + 10 * SECOND) == []
    later = NOW + 10 * SECOND
    assert feed.receive('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":7}', later) == ['{"result":null,"id":7}']
    assert feed.receive('{"method":"LIST_SUBSCRIPTIONS","id":"x"}', later) == ['{"result":["btcusdt@trade"],"id":"x"}']
    assert all(row["T"] * MS > later for row in data(feed, later + 20 * SECOND))
    assert feed.receive('{"method":"SET_PROPERTY","params":["combined",true],"id":8}', later) == [
        '{"result":null,"id":8}'
    ]
    assert feed.receive('{"method":"GET_PROPERTY","params":["combined"],"id":9}', later) == ['{"result":true,"id":9}']
    later += 20 * SECOND
    assert feed.receive('{"method":"UNSUBSCRIBE","params":["btcusdt@trade"],"id":8}', later) == [
        '{"result":null,"id":8}'
    ]
    assert data(feed, later + 9 * SECOND) == []


@pytest.mark.parametrize(
    ("message", "code", "number"),
    [
        ("{", 3, None),
        ("[]", 2, None),
        ('{"id":1}', 2, 1),
        ('{"method":"SUBSCRIB","id":1}', 2, 1),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2, 1),
        ('{"method":"SUBSCRIBE","params":{},"id":1}', 2, 1),
        ('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1.5}', 2, None),
        ('{"method":"SET_PROPERTY","params":["colour",true],"id":1}', 0, 1),
        ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1, 1),
    ],
)
def test_a_wrong_message_gets_an_error_frame(desk, message, code, number):
    (frame,) = desk.connect("/ws", {}, NOW).receive(message, NOW)
    said = json.loads(frame)
    assert (said["code"], said.get("id")) == (code, number)
    assert said["msg"]


def test_a_candle_runs_every_two_seconds_and_closes_just_after_its_end(desk):
    feed = Binance(Simulated(3), Clock(10, MINUTE_OF)).connect("/ws/btcusdt@kline_1m", {}, MINUTE_OF)
    got = data(feed, MINUTE_OF + 2 * MINUTE)
    closing = [row for row in got if row["k"]["x"]]
    assert [row["k"]["t"] for row in closing] == [(MINUTE_OF - MINUTE) // MS, MINUTE_OF // MS]
    assert closing[1]["E"] == (MINUTE_OF + MINUTE) // MS + 50
    kline = rows(
        desk, "klines", MINUTE_OF + 2 * MINUTE, symbol="BTCUSDT", interval="1m", startTime=MINUTE_OF // MS, limit=1
    )[0]
    fields = "t o h l c v T q n V Q B".split()
    assert [closing[1]["k"][name] for name in fields] == kline
    running = [row for row in got if not row["k"]["x"]]
    assert len(running) > 20
    assert {row["E"] % 2_000 for row in running} == {1_000}


def test_a_quiet_candle_closes_flat():
    desk = Binance(Simulated(3), Clock(1000, NOW))
    feed = desk.connect("/ws/dogeusdt@kline_1m", {}, NOW)
    closing = [row["k"] for row in data(feed, NOW + 30 * MINUTE) if row["k"]["x"]]
    assert len(closing) == 30
    flat = [row for row in closing if row["n"] == 0]
    assert flat
    assert all(row["o"] == row["c"] == row["h"] == row["l"] and row["v"] == "0.00000000" for row in flat)


def test_mini_tickers_name_each_second_the_markets_that_traded(desk):
    got = data(desk.connect("/ws/!miniTicker@arr", {}, NOW), NOW + 20 * SECOND)
    assert 15 < len(got) <= 20
    symbols = [{row["s"] for row in rows} for rows in got]
    assert all("DOGEUSDT" not in names for names in symbols[:1]) or len(symbols) > 1
    assert set().union(*symbols) >= {"BTCUSDT", "ETHUSDT"}
    assert any(names != symbols[0] for names in symbols)


def test_the_server_pings_every_twenty_real_seconds_and_leaves_a_client_that_is_silent():
    fast = Binance(Simulated(3), Clock(60, NOW))
    feed = fast.connect("/ws", {}, NOW)
    assert feed.advance(NOW + 19 * MINUTE) == []
    assert [type(frame) for frame in feed.advance(NOW + 20 * MINUTE)] == [Ping]
    assert feed.receive(Pong(b""), NOW + 21 * MINUTE) == []
    pings = [feed.advance(NOW + minute * MINUTE) for minute in (40, 60, 80)]
    assert [type(said[0]) for said in pings] == [Ping] * 3
    assert feed.advance(NOW + 101 * MINUTE) == [Close(1008, "Pong timeout")]
    assert feed.advance(NOW + 102 * MINUTE) == []


def test_the_sixth_message_of_a_second_ends_the_connection(desk):
    feed = desk.connect("/ws", {}, NOW)
    for _ in range(5):
        assert not isinstance(feed.receive('{"method":"LIST_SUBSCRIPTIONS","id":1}', NOW)[0], Close)
    assert feed.receive(Pong(b""), NOW + SECOND - 1) == [Close(1008, "Too many requests")]


def test_a_connection_lives_for_a_day(desk):
    assert desk.connect("/ws", {}, NOW).advance(NOW + DAY)[0].code == 1001


def test_an_unknown_path_has_no_feed(desk):
    assert desk.connect("/feed", {}, NOW).status == 404
