"""The forms of models: what goes into one comes out the same; what does not fit is refused by name."""

from decimal import Decimal

import pyarrow as pa
import pytest
from attrs import define, evolve
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.errors import StoreError, UsageError
from tradeflood.models import Candle, Market, Model, Side, Ticker, Time, Trade
from tradeflood.models.forms import (
    Tabled,
    arrow_schema,
    clickhouse_columns,
    decimal_text,
    from_arrow,
    from_json,
    plain,
    to_arrow,
    to_json,
)
from tradeflood.testing.strategies import decimals, rows


@define
class FormsSpread(Model, key=("venue", "market", "interval", "open_time"), time="open_time"):
    """A third party's model, with every kind of column, empty or not."""

    venue: str
    market: str
    interval: str
    open_time: Time
    spread: Decimal
    count: int
    final: bool
    note: str | None = None
    level: int | None = None
    widest: Decimal | None = None
    seen_at: Time | None = None
    checked: bool | None = None
    aggressor: Side | None = None


MODELS = [Trade, Candle, Market, Ticker, FormsSpread]
TRADE = Trade("binance", "BTC/USDT", "raw", "7", Decimal("1.50"), Decimal(2), Side.BUY, 1_700_000_000_123_456_789)


@pytest.mark.parametrize("model", MODELS)
@given(data=st.data())
def test_json_and_back_is_the_same(model, data):
    row = data.draw(rows(model))
    assert from_json(model, to_json(row)) == row


@pytest.mark.parametrize("model", MODELS)
@given(data=st.data())
def test_arrow_and_back_is_the_same(model, data):
    some = data.draw(st.lists(rows(model), max_size=5))
    table = to_arrow(model, some)
    assert table.schema == arrow_schema(model)
    assert from_arrow(model, table) == some


@pytest.mark.parametrize("model", MODELS)
def test_clickhouse_has_a_type_for_every_column(model):
    assert list(clickhouse_columns(model)) == [column.name for column in model.columns()]


def test_the_forms_of_a_trade_written_out():
    assert to_json(TRADE) == {
        "venue": "binance", "market": "BTC/USDT", "kind": "raw", "trade_id": "7", "price": "1.50", "size": "2",
        "aggressor": "buy", "venue_time": "2023-11-14T22:13:20.123456789Z", "received_at": None, "first_id": None,
        "last_id": None, "count": None,
    }  # fmt: skip
    assert clickhouse_columns(Trade) == {
        "venue": "LowCardinality(String)",
        "market": "LowCardinality(String)",
        "kind": "LowCardinality(String)",
        "trade_id": "String",
        "price": "Decimal(38, 18)",
        "size": "Decimal(38, 18)",
        "aggressor": "LowCardinality(Nullable(String))",
        "venue_time": "DateTime64(9, 'UTC')",
        "received_at": "Nullable(DateTime64(9, 'UTC'))",
        "first_id": "Nullable(String)",
        "last_id": "Nullable(String)",
        "count": "Nullable(Int64)",
    }


@given(decimals())
def test_plain_is_the_same_number_without_zeros_and_powers(value):
    text = str(plain(value))
    assert Decimal(text) == value
    assert not ("." in text and text.endswith("0"))
    assert "E" not in decimal_text(plain(value))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("price", Decimal("1E-19")),
        ("price", Decimal(10) ** 20),
        ("price", Decimal("NaN")),
        ("price", Decimal("-Infinity")),
        ("price", 1.5),
        ("size", None),
        ("venue_time", 1 << 63),
        ("trade_id", "\ud800"),
    ],
)
def test_what_does_not_fit_arrow_is_refused_by_name(field, value):
    with pytest.raises(StoreError, match=rf"trade binance:BTC/USDT:.*: {field} = .* does not fit") as caught:
        to_arrow(Trade, [TRADE, evolve(TRADE, **{field: value})])
    assert "\n" not in str(caught.value)


def test_a_table_that_is_made_early_is_not_made_again():
    early = Tabled(Trade, [TRADE, evolve(TRADE, trade_id="8")])
    assert [row.trade_id for row in early] == ["7", "8"]
    assert to_arrow(Trade, early) is early.table
    assert from_arrow(Trade, early.table) == [*early]
    with pytest.raises(StoreError, match="price = .* does not fit"):
        Tabled(Trade, [TRADE, evolve(TRADE, price=Decimal("1E-19"))])


def test_the_last_digit_of_38_is_kept():
    most = Decimal("99999999999999999999.999999999999999999")
    (back,) = from_arrow(Trade, to_arrow(Trade, [evolve(TRADE, price=most, size=most.copy_negate())]))
    assert (back.price, back.size) == (most, most.copy_negate())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"price": 1.5}, "trade.price: no decimal: 1.5"),
        ({"price": "NaN"}, "trade.price: no decimal: 'NaN'"),
        ({"price": True}, "trade.price: no decimal: True"),
        ({"price": None}, "trade.price: must not be empty"),
        ({"kind": "fused"}, "trade.kind: no text: 'fused'"),
        ({"aggressor": "BUY"}, "trade.aggressor: no text: 'BUY'"),
        ({"count": "3"}, "trade.count: no integer: '3'"),
        ({"venue_time": "soon"}, "trade.venue_time: no time: 'soon'"),
        ({"fee": "1"}, "trade: no field 'fee'; there are venue, "),
    ],
)
def test_json_that_is_no_row_is_refused_by_name(change, message):
    with pytest.raises(UsageError) as caught:
        from_json(Trade, to_json(TRADE) | change)
    assert message in str(caught.value)


def test_json_without_a_required_field_is_refused_by_name():
    values = to_json(TRADE)
    del values["size"]
    with pytest.raises(UsageError, match="trade: the field 'size' is missing"):
        from_json(Trade, values)


def test_json_may_leave_out_what_has_a_default():
    values = {name: value for name, value in to_json(TRADE).items() if value is not None}
    assert from_json(Trade, values) == TRADE


def test_arrow_types_are_exact():
    schema = arrow_schema(Candle)
    assert schema.field("open").type == pa.decimal128(38, 18)
    assert schema.field("open_time").type == pa.timestamp("ns", tz="UTC")
    assert not schema.field("open").nullable
    assert schema.field("quote_volume").nullable
