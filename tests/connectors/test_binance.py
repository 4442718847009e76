"""Binance: every payload and the models it becomes, what its answers and frames mean, and that nonsense is named."""

import contextlib
import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tradeflood.connectors.binance import (
    INTERVALS,
    Binance,
    BinanceCandles,
    BinanceMarkets,
    BinanceMergedTrades,
    BinanceTickers,
    BinanceTrades,
)
from tradeflood.errors import PayloadChanged, RateLimited, Refused, Unavailable, UnknownMarket
from tradeflood.models import Candle, Market, Side, Ticker, Trade
from tradeflood.models.time import HOUR, MINUTE, MS, SECOND, parse_time
from tradeflood.spans import Spans
from tradeflood.turns import Acked, Alive, Ask, Denied, Leaving, Page, Reply, Rows, registry
from tradeflood.turns.connector import Settings

AT = 1_499_865_549_590  # ms
NOW = parse_time("2026-03-04T05:06:07")


@pytest.fixture
def venue():
    return Binance()


def body(value):
    return json.dumps(value).encode()


def asked(model, variant=(), spans=((0, HOUR),)):
    return Ask(model, "binance", "BTC/USDT", "BTCUSDT", variant, Spans.of(*spans), NOW)


# ---------------------------------------------------------------- payloads → models

SYMBOL = {
    "symbol": "ETHBTC", "status": "TRADING", "baseAsset": "ETH", "baseAssetPrecision": 8, "quoteAsset": "BTC",
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "0.00000100", "maxPrice": "100000.00000000", "tickSize": "0.00000100"},
        {"filterType": "LOT_SIZE", "minQty": "0.00100000", "maxQty": "100000.00000000", "stepSize": "0.00010000"},
        {"filterType": "NEW_FILTER", "whatever": [1, 2]},
    ],
}  # fmt: skip


def test_a_symbol_is_a_market(venue):
    rows = venue.markets.decode(body({"timezone": "UTC", "symbols": [SYMBOL], "sors": []}))
    assert BinanceMarkets.pack.pure(rows) == [
        Market(
            "binance", "ETH/BTC", "ETHBTC", "ETH", "BTC", "spot", "trading",
            Decimal("0.000001"), Decimal("0.0001"), Decimal("0.001"),
        )
    ]  # fmt: skip


@pytest.mark.parametrize(("theirs", "ours"), [("BREAK", "halted"), ("HALT", "halted"), ("END_OF_DAY", "end_of_day")])
def test_a_status_is_mapped_where_its_meaning_is_known(venue, theirs, ours):
    bare = {name: SYMBOL[name] for name in ("symbol", "baseAsset", "quoteAsset")}
    (market,) = BinanceMarkets.pack.pure(venue.markets.decode(body({"symbols": [{**bare, "status": theirs}]})))
    assert market.status == ours
    assert (market.price_increment, market.size_increment, market.minimum_size) == (None, None, None)


KLINE = [
    1_499_040_000_000, "0.01634790", "0.80000000", "0.01575800", "0.01577100", "148976.11427815", 1_499_644_799_999,
    "2434.19055334", 308, "1756.87402397", "28.46694368", "17928899.62484339",
]  # fmt: skip


def test_a_kline_is_a_candle(venue):
    rows = venue.klines.decode(body([KLINE]))
    assert BinanceCandles.pack.pure(rows, "ETH/BTC", "1w") == [
        Candle(
            "binance", "ETH/BTC", "1w", "venue", 1_499_040_000_000 * MS, Decimal("0.01634790"), Decimal("0.80000000"),
            Decimal("0.01575800"), Decimal("0.01577100"), Decimal("148976.11427815"), Decimal("2434.19055334"), 308,
        )
    ]  # fmt: skip


OLD = {"id": 28457, "price": "4.00000100", "qty": "12.00000000", "quoteQty": "48.000012", "time": AT, "isBuyerMaker": True, "isBestMatch": True}  # fmt: skip


@pytest.mark.parametrize(("maker", "side"), [(True, Side.SELL), (False, Side.BUY)])
def test_a_row_of_the_history_is_a_raw_trade(venue, maker, side):
    rows = venue.old_trades.decode(body([{**OLD, "isBuyerMaker": maker}]))
    assert BinanceTrades.pack.pure(rows, "BNB/BTC") == [
        Trade("binance", "BNB/BTC", "raw", "28457", Decimal("4.00000100"), Decimal(12), side, AT * MS)
    ]


