"""A fresh store of each scheme that needs no server, and models that a third party might have."""

from decimal import Decimal

import pytest
from attrs import define

from tradeflood.models import Model, Side, Time
from tradeflood.store import open_store


@define
class StoreSpread(Model, key=("venue", "market", "interval", "open_time"), time="open_time"):
    """A third party's model with every kind of column, and columns called like the store's own."""

    venue: str
    market: str
    interval: str
    open_time: Time
    spread: Decimal
    seq: int
    version: bool
    stored_at: Time
    note: str | None = None
    widest: Decimal | None = None
    checked: bool | None = None
    aggressor: Side | None = None


@define
class StoreFunding(Model, key=("venue", "market", "number"), time="at", table="funding `rates`"):
    """Another one: its position is a number, its time is not in the key, its table has an awkward name."""

    venue: str
    market: str
    number: int
    at: Time
    rate: Decimal


@pytest.fixture
def spread():
    return StoreSpread


@pytest.fixture
def funding():
    return StoreFunding


@pytest.fixture
def url(tmp_path):
    return f"chdb://{tmp_path}/data"


@pytest.fixture(params=["memory", "chdb"])
def store(request, url):
    if request.param == "chdb":
        pytest.importorskip("chdb", reason="the extra `embedded` is not installed")
        pytest.importorskip("pyarrow", reason="the extra `embedded` is not installed")
    with open_store(url if request.param == "chdb" else "memory://") as opened:
        yield opened


@pytest.fixture
def chdb(url):
    pytest.importorskip("chdb", reason="the extra `embedded` is not installed")
    with open_store(url) as opened:
        yield opened
