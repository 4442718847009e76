"""What a live conversation may say: the words of `Connector.hear`."""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Struct


class Rows(Struct, frozen=True, gc=False):
    """Data of a topic: decoded rows, or one `msgspec.Raw` that the topic's turn decodes. `sequence` is the venue's own count."""

    topic: str
    rows: Any
    sequence: int | None = None


class Acked(Struct, frozen=True, gc=False):
    """The venue took a subscription: these topics, or those of the message of this number."""

    topics: tuple[str, ...] = ()
    number: int | None = None


class Denied(Struct, frozen=True, gc=False):
    """The venue refused a subscription: these topics, or those of the message of this number."""

    why: str
    topics: tuple[str, ...] = ()
    number: int | None = None


class Answer(Struct, frozen=True, gc=False):
    """Write this now: a pong in the venue's own manner."""

    out: str | bytes


class Alive(Struct, frozen=True, gc=False):
    """A proof of life that carries no data."""


class Leaving(Struct, frozen=True, gc=False):
    """The venue will close this connection: replace it."""

    why: str = ""


class Frames(Struct, frozen=True):
    """What most frames of a feed are, so that they need no event: a typed struct that names its topic and holds one row.

    A frame that is not of this type is heard by `Connector.hear`.
    """

    type: Any
    topic: str
    row: str


Event: TypeAlias = Rows | Acked | Denied | Answer | Alive | Leaving
Out: TypeAlias = str | bytes
