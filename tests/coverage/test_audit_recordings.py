"""The audit of real recordings: what is true of those that hold trades and candles of the same minutes.

Run with `-s` to see what was compared.
"""

import csv
import gzip
import io
import json
import sys
from decimal import Decimal

import pytest
from attrs import evolve

from tradeflood.connectors.binance import Binance, BinanceCandles, BinanceMergedTrades
from tradeflood.coverage import Claim, Dataset, Grade, State
from tradeflood.coverage.audit import Cause, alone, audit, common, margin
from tradeflood.coverage.evidence import on_grid
from tradeflood.models import Candle, Trade, interval
from tradeflood.models.time import DAY, MINUTE, MS
from tradeflood.spans import Spans

pytestmark = pytest.mark.recordings

MARKET = "XRP/ETH"
BARS = {"1m": 2469, "5m": 706}
KLINES = {
    "binance/rest_spot_klines_btcusdt_1d_2019.json": ("1d", 366),
    "binance/rest_spot_klines_btcusdt_1h_page1.json": ("1h", 1000),
    "binance/rest_spot_klines_btcusdt_1h_page2.json": ("1h", 468),
    "binance/rest_spot_klines_btcusdt_1m_60.json": ("1m", 60),
    "binance/rest_usdm_klines_ltcusdt_5m_a.json": ("5m", 500),
    "binance/rest_usdm_klines_ltcusdt_5m_b.json": ("5m", 500),
}


def merged_trades(body, market):
    return BinanceMergedTrades.pack.pure(Binance().merged_trades.decode(body.encode()), market)


def klines(recordings, name, text, market):
    (event,) = recordings.events(name)
    return list(BinanceCandles.pack.pure(Binance().klines.decode(event.payload.encode()), market, text))


def claim_of(trades, market):
    """They are consecutive, and nothing is known beyond the first and the last moment."""
    dataset = Dataset(Trade, "binance", market, ("merged",))
    first, last = trades[0], trades[-1]
    return Claim(
        dataset, first.venue_time + 1, last.venue_time, State.HELD, Grade.A, "consecutive ids", len(trades), "", 0, "",
        first.trade_id, str(int(last.trade_id) + 1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trades(recordings):
    rows = [e.payload for e in recordings.events("binance/rest_spot_aggtrades_xrpeth_20191011_ccxt_pairs.jsonl.gz")]
    return list(merged_trades(f"[{','.join(rows)}]", MARKET))


@pytest.fixture(scope="module", params=BARS)
def candles(recordings, request):
    """The bars of the file, which somebody else made of the wire; an interval without trades has none."""
    path = recordings.path(f"binance/candles_xrpeth_{request.param}_20191011.csv.gz")
    return [
        Candle(
            "binance", MARKET, request.param, "venue", int(bar["time_ms"]) * MS,
            *(Decimal(bar[name]) for name in ("open", "high", "low", "close", "volume")),
        )
        for bar in csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode()))
    ]  # fmt: skip


def compared(candles, trades, claim):
    text = candles[0].interval
    dataset = Dataset(Candle, "binance", candles[0].market, (text, "venue"))
    grid = interval(text)
    theirs = list(
        on_grid(
            dataset, text, Spans.of((candles[0].open_time, grid.next(candles[-1].open_time))), candles, 1 << 62, 0, ""
        )
    )
    spans = common(text, theirs, [claim])
    read = (claim.start - margin(text), claim.end + margin(text))
    return audit(dataset, "merged", candles, trades, [claim], spans, read), spans


def test_two_days_of_candles_agree_with_the_trades(candles, trades):
    """Every bar, but for the two at the ends, whose trades are not known to be all there."""
    found, spans = compared(candles, trades, claim_of(trades, MARKET))
    text, (start, end) = candles[0].interval, spans.bounds
    inside = [row for row in candles if start <= row.open_time < end]
    sys.stdout.write(
        f"\nXRP/ETH {text}: {len(candles)} bars, {found.compared} compared, {len(found.findings)} findings"
    )
    assert found.findings == ()
    assert found.compared == len(inside) == BARS[text] - 2
    assert len(spans) == 1


