"""OKX: payload by payload, then whole questions against its desk."""

import asyncio
import contextlib
import json
from decimal import Decimal
from email.utils import formatdate

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tradeflood.connectors.okx import (
    BARS,
    BUSINESS,
    LONG,
    OKX,
    OKXCandles,
    OKXMarkets,
    OKXMergedTrades,
    OKXSeconds,
    OKXTickers,
    OKXTrades,
)
from tradeflood.coverage import Grade, State
from tradeflood.errors import PayloadChanged, RateLimited, Refused, Unavailable, UnknownMarket
from tradeflood.models import Candle, Market, Side, Ticker, Trade, interval
from tradeflood.models.time import DAY, HOUR, MINUTE, MS, SECOND, iso, parse_time
from tradeflood.planner.query import Query
from tradeflood.planner.run import Run
from tradeflood.replay.desk import Clock, HttpAnswer, HttpRequest
from tradeflood.replay.desks import okx as desks
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import GENESIS, Simulated
from tradeflood.runner.flood import Flood
from tradeflood.turns import Acked, Alive, Denied, Leaving, Page, Reply, Rows, registry

NOW = parse_time("2026-03-04T05:06:07.089")
SEED = 3
TRUTH = Simulated(SEED, "okx")


@pytest.fixture
def okx():
    return OKX()


def body(*data, code="0", msg=""):
    return json.dumps({"code": code, "msg": msg, "data": list(data)}).encode()


FILL = {"instId": "BTC-USDT", "side": "sell", "sz": "0.00001", "source": "0", "px": "29963.2", "tradeId": "242720720", "ts": "1654161646974"}  # fmt: skip
BAR = ["1597017600000", "3.721", "3.743", "3.677", "3.708", "8422410", "22698348.04828491", "22698348.04828491", "1"]


# ---------------------------------------------------------------- payloads → models


def test_an_instrument_is_a_market(okx):
    row = {
        "instType": "SPOT", "instId": "BTC-USDT", "baseCcy": "BTC", "quoteCcy": "USDT", "state": "live", "tickSz": "0.1",
        "lotSz": "0.00000001", "minSz": "0.00001", "listTime": "1606468572000", "lever": "10", "upcChg": [],
    }  # fmt: skip
    soon = {"instType": "SPOT", "instId": "NEW-USDT", "state": "preopen", "listTime": "", "baseCcy": "", "tickSz": ""}
    halted = {**row, "instId": "OLD-EUR", "baseCcy": "OLD", "quoteCcy": "EUR", "state": "suspend"}
    rows = okx.markets.decode(body(row, soon, halted))
    assert OKXMarkets.pack.pure(rows) == [
        Market(
            "okx", "BTC/USDT", "BTC-USDT", "BTC", "USDT", "spot", "trading", Decimal("0.1"), Decimal("0.00000001"),
            Decimal("0.00001"), listed_at=1606468572000 * MS,
        ),
        Market("okx", "NEW/USDT", "NEW-USDT", "NEW", "USDT", "spot", "preopen"),
        Market(
            "okx", "OLD/EUR", "OLD-EUR", "OLD", "EUR", "spot", "halted", Decimal("0.1"), Decimal("0.00000001"),
            Decimal("0.00001"), listed_at=1606468572000 * MS,
        ),
    ]  # fmt: skip


def test_a_day_is_a_ticker_and_an_empty_side_of_the_book_stays_empty(okx):
    row = {
        "instType": "SPOT", "instId": "LTC-USDT", "last": "99.9", "lastSz": "1", "askPx": "100", "askSz": "11", "bidPx": "",
        "bidSz": "", "open24h": "90", "high24h": "101", "low24h": "88.8", "volCcy24h": "2222", "vol24h": "22.5",
        "sodUtc0": "0.1", "sodUtc8": "0.1", "ts": "1597026383085",
    }  # fmt: skip
    assert OKXTickers.pack.pure(okx.days.decode(body(row)), "LTC/USDT") == [
        Ticker(
            "okx", "LTC/USDT", 1597026383085 * MS, Decimal("99.9"), None, Decimal(100), Decimal("22.5"), Decimal(2222),
            Decimal(90), Decimal(101), Decimal("88.8"),
        )
    ]  # fmt: skip


