"""A network without wires: a transport that is answered by a function, or by a venue's own desk."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlencode, urlsplit

import msgspec

from tradeflood.errors import TransportError
from tradeflood.models.time import SECOND
from tradeflood.replay.desk import Fate, HttpAnswer, HttpRequest
from tradeflood.testing.clock import FakeClock
from tradeflood.transport import Call, Clock
from tradeflood.turns import Reply

Told: TypeAlias = Reply | bytes | str | Exception | list[Any] | dict[str, Any]
"""What a function may answer: a whole reply, a body, values to be written as JSON, or an error to be raised."""

Answer: TypeAlias = Callable[[Call], Told | Awaitable[Told]]


class Answering(Protocol):
    """A desk, or faults in front of one."""

    def answer(self, request: HttpRequest, now: int) -> HttpAnswer:
        """The answer to a request."""
        ...


class FakeTransport:
    """A transport whose answers come from a function of the call; nothing leaves the process.

    >>> transport = FakeTransport(lambda call: [])
    >>> flood = Flood({}, transport=transport, clock=transport.clock)

    `calls` is the log, `count` how often each path was asked, `asked` path and parameters as one text each.
    Replies that do not say otherwise are HTTP 200 and carry the clock's time, as venues' do.
    """

    def __init__(self, answer: Answer, clock: Clock | None = None) -> None:
        self.answer = answer
        self.clock: Clock = FakeClock() if clock is None else clock
        self.calls: list[Call] = []
        self.closed = False

    @property
    def count(self) -> Counter[str]:
        """Requests per path."""
        return Counter(call.request.path for call in self.calls)

    @property
    def asked(self) -> list[str]:
        """Every request in order, as `/path?name=value`."""
        return [f"{call.request.path}?{urlencode(call.request.params)}" for call in self.calls]

    async def send(self, call: Call) -> Reply:
        """What the function says."""
        self.calls.append(call)
        told = self.answer(call)
        if inspect.isawaitable(told):
            told = await told
        if isinstance(told, Exception):
            raise told
        if isinstance(told, Reply):
            return told if told.received_at else msgspec.structs.replace(told, received_at=self.clock.now())
        body = (
            told if isinstance(told, bytes) else told.encode() if isinstance(told, str) else msgspec.json.encode(told)
        )
        return reply(body, at=self.clock.now())

    async def close(self) -> None:
        """Nothing; it is noted."""
        self.closed = True


def reply(body: bytes, status: int = 200, *, at: int, headers: Mapping[str, str] | None = None) -> Reply:
    """A venue's answer at a moment, with the `Date` header that goes with it."""
    return Reply(status, body, {"date": formatdate(at // SECOND, usegmt=True), **(headers or {})}, at)


def params_of(call: Call) -> dict[str, str]:
    """A call's parameters as a server sees them: text."""
    return {name: str(value) for name, value in call.request.params}


def answers_of(desk: Answering, clock: Clock) -> Answer:
    """The answers of a desk (with or without faults in front of it) at the clock's time, without a socket."""

    async def answer(call: Call) -> Reply:
        asked = call.request
        path = urlsplit(call.url).path + asked.path
        headers = {name.lower(): value for name, value in (*call.headers, *asked.headers)}
        said = desk.answer(HttpRequest(asked.method, path, params_of(call), headers, asked.body), clock.now())
        if said.delay:
            await clock.sleep(said.delay)
        if said.fate is not Fate.WHOLE:
            raise TransportError(f"{call.venue}: {path}: the connection was closed before the answer was whole")
        named = {name.lower(): value for name, value in said.headers.items()}
        return reply(said.body, said.status, at=clock.now(), headers=named)

    return answer
