"""What a live conversation may say: the words of `Connector.hear`."""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Struct


class Rows(Struct, frozen=True, gc=False):
    """Data of a topic: decoded rows, or one `msgspec.Raw` that the topic's turn decodes.

    `sequence` is the venue's own count of the topic's messages, each one more than the last of the same `epoch`; where
    messages do not name the epoch it is that of the acknowledgement. Data that come with an answer and name no topic
    are those of the message of this `number`.
    """

    topic: str
    rows: Any
    sequence: int | None = None
    epoch: str | None = None
    number: int | None = None


class Acked(Struct, frozen=True, gc=False):
    """The venue took a subscription: these topics, or those of the message of this number; in which epoch, where it counts."""

    topics: tuple[str, ...] = ()
    number: int | None = None
    epoch: str | None = None


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
