"""The library without `await`: what a script and a notebook touch first."""

import asyncio
import sys
import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction

import pytest

import tradeflood as tf
from tradeflood import plugins
from tradeflood.models.time import HOUR, parse_time
from tradeflood.replay.simulated import Simulated
from tradeflood.testing.venues import venues_here

pytestmark = pytest.mark.loopback

DAY = {"start": "2024-01-01", "end": "2024-01-02"}
START = parse_time("2024-01-01")


@pytest.fixture(scope="module")
def served():
    """A simulated Binance and OKX for all tests of this module."""
    plugins.load()
    with venues_here("binance", "okx") as served:
        yield served


@pytest.fixture
def venues(served, unconfigured, monkeypatch, tmp_path):
    """The library pointed at the venues, in an empty folder: `unconfigured` has emptied the environment before."""
    for venue, urls in served.settings().items():
        for name, url in urls.items():
            monkeypatch.setenv(f"TRADEFLOOD_VENUES__{venue}__{name}".upper(), url)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stored(venues, monkeypatch):
    """The same with a store in the folder."""
    pytest.importorskip("chdb")
    monkeypatch.setenv("TRADEFLOOD_STORE", f"chdb://{venues / 'store'}")
    return venues


def candles(**more):
    """A day of candles of one market."""
    return tf.collect(tf.Candle, "binance:BTC/USDT", **{"interval": "1h", **DAY, **more})


# --- in a script, and where a loop runs already -----------------------------------------------------------------------


def test_collect(venues):
    """Rows and coverage; without a store nothing is left in the folder."""
    frame = candles()
    bars = Simulated().at("binance").bars("BTC/USDT", "1h", now=START * 2, start=START, limit=24)
    assert [(row.open_time, row.close, row.closed) for row in frame] == [(bar.start, bar.close, True) for bar in bars]
    assert frame[0].open_time == START
    assert [row.open_time for row in frame[-2:]] == [START + 22 * HOUR, START + 23 * HOUR]
    ((dataset, (part,)),) = frame.coverage.parts.items()
    assert (dataset.label, part.start, part.end, part.state, part.grade) == (
        "binance:BTC/USDT candle 1h venue",
        START,
        START + 24 * HOUR,
        tf.State.HELD,
        tf.Grade.A,
    )
    assert frame.failures == ()
    assert list(venues.iterdir()) == []


def test_a_range_in_any_spelling(venues):
    """Text, dates and zoned datetimes mean the same range."""
    zoned = datetime(2024, 1, 1, tzinfo=UTC).astimezone()
    assert [row.close for row in candles(start=date(2024, 1, 1), end=datetime(2024, 1, 2))] == [  # noqa: DTZ001
        row.close for row in candles(start=zoned)
    ]


def test_several_markets_are_one_frame(venues):
    """Market by market, each in its order; a market named twice is there once."""
    frame = tf.collect(tf.Candle, "okx:*/USDT", "okx:BTC/USDT", interval="1h", **DAY)
    assert [row.market for row in frame] == [
        market for market in ("BTC/USDT", "DOGE/USDT", "ETH/USDT", "SOL/USDT") for _ in range(24)
    ]
    assert len(frame.coverage.parts) == 4


def test_a_plan_is_told_and_run(venues):
    """The frames are in the order of the queries, and a plan may be run again."""
    plan = tf.plan(
        tf.Query(tf.Candle, "binance:BTC/USDT", interval="1h", **DAY),
        tf.Query(tf.Market, "okx:*"),
        tf.Query(tf.Trade, "okx:BTC/USDT", kind="merged"),
    )
    assert "requests" in str(plan.explain())
    for _ in range(2):
        rows, markets, trades = plan.run()
        assert (rows.model, markets.model, len(rows), len(markets)) == (tf.Candle, tf.Market, 24, 4)
        assert isinstance(trades.failures[0].error, tf.UsageError)


def test_in_a_running_loop(venues):
    """As in Jupyter: the loop is left alone, also where calls are nested in callbacks of it."""

    async def cell():
        here = asyncio.get_running_loop()
        nested = here.create_future()
        here.call_soon(lambda: nested.set_result(len(candles())))
        planned = tf.plan(tf.Query(tf.Candle, "binance:BTC/USDT", interval="1h", **DAY)).run()
        return len(candles()), await nested, len(planned[0]), asyncio.get_running_loop() is here

    before = threading.active_count()
    assert asyncio.run(cell()) == (24, 24, 24, True)
    assert threading.active_count() == before


