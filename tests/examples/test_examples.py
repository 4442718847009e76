"""Every script in examples/, run as a reader would; and what each of them promises."""

import os
import runpy
from datetime import UTC
from decimal import Decimal
from pathlib import Path

import pytest

import tradeflood as tf
from tradeflood import plugins
from tradeflood.models.time import parse_time
from tradeflood.replay.simulated import Simulated
from tradeflood.turns import registry

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
START = parse_time("2024-01-01")

pytestmark = pytest.mark.loopback


@pytest.fixture
def example(tmp_path, monkeypatch, capsys):
    """Runs a script in an empty folder; what it left in its names, and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(name):
        plugins.load()
        with registry.scope():
            names = runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        assert list(tmp_path.iterdir()) == []
        assert not any(name.startswith("TRADEFLOOD_VENUES") for name in os.environ)
        return names, capsys.readouterr().out

    return run


def test_every_example_is_tested_and_told_of():
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    told = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    here = Path(__file__).read_text(encoding="utf-8")
    assert {name for name in scripts if f"`{name}`" not in told or f'example("{name}")' not in here} == set()


def test_frames(example):
    """Prices are exact in polars and in pandas, times are ns in UTC."""
    pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    names, out = example("frames.py")
    candles, trades = names["candles"], names["trades"]
    expected = Simulated().at("binance").bars("BTC/USDT", "1h", now=START * 2, start=START, limit=48)
    assert [row.close for row in candles] == [bar.close for bar in expected]
    assert "held A  consecutive ids" in out

    for frame, time, number in ((candles, "open_time", "close"), (trades, "venue_time", "price")):
        exact = [getattr(row, number) for row in frame]
        times = [getattr(row, time) for row in frame]
        assert all(isinstance(value, Decimal) for value in exact)
        table = frame.to_polars()
        assert table[number].dtype == polars.Decimal(38, 18)
        assert table[number].to_list() == exact
        assert table[time].dtype == polars.Datetime("ns", "UTC")
        assert table[time].dt.epoch("ns").to_list() == times
        other = frame.to_pandas()
        assert all(isinstance(value, Decimal) for value in other[number])
        assert list(other[number]) == exact
        assert str(other[time].dtype) == "datetime64[ns, UTC]"
        assert [stamp.value for stamp in other[time]] == times
        assert other[time].iloc[0].tzinfo is not None
        assert frame.to_arrow().schema.field(time).type.tz == "UTC"
        assert other[time].iloc[0].to_pydatetime().astimezone(UTC).year == 2024


def test_notebook(example):
    """Inside a running loop `collect` does not mind, and gives what awaiting gives."""
    pytest.importorskip("pandas")
    names, out = example("notebook.py")
    assert out.splitlines()[-1] == "equal"
    assert len(names["candles"]) == len(names["again"]) == 24


def test_plan(example):
    """It is told before it is run, and what overlaps is merged."""
    names, out = example("plan.py")
    assert out.startswith("4 requests: 7 asked for, 3 merged, 0 held by the store already\n")
    one, two, many, markets = names["result"]
    assert (len(one), len(two), len(many), len(markets)) == (1440, 2160, 4 * 168, 4)
    assert not any(frame.failures for frame in names["result"])


def test_stream(example):
    """Trades of both venues, in numbers that two seconds can hold."""
    names, _ = example("stream.py")
    assert {trade.venue for trade in names["trades"]} == {"binance", "okx"}
    assert all(isinstance(trade, tf.Trade) and trade.received_at for trade in names["trades"])


def test_own_model(example):
    """It is made of candles, and held as they are."""
    pytest.importorskip("polars")
    names, out = example("own_model.py")
    bars = Simulated().at("binance").bars("ETH/USDT", "1h", now=START * 2, start=START, limit=24)
    assert [row.spread for row in names["spreads"]] == [bar.high - bar.low for bar in bars]
    assert "held A  made from other rows" in out


def test_record_and_replay(example):
    """What is replayed is what was recorded."""
    _, out = example("record_and_replay.py")
    assert out == "636 trades recorded, 636 replayed: the same\n"