def test_rows_of_the_history_are_raw_trades_and_side_is_the_takers(okx):
    rows = okx.trades.decode(body(FILL, {**FILL, "side": "buy", "tradeId": "242720719", "ts": "1654161641568"}))
    assert OKXTrades.pack.pure(rows, "BTC/USDT") == [
        Trade("okx", "BTC/USDT", "raw", "242720720", Decimal("29963.2"), Decimal("0.00001"), Side.SELL, 1654161646974 * MS),
        Trade("okx", "BTC/USDT", "raw", "242720719", Decimal("29963.2"), Decimal("0.00001"), Side.BUY, 1654161641568 * MS),
    ]  # fmt: skip


def test_a_candle_counts_its_quote_volume_in_the_quote_asset_and_says_whether_it_is_closed(okx):
    first, second = OKXCandles.pack.pure(
        okx.candles.decode(body(BAR, [*BAR[:6], "1", "2.5", "0"])), "BTC/USDT", "1d@+08:00"
    )
    assert first == Candle(
        "okx", "BTC/USDT", "1d@+08:00", "venue", 1597017600000 * MS, Decimal("3.721"), Decimal("3.743"),
        Decimal("3.677"), Decimal("3.708"), Decimal(8422410), Decimal("22698348.04828491"), None, True,
    )  # fmt: skip
    assert (second.quote_volume, second.closed) == (Decimal("2.5"), False)


@pytest.mark.parametrize(
    "name", ["markets", "days", "candles", "trades", "trades_back", "trades_before", "recent_trades"]
)
def test_an_empty_page_has_no_rows(okx, name):
    assert getattr(okx, name).decode(body()) == []


@pytest.mark.parametrize(
    ("turn", "row", "path"),
    [
        ("trades", {**FILL, "px": None}, "$.data[0].px"),
        ("trades", {**FILL, "side": "both"}, "$.data[0].side"),
        ("candles", BAR[:7], "$.data[0]"),
        ("candles", [*BAR[:8], "2"], "$.data[0][8]"),
        ("days", {"instId": "BTC-USDT"}, "$.data[0]"),
    ],
)
def test_a_changed_payload_names_its_place(okx, turn, row, path):
    with pytest.raises(PayloadChanged) as caught:
        getattr(okx, turn).decode(body(row))
    assert caught.value.path == path


# ---------------------------------------------------------------- requests


def test_a_page_of_candles_asks_for_exactly_its_times(okx):
    page = Page(parse_time("2024-01-01"), parse_time("2024-01-02"))
    request = okx.candles.request(page, ("BTC-USDT", "5m"))
    assert request.path == "/api/v5/market/history-candles"
    assert dict(request.params) == {
        "instId": "BTC-USDT", "bar": "5m", "limit": 300, "after": 1704153600000, "before": 1704067199999,
    }  # fmt: skip


def test_bars_of_utc_and_of_hong_kong_have_their_own_names(okx):
    bars = {name: dict(okx.candles.request(Page(0, DAY), ("X", name)).params)["bar"] for name in BARS}
    assert bars["1d"] == "1Dutc"
    assert bars["1d@+08:00"] == "1D"
    assert bars["6h"] == "6Hutc"
    assert bars["1M"] == "1Mutc"
    assert bars["1m"] == "1m"
    assert set(OKXCandles.offered("interval")) | set(OKXSeconds.offered("interval")) == set(bars)


def test_a_page_of_ids_asks_for_exactly_its_ids(okx):
    request = okx.trades.request(Page(200, 240), ("BTC-USDT",))
    assert dict(request.params) == {"instId": "BTC-USDT", "type": 1, "after": 240, "limit": 40}


