"""The seam to the network: one method, request in, reply out. Limits, recording and proxies are wrappers of that shape."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from tradeflood.turns import BoundTurn, Budget, Reply, Request

Kind: TypeAlias = Literal["rest", "paged", "poll", "feed"]
"""The types of turn for which a proxy scheme may choose another exit."""


class Rank(IntEnum):
    """Who goes first where a budget is short: each leaves a part of it to those above."""

    COMMON = 0
    """Polls, lists, and what people ask for."""
    PATIENT = 1
    """Refills that can wait for longer than the budget's window, where others cannot."""
    FIRST = 2
    """All other refills."""


class Exit(Struct, frozen=True, gc=False):
    """An address from which requests leave: direct where there is no proxy URL."""

    proxy: str | None = None

    def __str__(self) -> str:
        return self.proxy or "direct"


DIRECT = Exit()


class Call(Struct, frozen=True, gc=False):
    """One request with all that the transport must know of it."""

    venue: str
    url: str
    request: Request
    kind: Kind
    budget: Budget
    weight: int
    headers: tuple[tuple[str, str], ...] = ()
    exit: Exit = DIRECT
    rank: Rank = Rank.COMMON


class Transport(Protocol):
    """Request in, reply out. Raises TransportError where no answer came."""

    async def send(self, call: Call) -> Reply:
        """The venue's answer, whatever it says."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...


def call_of(bound: BoundTurn[..., object], request: Request, kind: Kind, leave: Exit, rank: Rank = Rank.COMMON) -> Call:
    """The call that a turn's request is."""
    rest = bound.connector.rest
    weight = bound.spec.weight if request.weight is None else request.weight
    return Call(bound.connector.venue, rest.url, request, kind, bound.budget, weight, rest.headers, leave, rank)
