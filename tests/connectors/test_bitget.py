"""Bitget: payload → models, requests, errors, live frames, and whole runs against the venue's desk."""

import asyncio
import json
from contextlib import suppress
from decimal import Decimal
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.connectors import bitget
from tradeflood.connectors.bitget import (
    CHANNELS,
    GRANULARITIES,
    Bitget,
    BitgetCandles,
    BitgetMarkets,
    BitgetOtherCandles,
    BitgetTickers,
    BitgetTrades,
    CandlePush,
    Fill,
)
from tradeflood.coverage import Dataset, Grade, State
from tradeflood.errors import PayloadChanged, RateLimited, Refused, Unavailable, UnknownMarket, UsageError
from tradeflood.models import Candle, Market, Side, Ticker, Trade, interval
from tradeflood.models.time import DAY, HOUR, MINUTE, MS, SECOND, iso, parse_time
from tradeflood.planner import Query
from tradeflood.planner.run import Run
from tradeflood.replay.desk import Clock, HttpRequest
from tradeflood.replay.desks.bitget import Bitget as Desk
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.flood import Flood
from tradeflood.turns import Acked, Alive, Denied, Page, Reply, Rows
from tradeflood.turns.registry import registry

NOW = parse_time("2026-03-04T05:06:07.089")
D = Decimal


def body(data, code="00000", msg="success", time=1_744_275_754_521):
    return json.dumps({"code": code, "msg": msg, "requestTime": time, "data": data}).encode()


def frame(**message):
    return json.dumps(message).encode()


def arg(channel, symbol="BTCUSDT"):
    return {"instType": "SPOT", "channel": channel, "instId": symbol}


@pytest.fixture
def venue():
    return Bitget()


# ---------------------------------------------------------------- parsers

BTC = {
    "symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "minTradeAmount": "0",
    "maxTradeAmount": "900000000000000000000", "takerFeeRate": "0.002", "makerFeeRate": "0.002", "pricePrecision": "2",
    "quantityPrecision": "6", "quotePrecision": "8", "status": "online", "minTradeUSDT": "1", "openTime": "1532454360000",
}  # fmt: skip


def test_markets(venue):
    rows = venue.markets.decode(
        body([BTC, {**BTC, "status": "halt"}, {**BTC, "status": "offline"}, {**BTC, "status": "gray"}])
    )
    models = BitgetMarkets.pack.pure(rows)
    assert models[0] == Market(
        "bitget", "BTC/USDT", "BTCUSDT", "BTC", "USDT", "spot", "trading", D("0.01"), D("0.000001")
    )
    assert [model.status for model in models] == ["trading", "halted", "closed", "gray"]
    assert venue.symbols.spell("BTC/USDT") == "BTCUSDT"


DAY_ROW = {
    "symbol": "BTCUSDT", "high24h": "37775.65", "open": "35134.2", "low24h": "34413.1", "lastPr": "34413.1",
    "quoteVolume": "12.5", "baseVolume": "0.25", "usdtVolume": "12.5", "bidPr": "34413", "askPr": "34414",
    "bidSz": "0.0663", "askSz": "0.0119", "openUtc": "23856.72", "ts": "1625125755277", "change24h": "0.00069",
}  # fmt: skip


def test_tickers(venue):
    rows = venue.tickers.decode(body([DAY_ROW]))
    assert BitgetTickers.pack.pure(rows, "BTC/USDT") == [
        Ticker(
            "bitget", "BTC/USDT", 1_625_125_755_277 * MS, D("34413.1"), D(34413), D(34414), D("0.25"), D("12.5"),
            D("35134.2"), D("37775.65"), D("34413.1"),
        )
    ]  # fmt: skip