AGG = {"a": 26129, "p": "0.01633102", "q": "4.70443515", "f": 27781, "l": 27783, "T": AT, "m": True, "M": True}
MERGED = Trade(
    "binance", "BTC/USDT", "merged", "26129", Decimal("0.01633102"), Decimal("4.70443515"), Side.SELL, AT * MS, None,
    "27781", "27783", 3,
)  # fmt: skip


def test_an_agg_trade_is_a_merged_trade_with_its_ids_and_count(venue):
    rows = venue.merged_trades.decode(body([AGG]))
    assert BinanceMergedTrades.pack.pure(rows, "BTC/USDT") == [MERGED]
    assert venue.trade_at.decode(body([AGG])) == venue.newest.decode(body([AGG])) == rows


DAY = {
    "symbol": "BNBBTC", "priceChange": "-94.99999800", "priceChangePercent": "-95.960", "weightedAvgPrice": "0.29628482",
    "prevClosePrice": "0.10002000", "lastPrice": "4.00000200", "lastQty": "200.00000000", "bidPrice": "4.00000000",
    "bidQty": "100.00000000", "askPrice": "4.00000300", "askQty": "100.00000000", "openPrice": "99.00000000",
    "highPrice": "100.00000000", "lowPrice": "0.10000000", "volume": "8913.30000000", "quoteVolume": "15.30000000",
    "openTime": AT - 86_400_000, "closeTime": AT, "firstId": 28385, "lastId": 28460, "count": 76,
}  # fmt: skip


def test_a_day_is_a_ticker(venue):
    rows = venue.days.decode(body([DAY, {**DAY, "symbol": "ETHBTC", "lastId": -1, "count": 0}]))
    first, silent = BinanceTickers.pack.pure(rows, "BNB/BTC")
    assert first == Ticker(
        "binance", "BNB/BTC", AT * MS, Decimal("4.00000200"), Decimal(4), Decimal("4.00000300"), Decimal("8913.3"),
        Decimal("15.3"), Decimal(99), Decimal(100), Decimal("0.1"), 76, "28460",
    )  # fmt: skip
    assert silent.last_trade_id is None, "-1 stands for no trade, not for an id"


@pytest.mark.parametrize("turn", ["klines", "old_trades", "merged_trades", "trade_at", "newest", "days"])
def test_an_empty_page_has_no_rows(venue, turn):
    assert getattr(venue, turn).decode(b"[]") == []


@pytest.mark.parametrize(
    ("turn", "payload", "where"),
    [
        ("klines", [KLINE, KLINE[:8]], "$[1]"),
        ("klines", [["x", *KLINE[1:]]], "$[0][0]"),
        ("klines", [[KLINE[0], "abc", *KLINE[2:]]], "$[0][1]"),
        ("old_trades", [{**OLD, "price": None}], "$[0].price"),
        ("merged_trades", [AGG, {name: value for name, value in AGG.items() if name != "p"}], "$[1]"),
        ("markets", {"symbols": [{**SYMBOL, "filters": {}}]}, "$.symbols[0].filters"),
        ("days", DAY, "$"),
        ("klines", {"code": 0}, "$"),
    ],
)
def test_another_shape_is_named_with_its_place(venue, turn, payload, where):
    with pytest.raises(PayloadChanged) as caught:
        getattr(venue, turn).decode(body(payload))
    assert caught.value.path == where
    assert caught.value.body == body(payload)
    assert f"binance.{turn}" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[", "<html>", "null", "[1]", '[{"id":1e400}]', "\ufeff[]"])
def test_what_is_no_list_is_named(venue, text):
    with pytest.raises(PayloadChanged):
        venue.old_trades.decode(text.encode())


# ---------------------------------------------------------------- answers


def judged(venue, value, status=400, headers=()):
    venue.judge(Reply(status, value if isinstance(value, bytes) else body(value), dict(headers), NOW))


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        (-1121, 400, UnknownMarket),
        (-1100, 400, Refused),
        (-2014, 401, Refused),
        (-1000, 500, Unavailable),
        (-1001, 500, Unavailable),
        (-1003, 429, RateLimited),
        (-1003, 418, RateLimited),
        (-1000, 200, Unavailable),
        (-1121, 200, UnknownMarket),
        (-9999, 429, RateLimited),
    ],
)
def test_an_error_body_is_an_error_whatever_its_status(venue, code, status, error):
    with pytest.raises(error, match=rf"binance: why \(code {code}, HTTP {status}\)") as caught:
        judged(venue, {"code": code, "msg": "why"}, status)
    assert type(caught.value) is error


