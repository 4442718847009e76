"""Models: what a declaration says can be read from the class, and a wrong one is refused when it is made."""

from decimal import Decimal
from typing import Literal

import pytest
from attrs import define

from tradeflood.errors import DeclarationError, UsageError
from tradeflood.models import Candle, Column, Kind, Market, Model, Side, Ticker, Time, Trade, Variant


@define
class BaseSpread(Model, key=("venue", "market", "side", "open_time"), time="open_time", defaults={"side": "bid"}):
    """A third party's model."""

    venue: str
    market: str
    side: Literal["bid", "ask"]
    open_time: Time
    spread: Decimal
    note: str | None = None


def test_columns_follow_from_the_annotations():
    assert BaseSpread.columns() == (
        Column("venue", Kind.TEXT, optional=False),
        Column("market", Kind.TEXT, optional=False),
        Column("side", Kind.TEXT, optional=False, choices=("bid", "ask")),
        Column("open_time", Kind.TIME, optional=False),
        Column("spread", Kind.DECIMAL, optional=False),
        Column("note", Kind.TEXT, optional=True, has_default=True),
    )


def test_an_enum_is_a_text_with_choices():
    (column,) = [column for column in Trade.columns() if column.name == "aggressor"]
    assert column == Column("aggressor", Kind.TEXT, optional=True, choices=("buy", "sell"), enum=Side)


def test_variants_are_the_middle_of_the_key():
    assert BaseSpread.variants() == (Variant("side", ("bid", "ask"), "bid"),)
    assert Trade.variants() == (Variant("kind", ("raw", "merged"), "raw"),)
    assert [v.name for v in Candle.variants()] == ["interval", "origin"]
    assert Market.variants() == ()


def test_position_is_the_last_of_the_key():
    assert BaseSpread("v", "m", "bid", 7, Decimal(1)).position == 7


def test_models_are_found_by_name():
    assert Model.named("Trade") is Trade
    assert Model.named("basespread") is BaseSpread
    with pytest.raises(UsageError, match=r"no model 'spam'; there are .*candle"):
        Model.named("spam")


@pytest.mark.parametrize(
    ("model", "table"), [(Trade, "trades"), (Candle, "candles"), (Market, "markets"), (Ticker, "tickers")]
)
def test_tables_have_their_fixed_names(model, table):
    assert model.table == table


def test_a_model_without_a_key_is_refused():
    with pytest.raises(DeclarationError, match="states no key"):
        type("Keyless", (Model,), {})


def test_a_key_that_names_no_venue_is_refused():
    with pytest.raises(DeclarationError, match="must begin with venue and market"):

        class Unplaced(Model, key=("market", "at")): ...


def test_a_name_is_taken_once():
    with pytest.raises(DeclarationError, match=r"model 'trade' is tradeflood\.models\.trade\.Trade already"):
        type("Trade", (Model,), {}, key=("venue", "market"))


def test_a_key_of_fields_that_are_missing_is_refused():
    @define
    class BaseLacking(Model, key=("venue", "market", "at")):
        venue: str
        market: str

    try:
        with pytest.raises(DeclarationError, match="its key names at, which it lacks"):
            BaseLacking.columns()
    finally:
        del Model.models["baselacking"]


def test_a_field_without_a_column_is_refused():
    @define
    class BaseBinary(Model, key=("venue", "market")):
        venue: str
        market: str
        price: float

    try:
        with pytest.raises(DeclarationError, match=r"BaseBinary\.price: no column for <class 'float'>"):
            BaseBinary.columns()
    finally:
        del Model.models["basebinary"]
