"""Nobitex: payload by payload, its money, its feed, then whole questions against its desk."""

import asyncio
import contextlib
import json
from collections import Counter
from decimal import Decimal
from email.utils import formatdate

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tradeflood.connectors import nobitex as module
from tradeflood.connectors.nobitex import (
    RESOLUTIONS,
    UNITS,
    Nobitex,
    NobitexCandles,
    NobitexTrades,
    check_unit,
    check_volume,
    in_quote,
)
from tradeflood.coverage import Grade, State
from tradeflood.errors import PayloadChanged, RateLimited, Refused, Unavailable, UnknownMarket, UsageError
from tradeflood.models import Candle, Market, Side, Ticker, Trade, interval
from tradeflood.models.identity import digits
from tradeflood.models.time import DAY, HOUR, MINUTE, MS, SECOND, iso, parse_time
from tradeflood.planner.query import Query
from tradeflood.planner.run import Run
from tradeflood.replay.desk import Clock, HttpRequest
from tradeflood.replay.desks import nobitex as desks
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated
from tradeflood.turns import Acked, Alive, Answer, Denied, Leaving, Page, Reply, Rows, Step, TurnSpec, registry

NOW = parse_time("2026-03-04T05:06:07.089")
SEED = 3
TRUTH = Simulated(SEED, "nobitex")

TRADES = {
    "status": "ok",
    "trades": [
        {"time": 1588689375067, "price": "1470000110", "volume": "0", "type": "sell"},
        {"time": 1588689360464, "price": "1470000110", "volume": "0.0020", "type": "buy"},
    ],
}
DAILY = {
    "s": "ok", "t": [1562095800, 1562182200], "o": [146272500, 150551000], "h": [155869600, 161869500],
    "l": [140062400, 150551000], "c": [151440200, 157000000], "v": [18.221362316, 9.8592626506],
}  # fmt: skip
STAT = {
    "isClosed": False, "bestSell": "749976360", "bestBuy": "733059600", "volumeSrc": "0.2929480000",
    "volumeDst": "212724856.0678640000", "latest": "750350000", "mark": "747461987", "dayLow": "686021860",
    "dayHigh": "750350000", "dayOpen": "686021860", "dayClose": "750350000", "dayChange": "9.38",
}  # fmt: skip
USDT = {
    "isClosed": False, "bestSell": "85687.22", "bestBuy": "85541.79", "volumeSrc": "13.576044556",
    "volumeDst": "1169731.7131056721", "latest": "85687.22", "dayLow": "85401", "dayHigh": "87123.45", "dayOpen": "85979.11",
}  # fmt: skip


@pytest.fixture
def nobitex():
    return Nobitex()


def body(value) -> bytes:
    return json.dumps(value).encode()


# ---------------------------------------------------------------- payloads → models


def test_trades_are_in_toman_and_are_named_by_what_is_sent(nobitex):
    rows = nobitex.trades.decode(body(TRADES))
    assert NobitexTrades.pack.pure(rows, "BTC/IRT", "rial") == [
        Trade("nobitex", "BTC/IRT", "raw", "1588689375067:sell:147000011:0", Decimal(147000011), Decimal(0), Side.SELL, 1588689375067 * MS),
        Trade("nobitex", "BTC/IRT", "raw", "1588689360464:buy:147000011:0.002", Decimal(147000011), Decimal("0.002"), Side.BUY, 1588689360464 * MS),
    ]  # fmt: skip


def test_a_market_against_usdt_is_not_scaled(nobitex):
    row = {"time": 1, "price": "85541.7900", "volume": "0.5", "type": "buy"}
    [trade] = NobitexTrades.pack.pure(
        nobitex.trades.decode(body({"status": "ok", "trades": [row]})), "BTC/USDT", "rial"
    )
    assert (trade.price, trade.trade_id) == (Decimal("85541.79"), "1:buy:85541.79:0.5")


@pytest.mark.parametrize(("price", "volume"), [("1470000110", "0.002"), ("1470000110.00", "2E-3"), (1470000110, 0.002)])
def test_the_same_trade_in_another_spelling_is_the_same_trade(nobitex, price, volume):
    row = {"time": 5, "price": price, "volume": volume, "type": "buy"}
    [trade] = NobitexTrades.pack.pure(nobitex.trades.decode(body({"trades": [row]})), "BTC/IRT", "rial")
    assert trade.trade_id == "5:buy:147000011:0.002"


def test_daily_bars_open_at_tehran_midnight_and_are_in_toman_as_they_are(nobitex):
    """In 2019 Iran had summer time, so the day began at 19:30 UTC."""
    rows = nobitex.history.decode(body(DAILY))
    assert NobitexCandles.pack.pure(rows, "BTC/IRT", "1d@Asia/Tehran", "toman") == [
        Candle(
            "nobitex", "BTC/IRT", "1d@Asia/Tehran", "venue", parse_time("2019-07-02T19:30"), Decimal(146272500),
            Decimal(155869600), Decimal(140062400), Decimal(151440200), Decimal("18.221362316"),
        ),
        Candle(
            "nobitex", "BTC/IRT", "1d@Asia/Tehran", "venue", parse_time("2019-07-03T19:30"), Decimal(150551000),
            Decimal(161869500), Decimal(150551000), Decimal(157000000), Decimal("9.8592626506"),
        ),
    ]  # fmt: skip