def test_a_ticker_leaves_empty_what_is_empty_and_refuses_what_is_no_number(venue):
    (row,) = BitgetTickers.pack.pure(venue.tickers.decode(body([{"symbol": "A", "ts": "5", "lastPr": ""}])), "A/B")
    assert row == Ticker("bitget", "A/B", 5 * MS)
    with pytest.raises(PayloadChanged, match="'soon' is no number"):
        BitgetTickers.pack.pure(venue.tickers.decode(body([{**DAY_ROW, "askPr": "soon"}])), "A/B")


OLD = [
    {"symbol": "ETHUSDT", "tradeId": "1294151170843025500", "side": "Buy", "price": "1592.58", "size": "2.1982", "ts": "1744275603000"},
    {"symbol": "ETHUSDT", "tradeId": "1294151170834636801", "side": "Sell", "price": "1592.57", "size": "0.0045", "ts": "1744275603000"},
]  # fmt: skip


def test_old_trades(venue):
    assert BitgetTrades.pack.pure(venue.old_trades.decode(body(OLD)), "ETH/USDT") == [
        Trade("bitget", "ETH/USDT", "raw", "1294151170843025500", D("1592.58"), D("2.1982"), Side.BUY, 1_744_275_603_000 * MS),
        Trade("bitget", "ETH/USDT", "raw", "1294151170834636801", D("1592.57"), D("0.0045"), Side.SELL, 1_744_275_603_000 * MS),
    ]  # fmt: skip


def test_newest_trades_have_milliseconds(venue):
    row = {"symbol": "ETHUSDT", "tradeId": "7", "side": "sell", "price": "1.10", "size": "3", "ts": "1622097280642"}
    assert BitgetTrades.pack.pure(venue.newest.decode(body([row])), "ETH/USDT") == [
        Trade("bitget", "ETH/USDT", "raw", "7", D("1.10"), D(3), Side.SELL, 1_622_097_280_642 * MS)
    ]


BAR = ["1656633600000", "37834.5", "37849.5", "37773.5", "37800", "428.3462", "16198849.1079", "16198850"]


def test_candles_know_no_closed_flag_and_take_the_quote_volume_not_that_in_usdt(venue):
    for turn in (venue.candles, venue.old_candles):
        assert BitgetCandles.pack.pure(turn.decode(body([BAR])), "BTC/USDT", "1m") == [
            Candle(
                "bitget", "BTC/USDT", "1m", "venue", 1_656_633_600_000 * MS, D("37834.5"), D("37849.5"), D("37773.5"),
                D(37800), D("428.3462"), D(16198850),
            )
        ]  # fmt: skip


def test_a_candle_off_its_grid_is_refused(venue):
    rows = venue.candles.decode(body([["1656604800000", *BAR[1:]]]))  # midnight in UTC+8
    assert BitgetCandles.pack.pure(rows, "BTC/USDT", "1d@+08:00")[0].open_time == parse_time("2022-06-30T16:00:00Z")
    with pytest.raises(PayloadChanged, match="no boundary"):
        BitgetCandles.pack.pure(rows, "BTC/USDT", "1d")


@pytest.mark.parametrize("name", ["markets", "tickers", "newest", "old_trades", "candles", "old_candles"])
def test_an_empty_list_is_no_rows(venue, name):
    reply = Reply(200, body([]))
    venue.judge(reply)
    assert getattr(venue, name).decode(reply.body) == []


@pytest.mark.parametrize(
    ("name", "data", "path"),
    [
        ("old_trades", [{**OLD[0], "ts": "soon"}], "$.data[0].ts"),
        ("old_trades", [{**OLD[0], "side": "both"}], "$.data[0].side"),
        ("old_trades", [{k: v for k, v in OLD[0].items() if k != "price"}], "$.data[0]"),
        ("candles", [BAR[:6]], "$.data[0]"),
        ("markets", [{**BTC, "pricePrecision": "-2"}], "$.data[0].pricePrecision"),
        ("markets", None, "$.data"),
    ],
)
def test_a_changed_payload_names_the_place(venue, name, data, path):
    with pytest.raises(PayloadChanged) as caught:
        getattr(venue, name).decode(body(data))
    assert caught.value.path == path