def test_an_error_in_a_running_loop_is_the_same_error(venues):
    async def cell():
        candles(interval="7m")

    with pytest.raises(tf.UsageError, match="no interval '7m'"):
        asyncio.run(cell())


def test_a_session_in_a_session(venues):
    """`collect` inside an open `Flood` takes a session of its own."""

    async def main():
        async with tf.Flood() as flood:
            mine = await flood.collect(tf.Candle, "binance:BTC/USDT", interval="1h", **DAY)
            return [row.close for row in mine] == [row.close for row in candles()]

    assert asyncio.run(main())


def test_a_plan_of_a_session_says_who_runs_it(venues):
    """Its `run` cannot await; the message says what can."""
    plan = tf.Flood().plan(tf.Query(tf.Market, "binance:*"))
    with pytest.raises(tf.UsageError, match=r"await flood\.run\(plan\)"):
        plan.run()


# --- exactness --------------------------------------------------------------------------------------------------------


def test_arrow_is_exact(venues):
    """Decimals with all their digits, times in ns UTC."""
    pa = pytest.importorskip("pyarrow")
    frame = tf.collect(tf.Trade, "binance:BTC/USDT", start="2024-01-01", end="2024-01-01T00:01")
    table = frame.to_arrow()
    assert table.schema.field("price").type == pa.decimal128(38, 18)
    assert table.schema.field("venue_time").type == pa.timestamp("ns", tz="UTC")
    assert table.schema.field("aggressor").type == pa.string()
    assert table["price"].to_pylist() == [row.price for row in frame]
    assert table["venue_time"].cast(pa.int64()).to_pylist() == [row.venue_time for row in frame]
    assert table["aggressor"].to_pylist() == [str(row.aggressor) for row in frame]


ODD = [
    tf.Trade(
        "v",
        "A/B",
        "raw",
        "1",
        Decimal("0.000000000000000001"),
        Decimal("12345678901234567890.5"),
        tf.Side.BUY,
        START + 1,
    ),
    tf.Trade("v", "A/B", "raw", "2", Decimal("0.1"), Decimal("1E+3"), None, START + 999_999_999),
]


def test_polars_is_exact():
    """What no double can hold comes through, to the last digit and the last nanosecond."""
    polars = pytest.importorskip("polars")
    table = tf.Frame(tf.Trade, ODD).to_polars()
    assert table["price"].to_list() == [row.price for row in ODD]
    assert table["size"].to_list() == [row.size for row in ODD]
    assert table["venue_time"].dtype == polars.Datetime("ns", "UTC")
    assert table["venue_time"].dt.epoch("ns").to_list() == [row.venue_time for row in ODD]
    assert table["aggressor"].to_list() == ["buy", None]


def test_pandas_is_exact():
    """Decimal objects, not floats; stamps with nanoseconds and a zone."""
    pytest.importorskip("pandas")
    table = tf.Frame(tf.Trade, ODD).to_pandas()
    assert list(table["price"]) == [row.price for row in ODD]
    assert list(table["size"]) == [row.size for row in ODD]
    assert sum(table["size"]) == Decimal("12345678901234568890.5")
    assert [stamp.value for stamp in table["venue_time"]] == [row.venue_time for row in ODD]
    assert str(table["venue_time"].dt.tz) == "UTC"


def test_an_empty_frame_has_its_columns():
    """So that what follows in a script need not ask first."""
    pytest.importorskip("polars")
    pytest.importorskip("pandas")
    frame = tf.Frame(tf.Candle, [])
    assert frame.to_polars().schema == tf.Frame(tf.Candle, []).to_polars().schema
    assert list(frame.to_pandas().columns) == [column.name for column in tf.Candle.columns()]


def test_what_cannot_be_exact_is_refused():
    """Nineteen places after the point are not rounded to eighteen."""
    pytest.importorskip("pyarrow")
    row = tf.Trade("v", "A/B", "raw", "1", Decimal("1e-19"), Decimal(1), None, START)
    with pytest.raises(tf.StoreError, match=r"trade v:A/B:raw:1: price = Decimal\('1E-19'\) does not fit"):
        tf.Frame(tf.Trade, [row]).to_arrow()