def test_a_float_is_read_from_its_digits(nobitex):
    one = b'{"s":"ok","t":[0],"o":[0.1],"h":[6240000001.0],"l":[0.30000000000000004],"c":[1e3],"v":[12345678901234567890.125]}'
    [bar] = nobitex.history.decode(one)
    assert [bar.o, bar.h, bar.l, bar.c, bar.v] == [
        Decimal(text) for text in ("0.1", "6240000001", "0.30000000000000004", "1000", "12345678901234567890.125")
    ]


@pytest.mark.parametrize("text", [b'{"s":"no_data"}', b'{"s":"ok","t":[],"o":[],"h":[],"l":[],"c":[],"v":[]}'])
def test_no_data_are_no_candles(nobitex, text):
    assert nobitex.history.decode(text) == []


def test_no_trades_are_no_trades(nobitex):
    assert nobitex.trades.decode(b'{"status":"ok","trades":[]}') == []


def test_bars_off_our_boundaries_are_refused_and_not_stored(nobitex):
    """The venue's bars of four hours open at 00:30 UTC: under a plain name they would be other bars."""
    rows = nobitex.history.decode(body({**DAILY, "t": [1784853000, 1784867400]}))
    with pytest.raises(PayloadChanged, match="2026-07-24T00:30:00Z, which is no boundary of 4h"):
        NobitexCandles.pack.pure(rows, "BTC/IRT", "4h", "toman")


def test_markets_have_the_status_of_one_answer_and_the_steps_of_the_other(nobitex):
    stats = {
        "btc-rls": STAT,
        "btc-usdt": USDT,
        "1m_pepe-rls": {"isClosed": True, "isClosedReason": "NoData"},
        "t-rls": {},
    }
    steps = {
        "nobitex": {
            "amountPrecisions": {"BTCIRT": "0.000001", "BTCUSDT": "0.000001"},
            "pricePrecisions": {"BTCIRT": "10", "BTCUSDT": "0.01", "1M_PEPEIRT": "0.1"},
            "minOrders": {"rls": "3000000"},
        }
    }
    listing = nobitex.listing.decode(body({"status": "ok", "stats": stats, "global": {"binance": {"btc": 1.5}}}))
    options = nobitex.options.decode(body({"status": "ok", **steps}))
    lot = Decimal("0.000001")
    assert module._markets(listing, options) == [
        Market("nobitex", "BTC/IRT", "BTCIRT", "BTC", "IRT", "spot", "trading", Decimal(1), lot, price_unit="rial"),
        Market("nobitex", "BTC/USDT", "BTCUSDT", "BTC", "USDT", "spot", "trading", Decimal("0.01"), lot),
        Market("nobitex", "1M_PEPE/IRT", "1M_PEPEIRT", "1M_PEPE", "IRT", "spot", "closed", Decimal("0.01"), price_unit="rial"),
        Market("nobitex", "T/IRT", "TIRT", "T", "IRT", "spot", price_unit="rial"),
    ]  # fmt: skip


@pytest.mark.parametrize("market", ["BTC/IRT", "BTC/USDT", "1M_PEPE/IRT", "T/IRT", "T/USDT", "1B_BABYDOGE/USDT"])
def test_a_symbol_is_spelt_as_the_list_has_it(nobitex, market):
    base, quote = market.split("/")
    key = f"{base.lower()}-{'rls' if quote == 'IRT' else quote.lower()}"
    [row] = nobitex.listing.decode(body({"stats": {key: {}}}))
    assert (nobitex.symbols.spell(market), f"{row.base}/{row.quote}") == (row.symbol, market)


def test_a_ticker_has_the_time_of_its_book(nobitex):
    stats = nobitex.stats.decode(body({"status": "ok", "stats": {"btc-rls": STAT}}))
    books = nobitex.books.decode(
        body({"status": "ok", "BTCIRT": {"lastUpdate": 1644991756704, "asks": [], "bids": []}})
    )
    assert module._tickers(stats, books, "BTC/IRT") == [
        Ticker(
            "nobitex", "BTC/IRT", 1644991756704 * MS, Decimal(75035000), Decimal(73305960), Decimal(74997636),
            Decimal("0.292948"), Decimal("21272485.6067864"), Decimal(68602186), Decimal(75035000), Decimal(68602186),
        )
    ]  # fmt: skip


def test_a_price_of_nought_is_none(nobitex):
    """Issue 90 of the venue's documents: `latest` may be 0E-10 while the market trades."""
    stats = nobitex.stats.decode(
        body({"stats": {"btc-usdt": {**USDT, "latest": "0E-10"}, "x-usdt": {"isClosed": True}}})
    )
    books = nobitex.books.decode(body({"BTCUSDT": {"lastUpdate": 2}, "XUSDT": {"lastUpdate": 3}}))
    first = module._tickers(stats[:1], books, "BTC/USDT")[0]
    assert (first.last, first.bid, first.volume) == (None, Decimal("85541.79"), Decimal("13.576044556"))
    assert module._tickers(stats[1:], books, "X/USDT") == [Ticker("nobitex", "X/USDT", 3 * MS)]


def test_a_market_without_a_book_has_no_ticker(nobitex):
    stats = nobitex.stats.decode(body({"stats": {"btc-usdt": USDT}}))
    assert module._tickers(stats, nobitex.books.decode(b'{"status":"ok"}'), "BTC/USDT") == []


