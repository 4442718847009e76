"""The memory store: what is its own."""

import pytest

from tradeflood.errors import UsageError
from tradeflood.store import open_store


def test_every_one_is_its_own():
    assert open_store("memory://") is not open_store("memory://")


def test_it_has_no_name():
    with pytest.raises(UsageError, match="takes nothing behind it"):
        open_store("memory://mine")


def test_it_answers_no_sql():
    with pytest.raises(UsageError, match="store memory://: it answers no SQL"):
        open_store("memory://").query("SELECT 1")
