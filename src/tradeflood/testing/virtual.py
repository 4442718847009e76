"""Hours in moments: an event loop whose time jumps to the next timer, and venues' feeds without sockets.

Everything that waits by asyncio waits by this time, so that a stream with its connections,
heartbeats and lifetimes runs as it is, and a day of it takes as long as its frames take to be read.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl, urlsplit

from tradeflood.errors import TransportError
from tradeflood.models.time import MS, SECOND
from tradeflood.replay.desk import Close, Conversation, Frame, Half, HttpAnswer, Message, Ping, Pong
from tradeflood.transport import Clock, Exit
from tradeflood.transport.websocket import Listener, NotUpgraded, Socket, Sockets

T = TypeVar("T")

TICK = 20 * MS
"""How often a feed looks at what it owes."""

JOURNEY = MS
"""How long a message is on its way to the venue."""


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: where nobody is ready, time moves on instead."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout is None:
            return ready or super().select(None)
        self.passed += max(0.0, timeout)
        return ready


class _Inline(ThreadPoolExecutor):
    """Runs what would run in a thread at once, so that time cannot jump meanwhile."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **named: Any) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **named))
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            done.set_exception(error)
        return done


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while anything runs, and jumps to the next timer when nothing does."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-9
        self.set_default_executor(_Inline())

    def time(self) -> float:
        """Seconds since it was made, by its own time."""
        return self._jumping.passed


class VirtualClock:
    """The clock of a virtual loop, from `start` on; also a clock that real code may sleep by."""

    def __init__(self, start: int) -> None:
        self.start = start

    def now(self) -> int:
        """Nanoseconds since 1970 UTC."""
        return self.start + round(asyncio.get_running_loop().time() * SECOND)

    async def sleep(self, duration: int) -> None:
        """Wait so many ns."""
        await asyncio.sleep(max(0, duration) / SECOND)


def run(main: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class Connecting(Protocol):
    """A desk, or faults in front of one."""

    def connect(self, path: str, params: dict[str, str], now: int, client: str) -> Conversation | HttpAnswer:
        """The conversation on a path, or the answer that refuses it."""
        ...


class FeedSocket:
    """A connection to a desk's feed: its frames come as they are due, without a wire."""

    def __init__(self, talk: Conversation, listener: Listener, clock: Clock, tick: int) -> None:
        self.talk, self._listener, self._clock, self._tick = talk, listener, clock, tick
        self.sent: list[str | bytes] = []
        self._mail: deque[Message] = deque()
        self._reading = asyncio.Event()
        self._reading.set()
        self._ended = False
        self._task = asyncio.ensure_future(self._play())

    async def _play(self) -> None:
        while not self._ended:
            await self._clock.sleep(self._tick)
            await self._reading.wait()
            while not self._ended and (frames := self.talk.advance(self._clock.now())):
                self._hand(frames)

    def _hand(self, frames: list[Frame]) -> None:
        """Frames to the listener, as one reading would bring them."""
        whole: list[bytes] = []
        for frame in frames:
            if isinstance(frame, str | bytes):
                whole.append(frame.encode() if isinstance(frame, str) else frame)
                continue
            if whole:
                self._listener.messages(whole)
                whole = []
            if isinstance(frame, Ping):
                self._listener.alive()
                self._post(Pong(frame.payload))
            elif isinstance(frame, Close | Half):
                self._end(
                    "the connection was cut" if isinstance(frame, Half) or frame.code is None else "closed by the venue"
                )
                return
        if whole:
            self._listener.messages(whole)

    def _end(self, why: str) -> None:
        if not self._ended:
            self._ended = True
            self._listener.lost(why)

    async def send(self, data: str | bytes) -> None:
        """Write a message; what is answered at once comes a moment later."""
        if self._ended:
            raise TransportError("the connection is closed")
        self.sent.append(data)
        self._post(data)

    def _post(self, message: Message) -> None:
        self._mail.append(message)
        asyncio.get_running_loop().call_later(JOURNEY / SECOND, self._arrive)

    def _arrive(self) -> None:
        message = self._mail.popleft()  # timers of one moment go off in any order, messages arrive in theirs
        if not self._ended:
            self._hand(self.talk.receive(message, self._clock.now()))

    async def ping(self) -> None:
        """A ping of the protocol, answered a moment later."""
        asyncio.get_running_loop().call_later(JOURNEY / SECOND, self._listener.alive)

    def pause(self) -> None:
        """Stop reading."""
        self._reading.clear()

    def resume(self) -> None:
        """Read on."""
        self._reading.set()

    async def close(self) -> None:
        """Close."""
        self._end("closed by us")
        self._task.cancel()


def sockets_of(desk: Connecting, clock: Clock, *, tick: int = TICK, opened: list[FeedSocket] | None = None) -> Sockets:
    """What opens connections to a desk's feed, to take the place of `open_socket`; `opened` gathers them."""

    async def connect(
        url: str,
        listener: Listener,
        *,
        leave: Exit,
        headers: tuple[tuple[str, str], ...] = (),
        fast: bool | None = None,
    ) -> Socket:
        del headers, fast
        await clock.sleep(JOURNEY)
        parts = urlsplit(url)
        talk = desk.connect(parts.path, dict(parse_qsl(parts.query)), clock.now(), str(leave))
        if isinstance(talk, HttpAnswer):
            told = {name.lower(): value for name, value in talk.headers.items()}
            raise NotUpgraded(f"{url}: HTTP {talk.status}", talk.status, told, talk.body)
        socket = FeedSocket(talk, listener, clock, tick)
        if opened is not None:
            opened.append(socket)
        return socket

    return connect