@pytest.mark.parametrize(
    ("turn", "text", "path"),
    [
        ("trades", b'{"trades":[{"time":1,"price":"x","volume":"1","type":"buy"}]}', "$.trades[0].price"),
        ("trades", b'{"status":"ok"}', "$"),
        ("history", b'{"s":"ok","t":[1],"o":[1],"h":["no"],"l":[1],"c":[1],"v":[1]}', "$.h[0]"),
        ("history", b'{"s":"ok","t":[1,2],"o":[1],"h":[1],"l":[1],"c":[1],"v":[1]}', "$"),
        ("history", b"[]", "$"),
        ("listing", b'{"stats":{"btc-rls":{"latest":"?"}}}', "$.stats[...].latest"),
        ("books", b'{"BTCIRT":{"asks":[]}}', "$"),
    ],
)
def test_a_changed_payload_names_its_place(nobitex, turn, text, path):
    with pytest.raises(PayloadChanged) as caught:
        getattr(nobitex, turn).decode(text)
    assert caught.value.path == path


def test_an_unknown_side_is_an_error_and_not_a_guess(nobitex):
    rows = nobitex.trades.decode(b'{"trades":[{"time":1,"price":"1","volume":"1","type":"swap"}]}')
    with pytest.raises(KeyError):
        NobitexTrades.pack.pure(rows, "BTC/IRT", "rial")


# ---------------------------------------------------------------- requests


def test_a_page_of_candles_asks_for_whole_seconds_both_inclusive(nobitex):
    page = Page(parse_time("2024-01-01"), parse_time("2024-01-01T00:10"))
    request = nobitex.history.request(page, ("BTCIRT", "5m"))
    assert (request.path, dict(request.params)) == (
        "/market/udf/history",
        {"symbol": "BTCIRT", "resolution": "5", "from": 1704067200, "to": 1704067799},
    )


def test_a_page_shorter_than_a_second_asks_for_no_time_before_its_start(nobitex):
    params = dict(nobitex.history.request(Page(1, MS), ("BTCIRT", "1m")).params)
    assert params["from"] == params["to"] == 1


def test_trades_are_asked_without_any_parameter_and_may_be_polled(nobitex):
    request = nobitex.trades.request(Page(0, NOW), ("1M_PEPEIRT",))
    assert (request.path, request.params) == ("/v2/trades/1M_PEPEIRT", ())
    assert nobitex.trades.spec.every == 5 * SECOND


def test_every_call_has_a_budget_of_its_own(nobitex):
    limits = {name: (getattr(nobitex, name).budget.name, getattr(nobitex, name).budget.limit) for name in ("stats", "listing", "books", "book", "trades", "history")}  # fmt: skip
    assert limits == {
        "stats": ("stats", 20), "listing": ("stats", 20), "books": ("orderbook", 300), "book": ("orderbook", 300),
        "trades": ("trades", 60), "history": ("history", 60),
    }  # fmt: skip
    assert ("User-Agent", "TraderBot/TradeFlood") in nobitex.rest.headers


def test_bars_of_hours_are_not_offered_under_names_they_do_not_have():
    assert NobitexCandles.offered("interval") == tuple(RESOLUTIONS)
    with pytest.raises(UsageError, match="no interval '4h'"):
        registry.binding(Nobitex, Candle, ("4h", "venue"))


# ---------------------------------------------------------------- what is no answer

WAIT = {"status": "failed", "code": "TooManyRequests", "message": "…", "backOff": 12, "limit": 60}


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (200, body({"status": "failed", "code": "InvalidSymbol", "message": "no"}), UnknownMarket),
        (400, body({"status": "failed", "code": "InvalidMarketPair", "message": "no"}), UnknownMarket),
        (200, body({"message": "no", "code": "ParseError", "status": "failed"}), Refused),
        (200, b'{"s":"error","errmsg":"Invalid resolution!"}', Refused),
        (200, b'{"s":"error","errmsg":"Invalid symbol!"}', UnknownMarket),
        (200, body({**WAIT, "backOff": None}), RateLimited),
        (429, b"slow down", RateLimited),
        (404, b"<h1>Not Found</h1>", Refused),
        (403, b"<html>blocked</html>", Unavailable),
        (503, body({"status": "failed", "code": "Unavailable"}), Unavailable),
        (502, b"<html>Bad Gateway</html>", Unavailable),
        (200, b"<html>maintenance</html>", Unavailable),
        (200, b"", Unavailable),
    ],
)
def test_what_is_no_answer_is_judged(nobitex, status, text, error):
    with pytest.raises(error) as caught:
        nobitex.judge(Reply(status, text, received_at=NOW))
    assert type(caught.value) is error


def test_a_breach_says_until_when_in_its_body(nobitex):
    with pytest.raises(RateLimited) as caught:
        nobitex.judge(Reply(429, body(WAIT), received_at=NOW))
    assert caught.value.until == NOW + 12 * SECOND
    with pytest.raises(RateLimited) as caught:
        nobitex.judge(Reply(429, b"{}", {"retry-after": "7"}, NOW))
    assert caught.value.until == NOW + 7 * SECOND


@pytest.mark.parametrize("answer", [TRADES, DAILY, {"s": "no_data"}, {"status": "ok", "stats": {}}])
def test_a_good_answer_passes(nobitex, answer):
    assert nobitex.judge(Reply(200, body(answer))) is None