# ---------------------------------------------------------------- requests


def test_requests(venue):
    start = parse_time("2026-01-01")
    page = Page(start, start + HOUR)
    assert dict(venue.old_candles.request(page, ("BTCUSDT", "1m")).params) == {
        "symbol": "BTCUSDT", "granularity": "1min", "limit": 200, "endTime": (start + HOUR) // MS,
    }  # fmt: skip
    assert dict(venue.candles.request(Page(start + 1, start + HOUR - MINUTE + 1), ("BTCUSDT", "1m")).params) == {
        "symbol": "BTCUSDT", "granularity": "1min", "limit": 1000,
        "startTime": (start + MINUTE) // MS, "endTime": (start + HOUR) // MS,
    }  # fmt: skip
    assert dict(venue.old_trades.request(Page(start, start + HOUR, margin=10 * SECOND), ("BTCUSDT",)).params) == {
        "symbol": "BTCUSDT", "limit": 1000,
        "startTime": start // MS - 10_000, "endTime": (start + HOUR) // MS + 9_999,
    }  # fmt: skip
    assert dict(venue.old_trades.request(Page(start, start + HOUR, 77), ("BTCUSDT",)).params)["idLessThan"] == 77
    assert venue.tickers.request(Page(symbols=("BTCUSDT",)), ()).params == (("symbol", "BTCUSDT"),)
    assert venue.tickers.request(Page(symbols=("BTCUSDT", "ETHUSDT")), ()).params == ()


def test_budgets_are_ten_a_second_for_trades_and_twenty_for_the_rest(venue):
    limits = {
        name: (turn.budget.limit, turn.budget.per)
        for name in ("newest", "old_trades", "candles", "markets")
        for turn in (getattr(venue, name),)
    }
    assert limits == {
        "newest": (10, SECOND), "old_trades": (10, SECOND), "candles": (20, SECOND), "markets": (20, SECOND),
    }  # fmt: skip


def test_every_interval_is_utc_unless_it_names_a_zone():
    assert set(CHANNELS) | {"3m"} == set(GRANULARITIES)
    assert set(BitgetCandles.offered("interval")) == set(CHANNELS)
    assert BitgetOtherCandles.offered("interval") == ("3m",)
    assert not BitgetOtherCandles.has_live()
    for text, name in GRANULARITIES.items():
        if interval(text).unit in "dwM" or text in {"6h", "12h"}:
            assert name.endswith("utc") != text.endswith("@+08:00")


# ---------------------------------------------------------------- errors and the clock


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "40034", UnknownMarket), (400, "40309", UnknownMarket), (200, "40034", UnknownMarket),
        (429, "429", RateLimited), (200, "429", RateLimited), (429, "40000", RateLimited),
        (200, "40200", Unavailable), (400, "40308", Unavailable), (400, "40725", Unavailable), (502, "1", Unavailable),
        (400, "40019", Refused), (200, "40017", Refused),
    ],
)  # fmt: skip
def test_errors(venue, status, code, error):
    with pytest.raises(error) as caught:
        venue.judge(Reply(status, body(None, code, "Parameter X does not exist"), {}, 5 * SECOND))
    assert type(caught.value) is error
    if error is RateLimited:
        assert (caught.value.until, caught.value.banned) == (None, False)
    if status != 502:
        assert code in str(caught.value)


def test_a_limit_with_a_moment_keeps_it(venue):
    with pytest.raises(RateLimited) as caught:
        venue.judge(Reply(429, body(None, "429"), {"retry-after": "7"}, 5 * SECOND))
    assert caught.value.until == 12 * SECOND


@pytest.mark.parametrize("raw", [b"", b"<html>busy</html>"])
def test_no_json_is_unavailable(venue, raw):
    with pytest.raises(Unavailable):
        venue.judge(Reply(200, raw))