def test_a_limit_tells_until_when(venue):
    fault = {"code": -1003, "msg": "Too much request weight used"}
    with pytest.raises(RateLimited) as caught:
        judged(venue, fault, 429, {"retry-after": "7"})
    assert caught.value.until == NOW + 7 * SECOND
    with pytest.raises(RateLimited) as caught:
        judged(venue, fault, 429)
    assert caught.value.until is None


def test_a_ban_tells_its_end_in_its_words_where_no_header_does(venue):
    fault = {
        "code": -1003,
        "msg": "Way too much request weight used; IP banned until 1772600000123. Please use WebSocket.",
    }
    with pytest.raises(RateLimited) as caught:
        judged(venue, fault, 418)
    assert (caught.value.until, caught.value.banned) == (1_772_600_000_123 * MS, True)
    with pytest.raises(RateLimited) as caught:
        judged(venue, fault, 418, {"retry-after": "7"})
    assert caught.value.until == NOW + 7 * SECOND
    with pytest.raises(RateLimited) as caught:  # our clock may be wrong
        judged(venue, fault, 418, {"date": "Wed, 04 Mar 2026 04:53:20 GMT"})
    assert caught.value.until - NOW == 1_772_600_000_123 * MS - parse_time("2026-03-04T04:53:20")


@pytest.mark.parametrize(
    ("text", "status", "banned"),
    [
        ("Too much request weight used", 429, False),
        ("Way too much request weight used", 418, True),
        ("Way too much request weight used; IP banned until 1767225600000.", 429, True),
    ],
)
def test_a_ban_is_told_from_a_limit(venue, text, status, banned):
    with pytest.raises(RateLimited) as caught:
        judged(venue, {"code": -1003, "msg": text}, status)
    assert caught.value.banned is banned


def test_a_page_that_says_that_we_are_banned_is_a_ban_and_any_other_is_a_failure(venue):
    with pytest.raises(RateLimited) as caught:
        judged(venue, b"<html><body>Your IP address has been blocked</body></html>", 403)
    assert caught.value.banned
    for page in (b"<html>Your IP</html><b>blocked</b>", b"<html>Access denied</html>"):
        with pytest.raises(Unavailable):
            judged(venue, page, 403)


@pytest.mark.parametrize(
    ("text", "status", "error"),
    [
        (b"", 200, Unavailable),
        (b" <html>checking your browser</html>", 200, Unavailable),
        (b"<html>", 403, Unavailable),
        (b"bad gateway", 502, Unavailable),
        (b"no", 404, Refused),
        (b'{"code":"text"}', 400, Refused),
        (b'{"code":1,"msg":"\xff"}', 500, Unavailable),
        (b'{"code":', 200, None),  # truncated: the decoder names it
        (b"[]", 200, None),
    ],
)
def test_other_answers(venue, text, status, error):
    with pytest.raises(error) if error else contextlib.nullcontext():
        judged(venue, text, status)


def test_the_weight_used_is_read_from_the_header(venue):
    assert venue.spent(Reply(200, b"", {"x-mbx-used-weight-1m": "1234"})) == 1234
    assert venue.spent(Reply(200, b"", {"x-mbx-used-weight-1m": "many"})) is None
    assert venue.spent(Reply(200, b"")) is None


# ---------------------------------------------------------------- requests


def test_requests_are_spelt_as_documented(venue):
    page = Page(start=10 * SECOND, end=70 * SECOND)
    assert dict(venue.klines.request(page, ("BTCUSDT", "1m")).params) == {
        "symbol": "BTCUSDT", "interval": "1m", "limit": 1000, "startTime": 10_000, "endTime": 69_999,
    }  # fmt: skip
    by_id = Page(start=5, end=905)
    for turn in (venue.old_trades, venue.merged_trades):
        assert dict(turn.request(by_id, ("BTCUSDT",)).params) == {"symbol": "BTCUSDT", "fromId": 5, "limit": 900}
    assert dict(venue.trade_at.request(Page(), ("BTCUSDT", 1)).params) == {
        "symbol": "BTCUSDT",
        "startTime": 1,
        "limit": 1,
    }


@pytest.mark.parametrize(("count", "weight"), [(1, 2), (20, 2), (21, 40), (100, 40), (101, 80), (3_000, 80)])
def test_the_weight_of_tickers_goes_by_steps(venue, count, weight):
    request = venue.days.request(Page(symbols=tuple(f"S{number}" for number in range(count))), ())
    assert request.weight == weight
    assert len(json.loads(dict(request.params).get("symbols", "[]"))) == (count if count <= 100 else 0)