def test_the_clock_is_the_date_header(nobitex):
    reply = Reply(200, b"{}", {"date": "Wed, 04 Mar 2026 05:06:07 GMT"}, 1)
    assert nobitex.clock(reply) == parse_time("2026-03-04T05:06:07")


# ---------------------------------------------------------------- money


def test_every_turn_with_prices_declares_its_unit():
    turns = {name for name, value in vars(Nobitex).items() if isinstance(value, TurnSpec)}
    assert set(UNITS) == turns - {"listing"}  # which is `stats`
    assert {name for name, unit in UNITS.items() if unit == "toman"} == {"history", "live_candles"}


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**30, places=18))
def test_ten_rial_are_a_toman_exactly(price):
    assert in_quote(price, "BTC/IRT", "rial").scaleb(1, module._EXACT) == price
    assert in_quote(price, "BTC/IRT", "toman") == price
    assert in_quote(price, "BTC/USDT", "rial") == price


def test_candles_of_the_documents_fit_the_book_of_the_day_before_only_as_toman():
    """The feed's candle of 2024-11-17 and the recorded book of 2024-11-16, both BTC against the Iranian currency."""
    close, last = Decimal("6238031033.0"), Decimal(62839999990)
    check_unit("live_candles", "BTC/IRT", close, last)
    check_unit("trades", "BTC/IRT", last, last)
    with pytest.raises(PayloadChanged, match="toman is declared"):
        check_unit("history", "BTC/IRT", close * 10, last)
    with pytest.raises(PayloadChanged, match="rial is declared"):
        check_unit("live_trades", "BTC/IRT", close, last)


def test_a_unit_that_cannot_be_compared_is_left_alone():
    check_unit("history", "BTC/IRT", Decimal(0), Decimal(1))
    check_unit("history", "BTC/USDT", Decimal(3), Decimal(1))


def test_typical_price_times_volume_is_about_the_quote_volume_and_no_volume_is_scaled():
    low, high, volume, money = Decimal(68602186), Decimal(75035000), Decimal("0.292948"), Decimal("21272485.6")
    check_volume("BTC/IRT", low, high, volume, money)
    for factor in (Decimal("0.1"), Decimal(10)):
        with pytest.raises(PayloadChanged, match="traded"):
            check_volume("BTC/IRT", low, high, volume * factor, money)
        with pytest.raises(PayloadChanged, match="traded"):
            check_volume("BTC/IRT", low, high, volume, money * factor)


# ---------------------------------------------------------------- live


def push(channel, data, offset=7):
    return json.dumps({"push": {"channel": channel, "pub": {"data": data, "offset": offset}}})


LIVE = {"price": "120000000000", "time": 1762781164192, "type": "sell", "volume": "0.000003"}
KLINE = '{"t":1731852900,"o":6240000001.0,"h":6250000000.0,"l":6238000000.0,"c":6238031033.0,"v":1.26}'


def test_each_kind_of_data_has_its_channel(nobitex):
    assert nobitex.live_trades.topic(("BTCIRT",)) == "public:trades-BTCIRT"
    assert nobitex.live_candles.topic(("1M_PEPEIRT", "15m")) == "public:candle-1M_PEPEIRT-15"
    assert nobitex.live_candles.topic(("BTCIRT", "2d@Asia/Tehran")) == "public:candle-BTCIRT-2D"


def test_the_first_message_shakes_hands_and_each_topic_has_a_number_of_its_own(nobitex):
    assert [json.loads(text) for text in nobitex.say("subscribe", ("public:trades-BTCIRT",), 1)] == [
        {"id": 1, "connect": {}},
        {"id": 2, "subscribe": {"channel": "public:trades-BTCIRT"}},
    ]
    assert [json.loads(text) for text in nobitex.say("unsubscribe", ("a", "b"), 5)] == [
        {"id": 10, "unsubscribe": {"channel": "a"}},
        {"id": 12, "unsubscribe": {"channel": "b"}},
    ]
    assert nobitex.feed.topics_per_message == 1


@pytest.mark.parametrize("data", [json.dumps(LIVE), LIVE, " " + json.dumps(LIVE, indent=2)])
def test_a_publication_may_be_text_inside_json_or_json(nobitex, data):
    [event] = nobitex.hear(push("public:trades-BTCIRT", data, 41).encode())
    row = msgspec.json.decode(event.rows, type=nobitex.live_trades.spec.reply)
    assert (event.topic, event.sequence) == ("public:trades-BTCIRT", 41)
    assert NobitexTrades.pack.pure([row], "BTC/IRT", UNITS["live_trades"]) == [
        Trade("nobitex", "BTC/IRT", "raw", "1762781164192:sell:12000000000:0.000003", Decimal(12000000000), Decimal("0.000003"), Side.SELL, 1762781164192 * MS)
    ]  # fmt: skip


def test_a_live_candle_has_no_closed_flag(nobitex):
    [event] = nobitex.hear(push("public:candle-BTCIRT-15", KLINE).encode())
    row = msgspec.json.decode(event.rows, type=nobitex.live_candles.spec.reply)
    assert NobitexCandles.pack.pure([row], "BTC/IRT", "15m", UNITS["live_candles"]) == [
        Candle(
            "nobitex", "BTC/IRT", "15m", "venue", 1731852900 * SECOND, Decimal(6240000001), Decimal(6250000000),
            Decimal(6238000000), Decimal(6238031033), Decimal("1.26"),
        )
    ]  # fmt: skip


