"""Every error that TradeFlood raises, sorted by what to do next.

TradeFloodError
├── UsageError            the query, an option or the configuration is wrong: correct it (exit code 2)
├── DeclarationError      a connector, binding or model is declared wrongly: correct the code, nothing was asked
├── VenueError            the venue answered, and the answer is no use
│   ├── Refused           it says no to this request: do not repeat it
│   │   └── UnknownMarket the venue knows no such market: also a UsageError
│   ├── RateLimited       it says not now: wait until `until`, then repeat
│   ├── Unavailable       it is down, or something in front of it is: repeat later
│   └── PayloadChanged    the answer has another shape than declared, at `path`: the connector needs a look
├── TransportError        no answer came: repeat
├── SequenceGap           the venue's counter jumped, local state is void: start again from a snapshot
├── StoreError            the store cannot be read or written
└── Incomplete            `strict` was asked for and the answer does not live up to it (exit code 3)
"""

from __future__ import annotations

from typing import Any


class TradeFloodError(Exception):
    """The root. `remedy` says what to do next; `request` is what was asked, where something was."""

    remedy = "read the message"

    def __init__(self, message: str, *, request: Any = None) -> None:
        super().__init__(message)
        self.request = request


class UsageError(TradeFloodError):
    """The caller's mistake: an unknown name, an impossible range, a malformed configuration."""

    remedy = "correct the query, option or configuration"


class DeclarationError(TradeFloodError):
    """A mistake in a connector, binding or model, found before any request is made."""

    remedy = "correct the declaration"


class VenueError(TradeFloodError):
    """The venue answered, and the answer cannot be used."""

    remedy = "look at the venue's answer"


class Refused(VenueError):
    """The venue says no to this very request."""

    remedy = "do not repeat the request; correct it"


class UnknownMarket(Refused, UsageError):
    """The venue knows no such market."""

    remedy = "list the venue's markets with: tradeflood markets VENUE"


class RateLimited(VenueError):
    """The venue says not now. `until` is the moment in ns from which it may be asked again, None where it does not say.

    It is `banned` where that holds for everything from this address, not just for the budget of what was asked.
    """

    remedy = "wait, then repeat"

    def __init__(self, message: str, *, until: int | None = None, banned: bool = False, request: Any = None) -> None:
        super().__init__(message, request=request)
        self.until, self.banned = until, banned


class Unavailable(VenueError):
    """The venue, or a gateway in front of it, cannot answer now; an error page counts as this, never as empty."""

    remedy = "repeat later"


class PayloadChanged(VenueError):
    """The answer does not have the declared shape. `path` names the place, as in `$[3].p`."""

    remedy = "compare the venue's documentation with the connector; the raw answer is in `body`"

    def __init__(self, message: str, *, path: str = "$", body: bytes = b"", request: Any = None) -> None:
        super().__init__(message, request=request)
        self.path = path
        self.body = body


class TransportError(TradeFloodError):
    """No answer came: no connection, a timeout, a cut."""

    remedy = "repeat; check the network and the venue's URL"


class SequenceGap(TradeFloodError):
    """The venue's own counter jumped, so the state built from it is void."""

    remedy = "start again from a snapshot"


class StoreError(TradeFloodError):
    """The store cannot be opened, read or written."""

    remedy = "check the store's URL, its permissions, and who else holds it"


class Incomplete(TradeFloodError):
    """`strict` was asked for, and part of the range is not held, or on weaker evidence."""

    remedy = "look at the coverage; ask without strict to get what there is"