def test_every_interval_and_both_kinds_are_offered():
    for model, variants in {Candle: [(name, "venue") for name in INTERVALS], Trade: [("raw",), ("merged",)]}.items():
        for variant in variants:
            binding = registry.binding(Binance, model, variant)
            assert binding.has_live()
            assert binding.has_history()


def test_other_addresses_keep_the_paths():
    moved = Binance(Settings(rest_url="http://127.0.0.1:9001/x", feed_url="ws://127.0.0.1:9002"))
    assert (moved.rest.url, moved.feed.url + moved.feed.path) == (
        "http://127.0.0.1:9001/x",
        "ws://127.0.0.1:9002/stream",
    )


# ---------------------------------------------------------------- frames

RAW = {"e": "trade", "E": AT + 5, "s": "BNBBTC", "t": 12345, "p": "0.001", "q": "100", "T": AT, "m": False, "M": True}
K = {
    "t": 1_672_515_780_000, "T": 1_672_515_839_999, "s": "BNBBTC", "i": "1m", "f": 100, "L": 200, "o": "0.0010",
    "c": "0.0020", "h": "0.0025", "l": "0.0015", "v": "1000", "n": 100, "x": False, "q": "1.0000", "V": "500",
    "Q": "0.500", "B": "123456",
}  # fmt: skip


def pushed(stream, data):
    return body({"stream": stream, "data": data})


def rows_of(venue, stream, data):
    (event,) = venue.hear(pushed(stream, data))
    assert isinstance(event, Rows)
    assert event.topic == stream
    return list(event.rows)


def test_a_trade_frame_is_a_raw_trade(venue):
    rows = rows_of(venue, "bnbbtc@trade", RAW)
    assert BinanceTrades.pack_live.pure(rows, "BNB/BTC") == [
        Trade("binance", "BNB/BTC", "raw", "12345", Decimal("0.001"), Decimal(100), Side.BUY, AT * MS)
    ]


def test_an_agg_trade_frame_is_the_same_as_its_row(venue):
    rows = rows_of(venue, "btcusdt@aggTrade", {"e": "aggTrade", "E": AT + 5, "s": "BTCUSDT", **AGG})
    assert BinanceMergedTrades.pack.pure(rows, "BTC/USDT") == [MERGED]


@pytest.mark.parametrize("closed", [False, True])
def test_a_kline_frame_says_whether_it_is_final(venue, closed):
    frame = {"e": "kline", "E": 1_672_515_782_136, "s": "BNBBTC", "k": {**K, "x": closed}}
    rows = rows_of(venue, "bnbbtc@kline_1m", frame)
    assert BinanceCandles.pack_live.pure(rows, "BNB/BTC", "1m") == [
        Candle(
            "binance", "BNB/BTC", "1m", "venue", 1_672_515_780_000 * MS, Decimal("0.0010"), Decimal("0.0025"),
            Decimal("0.0015"), Decimal("0.0020"), Decimal(1000), Decimal(1), 100, closed, 1_672_515_782_136 * MS,
        )
    ]  # fmt: skip


def test_live_topics_are_the_streams_of_the_venue(venue):
    for binding, model, variant, stream in [
        (BinanceTrades, Trade, ("raw",), "btcusdt@trade"),
        (BinanceMergedTrades, Trade, ("merged",), "btcusdt@aggTrade"),
        (BinanceCandles, Candle, ("1M", "venue"), "btcusdt@kline_1M"),
    ]:
        turn = binding().live(venue, asked(model, variant)).turn
        assert turn.bound.topic(turn.args) == stream


@pytest.mark.parametrize(
    ("frame", "event"),
    [
        ({"result": None, "id": 3}, Acked(number=3)),
        ({"result": ["btcusdt@trade"], "id": 4}, Acked(number=4)),
        (
            {"error": {"code": 2, "msg": "Invalid request: unknown variant"}, "id": 5},
            Denied("Invalid request: unknown variant (code 2)", number=5),
        ),
        ({"code": 0, "msg": "Unknown property", "id": 1}, Denied("Unknown property (code 0)", number=1)),
        ({"e": "serverShutdown", "E": AT}, Leaving("the venue shuts this server down")),
        (
            {"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": AT}},
            Leaving("the venue shuts this server down"),
        ),
        ({"stream": "btcusdt@newThing", "data": {"e": "newThing"}}, Alive()),
        ({}, Alive()),
    ],
)
def test_what_else_a_frame_may_say(venue, frame, event):
    assert list(venue.hear(body(frame))) == [event]


