"""What is done about a subscription that a witness found mute, rung by rung; and what consumers are told of each. Pure.

resubscribe → reopen → each other address → poll; then, while it is polled, the feed is tried again, ever more rarely.
"""

from __future__ import annotations

from enum import StrEnum

from attrs import frozen

from tradeflood.live.freshness import Freshness
from tradeflood.models.time import MINUTE, SECOND

RETRY, RAREST = MINUTE, 16 * MINUTE
"""How often the feed of a polled subscription is opened anew: half as often each time, since others share its connection."""

SETTLED = 3 * SECOND
"""How long after a topic was subscribed what comes of it shows that it speaks: venues begin with old rows, and may end there."""


class Rung(StrEnum):
    """One thing that can be done about a mute subscription."""

    RESUBSCRIBE = "resubscribe"
    REOPEN = "reopen"
    ELSEWHERE = "elsewhere"
    POLL = "poll"


class Standing(StrEnum):
    """What a live dataset is to its consumers."""

    STARTING = "starting"
    """Nothing came yet, and not for so long that it would be strange."""
    FRESH = "fresh"
    """Rows come."""
    QUIET = "quiet"
    """Nothing comes, and an independent witness agrees that nothing happened."""
    SUSPICIOUS = "suspicious"
    """Nothing comes for longer than can be believed, or there is no connection."""
    MUTE = "mute"
    """A witness saw what the feed did not bring."""
    POLLED = "polled"
    """The venue is asked again and again: it has no feed of it, or the feed is mute."""
    CLOSED = "closed"
    """The market is dead: it is not subscribed, and looked at again now and then."""


@frozen
class Condition:
    """What a live dataset is, and since when in ns."""

    state: Standing
    since: int


class Escalation:
    """The ladder of one subscription. `others` is how many other addresses its feed has."""

    __slots__ = ("_last", "_retry", "_rungs", "_step", "mute_since", "polled_since")

    def __init__(self, others: int = 0) -> None:
        self._rungs = (Rung.RESUBSCRIBE, Rung.REOPEN, *[Rung.ELSEWHERE] * others, Rung.POLL)
        self._step = 0
        self._last, self._retry = 0, RETRY
        self.mute_since: int | None = None
        self.polled_since: int | None = None

    def contradicted(self, now: int, *, may_subscribe: bool = True) -> Rung | None:
        """What to do now that a witness saw what the feed did not bring; None where it was done just now.

        A connection that may not say anything for a while is reopened at once.
        """
        if self.mute_since is None:
            self.mute_since = now
        if self._step >= len(self._rungs):
            if now - self._last < self._retry:
                return None
            self._last, self._retry = now, min(2 * self._retry, RAREST)
            return Rung.ELSEWHERE if Rung.ELSEWHERE in self._rungs else Rung.REOPEN
        rung = self._rungs[self._step]
        if rung is Rung.RESUBSCRIBE and not may_subscribe:
            self._step += 1
            rung = self._rungs[self._step]
        self._step += 1
        self._last = now
        if rung is Rung.POLL:
            self.polled_since = now
        return rung

    def is_over(self, heard: int | None, subscribed: int) -> bool:
        """Whether what was last heard shows that it speaks, of a topic subscribed at a moment."""
        return heard is not None and heard > max(self._last, subscribed) + SETTLED

    def spoke(self) -> bool:
        """Whether it had been mute, now that it speaks again: the ladder begins at its foot."""
        was = self.mute_since is not None
        self._step, self._retry, self.mute_since, self.polled_since = 0, RETRY, None, None
        return was


def condition(
    freshness: Freshness,
    ladder: Escalation,
    now: int,
    *,
    subscribed: int = 0,
    lost: int | None = None,
    stood_in: int | None = None,
) -> Condition:
    """What a subscription is, that was said at a moment; `lost` is since when it has no connection, `stood_in` since when it is polled therefore."""
    polled = stood_in if ladder.polled_since is None else ladder.polled_since
    if polled is not None:
        return Condition(Standing.POLLED, polled)
    if ladder.mute_since is not None:
        return Condition(Standing.MUTE, ladder.mute_since)
    if freshness.suspicious(now, subscribed if freshness.heard_at is None else 0):
        return Condition(Standing.SUSPICIOUS, freshness.until)
    if lost is not None:
        return Condition(Standing.SUSPICIOUS, lost)
    if freshness.heard_at is not None and not freshness.is_quiet:
        return Condition(Standing.FRESH, freshness.fresh_since)
    silent = freshness.began if freshness.heard_at is None else freshness.heard_at
    return Condition(Standing.QUIET if freshness.is_quiet else Standing.STARTING, silent)
