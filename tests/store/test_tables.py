"""The SQL of the tables: what it says for models of every shape."""

import pytest

from tradeflood.models import Candle, Market, Model, Trade
from tradeflood.store import tables


def test_the_table_of_trades_written_out():
    assert tables.create(tables.layout_of(Trade)) == (
        "CREATE TABLE IF NOT EXISTS `trades_rows` ("
        "`venue` LowCardinality(String), `market` LowCardinality(String), `kind` LowCardinality(String), "
        "`trade_id` String, `price` Decimal(38, 18), `size` Decimal(38, 18), "
        "`aggressor` LowCardinality(Nullable(String)), `venue_time` DateTime64(9, 'UTC'), "
        "`received_at` Nullable(DateTime64(9, 'UTC')), `first_id` Nullable(String), `last_id` Nullable(String), "
        "`count` Nullable(Int64), "
        "`seq` UInt64 MATERIALIZED if(match(`trade_id`, '^[0-9]{1,19}$'), toUInt64OrZero(`trade_id`), 0), "
        "`stored_at` DateTime64(9, 'UTC'), `version` UInt64, "
        "INDEX `venue_time_range` `venue_time` TYPE minmax GRANULARITY 1) "
        "ENGINE = ReplacingMergeTree(`version`) PARTITION BY venue "
        "ORDER BY (`venue`, `market`, `kind`, `seq`, `trade_id`) "
        "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 120"
    )


@pytest.mark.parametrize("name", ["trade", "candle", "market", "ticker", "storespread", "storefunding"])
def test_the_partition_depends_on_the_key_alone(name):
    model = Model.named(name)
    assert tables.layout_of(model).partition_by in model.key


@pytest.mark.parametrize(
    ("model", "order_by"),
    [
        (Candle, ("venue", "market", "interval", "origin", "open_time")),
        (Market, ("venue", "market")),
        (Trade, ("venue", "market", "kind", "seq", "trade_id")),
    ],
)
def test_rows_are_sorted_by_their_key(model, order_by):
    assert tables.layout_of(model).order_by == order_by


def test_columns_of_the_store_make_way_for_those_of_the_model(spread):
    layout = tables.layout_of(spread)
    assert (layout.stored_at, layout.version) == ("stored_at_", "version_")
    assert layout.number is None


def test_names_and_texts_are_quoted():
    assert tables.name("a`b\\c") == "`a\\`b\\\\c`"
    assert tables.text("it's \\") == "'it\\'s \\\\'"
    assert tables.bound("a\tb\nc\\N") == "a\\tb\\nc\\\\N"