def test_the_clock_is_the_moment_of_the_request(venue):
    assert venue.clock(Reply(200, body([]), {}, 9)) == 1_744_275_754_521 * MS
    assert venue.clock(Reply(200, b"[]", {}, 9)) == 9
    assert venue.clock(Reply(200, b'{"code":"00000"}', {}, 9)) == 9


# ---------------------------------------------------------------- live

TRADE = {"ts": "1695709835822", "price": "26293.4", "size": "0.0013", "side": "buy", "tradeId": "1000000001"}
EARLIER = {**TRADE, "ts": "1695709835821", "side": "sell", "tradeId": "1000000000"}


@pytest.mark.parametrize("action", ["snapshot", "update"])
def test_live_trades_come_newest_first_and_leave_oldest_first(venue, action):
    (event,) = venue.hear(frame(action=action, arg=arg("trade"), data=[TRADE, EARLIER], ts=1_695_711_090_682))
    assert event.topic == venue.live_trades.topic(("BTCUSDT",)) == "trade:BTCUSDT"
    assert BitgetTrades.pack.pure(event.rows, "BTC/USDT") == [
        Trade("bitget", "BTC/USDT", "raw", "1000000000", D("26293.4"), D("0.0013"), Side.SELL, 1_695_709_835_821 * MS),
        Trade("bitget", "BTC/USDT", "raw", "1000000001", D("26293.4"), D("0.0013"), Side.BUY, 1_695_709_835_822 * MS),
    ]


def test_live_candles_are_running_until_their_end_and_never_said_to_be_closed(venue):
    opened = 1_695_702_720_000
    bars = [[str(opened - 60_000), *BAR[1:]], [str(opened), *BAR[1:]]]
    (event,) = venue.hear(frame(action="snapshot", arg=arg("candle1m"), data=bars, ts=opened + 59_999))
    assert event.topic == venue.live_candles.topic(("BTCUSDT", "1m")) == "candle1m:BTCUSDT"
    first, second = BitgetCandles.pack_live.pure(event.rows, "BTC/USDT", "1m")
    assert (first.open_time, first.closed) == ((opened - 60_000) * MS, None)
    assert second == Candle(
        "bitget", "BTC/USDT", "1m", "venue", opened * MS, D("37834.5"), D("37849.5"), D("37773.5"), D(37800),
        D("428.3462"), D(16198850), None, False, (opened + 59_999) * MS,
    )  # fmt: skip


def test_subscribing_names_every_topic_in_one_message(venue):
    (said,) = venue.say("subscribe", ["trade:BTCUSDT", "candle1Dutc:ETHUSDT"], 1)
    assert json.loads(said) == {"op": "subscribe", "args": [arg("trade"), arg("candle1Dutc", "ETHUSDT")]}
    longest = [f"candle12Hutc:{'X' * 20}USDT"] * venue.feed.topics_per_message
    assert all(len(text) <= venue.feed.bytes_per_message for text in venue.say("unsubscribe", longest, 2))


@pytest.mark.parametrize(
    ("raw", "event"),
    [
        (b"pong", Alive()),
        (frame(event="subscribe", arg=arg("trade")), Acked(("trade:BTCUSDT",))),
        (frame(event="unsubscribe", arg=arg("trade")), Alive()),
        (frame(event="login", code="0", msg=""), Alive()),
        (frame(event="error", code=30016, msg="Param error"), Denied("Param error (code 30016)")),
        (
            frame(event="error", arg=arg("trade", "XX"), code=30001, msg="doesn't exist", op="subscribe"),
            Denied("doesn't exist (code 30001)", ("trade:XX",)),
        ),
        (frame(action="snapshot", arg=arg("trade"), data=[], ts=1), Rows("trade:BTCUSDT", [])),
        (frame(action="update", arg=arg("ticker"), data=[{}], ts=1), Alive()),
        (b"{}", Alive()),
    ],
)
def test_frames(venue, raw, event):
    assert list(venue.hear(raw)) == [event]