def test_a_known_frame_of_another_shape_is_an_error_with_its_place(venue):
    with pytest.raises(msgspec.ValidationError, match=r"\$\.data\.p"):
        venue.hear(pushed("btcusdt@trade", {**RAW, "p": [1]}))


def test_one_message_subscribes_to_all_topics(venue):
    (out,) = venue.say("subscribe", ["a@trade", "b@kline_1m"], 7)
    assert json.loads(out) == {"method": "SUBSCRIBE", "params": ["a@trade", "b@kline_1m"], "id": 7}


# ---------------------------------------------------------------- anything at all

words = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
shapes = st.recursive(words, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4))  # fmt: skip


def spoilt(payload, path, value):
    """A payload with something else in one place."""
    if not path or not isinstance(payload, (list, dict)) or not payload:
        return value
    places = range(len(payload)) if isinstance(payload, list) else list(payload)
    place = places[path[0] % len(places)]
    copy = list(payload) if isinstance(payload, list) else dict(payload)
    copy[place] = spoilt(copy[place], path[1:], value)
    return copy


PAGES = {
    "markets": ({"symbols": [SYMBOL]}, BinanceMarkets.pack, ()),
    "klines": ([KLINE, KLINE], BinanceCandles.pack, ("ETH/BTC", "1m")),
    "old_trades": ([OLD, OLD], BinanceTrades.pack, ("BTC/USDT",)),
    "merged_trades": ([AGG, AGG], BinanceMergedTrades.pack, ("BTC/USDT",)),
    "days": ([DAY, DAY], BinanceTickers.pack, ("BTC/USDT",)),
}
EVENTS = (Rows, Acked, Denied, Leaving, Alive)


def read(turn, text):
    """The models of a body, or none where it is refused with a place."""
    _, pack, words = PAGES[turn]
    rows, refused = [], None
    try:
        rows = getattr(Binance(), turn).decode(text)
    except PayloadChanged as error:
        refused = error
    assert refused is None or refused.path.startswith("$")
    return pack.pure(rows, *words)


@pytest.mark.parametrize("turn", PAGES)
@given(st.lists(st.integers(0, 11), max_size=5), shapes)
def test_a_spoilt_answer_is_models_or_a_payload_error_with_a_place(turn, path, value):
    payload = PAGES[turn][0]
    text = json.dumps(spoilt(payload, path, value)).encode("utf-8", "surrogatepass")
    for model in read(turn, text):
        assert type(model) in {Market, Candle, Trade, Ticker}


@pytest.mark.parametrize("turn", PAGES)
@given(st.binary() | st.text().map(str.encode))
@example(b"[" * 5_000)
@example(b'[{"id":' + b"9" * 5_000 + b"}]")
def test_any_bytes_are_models_or_a_payload_error(turn, text):
    read(turn, text)


def listened(frame):
    """The events of a frame; none where it is refused as msgspec refuses."""
    try:
        events = list(Binance().hear(frame))
    except msgspec.MsgspecError:
        return []
    assert all(isinstance(event, EVENTS) for event in events)
    return events


@given(st.binary() | st.text().map(str.encode))
@example(b"[" * 5_000)
@example(b'{"stream":"\xff","data":{"e":"trade"}}')
@example(b'{"id":' + b"9" * 5_000 + b"}")
@example(b'{"msg":"\xff","code":1}')
def test_any_frame_is_events_or_an_error(frame):
    listened(frame)


@given(
    st.sampled_from([RAW, {"e": "aggTrade", **AGG}, {"e": "kline", "E": AT, "k": K}]),
    st.lists(st.integers(0, 12), max_size=3),
    shapes,
)
def test_a_spoilt_frame_is_rows_that_pack_or_an_error(data, path, value):
    packs = {
        "RawTrade": BinanceTrades.pack_live,
        "AggTrade": BinanceMergedTrades.pack,
        "KlineFrame": BinanceCandles.pack_live,
    }
    frame = json.dumps(spoilt({"stream": "x@y", "data": data}, path, value)).encode("utf-8", "surrogatepass")
    for event in listened(frame):
        if isinstance(event, Rows):
            for row in event.rows:
                pack = packs[type(row).__name__]
                assert pack.pure([row], "BTC/USDT", *(["1m"] if "Kline" in type(row).__name__ else []))


def test_pages_of_an_ask_are_whole_requests(venue):
    """The binding's step carries what the planner cuts: nothing more is needed to see the request."""
    step = BinanceCandles()(venue, asked(Candle, ("1m", "venue"), ((0, 10 * MINUTE),)))
    assert step.turn.args == ("BTCUSDT", "1m")
    assert step.turn.spans == Spans.of((0, 10 * MINUTE))
