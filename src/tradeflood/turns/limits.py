"""A venue's limits and addresses, declared; every figure is a setting of the venue's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from attrs import field, frozen

from tradeflood.models.time import SECOND


@frozen
class Budget:
    """So much weight per window of time, counted by the venue for the whole address, key or venue."""

    name: str
    limit: int
    per: int
    scope: Literal["ip", "key", "venue"] = "ip"


@frozen
class Rest:
    """Where requests go and what limits them, unless a turn names its own budget.

    `settle` is how long after a moment the venue may still revise what it says of it, in ns.
    """

    url: str
    budget: Budget
    headers: tuple[tuple[str, str], ...] = ()
    settle: int = 5 * SECOND


@frozen
class Heartbeat:
    """How both sides know that a connection lives.

    `send` is what the client says every so many ns so as not to be cut off; None where a ping of the protocol itself
    does, which is sent when nothing was heard for as long. A connection on which nothing at all is heard `within` so
    many ns of a ping is dead.
    """

    every: int = 20 * SECOND
    send: str | None = None
    within: int = 30 * SECOND


Per: TypeAlias = tuple[int, int]
"""So many per so many ns."""


def windows(value: Per | Sequence[Per]) -> tuple[Per, ...]:
    """One window or several, as several.

    Raises ValueError for what is neither.
    """
    parts = (value,) if len(value) == 2 and all(isinstance(part, int) for part in value) else tuple(value)
    for part in parts:
        if not isinstance(part, tuple | list) or len(part) != 2:
            raise ValueError(f"write (how many, in how many ns), not {part!r}")
    return tuple((part[0], part[1]) for part in parts)  # type: ignore[index]


@frozen
class Feed:
    """A venue's live endpoint and its limits. Where several windows hold at once, write a tuple of them.

    `streams` per connection; `messages` is how many may be sent per window, of whatever kind, and `pongs` how many of
    these are left to the pongs of the protocol itself, where the venue counts them; `subscriptions` how many may
    subscribe or take back; `attempts` how many connections may be opened per window and address,
    `connections` how many may be open at once; `topics_per_message` and `bytes_per_message` bound one subscription
    message; `lifetime` is when the venue closes a connection, in ns; `others` are further addresses of the same feed,
    tried in turn when one is mute; `refuses` says that it tells when it does not know a topic: where it does not, the
    venue's list is asked first.
    """

    url: str
    path: str = ""
    streams: int = 100
    messages: tuple[Per, ...] = field(default=(5, SECOND), converter=windows)
    attempts: tuple[Per, ...] = field(default=(100, 60 * SECOND), converter=windows)
    pongs: int = 0
    topics_per_message: int = 100
    bytes_per_message: int = 4096
    lifetime: int | None = None
    heartbeat: Heartbeat | None = None
    headers: tuple[tuple[str, str], ...] = field(default=())
    subscriptions: tuple[Per, ...] = field(default=(), converter=windows)
    connections: int | None = None
    others: tuple[str, ...] = ()
    refuses: bool = True
