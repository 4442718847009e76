"""Whether a silent subscription is quiet or mute. Pure: the clock is an argument.

Silence is suspicious once it has lasted longer than min(60 s, max(3 s, 20 mean gaps)); it is quiet only when an
independent witness agrees, and suspicious again after as long a silence. A subscription that has never delivered
anything counts from its beginning.
"""

from __future__ import annotations

from tradeflood.models.time import SECOND

LEAST = 3 * SECOND
MOST = 60 * SECOND
GAPS = 20
_SMOOTH = 16  # of how many gaps the mean is, roughly


class Freshness:
    """The silence of one subscription."""

    __slots__ = ("_gap", "_heard", "_since", "_trusted", "began", "fresh_since", "is_quiet", "silent_since")

    def __init__(self, now: int, gap: int | None = None) -> None:
        self._since, self._gap = now, gap
        self._heard: int | None = None
        self._trusted = False
        self.began = self.fresh_since = now
        self.silent_since = now
        """Since when nothing was heard, nor anything done about it: what traded later contradicts the silence."""
        self.is_quiet = False
        """Whether the last that is known is what a witness said: nothing happened."""

    @property
    def heard_at(self) -> int | None:
        """When something was last heard."""
        return self._heard

    @property
    def doubtful_since(self) -> int:
        """Since when nobody vouches for the silence: later than it began where a witness said that nothing happened."""
        return self._since

    @property
    def until(self) -> int:
        """The moment up to which the present silence is believed."""
        return self._since + self.patience

    def heard(self, now: int, rows: int) -> None:
        """So many rows came."""
        if self._heard is None:
            self.fresh_since = now
        else:
            gap = max(0, now - self._heard) // rows
            if gap > LEAST and now - self._since > self.patience:
                self.fresh_since = now
            self._gap = gap if self._gap is None else self._gap + (gap - self._gap) * min(rows, _SMOOTH) // _SMOOTH
        self._heard = self._since = self.silent_since = now
        self._trusted = True
        self.is_quiet = False

    def quiet(self, now: int) -> None:
        """A witness says that nothing happened up to now."""
        self._since = max(self._since, now)
        self._trusted = self.is_quiet = True

    def paused(self, now: int) -> None:
        """Nothing was read up to now, by our own will: that silence says nothing."""
        self._since = max(self._since, now)
        self.silent_since = max(self.silent_since, now)

    def mute(self, now: int) -> None:
        """A witness saw what did not come: nothing is fresh until something is heard; suspected again after as long."""
        self._since = max(self._since, now)
        self.silent_since = max(self.silent_since, now)
        self._trusted = self.is_quiet = False
        self.fresh_since = now

    def expect(self, gap: int) -> None:
        """What is known of the market's rate before anything was heard."""
        if self._gap is None:
            self._gap = gap

    @property
    def patience(self) -> int:
        """How long a silence may last before a witness is asked, in ns."""
        return MOST if self._gap is None else min(MOST, max(LEAST, GAPS * self._gap))

    def fresh(self, now: int) -> bool:
        """Whether something was heard, or a witness believed, a short while ago."""
        return self._trusted and not self.suspicious(now)

    def suspicious(self, now: int, since: int = 0) -> bool:
        """Whether the silence has lasted too long to be believed, also where it is listened to only since some moment."""
        return now - max(self._since, since) > self.patience