@pytest.mark.parametrize(
    ("method", "missing", "says"),
    [
        ("to_polars", "polars", "polars is not installed; install it with: pip install 'tradeflood[frames]'"),
        ("to_pandas", "pandas", "pandas is not installed; install it with: pip install 'tradeflood[frames]'"),
        ("to_arrow", "pyarrow", "pyarrow is not installed; install it with: pip install 'tradeflood[frames]'"),
        ("to_polars", "pyarrow", "pyarrow is not installed; install it with: pip install 'tradeflood[frames]'"),
    ],
)
def test_a_missing_extra_is_one_line(monkeypatch, method, missing, says):
    """The line says what to type."""
    for name in [*sys.modules, missing]:
        if name.split(".")[0] == missing:
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(tf.UsageError) as caught:
        getattr(tf.Frame(tf.Trade, ODD), method)()
    assert str(caught.value) == says


# --- strict -----------------------------------------------------------------------------------------------------------


def test_strict_lets_pass_what_is_held(venues):
    assert len(candles(strict=True)) == 24
    assert len(tf.collect(tf.Ticker, "binance:BTC/USDT", strict=True)) == 1


def test_strict_refuses_the_running_candle(venues):
    """The edge is not held; the message says where it begins."""
    with pytest.raises(tf.Incomplete, match=r"^not complete: binance:BTC/USDT candle 1d venue: .* is "):
        tf.collect(tf.Candle, "binance:BTC/USDT", interval="1d", start="2026-01-01", strict=True)


def test_strict_refuses_a_part_that_failed(venues):
    """Without it, what could be had is delivered, and the failure stands beside it."""
    wanted = ("binance:BTC/USDT", "binance:BTC/NOPE")
    frame = tf.collect(tf.Candle, *wanted, interval="1h", **DAY)
    assert (len(frame), [type(failure.error) for failure in frame.failures]) == (24, [tf.UnknownMarket])
    with pytest.raises(tf.Incomplete, match="Invalid symbol"):
        tf.collect(tf.Candle, *wanted, interval="1h", strict=True, **DAY)


# --- offline ----------------------------------------------------------------------------------------------------------


def test_offline_is_what_the_store_holds(stored, monkeypatch):
    """Collected once, it is read without any venue; what was never collected is not there, and strict says so."""
    first = candles()
    for name in ("REST_URL", "FEED_URL"):
        monkeypatch.setenv(
            f"TRADEFLOOD_VENUES__BINANCE__{name}", f"{'ws' if name == 'FEED_URL' else 'http'}://127.0.0.1:1"
        )
    again = candles(offline=True, strict=True)
    assert [(row.open_time, row.close) for row in again] == [(row.open_time, row.close) for row in first]
    assert candles().coverage.parts.keys() == first.coverage.parts.keys()  # asks nobody either: all of it is held

    wider = candles(offline=True, end="2024-01-03")
    assert len(wider) == 24
    with pytest.raises(tf.Incomplete, match="2024-01-02T00:00:00Z … 2024-01-03T00:00:00Z is unknown"):
        candles(offline=True, strict=True, end="2024-01-03")


def test_offline_without_anything_stored(stored):
    """Nothing is known, which is not the same as nothing happened: strict refuses."""
    frame = candles(offline=True)
    assert (len(frame), frame.coverage.parts) == (0, {})
    with pytest.raises(tf.Incomplete, match="nothing is known"):
        candles(offline=True, strict=True)
    assert len(tf.collect(tf.Market, "binance:*", offline=True)) == 0


def test_offline_finds_patterns_in_the_store(stored):
    """A wildcard offline means the markets that are stored."""
    tf.collect(tf.Candle, "okx:BTC/USDT", "okx:ETH/USDT", interval="1h", **DAY)
    frame = tf.collect(tf.Candle, "okx:*/USDT", interval="1h", offline=True, **DAY)
    assert {row.market for row in frame} == {"BTC/USDT", "ETH/USDT"}


def test_a_store_without_its_extra(venues, monkeypatch):
    """The line names the store and the extra."""
    monkeypatch.setenv("TRADEFLOOD_STORE", f"chdb://{venues / 'store'}")
    monkeypatch.setitem(sys.modules, "chdb", None)
    with pytest.raises(
        tf.UsageError, match=r"chdb is not installed; install it with: pip install 'tradeflood\[embedded\]'"
    ):
        candles()


# --- mistakes ---------------------------------------------------------------------------------------------------------