@pytest.mark.parametrize(
    "raw",
    [
        frame(action="update", arg=arg("trade"), data=[{**TRADE, "ts": 5}], ts=1),
        frame(action="update", arg=arg("trade"), data=[{}], ts=1),
        frame(action="update", arg=arg("candle1m"), data=[["1"]], ts=1),
        b"ping?",
        b"[]",
    ],
)
def test_a_changed_frame_is_an_error(venue, raw):
    with pytest.raises(msgspec.MsgspecError):
        list(venue.hear(raw))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["trade", "candle1m", "SPOT", "1", "buy"]),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(
        st.sampled_from(["code", "msg", "data", "arg", "event", "ts", "channel", "instId", "price", "size", "side", "tradeId"]), inner
    ),
    max_leaves=20,
)  # fmt: skip
EVENTS = (Rows, Acked, Denied, Alive)


@given(st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_events_or_a_named_error(raw):
    venue = Bitget()
    with suppress(msgspec.MsgspecError):
        assert all(isinstance(event, EVENTS) for event in venue.hear(raw))
    for name in ("markets", "tickers", "newest", "old_trades", "candles", "old_candles"):
        with suppress(PayloadChanged):
            getattr(venue, name).decode(raw)
    assert venue.clock(Reply(200, raw, {}, 7)) is not None


# ---------------------------------------------------------------- documented samples

SAMPLES = "bitget/doc_endpoints_spot_exchangedata_get"


@pytest.mark.recordings
def test_documented_answers(recordings, venue):
    (event,) = recordings.events(f"{SAMPLES}recenttrades.txt")
    rows = venue.newest.decode(event.payload.encode())
    index = {entry["file"]: entry for entry in recordings.index}
    entry = index[f"{SAMPLES}recenttrades.txt"]
    trades = BitgetTrades.pack.pure(rows, entry["market"])
    assert [(t.trade_id, t.venue_time) for t in (trades[0], trades[-1])] == [
        (entry[side]["id"], entry[side]["time_ns"]) for side in ("first", "last")
    ]
    assert trades[0].size == D("2470.6224")
    assert trades[1].aggressor is Side.SELL
    (event,) = recordings.events(f"{SAMPLES}symbols.txt")
    (market,) = BitgetMarkets.pack.pure(venue.markets.decode(event.payload.encode()))
    assert (market.market, market.price_increment, market.minimum_size) == ("BTC/USDT", D("0.0001"), None)
    (event,) = recordings.events(f"{SAMPLES}klines.txt")
    entry = index[f"{SAMPLES}klines.txt"]
    candles = BitgetCandles.pack.pure(venue.candles.decode(event.payload.encode()), "BTC/USDT", "1m")
    assert [candle.open_time for candle in candles] == [entry["first"]["time_ns"]] * 2
    assert venue.clock(Reply(200, event.payload.encode())) == 1_695_800_278_693 * MS


@pytest.mark.recordings
def test_documented_dialogues(recordings, venue):
    index = {entry["file"]: entry for entry in recordings.index}
    for name, topic in (("trades", "trade:BTCUSDT"), ("klines", "candle1W:ETHUSDT")):
        file = f"bitget/doc_subscriptions_spot_{name}.txt"
        out, acked, data = recordings.events(file)
        assert json.loads(next(iter(venue.say("subscribe", [topic], 1)))) == json.loads(out.payload)
        assert list(venue.hear(acked.payload.encode())) == [Acked((topic,))]
        (event,) = venue.hear(data.payload.encode())
        assert event.topic == topic
        row = event.rows[0]
        if isinstance(row, CandlePush):  # the sample of a week opens at 20:13: read as a minute
            (model,) = BitgetCandles.pack_live.pure([row], "ETH/USDT", "1m")
            assert model.open_time == index[file]["first"]["time_ns"]
        else:
            assert isinstance(row, Fill)
            (model,) = BitgetTrades.pack.pure(event.rows, "BTC/USDT")
            assert (model.trade_id, model.venue_time) == (index[file]["first"]["id"], index[file]["first"]["time_ns"])


# ---------------------------------------------------------------- whole runs against the desk


class Loop:
    """A run driven by hand: every request is answered by the desk, a tenth of a second after the one before."""

    def __init__(self, *queries, now=NOW):
        self.venue = Bitget()
        self.source = Simulated(3).at("bitget")
        self.desk = Desk(Simulated(3), Clock(1, now))
        self.asked = []
        venues = SimpleNamespace(registry=registry, connector=lambda name: self.venue)
        self.run = Run(queries, venues, now)
        while not self.run.done:
            for lane in self.run.lanes():
                while node := self.run.take(lane):
                    self.asked.append(node.request)
                    self.ask(node, now + len(self.asked) * 100 * MS)

    def ask(self, node, now):
        params = {name: str(value) for name, value in node.request.params}
        answer = self.desk.answer(HttpRequest(node.request.method, node.request.path, params), now)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        reply = Reply(answer.status, answer.body, headers, now)
        try:
            self.venue.judge(reply)
        except UsageError as error:
            self.run.fail(node, error)
        else:
            self.run.feed(node, reply)

    @property
    def paths(self):
        return [request.path.rpartition("/")[2] for request in self.asked]


def cut(trade):
    """What the history makes of a trade: the same to the second."""
    return Trade(
        "bitget", trade.market, "raw", trade.trade_id, trade.price, trade.size, trade.aggressor,
        trade.venue_time // SECOND * SECOND,
    )  # fmt: skip


def collected(query, **options):
    loop = Loop(query, **options)
    frame = loop.run.frame(query)
    return loop, frame, [] if not frame.coverage.parts else next(iter(frame.coverage.parts.values()))


def plain(rows):
    rows = list(rows)
    for row in rows:
        row.received_at = None
    return rows


@pytest.mark.parametrize("market", ["BTC/USDT", "DOGE/USDT"])
def test_a_settled_range_of_trades_is_complete_and_wholly_b(market):
    start, end = parse_time("2026-03-04T04:00:00"), parse_time("2026-03-04T04:25:00")
    loop, frame, parts = collected(
        Query(Trade, f"bitget:{market}", start="2026-03-04T04:00:00", end="2026-03-04T04:25:00")
    )
    expected = loop.source.trades(market, "raw", now=NOW, start=start, end=end, limit=1 << 40)
    assert plain(frame) == [cut(trade) for trade in expected]
    assert not frame.failures
    assert [(part.start, part.end, part.state, part.grade) for part in parts] == [(start, end, State.HELD, Grade.B)]
    assert len(loop.asked) <= len(expected) // 1000 + 3


def test_a_quiet_market_is_bracketed_by_a_wider_question():
    query = Query(Trade, "bitget:DOGE/USDT", start="2026-03-04T04:00:00", end="2026-03-04T04:00:01")
    loop, frame, parts = collected(query)
    assert (len(frame), [part.grade for part in parts]) == (0, [Grade.B])
    assert 2 <= len(loop.asked) <= 6


def test_ten_days_are_chains_of_at_most_seven_with_their_margins():
    query = Query(Trade, "bitget:DOGE/USDT", start="2026-02-20", end="2026-03-02")
    loop, frame, parts = collected(query)
    expected = loop.source.trades(
        "DOGE/USDT", "raw", now=NOW, start=parse_time("2026-02-20"), end=parse_time("2026-03-02"), limit=1 << 40
    )
    assert plain(frame) == [cut(trade) for trade in expected]
    assert [part.grade for part in parts] == [Grade.B]


def test_before_the_horizon_trades_are_lost():
    query = Query(Trade, "bitget:DOGE/USDT", start=iso(NOW - 31 * DAY), end=iso(NOW - 30 * DAY + HOUR))
    _, _, parts = collected(query)
    assert [part.state for part in parts] == [State.LOST, State.HELD]


def test_the_last_seconds_come_from_the_newest_trades_to_the_millisecond():
    query = Query(Trade, "bitget:BTC/USDT", start=iso(NOW - 9 * SECOND), end=iso(NOW - 7 * SECOND))
    loop, frame, parts = collected(query)
    expected = loop.source.trades("BTC/USDT", "raw", now=NOW, start=query.start, end=query.end, limit=1_000)
    assert loop.paths == ["fills"]
    assert plain(frame) == expected
    assert [part.grade for part in parts] == [Grade.B]


def test_the_right_edge_is_open():
    query = Query(Trade, "bitget:BTC/USDT", start=iso(NOW - 5 * MINUTE), end=iso(NOW))
    loop, frame, parts = collected(query)
    assert loop.paths == ["fills-history"]
    assert [trade.trade_id for trade in frame] == [
        trade.trade_id
        for trade in loop.source.trades("BTC/USDT", "raw", now=NOW, start=query.start, end=query.end, limit=1 << 20)
        if query.start <= trade.venue_time // SECOND * SECOND
    ]
    assert parts[-1].state is State.OPEN


@pytest.mark.parametrize("text", list(GRANULARITIES))
def test_candles_of_every_interval(text):
    grid = interval(text)
    end = grid.floor(NOW)
    start = end
    for _ in range(5):
        start = grid.floor(start - 1)
    query = Query(Candle, "bitget:ETH/USDT", interval=text, start=iso(start), end=iso(end))
    loop, frame, parts = collected(query)
    expected = loop.source.candles("ETH/USDT", text, now=NOW, start=start, end=end)
    for row in expected:
        row.trades = None  # the venue does not count them
    assert plain(frame) == expected
    assert [(part.start, part.end, part.state, part.grade) for part in parts] == [(start, end, State.HELD, Grade.A)]
    assert len(loop.asked) == 1


@pytest.mark.parametrize(("days", "path", "requests"), [(2, "candles", 2), (300, "history-candles", 8)])
def test_candles_beyond_the_depth_come_from_the_history(days, path, requests):
    start = NOW // DAY * DAY - days * DAY
    query = Query(Candle, "bitget:BTC/USDT", interval="1m", start=iso(start), end=iso(start + DAY))
    loop, frame, parts = collected(query)
    assert loop.paths == [path] * requests
    assert len(frame) == 1440
    assert [part.grade for part in parts] == [Grade.A]
    assert [row.close for row in frame] == [
        row.close for row in loop.source.candles("BTC/USDT", "1m", now=NOW, start=start, end=start + DAY, limit=2_000)
    ]


def test_candles_across_the_depth_join():
    edge = NOW // DAY * DAY - 29 * DAY
    query = Query(Candle, "bitget:BTC/USDT", interval="1h", start=iso(edge - 70 * DAY), end=iso(edge))
    loop, frame, _ = collected(query)
    assert sorted(set(loop.paths)) == ["candles", "history-candles"]
    assert len(frame) == 70 * 24


def test_the_running_candle_is_not_closed():
    query = Query(Candle, "bitget:BTC/USDT", interval="1m", start=iso(NOW - 10 * MINUTE), end=iso(NOW))
    _, frame, parts = collected(query)
    assert [row.closed for row in frame] == [True] * 9 + [False]
    assert parts[-1].state is State.OPEN


def test_quiet_minutes_have_flat_candles():
    query = Query(Candle, "bitget:DOGE/USDT", interval="1m", start="2026-03-04T03:00", end="2026-03-04T04:00")
    _, frame, parts = collected(query)
    assert len(frame) == 60
    assert any(row.volume == 0 and row.open == row.close for row in frame)
    assert [part.grade for part in parts] == [Grade.A]


def test_markets_and_tickers():
    wanted = [Query(Market, "bitget:*"), Query(Ticker, "bitget:BTC/USDT"), Query(Ticker, "bitget:ETH/USDT")]
    loop = Loop(*wanted)
    assert sorted(loop.paths) == ["symbols", "tickers"]
    markets = loop.run.frame(wanted[0])
    assert (markets[0].market, markets[0].symbol, markets[0].price_increment) == ("BTC/USDT", "BTCUSDT", D("0.01"))
    (ticker,) = loop.run.frame(wanted[1])
    assert ticker.last == loop.source.last_trade("BTC/USDT", "raw", ticker.venue_time).price
    assert ticker.volume > 0


def test_an_unknown_market_is_the_failure_of_its_query():
    query = Query(Trade, "bitget:NO/USDT", start="2026-03-04T04:00:00", end="2026-03-04T04:01:00")
    _, frame, _ = collected(query)
    assert [type(failure.error) for failure in frame.failures] == [UnknownMarket]
    assert "NOUSDT" in str(frame.failures[0].error)


def test_the_same_trade_live_and_from_the_history_is_one():
    venue = Bitget()
    (live,) = BitgetTrades.pack.pure([bitget.Fill("5", "buy", D(1), D(2), "1744275603123")], "A/B")
    (old,) = BitgetTrades.pack.pure(
        venue.old_trades.decode(body([{**OLD[0], "tradeId": "5", "price": "1", "size": "2"}])), "A/B"
    )
    assert [getattr(live, name) for name in Trade.key] == [getattr(old, name) for name in Trade.key]
    assert live.venue_time // SECOND * SECOND == old.venue_time
    assert Dataset(Trade, "bitget", "A/B", ("raw",)).label == "bitget:A/B trade raw"


# ---------------------------------------------------------------- a whole session, over loopback


async def session():
    """What a session collects and streams from the desk, beside the truth."""
    truth = Simulated(3).at("bitget")
    async with serve(Simulated(3), ["bitget"]) as served, Flood({"venues": served.settings()}) as flood:
        end = served.clock.now() // MINUTE * MINUTE - MINUTE
        start = end - 20 * MINUTE
        trades = await flood.collect(Trade, "bitget:BTC/USDT", start=iso(start), end=iso(end), strict=True)
        expected = truth.trades("BTC/USDT", "raw", now=end, start=start, end=end, limit=1 << 40)
        assert plain(trades) == [cut(trade) for trade in expected]
        candles = await flood.collect(
            Candle, "bitget:BTC/USDT", interval="1m", start=iso(start), end=iso(end), strict=True
        )
        assert [(row.open_time, row.close, row.volume) for row in candles] == [
            (row.open_time, row.close, row.volume)
            for row in truth.candles("BTC/USDT", "1m", now=end + MINUTE, start=start, end=end)
        ]
        with pytest.raises(UnknownMarket):
            await flood.collect(Ticker, "bitget:NO/USDT")
    async with serve(Simulated(3), ["bitget"], speed=60) as served, Flood({"venues": served.settings()}) as flood:
        rows = []
        async for batch in flood.stream(Trade, "bitget:BTC/USDT", "bitget:ETH/USDT").batches():
            rows += batch
            if len({row.market for row in rows}) == 2 and len(rows) > 200:
                break
        for market in ("BTC/USDT", "ETH/USDT"):
            mine = plain(row for row in rows if row.market == market)
            first, after = int(mine[0].trade_id), int(mine[-1].trade_id) + 1
            told = truth.trades(market, "raw", now=mine[-1].venue_time, from_id=first, to_id=after)
            assert mine == told
        async for candle in flood.stream(Candle, "bitget:BTC/USDT", interval="1m"):
            assert candle.closed is not True
            break


@pytest.mark.loopback
def test_a_session_collects_and_streams_what_the_market_has():
    asyncio.run(asyncio.wait_for(session(), 30))
