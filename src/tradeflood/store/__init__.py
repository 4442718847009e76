"""Where rows and claims rest. A URL names the store; its scheme finds the part behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tradeflood.errors import StoreError, TradeFloodError, UsageError
from tradeflood.store.base import Store, Summary


def _memory(url: str) -> Store:
    from tradeflood.store.memory import MemoryStore

    return MemoryStore(url)


def _chdb(url: str) -> Store:
    from tradeflood.store.chdb import ChdbStore

    return ChdbStore(url)


SCHEMES: dict[str, Callable[[str], Store]] = {"memory": _memory, "chdb": _chdb}
"""Scheme → what opens a store from its URL. A plug-in adds its own; the last one wins."""


def open_store(url: str) -> Store:
    """The store of a URL such as `chdb://./tradeflood-data` or `memory://`.

    Its tables are made and brought up to date when first used, or all at once by `migrate()`.

    Raises UsageError for a URL that names none, StoreError where it cannot be opened.
    """
    scheme, found, _ = url.partition("://")
    if not found or scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in sorted(SCHEMES))
        raise UsageError(f"no store {url!r}: there are {known}")
    try:
        store = SCHEMES[scheme](url)
    except TradeFloodError:
        raise
    except Exception as error:  # somebody else's code
        raise StoreError(f"store {url}: what opens {scheme}:// failed: {error!r}") from error
    if not isinstance(store, Store):
        raise StoreError(f"store {url}: what opens {scheme}:// gave {store!r}, which is no tradeflood.store.Store")
    return store


def open_existing(url: str) -> Store:
    """The store of a URL, brought up to date; for those who only read, so none is made.

    Raises UsageError where there is no such store yet.
    """
    need_existing(url)
    store = open_store(url)
    store.migrate()
    return store


def need_existing(url: str) -> None:
    """Nothing, where there may be a store of this URL already; a folder of something else is none, and is left as it is.

    Raises UsageError where there is none.
    """
    scheme, _, path = url.partition("://")
    folder = Path(path).expanduser()
    if scheme == "chdb" and not any((folder / name).exists() for name in ("tradeflood.lock", "metadata")):
        raise UsageError(f"there is no store {url}; collect something first, or name another with TRADEFLOOD_STORE")


__all__ = ["SCHEMES", "Store", "Summary", "need_existing", "open_existing", "open_store"]
