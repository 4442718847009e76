"""Nobitex's server side: its money, its two manners of saying no, and Centrifugo's manners on the feed."""

import json
from decimal import Decimal

import pytest

from tradeflood.models.time import DAY, HOUR, MINUTE, SECOND, parse_time
from tradeflood.replay.desk import Clock, Close, HttpRequest, desk_of
from tradeflood.replay.desks import nobitex as module
from tradeflood.replay.simulated import Simulated

NOW = parse_time("2026-03-04T05:06:07.089")
TRUTH = Simulated(4, "nobitex")


@pytest.fixture
def desk():
    return desk_of("nobitex")(Simulated(4), Clock(1, NOW))


def ask(desk, path, now=NOW, **params):
    answer = desk.answer(HttpRequest("GET", path, {name.strip("_"): str(value) for name, value in params.items()}), now)
    return answer.status, json.loads(answer.body, parse_float=Decimal)


def test_trades_are_the_newest_first_in_rial_without_an_id(desk):
    _, answer = ask(desk, "/v2/trades/BTCIRT")
    newest = TRUTH.last_trade("BTC/IRT", "raw", NOW)
    assert answer["status"] == "ok"
    assert len(answer["trades"]) == module.RECENT
    assert set(answer["trades"][0]) == {"time", "price", "volume", "type"}
    assert Decimal(answer["trades"][0]["price"]) == newest.price * 10
    assert Decimal(answer["trades"][0]["volume"]) == newest.size
    times = [row["time"] for row in answer["trades"]]
    assert times == sorted(times, reverse=True)