def test_one_ticker_is_asked_alone_and_several_in_one(okx):
    assert okx.days.request(Page(symbols=("BTC-USDT",)), ()).path == "/api/v5/market/ticker"
    assert okx.days.request(Page(symbols=("BTC-USDT", "ETH-USDT")), ()).path == "/api/v5/market/tickers"


def test_every_turn_has_the_budget_of_its_endpoint(okx):
    limits = {
        name: (getattr(okx, name).budget.name, getattr(okx, name).budget.limit, getattr(okx, name).budget.per)
        for name in ("markets", "days", "candles", "trades", "trades_before", "trades_after", "recent_trades")
    }
    assert limits == {
        "markets": ("instruments", 20, 2 * SECOND),
        "days": ("tickers", 20, 2 * SECOND),
        "candles": ("history-candles", 20, 2 * SECOND),
        "trades": ("history-trades", 20, 2 * SECOND),
        "trades_before": ("history-trades", 20, 2 * SECOND),
        "trades_after": ("history-trades", 20, 2 * SECOND),
        "recent_trades": ("trades", 100, 2 * SECOND),
    }


# ---------------------------------------------------------------- answers that are none


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (429, b'{"msg":"Too Many Requests","code":"50011"}', RateLimited),
        (200, body(code="50011", msg="Rate limit reached."), RateLimited),
        (429, body(code="50013", msg="Systems are busy."), Unavailable),
        (503, body(code="50001", msg="Service temporarily unavailable."), Unavailable),
        (200, body(code="51001", msg="Instrument ID doesn't exist."), UnknownMarket),
        (400, body(code="51000", msg="Parameter bar error"), Refused),
        (200, body(code="50039", msg="Parameter before isn't supported"), Refused),
        (429, body(code="59999", msg="?"), RateLimited),
        (500, body(code="59999", msg="?"), Unavailable),
        (403, b"<html>Access denied</html>", Unavailable),
        (200, b"<html>Maintenance</html>", Unavailable),
        (200, b"", Unavailable),
        (502, b"Bad Gateway", Unavailable),
        (404, body(code="0"), Refused),
    ],
)
def test_what_is_no_answer_is_judged_by_its_code(okx, status, text, error):
    with pytest.raises(error) as caught:
        okx.judge(Reply(status, text, {}, NOW))
    assert type(caught.value) is error


def test_a_breach_concerns_one_endpoint_and_says_until_when_only_where_the_venue_does(okx):
    with pytest.raises(RateLimited) as caught:
        okx.judge(Reply(200, body(code="50011"), {}, NOW))
    assert (caught.value.until, caught.value.banned) == (None, False)
    with pytest.raises(RateLimited) as caught:
        okx.judge(Reply(429, body(code="50011"), {"retry-after": "7"}, NOW))
    assert caught.value.until == NOW + 7 * SECOND


def test_a_good_answer_passes_in_any_order_of_its_keys(okx):
    okx.judge(Reply(200, body(FILL)))
    okx.judge(Reply(200, b'{"data":[],"msg":"","code":"0"}'))


# ---------------------------------------------------------------- the feed


def data(channel, *rows, symbol="BTC-USDT"):
    return json.dumps({"arg": {"channel": channel, "instId": symbol}, "data": list(rows)}).encode()


def test_each_kind_of_data_has_its_topic_on_its_path(okx):
    assert okx.live_trades.topic(("BTC-USDT",)) == "trades-all:BTC-USDT"
    assert okx.live_merged.topic(("BTC-USDT",)) == "trades:BTC-USDT"
    assert okx.live_candles.topic(("BTC-USDT", "1d")) == "candle1Dutc:BTC-USDT"
    assert [turn.spec.path for turn in (okx.live_trades, okx.live_merged, okx.live_candles)] == [
        BUSINESS,
        None,
        BUSINESS,
    ]


def test_one_message_subscribes_to_many_topics(okx):
    (message,) = okx.say("subscribe", ["trades:BTC-USDT", "candle1m:ETH-USDT"], 7)
    assert json.loads(message) == {
        "id": "7",
        "op": "subscribe",
        "args": [{"channel": "trades", "instId": "BTC-USDT"}, {"channel": "candle1m", "instId": "ETH-USDT"}],
    }