def test_a_trade_by_push_and_by_request_is_the_same_trade(nobitex):
    [event] = nobitex.hear(push("public:trades-BTCIRT", json.dumps(LIVE)).encode())
    live = msgspec.json.decode(event.rows, type=nobitex.live_trades.spec.reply)
    [asked] = nobitex.trades.decode(body({"status": "ok", "trades": [LIVE]}))
    pack = NobitexTrades.pack.pure
    assert pack([live], "BTC/IRT", UNITS["live_trades"]) == pack([asked], "BTC/IRT", UNITS["trades"])


@pytest.mark.parametrize(
    ("frame", "events"),
    [
        ("{}", [Answer("{}")]),
        ("{}\n", [Answer("{}")]),
        ("", []),
        ("\n \n", []),
        ('{"id":1,"connect":{"client":"x","version":"5","ping":25,"pong":true}}', [Alive()]),
        ('{"id":4,"subscribe":{"recoverable":true,"epoch":"e"}}', [Acked(number=2, epoch="e")]),
        ('{"id":6,"unsubscribe":{}}', [Acked(number=3)]),
        ('{"id":2,"error":{"code":102,"message":"unknown channel"}}', [Denied("unknown channel (code 102)", number=1)]),
        ('{"id":1,"error":{"code":101,"message":"unauthorized"}}', [Denied("unauthorized (code 101)")]),
        ('{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"gone"}}}', [Denied("gone (code 2500)", ("a",))]),
        ('{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}', [Leaving("shutdown (code 3001)")]),
        ('{"push":{"channel":"a","join":{}}}', [Alive()]),
        ('{"id":2,"subscribe":{}}\n{}\n{"id":4,"subscribe":{}}', [Acked(number=1), Answer("{}"), Acked(number=2)]),
    ],
)
def test_every_other_message_says_its_one_thing_and_several_stand_in_a_frame(nobitex, frame, events):
    assert list(nobitex.hear(frame.encode())) == events


@pytest.mark.parametrize(
    "frame", [b"[]", b"7", b'{"push":{"channel":"a","pub":{"offset":1}}}', b'{"id":"x"}', b'{"id":1']
)
def test_a_frame_of_another_shape_is_an_error(nobitex, frame):
    with pytest.raises(msgspec.MsgspecError):
        list(nobitex.hear(frame))


_lines = st.sampled_from([
    "{}", '{"id":2,"subscribe":{}}', '{"id":3,"error":{}}', push("public:trades-A", "x"), push("c", {"a": 1}), '{"push":{}}',
    '{"push":{"pub":{"data":"\\ud800"}}}', push("c", None),
])  # fmt: skip


@given(st.one_of(st.binary(max_size=80), st.lists(_lines, max_size=4).map("\n".join).map(str.encode)))
@example(b'{"push":{"channel":"a","pub":{"data":"\\ud800"}}}')
def test_any_bytes_are_events_or_a_named_error(frame):
    known = (Rows, Acked, Denied, Answer, Alive, Leaving)
    with contextlib.suppress(msgspec.MsgspecError, UnicodeError):
        assert all(isinstance(event, known) for event in Nobitex().hear(frame))


@given(st.binary(max_size=60), st.sampled_from(["trades", "history", "listing", "stats", "options", "books", "book"]))
def test_any_body_is_rows_or_a_changed_payload(text, turn):
    with contextlib.suppress(PayloadChanged):
        getattr(Nobitex(), turn).decode(text)


# ---------------------------------------------------------------- the venue's own samples and recordings