MISTAKES = [
    (("candle", "binance:BTC/USDT"), {"interval": "1m"}, "no model 'candle'"),
    ((tf.Candle,), {"interval": "1m"}, "say which market"),
    ((tf.Candle, "BTC/USDT"), {"interval": "1m"}, "no market 'BTC/USDT'; write it VENUE:BASE/QUOTE"),
    ((tf.Candle, "binance:BTCUSDT"), {"interval": "1m"}, "no market 'BTCUSDT'"),
    ((tf.Candle, 7), {"interval": "1m"}, "no market 7"),
    ((tf.Candle, "nowhere:BTC/USDT"), {"interval": "1m"}, "no venue 'nowhere'; there are binance, "),
    ((tf.Candle, "binance:BTC/USDT"), {}, "say interval="),
    ((tf.Candle, "binance:BTC/USDT"), {"interval": "7m"}, "no interval '7m'; there are 1s, 1m"),
    ((tf.Candle, "binance:BTC/USDT"), {"interval": "soon"}, "no interval 'soon'"),
    ((tf.Candle, "binance:BTC/USDT"), {"interval": 60}, "no interval 60"),
    (
        (tf.Candle, "binance:BTC/USDT"),
        {"interval": "1m", "kind": "raw"},
        "no option 'kind'; there are start, end, interval",
    ),
    ((tf.Trade, "binance:BTC/USDT"), {"kind": "cooked"}, "no kind 'cooked'; there are raw, merged"),
    ((tf.Trade, "binance:BTC/USDT"), {"start": "2024-01-02", "end": "2024-01-01"}, "is not before the end"),
    ((tf.Trade, "binance:BTC/USDT"), {"start": "2024-01-01", "end": "2024-01-01"}, "is not before the end"),
    ((tf.Trade, "binance:BTC/USDT"), {"start": "yesterday"}, "not a time: 'yesterday'"),
    ((tf.Trade, "binance:BTC/USDT"), {"start": 1704067200}, "not a time: 1704067200"),
    ((tf.Market, "binance:*"), {"start": "2024-01-01"}, "market is a list"),
]


@pytest.mark.parametrize(("words", "options", "says"), MISTAKES, ids=[says for _, _, says in MISTAKES])
def test_a_mistake_is_a_usage_error(venues, words, options, says):
    """One line that names it; no venue is asked for it, nothing is written."""
    with pytest.raises(tf.UsageError) as caught:
        tf.collect(*words, **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(venues.iterdir()) == []


@pytest.mark.parametrize("market", ["binance:BTC/NOPE", "okx:BTC/NOPE", "okx:*/NOPE"])
def test_an_unknown_market(venues, market):
    """Only the venue knows: its answer is an UnknownMarket, which is a UsageError too."""
    with pytest.raises(tf.UnknownMarket, match=market.partition(":")[0]):
        tf.collect(tf.Candle, market, interval="1h", **DAY)


def test_a_plan_of_something_else(venues):
    with pytest.raises(tf.UsageError, match="a plan is made of queries"):
        tf.plan("candle")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("TRADEFLOOD_VENUES__BINANCE__PORT", "no such setting of a venue"),
        ("TRADEFLOOD_VENUES__BINANC__REST_URL", "did you mean 'binance'"),
        ("TRADEFLOOD_STORE", "nothing://"),
    ],
)
def test_a_mistake_in_the_environment(venues, monkeypatch, name, says):
    """It is named like one in a file."""
    monkeypatch.setenv(name, "nothing://here")
    with pytest.raises(tf.UsageError, match=says):
        candles()


def test_a_venue_that_is_not_there(venues, monkeypatch):
    """No answer is a TransportError: not the caller's mistake."""
    monkeypatch.setenv("TRADEFLOOD_VENUES__BINANCE__REST_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("tradeflood.runner.flood.Patience", _impatient)
    with pytest.raises(tf.TransportError, match="binance"):
        candles()


def _impatient():
    from tradeflood.runner.execute import Patience

    return Patience(attempts=1)


def test_a_desk_that_cannot_be_served_says_so():
    """The helper fails where it is called, not in its thread."""
    with pytest.raises(tf.UsageError, match="no replay for venue 'nowhere'"), venues_here("nowhere"):
        pass


def test_the_environment_is_put_back(monkeypatch):
    """What stood there before stands there again."""
    import os

    monkeypatch.setenv("TRADEFLOOD_VENUES__OKX__REST_URL", "http://127.0.0.1:2")
    with venues_here("okx", speed=Fraction(2)) as served:
        assert os.environ["TRADEFLOOD_VENUES__OKX__REST_URL"] == served["okx"][0]
        assert served.clock.speed == 2
    assert os.environ["TRADEFLOOD_VENUES__OKX__REST_URL"] == "http://127.0.0.1:2"
    assert "TRADEFLOOD_VENUES__OKX__FEED_URL" not in os.environ