def test_a_merged_trade_is_named_by_its_last_raw_trade(okx):
    row = {"instId": "BTC-USDT", "tradeId": "130639474", "px": "42219.9", "sz": "0.12060306", "side": "buy", "ts": "1630048897897", "count": "3", "source": "0", "seqId": 1234}  # fmt: skip
    (event,) = okx.hear(data("trades", row))
    assert isinstance(event, Rows)
    assert event.topic == "trades:BTC-USDT"
    assert OKXMergedTrades.pack.pure(event.rows, "BTC/USDT") == [
        Trade(
            "okx", "BTC/USDT", "merged", "130639474", Decimal("42219.9"), Decimal("0.12060306"), Side.BUY,
            1630048897897 * MS, None, "130639472", "130639474", 3,
        )
    ]  # fmt: skip


def test_a_raw_trade_and_a_candle_come_as_they_do_by_request(okx):
    (event,) = okx.hear(data("trades-all", FILL))
    assert event == Rows("trades-all:BTC-USDT", okx.trades.decode(body(FILL)))
    (event,) = okx.hear(data("candle1D", BAR))
    assert event == Rows("candle1D:BTC-USDT", okx.candles.decode(body(BAR)))


@pytest.mark.parametrize(
    ("frame", "events"),
    [
        ("pong", (Alive(),)),
        (
            '{"id":"7","event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT"},"connId":"a4d3ae55"}',
            (Acked(("trades:BTC-USDT",)),),
        ),
        (
            '{"id":"8","event":"unsubscribe","arg":{"channel":"trades","instId":"BTC-USDT"},"connId":"a4d3ae55"}',
            (Acked(number=8),),
        ),
        (
            '{"id":"9","event":"error","code":"60012","msg":"Invalid request: {}","connId":"a4d3ae55"}',
            (Denied("Invalid request: {} (code 60012)", number=9),),
        ),
        (
            '{"id":"9","event":"error","code":"60018","msg":"channel:trades,instId:NO-USDT doesn\'t exist. Please","connId":"a"}',
            (
                Denied(
                    "channel:trades,instId:NO-USDT doesn't exist. Please (code 60018)",
                    ("trades:NO-USDT",),
                ),
            ),
        ),
        (
            '{"event":"notice","code":"64008","msg":"The connection will soon be closed.","connId":"a4d3ae55"}',
            (Leaving("The connection will soon be closed."),),
        ),
        ('{"event":"channel-conn-count","channel":"trades","connCount":"2","connId":"abcd"}', (Alive(),)),
        ('{"id":"x","event":"error","code":"1","msg":""}', (Denied(" (code 1)"),)),
    ],
)
def test_every_other_frame_says_its_one_thing(okx, frame, events):
    assert tuple(okx.hear(frame.encode())) == events


@pytest.mark.parametrize("frame", [b"", b"{}", b"[]", b"null", b'{"arg":{"channel":"trades"}}', data("trades", {}), data("candle1m", BAR[:3])])  # fmt: skip
def test_a_frame_of_another_shape_is_an_error(okx, frame):
    with pytest.raises(msgspec.MsgspecError):
        okx.hear(frame)


@given(st.binary() | st.text().map(str.encode))
@example(data("trades", {**FILL, "px": "\ud800"}))
@example(b'{"event":"error","msg":"\xff"}')
@example(b'{"arg":{"channel":"\xff"},"data":[]}')
@example(b'{"event":"unsubscribe","id":"' + b"9" * 5000 + b'"}')
@example(b"[" * 5000)
def test_any_bytes_are_events_or_a_named_error(frame):
    okx = OKX()
    with contextlib.suppress(msgspec.MsgspecError):
        assert isinstance(okx.hear(frame), tuple)
    for turn in (okx.trades, okx.candles, okx.days, okx.markets):
        with pytest.raises(PayloadChanged):
            turn.decode(frame)


