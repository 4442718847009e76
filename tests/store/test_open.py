"""Stores are found by their scheme, and plug-ins add to the table."""

import subprocess
import sys

import pytest

from tradeflood.errors import UsageError
from tradeflood.store import SCHEMES, open_store
from tradeflood.store.memory import MemoryStore


@pytest.mark.parametrize("url", ["", "memory", "spam://x", "chdb:/x", "://", "Memory://"])
def test_an_unknown_scheme_is_refused_with_those_there_are(url):
    with pytest.raises(UsageError, match=r"no store .*: there are .*chdb://, .*memory://") as caught:
        open_store(url)
    assert "\n" not in str(caught.value)


def test_a_plug_in_adds_a_scheme(monkeypatch):
    monkeypatch.setitem(SCHEMES, "mine", lambda _: MemoryStore())
    assert isinstance(open_store("mine://anything"), MemoryStore)


def test_opening_a_memory_store_loads_no_engine():
    script = "import sys\nfrom tradeflood.store import open_store\nopen_store('memory://')\nprint({'chdb', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
