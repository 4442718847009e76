"""What the venue says, and the models that it becomes."""

from decimal import Decimal

import pytest
from tradeflood_example.venue import Example, ExampleCandles, ExampleMarkets, ExampleTrades

import tradeflood as tf
from tradeflood.models.time import MS, SECOND, parse_time
from tradeflood.turns import registry

VENUE = Example()
AT = parse_time("2024-01-01")


def rows(bound, text):
    """The decoded rows of an answer."""
    return bound.decode(b'{"data": ' + text.encode() + b"}")


def test_it_is_loaded(loaded):
    assert (loaded.error, loaded.hooks) == (None, ["tradeflood_modules"])
    assert registry.connectors["example"] is Example


def test_a_market():
    text = '[{"symbol": "BTC_USDT", "base": "BTC", "quote": "USDT", "state": "open", "tick": "0.01", "lot": "0.00001"}]'
    assert ExampleMarkets.pack.pure(rows(VENUE.markets, text)) == [
        tf.Market(
            "example",
            "BTC/USDT",
            "BTC_USDT",
            "BTC",
            "USDT",
            status="trading",
            price_increment=Decimal("0.01"),
            size_increment=Decimal("0.00001"),
        )
    ]


def test_trades():
    text = '[{"id": 7, "price": "60000.10", "size": "0.5", "taker": "sell", "time": 1704067200123, "more": 1}]'
    assert ExampleTrades.pack.pure(rows(VENUE.trades, text), "BTC/USDT") == [
        tf.Trade("example", "BTC/USDT", "raw", "7", Decimal("60000.10"), Decimal("0.5"), tf.Side.SELL, AT + 123 * MS)
    ]


def test_candles_say_nothing_of_closed():
    text = '[{"opens": 1704067200, "open": "1", "high": "4", "low": "0.5", "close": "2", "volume": "10", "value": "15.5", "count": 3}]'
    assert ExampleCandles.pack.pure(rows(VENUE.candles, text), "BTC/USDT", "1m") == [
        tf.Candle(
            "example", "BTC/USDT", "1m", "venue", AT, *map(Decimal, ("1", "4", "0.5", "2", "10", "15.5")), trades=3
        )
    ]


def test_an_empty_page_yields_nothing():
    assert ExampleTrades.pack.pure(rows(VENUE.trades, "[]"), "BTC/USDT") == []


def test_a_changed_payload_names_the_place():
    with pytest.raises(tf.PayloadChanged) as caught:
        rows(VENUE.trades, '[{"id": 7, "price": "1", "size": "dear", "taker": "buy", "time": 1}]')
    assert caught.value.path == "$.data[0].size"


def test_pages_are_requests():
    page = tf.Page(AT, AT + 60 * SECOND)
    assert VENUE.candles.request(page, ("BTC_USDT", "1m")) == tf.Request(
        "/v1/candles",
        (("end", 1704067260), ("interval", "1m"), ("limit", 500), ("market", "BTC_USDT"), ("start", 1704067200)),
    )
    assert VENUE.trades.request(tf.Page(1, 501), ("BTC_USDT",)) == tf.get(
        "/v1/trades", market="BTC_USDT", from_id=1, limit=500
    )


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("slow_down", tf.RateLimited),
        ("no_market", tf.UnknownMarket),
        ("down", tf.Unavailable),
        ("no_interval", tf.Refused),
    ],
)
def test_an_error_is_an_error_with_http_200_too(code, error):
    body = f'{{"error": {{"code": "{code}", "message": "so it is"}}}}'.encode()
    with pytest.raises(error, match="example: so it is"):
        VENUE.judge(tf.Reply(200, body))


@pytest.mark.parametrize(("body", "status"), [(b"", 200), (b"<html>", 200), (b'{"error": 1}', 500)])
def test_what_is_no_answer_is_no_answer(body, status):
    with pytest.raises(tf.Unavailable):
        VENUE.judge(tf.Reply(status, body))


def test_the_conversation():
    (said,) = VENUE.say("subscribe", ["trades.BTC_USDT"], 3)
    assert said == '{"do":"subscribe","topics":["trades.BTC_USDT"],"n":3}'
    assert list(VENUE.hear(b'{"n": 3, "ok": true}')) == [tf.Acked(number=3)]
    assert list(VENUE.hear(b'{"n": 3, "ok": false, "why": "no topic"}')) == [tf.Denied("no topic", number=3)]
    assert list(VENUE.hear(b'{"beat": 1704067200123}')) == [tf.Alive()]
    (event,) = VENUE.hear(
        b'{"topic": "trades.BTC_USDT", "data": [{"id": 7, "price": "1", "size": "2", "taker": "buy", "time": 5}]}'
    )
    assert (event.topic, VENUE.live_trades.decode(bytes(event.rows)).id) == (VENUE.live_trades.topic(("BTC_USDT",)), 7)