# ---------------------------------------------------------------- samples of the venue's documentation


@pytest.mark.recordings
def test_documented_samples_are_read_field_by_field(okx, recordings):
    def raw(name):
        return recordings.path(f"okx/{name}").read_bytes()

    def told(name):
        return json.loads(raw(name))["data"]

    fills = OKXTrades.pack.pure(okx.trades.decode(raw("doc_http_get_trades.json")), "BTC/USDT")
    assert [(t.trade_id, str(t.price), format(t.size, "f"), t.aggressor.value, str(t.venue_time // MS)) for t in fills] == [
        tuple(row[name] for name in ("tradeId", "px", "sz", "side", "ts")) for row in told("doc_http_get_trades.json")
    ]  # fmt: skip
    bars = OKXCandles.pack.pure(okx.candles.decode(raw("doc_http_get_candlesticks.json")), "X/Y", "1m")
    assert [
        [str(bar.open_time // MS), *map(str, (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume)), bar.closed]
        for bar in bars
    ] == [[*row[:6], row[7], row[8] == "1"] for row in told("doc_http_get_candlesticks.json")]  # fmt: skip
    markets = OKXMarkets.pack.pure(okx.markets.decode(raw("doc_http_get_instruments_spot.json")))
    entry = next(e for e in recordings.index if e["file"] == "okx/doc_http_get_instruments_spot.json")
    assert {market.symbol: market.market for market in markets} == entry["markets"]
    assert all(okx.symbols.spell(market.market) == market.symbol for market in markets)
    (event,) = okx.hear(raw("doc_ws_trades.json"))
    assert (event.topic, event.rows[0].count) == ("trades:BTC-USD", "3")
    (event,) = okx.hear(raw("doc_ws_candle.json"))
    assert (event.topic, event.rows[0].confirm) == ("candle1D:BTC-USDT", "1")


# ---------------------------------------------------------------- whole questions, against the desk


class Venues:
    """One connector, as a run wants to be told of it."""

    registry = registry

    def __init__(self):
        self.okx = OKX()

    def connector(self, venue):
        assert venue == "okx"
        return self.okx


def collect(query, *, now=NOW, answer=lambda desk, request, now: desk.answer(request, now)):
    """The frame that answers a query, and the requests it took: one each 100 ms, so that every budget is kept."""
    venues, desk, time = Venues(), desks.OKX(Simulated(SEED), Clock(1, now)), now
    run = Run([query], venues, now)
    asked = []
    while not run.done:
        for lane in run.lanes():
            node = run.take(lane)
            time += SECOND // 10
            request = HttpRequest("GET", node.request.path, {name: str(value) for name, value in node.request.params})
            found = answer(desk, request, time)
            asked.append(node.request)
            reply = Reply(found.status, found.body, {"date": formatdate(time // SECOND, usegmt=True)}, time)
            venues.okx.judge(reply)
            run.feed(node, reply)
    return run.frame(query), asked


def stretches(frame):
    """State, grade and both ends of what is covered."""
    return [(part.state, part.grade, part.start, part.end) for parts in frame.coverage.parts.values() for part in parts]


def exactly(rows):
    """Rows without the moment at which we read them."""
    return [
        {name: getattr(row, name) for name in row.__slots__ if name not in {"received_at", "__weakref__"}}
        for row in rows
    ]


def test_raw_trades_of_a_span_are_exactly_those_of_the_market_and_proven():
    start, end = NOW - 20 * MINUTE, NOW - 15 * MINUTE
    frame, asked = collect(Query(Trade, "okx:BTC/USDT", start=iso(start), end=iso(end)))
    truth = TRUTH.trades("BTC/USDT", "raw", now=NOW, start=start, end=end, limit=10**6)
    assert exactly(frame) == exactly(truth)
    assert stretches(frame) == [(State.HELD, Grade.A, start, end)]
    assert len(asked) == 3 + -(-len(truth) // 100)
    assert not frame.failures


@given(st.integers(0, 10**8), st.integers(1, 200_000))
def test_a_span_of_any_length_anywhere_has_all_its_trades(back, length):
    start = NOW - HOUR - back * MS
    end = start + length * MS
    frame, _ = collect(Query(Trade, "okx:DOGE/USDT", start=iso(start), end=iso(end)))
    assert exactly(frame) == exactly(TRUTH.trades("DOGE/USDT", "raw", now=NOW, start=start, end=end, limit=10**6))
    assert [(state, first, last) for state, _, first, last in stretches(frame)] == [(State.HELD, start, end)]


def test_trades_up_to_a_moment_to_come_are_proven_as_far_as_the_newest():
    start, end = NOW - MINUTE, NOW + HOUR
    frame, _ = collect(Query(Trade, "okx:BTC/USDT", start=iso(start), end=iso(end)))
    last = frame[-1].venue_time
    assert last <= NOW + SECOND
    assert exactly(frame) == exactly(TRUTH.trades("BTC/USDT", "raw", now=last, start=start, limit=10**6))
    (state, grade, first, held), *rest = stretches(frame)
    assert (state, grade, first, held) == (State.HELD, Grade.A, start, last)
    assert all(state is not State.HELD or grade is Grade.D for state, grade, _, _ in rest)


def test_an_id_that_the_venue_skipped_at_the_end_does_not_hide_it():
    def without(lost):
        def answer(desk, request, now):
            found = desk.answer(request, now)
            rows = [row for row in json.loads(found.body)["data"] if row["tradeId"] not in lost]
            return HttpAnswer(200, {}, body(*rows))

        return answer

    start, end = NOW - 20 * MINUTE, NOW - 15 * MINUTE
    truth = TRUTH.trades("BTC/USDT", "raw", now=NOW, start=start, end=end, limit=10**6)
    lost = {str(int(truth[-1].trade_id) + step) for step in (1, 2)}
    query = Query(Trade, "okx:BTC/USDT", start=iso(start), end=iso(end))
    frame, asked = collect(query, answer=without(lost))
    assert exactly(frame) == exactly(truth)
    assert len(asked) < 20


def test_trades_of_a_market_younger_than_the_span_are_walked_back_to_its_first():
    now = GENESIS + 2 * HOUR
    start, end = GENESIS - DAY, GENESIS + 3 * MINUTE
    frame, asked = collect(Query(Trade, "okx:BTC/USDT", start=iso(start), end=iso(end)), now=now)
    truth = TRUTH.trades("BTC/USDT", "raw", now=now, end=end, limit=10**6)
    assert len(truth) > 100
    assert exactly(frame) == exactly(truth)
    assert max(dict(request.params).get("after", 0) for request in asked) <= end // MS
    assert not frame.failures


def test_what_the_venue_has_forgotten_is_lost_and_not_asked_for():
    frame, asked = collect(Query(Trade, "okx:BTC/USDT", start="2024-01-01", end="2024-01-02"))
    assert [state for state, _, _, _ in stretches(frame)] == [State.LOST]
    assert asked == []


@pytest.mark.parametrize("name", sorted(LONG))
def test_candles_of_every_interval_are_those_of_the_market(name):
    grid = interval(name)
    start = grid.floor(NOW)
    for _ in range(5):
        start = grid.floor(start - 1)
    frame, asked = collect(Query(Candle, "okx:BTC/USDT", interval=name, start=iso(start), end=iso(NOW)))
    closed = [row for row in frame if row.closed]
    truth = TRUTH.candles("BTC/USDT", name, now=NOW, start=start, end=grid.floor(NOW))
    assert [(row.open_time, row.open, row.high, row.low, row.close, row.volume, row.quote_volume) for row in closed] == [
        (row.open_time, row.open, row.high, row.low, row.close, row.volume, row.quote_volume) for row in truth
    ]  # fmt: skip
    assert [row.closed for row in frame] == [True] * 5 + [False]
    assert stretches(frame)[0] == (State.HELD, Grade.A, start, grid.floor(NOW))
    assert len(asked) == 1


def test_candles_are_paged_without_overlap_or_hole():
    start, end = NOW - 700 * MINUTE, NOW - 10 * MINUTE
    frame, asked = collect(Query(Candle, "okx:DOGE/USDT", interval="1m", start=iso(start), end=iso(end)))
    assert [row.open_time for row in frame] == list(interval("1m").opens(start, end))
    assert len(asked) == 3
    assert [(state, grade) for state, grade, _, _ in stretches(frame)] == [(State.HELD, Grade.A)]


def test_a_venue_that_clamps_the_limit_is_asked_on():
    def clamped(desk, request, now):
        return desk.answer(HttpRequest("GET", request.path, {**request.params, "limit": "100"}), now)

    start, end = NOW // MINUTE * MINUTE - 250 * MINUTE, NOW // MINUTE * MINUTE
    query = Query(Candle, "okx:BTC/USDT", interval="1m", start=iso(start), end=iso(end))
    frame, asked = collect(query, answer=clamped)
    assert len(frame) == 250
    assert len(asked) == 3


def test_seconds_reach_back_three_months():
    start = NOW // SECOND * SECOND - 80 * DAY
    query = Query(Candle, "okx:BTC/USDT", interval="1s", start=iso(start), end=iso(start + MINUTE))
    frame, _ = collect(query)
    assert [row.open_time for row in frame] == [start + at * SECOND for at in range(60)]
    frame, asked = collect(Query(Candle, "okx:BTC/USDT", interval="1s", start="2024-01-01", end="2024-01-02"))
    assert (len(frame), asked) == (0, [])


def test_lists_are_one_request_each():
    frame, asked = collect(Query(Market, "okx:*"))
    assert [row.market for row in frame] == ["BTC/USDT", "DOGE/USDT", "ETH/USDT", "SOL/USDT"]
    assert [request.path for request in asked] == ["/api/v5/public/instruments"]
    frame, asked = collect(Query(Ticker, "okx:*/USDT"))
    assert [row.last for row in frame] == [TRUTH.last_trade(row.market, "raw", NOW + SECOND).price for row in frame]
    assert [request.path for request in asked] == ["/api/v5/public/instruments", "/api/v5/market/tickers"]


# ---------------------------------------------------------------- whole conversations, against the desk


def talk(path, *topics):
    """A connection on which these topics are subscribed, and what was said of it."""
    okx, desk = OKX(), desks.OKX(Simulated(SEED), Clock(1, NOW))
    conversation = desk.connect(path, {}, NOW)
    (message,) = okx.say("subscribe", topics, 1)
    events = [event for frame in conversation.receive(message, NOW) for event in okx.hear(frame.encode())]
    return okx, conversation, events


def rows_of(okx, conversation, until):
    """Everything that comes up to a moment, by topic."""
    found = {}
    while frames := conversation.advance(until):
        for frame in frames:
            for event in okx.hear(frame.encode()):
                found.setdefault(event.topic, []).extend(event.rows)
    return found


def test_live_trades_of_both_kinds_are_exactly_those_of_the_market():
    until = NOW + 20 * SECOND
    okx, conversation, events = talk(BUSINESS, "trades-all:BTC-USDT")
    assert events == [Acked(("trades-all:BTC-USDT",))]
    raw = rows_of(okx, conversation, until)["trades-all:BTC-USDT"]
    truth = TRUTH.trades_between("BTC/USDT", "raw", NOW, until)
    assert exactly(OKXTrades.pack.pure(raw, "BTC/USDT")) == exactly(truth)
    okx, conversation, _ = talk(okx.feed.path, "trades:BTC-USDT")
    merged = OKXMergedTrades.pack.pure(rows_of(okx, conversation, until)["trades:BTC-USDT"], "BTC/USDT")
    assert [(row.first_id, row.last_id, row.count, row.size, row.price, row.aggressor, row.venue_time) for row in merged] == [
        (row.first_id, row.last_id, row.count, row.size, row.price, row.aggressor, row.venue_time)
        for row in TRUTH.trades_between("BTC/USDT", "merged", NOW, until)
    ]  # fmt: skip
    assert all(row.trade_id == row.last_id for row in merged)
    assert sum(row.count for row in merged) == len(truth)


def test_live_candles_are_closed_once_with_the_figures_of_the_market():
    until = NOW + 3 * MINUTE
    okx, conversation, _ = talk(BUSINESS, "candle1m:BTC-USDT")
    candles = OKXCandles.pack.pure(rows_of(okx, conversation, until)["candle1m:BTC-USDT"], "BTC/USDT", "1m")
    closed = [row for row in candles if row.closed]
    truth = TRUTH.candles("BTC/USDT", "1m", now=until, start=interval("1m").floor(NOW), end=interval("1m").floor(until))
    assert [(row.open_time, row.close, row.volume, row.quote_volume) for row in closed] == [
        (row.open_time, row.close, row.volume, row.quote_volume) for row in truth
    ]
    assert len(candles) > 100


def test_a_topic_on_the_wrong_path_or_of_no_market_is_denied_alone():
    _, _, events = talk(BUSINESS, "trades-all:BTC-USDT", "trades:BTC-USDT", "candle1m:NO-USDT")
    assert events[0] == Acked(("trades-all:BTC-USDT",))
    assert [event.topics for event in events[1:]] == [("trades:BTC-USDT",), ("candle1m:NO-USDT",)]
    assert all(isinstance(event, Denied) for event in events[1:])


def test_the_heartbeat_is_answered():
    okx, conversation, _ = talk(BUSINESS, "trades-all:DOGE-USDT")
    (pong,) = conversation.receive(okx.feed.heartbeat.send, NOW + okx.feed.heartbeat.every)
    assert okx.hear(pong.encode()) == (Alive(),)


# ---------------------------------------------------------------- a whole session, over loopback


async def session():
    """What a session collects and streams from the desk, beside the truth."""
    async with serve(Simulated(SEED), ["okx"]) as served, Flood({"venues": served.settings()}) as flood:
        end = served.clock.now() // MINUTE * MINUTE - MINUTE
        start = end - 5 * MINUTE
        trades = await flood.collect(Trade, "okx:BTC/USDT", start=iso(start), end=iso(end))
        truth = TRUTH.trades("BTC/USDT", "raw", now=end, start=start, end=end, limit=10**6)
        assert exactly(trades) == exactly(truth)
        assert stretches(trades) == [(State.HELD, Grade.A, start, end)]
        candles = await flood.collect(
            Candle, "okx:BTC/USDT", interval="1m", start=iso(start), end=iso(end), strict=True
        )
        assert [(row.open_time, row.close, row.volume) for row in candles] == [
            (row.open_time, row.close, row.volume)
            for row in TRUTH.candles("BTC/USDT", "1m", now=end + MINUTE, start=start, end=end)
        ]
        with pytest.raises(UnknownMarket):
            await flood.collect(Ticker, "okx:NO/USDT")
    async with serve(Simulated(SEED), ["okx"], speed=60) as served, Flood({"venues": served.settings()}) as flood:
        for kind in ("raw", "merged"):
            rows = []
            async for batch in flood.stream(Trade, "okx:BTC/USDT", "okx:ETH/USDT", kind=kind).batches():
                rows += batch
                if len({row.market for row in rows}) == 2 and len(rows) > 10:
                    break
            for market in ("BTC/USDT", "ETH/USDT"):
                mine = [row for row in rows if row.market == market]
                told = TRUTH.trades(market, kind, now=mine[-1].venue_time, start=mine[0].venue_time, limit=10**6)
                assert [(row.price, row.size, row.venue_time) for row in mine] == [
                    (row.price, row.size, row.venue_time) for row in told[: len(mine)]
                ]


@pytest.mark.loopback
def test_a_session_collects_and_streams_what_the_market_has():
    asyncio.run(asyncio.wait_for(session(), 30))
