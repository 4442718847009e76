"""Two turns that make the same request: the venue is asked once, each reads the answer in its own way.

candle ─▶ klines ────────┐
                         ├─▶ /api/v3/klines
volume ─▶ own_klines ────┘
"""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from attrs import define
from msgspec import Struct

import tradeflood as tf
from tradeflood import plugins
from tradeflood.connectors.binance import Binance
from tradeflood.models.time import MS
from tradeflood.turns import registry

OPTIONS = {"interval": "1m", "start": "2024-01-01", "end": "2024-01-03"}


@pytest.fixture
def volume():
    """A model whose rows are read from a column of Binance's candles, as `kind` is declared."""
    plugins.load()

    def make(kind):
        class Own(Struct, array_like=True):
            open_time: int
            open: str
            high: str
            low: str
            close: str
            volume: kind

        @tf.turn(list[Own], pages=tf.Windows(1000, per="interval", at=lambda row: row.open_time * MS), weight=2)
        def klines(venue: Binance, page: tf.Page, symbol: str, interval: str) -> tf.Request:
            return Binance.klines.build(venue, page, symbol, interval)

        @define
        class Volume(tf.Model, key=("venue", "market", "interval", "at"), time="at"):
            venue: str
            market: str
            interval: str
            at: tf.Time
            volume: Decimal

        class BinanceVolume(tf.Binding[Volume], connector=Binance):
            def __call__(self, venue, ask):
                return self.pack(klines.on(venue)(ask.symbol, ask.interval).over(ask.spans), ask.market, ask.interval)

            @tf.turn_execution
            def pack(self, rows: list[Own], market, interval) -> Iterator[Volume]:
                for row in rows:
                    yield Volume("binance", market, interval, row.open_time * MS, Decimal(row.volume))

        return Volume

    with registry.scope():
        yield make


@pytest.mark.parametrize("first", ["candle", "volume"])
def test_one_request_two_readings(go, answers, volume, first):
    """Whoever comes first, both get all of their rows out of three pages."""
    queries = [tf.Query(model, "binance:A0/USDT", **OPTIONS) for model in (tf.Candle, volume(Decimal))]
    run = go(*(queries if first == "candle" else queries[::-1]))
    assert answers.count == {"/api/v3/klines": 3}
    candles, volumes = (run.frame(query) for query in queries)
    assert candles.failures == volumes.failures == ()
    assert [(row.open_time, row.volume) for row in candles] == [(row.at, row.volume) for row in volumes]
    assert len(volumes) == 2 * 1440


@pytest.mark.parametrize("first", ["candle", "volume"])
def test_a_shape_that_is_wrong_fails_its_own_query(go, answers, volume, first):
    """The other one is not drawn into it."""
    queries = [tf.Query(model, "binance:A0/USDT", **OPTIONS) for model in (tf.Candle, volume(int))]
    run = go(*(queries if first == "candle" else queries[::-1]))
    candles, volumes = (run.frame(query) for query in queries)
    assert (len(candles), candles.failures) == (2 * 1440, ())
    assert len(volumes) == 0
    assert {type(failure.error) for failure in volumes.failures} == {tf.PayloadChanged}
    assert volumes.failures[0].error.path == "$[0][5]"


def test_the_turn_of_a_connector_is_made_once():
    """So that equal wants are equal."""

    @tf.turn(list[int])
    def klines(venue: Binance) -> tf.Request:
        return tf.get("/own")

    venue = Binance()
    assert klines.on(venue) is klines.on(venue)
    assert klines.on(venue) is not klines.on(Binance())
    assert venue.klines.spec.name == "klines"
    assert venue.klines is not klines.on(venue)
