"""A venue's limits and addresses, declared; every figure is a setting of the venue's configuration."""

from __future__ import annotations

from typing import Literal

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
    """What the client says so as not to be cut off: `send` every so many ns of silence; None: only watch."""

    every: int
    send: str | None = None
    within: int = 30 * SECOND


@frozen
class Feed:
    """A venue's live endpoint and its limits.

    `streams` per connection; `messages` is how many may be sent per window; `attempts` how many connections
    may be opened per window; `topics_per_message` and `bytes_per_message` bound one subscription message;
    `lifetime` is when the venue closes a connection, in ns.
    """

    url: str
    path: str = ""
    streams: int = 100
    messages: tuple[int, int] = (5, SECOND)
    attempts: tuple[int, int] = (100, 60 * SECOND)
    topics_per_message: int = 100
    bytes_per_message: int = 4096
    lifetime: int | None = None
    heartbeat: Heartbeat | None = None
    headers: tuple[tuple[str, str], ...] = field(default=())
