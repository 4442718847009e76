"""The Python on the pages that people copy from is run, block after block, against a simulated market."""

import ast
import asyncio
import inspect
import re
from pathlib import Path

import pytest

import tradeflood as tf
from tradeflood import plugins
from tradeflood.models import Model
from tradeflood.models.forms import arrow_schema
from tradeflood.models.time import parse_time
from tradeflood.testing.venues import venues_here
from tradeflood.turns import registry

DOCS = Path(__file__).resolve().parents[2] / "docs"

pytestmark = pytest.mark.loopback


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs every Python block of a page in one set of names, and returns them."""
    monkeypatch.chdir(tmp_path)
    plugins.load()

    def page(name):
        names = {"__name__": "page"}
        text = (DOCS / name).read_text(encoding="utf-8")
        for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE), 1):
            code = compile(block, f"{name}:{number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            waiting = eval(code, names)
            if inspect.iscoroutine(waiting):
                asyncio.run(waiting)
        return names

    with registry.scope(), venues_here("binance", "okx"):
        yield page


def test_data_frames(run):
    pytest.importorskip("polars")
    pytest.importorskip("pandas")
    names = run("learn/data-frames.md")
    assert len(names["candles"]) == 7 * 24
    assert len(names["trades"]) > 500
    assert len(names["frame"]) == 4 * 31


def test_add_a_model(run):
    pytest.importorskip("polars")
    names = run("do/add-a-model.md")
    spread = Model.named("spread")
    assert (spread, spread.table) == (names["Spread"], "spreads")
    assert [field.name for field in arrow_schema(spread)] == ["venue", "market", "interval", "open_time", "spread"]
    assert len(names["spreads"]) == 24
    assert "held A  made from other rows" in str(names["spreads"].coverage)


def test_add_a_venue(run):
    """The venue of the page makes the request that it shows, and a candle of its answer."""
    names = run("do/add-a-venue.md")
    start = parse_time("2024-01-01")
    plan = tf.plan(
        tf.Query(tf.Candle, "example:BTC/USDT", interval="1h", start="2024-01-01", end="2024-01-02"),
    )
    ((venue, method, path, params, _),) = plan.requests
    assert (venue, method, path) == ("example", "GET", "/klines")
    assert dict(params)["endTime"] == 1704067200000 + 86_400_000 - 1
    rows = names["Example"]().klines.decode(b'[[1704067200000,"1","2","0.5","1.5","10"]]')
    (candle,) = names["ExampleCandles"].pack.pure(rows, "BTC/USDT", "1h")
    assert (candle.open_time, candle.volume) == (start, 10)


def test_write_a_plugin(run):
    names = run("do/write-a-plugin.md")
    assert names["tradeflood_modules"]() == ["page.venue", "page.desk", "page.imbalance"]
    assert names["average_price"].on(names["Binance"]())("BTCUSDT").args == ("BTCUSDT",)