def test_what_is_put_wrong_in_them_is_found(candles, trades):
    """A trade less, a trade twice, and a candle that the venue got wrong, in the midst of two real days."""
    claim = claim_of(trades, MARKET)
    gone = trades[6000]
    (finding,) = compared(candles, [row for row in trades if row is not gone], claim)[0].findings
    assert (finding.cause, finding.detail) == (Cause.MISSING, f"not there: trade {gone.trade_id}")
    twice = [*trades[:6001], evolve(gone, trade_id="x"), *trades[6001:]]
    (finding,) = compared(candles, twice, claim)[0].findings
    assert finding.cause is Cause.DOUBLED
    wrong = [evolve(row, volume=row.volume + 1) if n == len(candles) // 2 else row for n, row in enumerate(candles)]
    (finding,) = compared(wrong, trades, claim)[0].findings
    assert (finding.cause, finding.open_time) == (Cause.WRONG, candles[len(candles) // 2].open_time)
    scaled = [evolve(row, volume=row.volume / 1000) for row in candles]
    causes = {finding.cause for finding in compared(scaled, trades, claim)[0].findings}
    assert causes == {Cause.UNIT}


def test_three_minutes_of_trades_hold_no_candle_of_five(recordings):
    """Trades and candles of the same minutes, and still nothing to compare: no candle is whole."""
    body = json.dumps(recordings.load("binance/rest_usdm_aggtrades_ltcusdt_500.json"), default=str)
    trades = list(merged_trades(body, "LTC/USDT:USDT"))
    candles = klines(recordings, "binance/rest_usdm_klines_ltcusdt_5m_b.json", "5m", "LTC/USDT:USDT")
    assert trades[-1].venue_time - trades[0].venue_time < 5 * MINUTE
    found, spans = compared(candles, trades, claim_of(trades, "LTC/USDT:USDT"))
    assert (found.compared, spans) == (0, Spans())


def test_running_candles_of_a_feed_agree_with_the_trades_between(recordings):
    """Half a minute of a feed with both: each bar of which all trades came, as it was pushed, by the numbers it names.

    No minute of it is whole, so nothing of it is compared as a closed candle; nor is a bar with a trade left out.
    """
    frames = [event.payload for event in recordings.events("binance/ws_usdm_mixed_20210722.txt.gz")]
    said = [json.loads(frame, parse_float=Decimal).get("data", {}) for frame in frames if frame.startswith("{")]
    trades: dict[str, list[Trade]] = {}
    for data in said:
        if data.get("e") == "aggTrade":
            trades.setdefault(data["s"], []).extend(merged_trades(json.dumps([data], default=str), data["s"]))
    bars = [data["k"] for data in said if data.get("e") == "kline"]
    compared = 0
    for bar in bars:
        rows = [
            row for row in trades.get(bar["s"], ()) if bar["f"] <= int(row.first_id) and int(row.last_id) <= bar["L"]
        ]
        if not rows or (int(rows[0].first_id), int(rows[-1].last_id)) != (bar["f"], bar["L"]):
            continue
        candle = Candle(
            "binance", bar["s"], bar["i"], "venue", bar["t"] * MS, *(Decimal(bar[name]) for name in "ohlcvq"), bar["n"]
        )
        span = (candle.open_time, interval(bar["i"]).next(candle.open_time))
        dataset = Dataset(Candle, "binance", bar["s"], (bar["i"], "venue"))
        claim = claim_of(rows, bar["s"])
        found = audit(dataset, "merged", [candle], rows, [claim], Spans.of(span), span)
        assert (found.findings, found.compared) == ((), 1), bar
        compared += 1
        if len(rows) > 1:
            (less,) = audit(dataset, "merged", [candle], rows[:-1], [claim], Spans.of(span), span).findings
            assert less.cause is Cause.MISSING
    sys.stdout.write(f"\nbinance usdm feed: {len(bars)} bars as pushed, {compared} with all their trades, 0 findings")
    assert (len(bars), compared) == (67, 15)
    for symbol, rows in trades.items():
        grid = [Claim(Dataset(Candle, "binance", symbol, ("1m", "venue")), 0, 1 << 62, State.HELD, Grade.A, "")]
        assert common("1m", grid, [claim_of(rows, symbol)] if len(rows) > 1 else []) == Spans()


@pytest.mark.parametrize("name", KLINES)
def test_every_recorded_kline_is_possible(recordings, name):
    """Its worth lies between low × volume and high × volume."""
    text, count = KLINES[name]
    rows = klines(recordings, name, text, "BTC/USDT")
    everything = Spans.of((0, rows[-1].open_time + DAY))
    found = alone(Dataset(Candle, "binance", "BTC/USDT", (text, "venue")), rows, everything)
    sys.stdout.write(f"\n{name}: {found.compared} looked at, {len(found.findings)} findings")
    assert (found.findings, found.compared) == ((), count)
    betrayed = alone(
        Dataset(Candle, "binance", "BTC/USDT", (text, "venue")),
        [evolve(row, volume=row.volume / 10) for row in rows],
        everything,
    )
    assert [finding.cause for finding in betrayed.findings] == [Cause.UNIT] * count