def test_candles_are_columns_of_floats_in_toman(desk):
    status, answer = ask(
        desk, "/market/udf/history", symbol="btcirt", resolution=1, from_=NOW // SECOND - 600, to=NOW // SECOND
    )
    assert (status, answer["s"]) == (200, "ok")
    truth = TRUTH.candles("BTC/IRT", "1m", now=NOW, start=(NOW // SECOND - 600) * SECOND)
    assert answer["t"] == [row.open_time // SECOND for row in truth]
    assert answer["c"] == [row.close for row in truth]
    assert all(str(price).endswith(".0") for price in answer["o"])


def test_both_ends_of_a_page_of_candles_are_inclusive(desk):
    first = NOW // MINUTE * 60 - 600
    _, answer = ask(desk, "/market/udf/history", symbol="BTCUSDT", resolution=1, from_=first, to=first + 120)
    assert answer["t"] == [first, first + 60, first + 120]


def test_no_more_than_five_hundred_candles_come_at_once_and_pages_go_on(desk):
    end = NOW // MINUTE * 60
    span = {"symbol": "BTCUSDT", "resolution": 1, "from_": end - 60 * 700, "to": end - 60}
    pages = [ask(desk, "/market/udf/history", **span, page=page)[1] for page in (1, 2, 3)]
    assert [len(page.get("t", ())) for page in pages] == [500, 200, 0]
    assert pages[1]["t"][0] == pages[0]["t"][-1] + 60
    assert pages[2] == {"s": "no_data"}


def test_countback_counts_from_the_end(desk):
    end = NOW // MINUTE * 60
    _, answer = ask(desk, "/market/udf/history", symbol="BTCUSDT", resolution=1, countback=3, to=end - 60, from_=0)
    assert answer["t"] == [end - 180, end - 120, end - 60]


@pytest.mark.parametrize(
    ("resolution", "opens"),
    [("D", ["2026-03-02T20:30", "2026-03-03T20:30"]), ("240", ["2026-03-04T00:30", "2026-03-04T04:30"]), ("720", ["2026-03-03T20:30"])],
)  # fmt: skip
def test_days_and_hours_are_counted_from_tehran_midnight(desk, resolution, opens):
    start = parse_time(opens[0]) // SECOND
    _, answer = ask(desk, "/market/udf/history", symbol="BTCIRT", resolution=resolution, from_=start, to=NOW // SECOND)
    assert answer["t"] == [parse_time(time) // SECOND for time in opens]


def test_quiet_minutes_are_absent(desk):
    span = {"symbol": "DOGEUSDT", "resolution": 1, "from_": (NOW - HOUR) // SECOND, "to": NOW // SECOND}
    assert len(ask(desk, "/market/udf/history", **span)[1]["t"]) < 60


def test_sums_of_money_are_scaled_and_volumes_are_not(desk):
    _, answer = ask(desk, "/market/stats")
    bar = TRUTH.bar("BTC/IRT", NOW - DAY + 1, NOW + 1, NOW)
    row = answer["stats"]["btc-rls"]
    assert Decimal(row["volumeSrc"]) == bar.volume
    assert Decimal(row["volumeDst"]) == bar.quote_volume * 10
    assert Decimal(answer["stats"]["btc-usdt"]["latest"]) == TRUTH.last_trade("BTC/USDT", "raw", NOW).price
    assert list(ask(desk, "/market/stats", srcCurrency="btc", dstCurrency="rls")[1]["stats"]) == ["btc-rls"]


def test_options_have_the_steps_of_price_in_rial(desk):
    _, answer = ask(desk, "/v2/options")
    assert answer["nobitex"]["pricePrecisions"]["BTCIRT"] == "10"
    assert answer["nobitex"]["pricePrecisions"]["BTCUSDT"] == "0.01"
    assert answer["nobitex"]["amountPrecisions"]["BTCIRT"] == "0.000001"


def test_a_book_has_its_best_ask_above_its_best_bid(desk):
    _, answer = ask(desk, "/v3/orderbook/all")
    one = answer["BTCIRT"]
    assert Decimal(one["bids"][0][0]) < Decimal(one["asks"][0][0])
    assert one == {key: value for key, value in ask(desk, "/v3/orderbook/BTCIRT")[1].items() if key != "status"}


@pytest.mark.parametrize(
    ("path", "params", "told"),
    [
        ("/v2/trades/NOPE", {}, {"status": "failed", "code": "InvalidSymbol"}),
        ("/v3/orderbook/NOPE", {}, {"status": "failed", "code": "InvalidSymbol"}),
        ("/market/udf/history", {"symbol": "NOPE", "resolution": 1, "to": 1}, {"s": "error", "errmsg": "Invalid symbol!"}),
        ("/market/udf/history", {"symbol": "BTCIRT", "resolution": 7, "to": 1}, {"s": "error", "errmsg": "Invalid resolution!"}),
        ("/market/udf/history", {"symbol": "BTCIRT", "resolution": 1}, {"s": "error", "errmsg": "Invalid parameters!"}),
        ("/market/udf/history", {"symbol": "BTCIRT", "resolution": 1, "from_": 5, "to": 1}, {"s": "no_data"}),
    ],
)  # fmt: skip
def test_no_is_said_inside_http_200(desk, path, params, told):
    status, answer = ask(desk, path, **params)
    assert status == 200
    assert told.items() <= answer.items()


def test_each_call_has_its_own_budget_and_a_breach_tells_the_seconds(desk):
    for _ in range(20):
        assert ask(desk, "/market/stats")[0] == 200
    status, answer = ask(desk, "/market/stats")
    assert (status, answer["code"], answer["limit"], answer["backOff"]) == (429, "TooManyRequests", 20, 53)
    assert ask(desk, "/v2/trades/BTCIRT")[0] == 200
    assert ask(desk, "/market/stats", NOW + answer["backOff"] * SECOND)[0] == 200


def test_an_unknown_path_is_a_page(desk):
    assert desk.answer(HttpRequest("GET", "/nowhere"), NOW).status == 404
    assert desk.connect("/ws", {}, NOW).status == 404


# --- the feed ---


@pytest.fixture
def feed(desk):
    return desk.connect("/connection/websocket", {}, NOW)


CONNECT = '{"id":1,"connect":{}}'


def subscribe(number, channel):
    return json.dumps({"id": number, "subscribe": {"channel": channel}})


def test_nothing_goes_before_the_handshake_and_it_goes_once(feed):
    assert feed.receive(subscribe(1, "public:trades-BTCIRT"), NOW) == [Close(3501, "bad request")]
    [answer] = feed.receive(CONNECT, NOW)
    assert json.loads(answer)["connect"]["pong"] is True
    assert feed.receive(CONNECT, NOW) == [Close(3501, "bad request")]


@pytest.mark.parametrize("text", ["not json", "[]", '{"connect":{}}', '{"id":0,"connect":{}}', '{"id":1}'])
def test_what_is_no_command_ends_the_connection(feed, text):
    assert feed.receive(text, NOW) == [Close(3501, "bad request")]


def test_several_commands_may_stand_in_one_frame(feed):
    text = "\n".join(
        [CONNECT, subscribe(2, "public:trades-BTCIRT"), subscribe(3, "public:trades-BTCIRT"), subscribe(4, "x")]
    )
    answers = [json.loads(frame) for frame in feed.receive(text, NOW)]
    assert [answer.get("error", {}).get("code") for answer in answers] == [None, None, 105, 102]


def test_trades_are_text_inside_json_with_an_offset_that_counts_on(feed):
    feed.receive(CONNECT + "\n" + subscribe(2, "public:trades-BTCIRT"), NOW)
    until, lines = NOW + 2 * MINUTE, []
    while frames := feed.advance(until):
        lines += [json.loads(line) for frame in frames for line in frame.splitlines() if line != "{}"]
        feed.receive("{}", until)
    offsets = [line["push"]["pub"]["offset"] for line in lines]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))
    rows = [json.loads(line["push"]["pub"]["data"]) for line in lines]
    truth = TRUTH.trades_between("BTC/IRT", "raw", NOW, until)
    assert [(Decimal(row["price"]) / 10, Decimal(row["volume"])) for row in rows] == [
        (row.price, row.size) for row in truth
    ]


def test_trades_of_one_moment_come_in_one_frame(feed):
    feed.receive(CONNECT + "\n" + subscribe(2, "public:trades-BTCUSDT"), NOW)
    frames = [frame for second in range(1, 11) for frame in feed.advance(NOW + second * SECOND)]
    assert any("\n" in frame for frame in frames)


def test_candles_are_pushed_every_ten_seconds_and_their_offsets_count_on(feed):
    feed.receive(CONNECT + "\n" + subscribe(2, "public:candle-DOGEUSDT-1"), NOW)
    until, pushes = NOW + MINUTE, []
    while frames := feed.advance(until):
        pushes += [json.loads(frame)["push"]["pub"] for frame in frames if frame != "{}"]
        feed.receive("{}", until)
    assert len(pushes) == 6
    assert [push["offset"] - pushes[0]["offset"] for push in pushes] == list(range(6))
    assert set(json.loads(pushes[0]["data"])) == set("tohlcv")


def test_after_unsubscribing_nothing_more_comes(feed):
    feed.receive(CONNECT + "\n" + subscribe(2, "public:trades-BTCUSDT"), NOW)
    [answer] = feed.receive('{"id":3,"unsubscribe":{"channel":"public:trades-BTCUSDT"}}', NOW)
    assert json.loads(answer) == {"id": 3, "unsubscribe": {}}
    assert feed.advance(NOW + 10 * SECOND) == []


def test_a_ping_wants_its_answer(feed):
    feed.receive(CONNECT, NOW)
    assert feed.control(NOW + 24 * SECOND) == []
    assert feed.control(NOW + 25 * SECOND) == ["{}"]
    feed.receive("{}", NOW + 26 * SECOND)
    assert feed.control(NOW + 50 * SECOND) == ["{}"]
    assert feed.control(NOW + 75 * SECOND) == [Close(3012, "no pong")]


def test_a_connection_has_three_hundred_channels_and_no_more(feed):
    feed.receive(CONNECT, NOW)
    names = [f"public:candle-{symbol}-{name}" for symbol in feed._desk.listed for name in module.RESOLUTIONS]
    feed._channels = {f"filler {number}": (NOW, None, None) for number in range(300 - 1)}
    first, second = (json.loads(feed.receive(subscribe(n, name), NOW)[0]) for n, name in enumerate(names[:2], 2))
    assert "subscribe" in first
    assert second["error"]["code"] == 106
