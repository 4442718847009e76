"""Proxy schemes: from which exit a type of turn leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Protocol

from tradeflood.errors import UsageError
from tradeflood.transport.base import DIRECT, Exit, Kind

KINDS: tuple[Kind, ...] = ("rest", "paged", "poll", "feed")


class ProxyScheme(Protocol):
    """Maps a kind of turn to an exit."""

    def exit(self, kind: Kind) -> Exit:
        """The exit for the next turn of this kind."""
        ...


class Direct:
    """Everything leaves from this machine."""

    def exit(self, kind: Kind) -> Exit:
        """No proxy."""
        del kind
        return DIRECT


class StaticPool:
    """A fixed list of HTTP and SOCKS5 exits per kind of turn, used in turn; kinds that are not named leave directly.

    Budgets that count per address are spent per exit, so a pool of three allows three times as much.
    """

    def __init__(self, pools: Mapping[str, Sequence[str]]) -> None:
        for kind, urls in pools.items():
            if kind not in KINDS:
                raise UsageError(f"proxies: no kind of turn {kind!r}; there are {', '.join(KINDS)}")
            for url in urls:
                if not url.startswith(("http://", "https://", "socks5://", "socks5h://")):
                    raise UsageError(f"proxies.{kind}: no exit {url!r}; write http://host:port or socks5://host:port")
        self._next = {kind: cycle([Exit(url) for url in urls]) for kind, urls in pools.items() if urls}

    def exit(self, kind: Kind) -> Exit:
        """The next exit of the kind's pool."""
        pool = self._next.get(kind)
        return next(pool) if pool else DIRECT
