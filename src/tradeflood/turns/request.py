"""What is asked of a venue and what comes back: values, no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

Param: TypeAlias = str | int
Identity: TypeAlias = tuple[str, str, str, tuple[tuple[str, Param], ...], bytes]


class Request(Struct, frozen=True, gc=False):
    """One request, as the venue sees it: path and parameters below the venue's base URL.

    Two requests are equal when the venue would answer the same, whoever asks. `weight` overrules the turn's.
    """

    path: str
    params: tuple[tuple[str, Param], ...] = ()
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    weight: int | None = None

    def weighing(self, weight: int) -> Request:
        """The same request at another cost."""
        return replace(self, weight=weight)

    def identity(self, venue: str) -> Identity:
        """What makes this request itself: venue, method, path, sorted parameters, body."""
        return (venue, self.method, self.path, self.params, self.body)


def get(path: str, /, **params: Param | None) -> Request:
    """A GET request; parameters that are None are left out, the order of the others does not matter."""
    if None in params.values():
        params = {name: value for name, value in params.items() if value is not None}
    return Request(path, tuple(sorted(params.items())))  # type: ignore[arg-type]


class Reply(Struct, frozen=True, gc=False):
    """A venue's answer: header names in lower case, `received_at` by our clock, stamped where the bytes were read."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    received_at: int = 0