@pytest.mark.recordings
def test_documented_samples_are_read_field_by_field(nobitex, recordings):
    """Against the files themselves: the figures of the oracle are counted from them, in the units of their index."""
    units = {entry["file"]: entry["price_unit"] for entry in recordings.index}

    def raw(name):
        return recordings.path(f"iran/{name}").read_bytes()

    told = recordings.load("iran/doc_nobitex_trades.json")["trades"]
    trades = NobitexTrades.pack.pure(nobitex.trades.decode(raw("doc_nobitex_trades.json")), "BTC/IRT", UNITS["trades"])
    assert units["iran/doc_nobitex_trades.json"] == UNITS["trades"]
    assert [(row.venue_time // MS, row.price * 10, row.size, str(row.aggressor)) for row in trades] == [
        (row["time"], Decimal(row["price"]), Decimal(row["volume"]), row["type"]) for row in told
    ]
    told = recordings.load("iran/doc_nobitex_udf_history.json")
    bars = nobitex.history.decode(raw("doc_nobitex_udf_history.json"))
    candles = NobitexCandles.pack.pure(bars, "BTC/IRT", "1d@Asia/Tehran", UNITS["history"])
    assert units["iran/doc_nobitex_udf_history.json"] == UNITS["history"]
    for place, row in enumerate(candles):
        figures = (row.open_time // SECOND, row.open, row.high, row.low, row.close, row.volume)
        assert figures == tuple(Decimal(str(told[name][place])) for name in "tohlcv")
    assert nobitex.history.decode(raw("doc_nobitex_udf_nodata.json")) == []
    with pytest.raises(Refused, match="Invalid resolution!"):
        nobitex.judge(Reply(200, raw("doc_nobitex_udf_error.json")))
    live = msgspec.json.decode(raw("doc_nobitex_ws_trade.json"), type=nobitex.live_trades.spec.reply)
    assert live.price == Decimal(recordings.load("iran/doc_nobitex_ws_trade.json")["price"])


@pytest.mark.recordings
def test_documented_pushes_are_heard_though_they_span_lines(nobitex, recordings):
    [event] = nobitex.hear(recordings.path("iran/doc_nobitex_ws_candle_push.json").read_bytes())
    told = json.loads(
        recordings.load("iran/doc_nobitex_ws_candle_push.json")["push"]["pub"]["data"], parse_float=Decimal
    )
    row = msgspec.json.decode(event.rows, type=nobitex.live_candles.spec.reply)
    assert {name: getattr(row, name) for name in "tohlcv"} == told
    assert (event.topic, event.sequence) == ("public:candle-BTCUSDT-15", 34575)
    [event] = nobitex.hear(recordings.path("iran/doc_nobitex_ws_orderbook_push.json").read_bytes())
    assert (event.topic, event.sequence) == ("public:orderbook-BTCIRT", 989153)


@pytest.mark.recordings
def test_a_recorded_day_is_what_an_independent_reader_makes_of_it(nobitex, recordings):
    """The oracle is ccxt's ticker; the book of the same second agrees with it."""
    methods = recordings.load("iran/nobitex_rest_btcusdt_2026_ccxt.json")["methods"]
    ticker, book = methods["fetchTicker"][0], methods["fetchOrderBook"][0]
    stats = nobitex.stats.decode(msgspec.json.encode(ticker["httpResponse"]))
    told = nobitex.book.decode(msgspec.json.encode(book["httpResponse"]))
    told.symbol = "BTCUSDT"
    [row] = module._tickers(stats, [told], "BTC/USDT")
    oracle = {name: Decimal(str(value)) for name, value in ticker["parsedResponse"].items() if isinstance(value, int | float | Decimal)}  # fmt: skip
    assert (row.last, row.bid, row.ask, row.open, row.high, row.low, row.volume) == tuple(
        oracle[name] for name in ("last", "bid", "ask", "open", "high", "low", "baseVolume")
    )
    assert abs(row.quote_volume - oracle["quoteVolume"]) < Decimal("1e-8")  # theirs went through a float
    assert row.venue_time == book["parsed_timestamp"] * MS
    assert row.last == told.lastTradePrice
    check_volume("BTC/USDT", row.low, row.high, row.volume, row.quote_volume)


@pytest.mark.recordings
def test_recorded_books_of_one_second_agree_once_in_toman(nobitex, recordings):
    """Nobitex in rial and Wallex in toman, both of 2024-11-16, and the documented candle of the day after."""
    book = nobitex.book.decode(recordings.path("iran/nobitex_rest_orderbook_btcirt_20241116.json").read_bytes())
    ours = in_quote(book.lastTradePrice, "BTC/IRT", UNITS["book"])
    [event] = nobitex.hear(recordings.path("iran/doc_nobitex_ws_candle_push.json").read_bytes())
    candle = msgspec.json.decode(event.rows, type=nobitex.live_candles.spec.reply)
    check_unit("live_candles", "BTC/IRT", candle.c, book.lastTradePrice)
    assert abs(ours / candle.c - 1) < Decimal("0.02")


@pytest.mark.recordings
def test_a_documented_day_keeps_the_invariant_of_money(nobitex, recordings):
    [row] = nobitex.listing.decode(recordings.path("iran/doc_nobitex_stats.json").read_bytes())
    assert row.stat.dayLow < row.stat.volumeDst / row.stat.volumeSrc < row.stat.dayHigh


# ---------------------------------------------------------------- whole questions, against the desk


class Venues:
    """One connector, as a run wants to be told of it."""

    registry = registry

    def __init__(self):
        self.nobitex = Nobitex()

    def connector(self, venue):
        assert venue == "nobitex"
        return self.nobitex


def collect(*queries, now=NOW):
    """The frames that answer the queries, and the paths that were asked: one each second, so that budgets are kept."""
    venues, desk, time = Venues(), desks.Nobitex(Simulated(SEED), Clock(1, now)), now
    run = Run(queries, venues, now)
    asked = []
    while not run.done:
        for lane in run.lanes():
            node = run.take(lane)
            time += SECOND
            request = HttpRequest("GET", node.request.path, {name: str(value) for name, value in node.request.params})
            found = desk.answer(request, time)
            asked.append(node.request.path)
            reply = Reply(found.status, found.body, {"date": formatdate(time // SECOND, usegmt=True)}, time)
            try:
                venues.nobitex.judge(reply)
            except Refused as error:
                run.fail(node, error)
            else:
                run.feed(node, reply)
    return [run.frame(query) for query in queries], asked


def stretches(frame):
    """State, grade and both ends of what is covered."""
    return [(part.state, part.grade, part.start, part.end) for parts in frame.coverage.parts.values() for part in parts]


def said(rows):
    """What a trade is without its id: when, which side, price, size."""
    return [(row.venue_time, row.aggressor, row.price, row.size) for row in rows]


def figures(rows):
    return [(row.open_time, row.open, row.high, row.low, row.close, row.volume) for row in rows]


@pytest.mark.parametrize("market", ["BTC/IRT", "USDT/IRT", "BTC/USDT"])
def test_recent_trades_are_those_of_the_market_in_toman_and_held_between_their_edges(market):
    start = NOW - HOUR
    [frame], asked = collect(Query(Trade, f"nobitex:{market}", start=iso(start), end=iso(NOW)))
    truth = TRUTH.trades(market, "raw", now=NOW + SECOND, limit=desks.RECENT, newest=True)
    truth = [row for row in truth if row.venue_time < NOW]
    assert len(asked) == 1
    assert sorted(said(frame)) == sorted(said(truth))
    names = Counter(f"{r.venue_time // MS}:{r.aggressor}:{digits(r.price)}:{digits(r.size)}" for r in truth)
    assert {row.trade_id for row in frame} == {f"{name}:{n}" for name, count in names.items() for n in range(count)}
    held = [part for part in stretches(frame) if part[0] is State.HELD]
    assert held[0][1] is Grade.B
    assert held[0][2] == truth[0].venue_time + 1
    assert held[-1][3] <= NOW


@pytest.mark.parametrize("market", ["BTC/IRT", "DOGE/USDT"])
@pytest.mark.parametrize("name", sorted(RESOLUTIONS))
def test_candles_of_every_interval_are_those_of_the_market(name, market):
    grid = interval(name)
    end = grid.floor(NOW - HOUR)
    start = end
    for _ in range(5):
        start = grid.floor(start - 1)
    [frame], _ = collect(Query(Candle, f"nobitex:{market}", interval=name, start=iso(start), end=iso(end)))
    truth = TRUTH.candles(market, name, now=NOW, start=start, end=end)
    assert not frame.failures
    assert figures(frame) == figures(truth)
    assert all(row.closed for row in frame)
    covered = stretches(frame)
    assert {state for state, *_ in covered} == {State.HELD}
    assert (covered[0][2], covered[-1][3]) == (start, end)


def test_candles_are_paged_by_five_hundred_without_overlap_or_hole():
    start, end = NOW - 1200 * MINUTE, NOW - 2 * DAY
    start, end = interval("1m").floor(end - 1200 * MINUTE), interval("1m").floor(end)
    [frame], asked = collect(Query(Candle, "nobitex:BTC/USDT", interval="1m", start=iso(start), end=iso(end)))
    truth = TRUTH.candles("BTC/USDT", "1m", now=NOW, start=start, end=end, limit=10_000)
    assert figures(frame) == figures(truth)
    assert len(truth) == 1200
    assert asked.count("/market/udf/history") in {3, 4}


def test_the_running_candle_is_open():
    [frame], _ = collect(Query(Candle, "nobitex:BTC/IRT", interval="5m", start=iso(NOW - HOUR), end=iso(NOW)))
    assert [row.closed for row in frame][-2:] == [True, False]


def test_young_candles_are_held_against_the_book_and_old_ones_are_not():
    young = Query(Candle, "nobitex:BTC/IRT", interval="5m", start=iso(NOW - HOUR), end=iso(NOW - MINUTE))
    old = Query(Candle, "nobitex:BTC/IRT", interval="5m", start=iso(NOW - 9 * DAY), end=iso(NOW - 8 * DAY))
    foreign = Query(Candle, "nobitex:BTC/USDT", interval="5m", start=iso(NOW - HOUR), end=iso(NOW - MINUTE))
    assert "/v3/orderbook/BTCIRT" in collect(young)[1]
    assert set(collect(old)[1]) == set(collect(foreign)[1]) == {"/market/udf/history"}


def test_candles_in_another_unit_than_declared_are_refused(monkeypatch):
    """A venue that turned its candles into rial would be caught, not believed."""
    honest = desks._bar

    def rial(bar):
        return {name: value * 10 if name in "ohlc" else value for name, value in honest(bar).items()}

    monkeypatch.setattr(desks, "_bar", rial)
    query = Query(Candle, "nobitex:BTC/IRT", interval="5m", start=iso(NOW - HOUR), end=iso(NOW - MINUTE))
    [frame], _ = collect(query)
    assert len(frame) == 0
    assert isinstance(frame.failures[0].error, PayloadChanged)


def test_lists_take_one_request_per_answer_they_are_made_of():
    (markets, tickers), asked = collect(Query(Market, "nobitex:*"), Query(Ticker, "nobitex:*"))
    listed = {row.market: row for row in TRUTH.markets()}
    assert {row.market: (row.price_increment, row.size_increment, row.status) for row in markets} == {
        name: (row.price_increment, row.size_increment, "trading") for name, row in listed.items()
    }
    assert {row.price_unit for row in markets if row.quote == "IRT"} == {"rial"}
    assert {row.price_unit for row in markets if row.quote == "USDT"} == {None}
    assert Counter(asked) == {"/v2/options": 1, "/market/stats": 1, "/v3/orderbook/all": 1}
    assert len(tickers) == len(listed)
    for row in tickers:
        assert TRUTH.last_trade(row.market, "raw", row.venue_time).price == row.last
        check_volume(row.market, row.low, row.high, row.volume, row.quote_volume)


def test_an_unknown_market_is_named():
    [frame], _ = collect(Query(Trade, "nobitex:NOPE/IRT", start=iso(NOW - HOUR), end=iso(NOW)))
    assert isinstance(frame.failures[0].error, UnknownMarket)


# ---------------------------------------------------------------- whole conversations, against the desk


def talk(*topics):
    """A connection on which these topics are subscribed, one message each, and what was said of it."""
    nobitex, desk = Nobitex(), desks.Nobitex(Simulated(SEED), Clock(1, NOW))
    conversation = desk.connect("/connection/websocket", {}, NOW)
    texts = [text for number, topic in enumerate(topics, 1) for text in nobitex.say("subscribe", (topic,), number)]
    frames = [frame for text in texts for frame in conversation.receive(text, NOW)]
    return nobitex, conversation, [event for frame in frames for event in nobitex.hear(frame.encode())]


def rows_of(nobitex, conversation, until):
    """Everything that comes up to a moment, by topic; sequences must be whole."""
    found, last = {}, {}
    while frames := conversation.advance(until):
        for event in (event for frame in frames for event in nobitex.hear(frame.encode())):
            if isinstance(event, Answer):
                conversation.receive(event.out, until)
                continue
            assert last.setdefault(event.topic, event.sequence - 1) == event.sequence - 1
            last[event.topic] = event.sequence
            found.setdefault(event.topic, []).append(event.rows)
    return found


def test_live_trades_are_exactly_those_of_the_market():
    until = NOW + 3 * MINUTE
    nobitex, conversation, events = talk("public:trades-BTCIRT", "public:trades-DOGEUSDT")
    assert events == [Alive(), Acked(number=1, epoch="xGPg"), Acked(number=2, epoch="xGPg")]
    raws = rows_of(nobitex, conversation, until)["public:trades-BTCIRT"]
    rows = [msgspec.json.decode(raw, type=nobitex.live_trades.spec.reply) for raw in raws]
    truth = TRUTH.trades_between("BTC/IRT", "raw", NOW, until)
    assert len(truth) > 10
    assert said(NobitexTrades.pack.pure(rows, "BTC/IRT", UNITS["live_trades"])) == said(truth)


def test_live_candles_end_with_the_figures_of_the_market():
    until = NOW + 4 * MINUTE
    nobitex, conversation, _ = talk("public:candle-BTCUSDT-1")
    raws = rows_of(nobitex, conversation, until)["public:candle-BTCUSDT-1"]
    rows = [msgspec.json.decode(raw, type=nobitex.live_candles.spec.reply) for raw in raws]
    candles = NobitexCandles.pack.pure(rows, "BTC/USDT", "1m", UNITS["live_candles"])
    assert len(candles) == 24
    last = TRUTH.candles("BTC/USDT", "1m", now=NOW + 233 * SECOND - 89 * MS, limit=1, newest=True)
    assert figures(candles[-1:]) == figures(last)


def test_a_channel_that_does_not_exist_is_denied_alone():
    _, _, events = talk("public:trades-NOPE", "public:trades-BTCIRT", "public:candle-BTCIRT-7")
    assert events == [
        Alive(), Denied("unknown channel (code 102)", number=1), Acked(number=2, epoch="xGPg"), Denied("unknown channel (code 102)", number=3),
    ]  # fmt: skip


# ---------------------------------------------------------------- the fallback, and the whole way over a socket


def test_the_fallback_polls_the_same_trades_under_the_same_names(nobitex):
    step = NobitexTrades().fallback(nobitex, _ask())
    assert isinstance(step, Step)
    assert step.turn.bound.spec.every == 5 * SECOND
    assert step.models(nobitex.trades.decode(body(TRADES)))[0].trade_id == "1588689375067:sell:147000011:0"


def _ask():
    from tradeflood.spans import EMPTY
    from tradeflood.turns import Ask

    return Ask(Trade, "nobitex", "BTC/IRT", "BTCIRT", ("raw",), EMPTY, NOW)


@pytest.mark.loopback
def test_over_a_socket_candles_and_trades_are_those_of_the_source():
    flood = pytest.importorskip("tradeflood.runner.flood")
    source = Simulated(SEED)

    async def main():
        async with (
            serve(source, ["nobitex"], start=NOW) as served,
            flood.Flood({"venues": served.settings()}) as session,
        ):
            candles = await session.collect(
                Candle, "nobitex:BTC/IRT", interval="1m", start=iso(NOW - 2 * HOUR), end=iso(NOW - HOUR)
            )
            trades = await session.collect(Trade, "nobitex:BTC/IRT", start=iso(NOW - HOUR), end=iso(NOW))
            return candles, trades

    candles, trades = asyncio.run(main())
    start = interval("1m").ceil(NOW - 2 * HOUR)
    assert figures(candles) == figures(TRUTH.candles("BTC/IRT", "1m", now=NOW, start=start, end=NOW - HOUR))
    recent = TRUTH.trades("BTC/IRT", "raw", now=NOW + MINUTE, start=NOW - HOUR, end=NOW, limit=10**6)
    assert trades
    assert sorted(said(trades)) == sorted(said(recent[-len(trades) :]))


@pytest.mark.loopback
def test_over_a_socket_live_trades_are_those_of_the_source_in_their_order_and_none_twice():
    flood = pytest.importorskip("tradeflood.runner.flood")

    async def main():
        async with (
            serve(Simulated(SEED), ["nobitex"], start=NOW, speed=200) as served,
            flood.Flood({"venues": served.settings()}) as session,
        ):
            stream = session.stream(Trade, "nobitex:BTC/IRT")
            found = []
            async with asyncio.timeout(20):
                async for row in stream:
                    found.append(row)
                    if len(found) == 40:
                        break
            await stream.close()
            return found

    found = asyncio.run(main())
    truth = TRUTH.trades("BTC/IRT", "raw", now=NOW + DAY, start=NOW, limit=5_000)
    times = [row.venue_time for row in truth]
    first = times.index(found[0].venue_time)
    assert said(found) == said(truth[first : first + 40])
    assert len({row.trade_id for row in found}) == 40
