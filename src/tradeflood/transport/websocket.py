"""WebSocket clients: `websockets`, and `picows` where it is installed. Both hand messages to a listener, by the reading."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tradeflood.errors import TransportError
from tradeflood.transport.base import Exit
from tradeflood.transport.http import user_agent

LARGEST = 4 * 1024 * 1024
"""The largest message that is read, in bytes; a larger one ends the connection."""

TEXT, BINARY = 0x81, 0x82
"""The first byte of a message that is one frame, without extensions."""

MEDIUM = TEXT << 8 | 126
"""The first two bytes of a message of text whose length, 126 bytes or more, is in the next two."""

_HEAD = struct.Struct(">HH").unpack_from

AT_ONCE = 2_000
"""How many messages are handed on at once at most: more would not fit into the processor's cache."""

OPEN_WITHIN = 15.0
CLOSE_WITHIN = 1.0
SHAKES_WITHIN = 0.2
"""How long a connection that was given up may take to be there, in seconds, so that it ends before its loop does."""


class NotUpgraded(TransportError):
    """The venue answered the handshake with something else: its status, headers (their names in small letters) and body."""

    remedy = "look at the status"

    def __init__(self, message: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(message)
        self.status, self.headers, self.body = status, headers, body


class Listener(Protocol):
    """Who is told of messages. Called from the event loop; it must not wait."""

    def messages(self, frames: Sequence[bytes]) -> None:
        """Whole messages, as many as one reading brought; never none."""
        ...

    def lost(self, why: str) -> None:
        """The connection is over; said once."""
        ...

    def alive(self) -> None:
        """A ping or a pong of the protocol itself: a proof of life without a message."""
        ...


class Socket(Protocol):
    """An open connection."""

    async def send(self, data: str | bytes) -> None:
        """Write a message."""
        ...

    async def ping(self) -> None:
        """Write a ping of the protocol itself, which wants a pong."""
        ...

    def pause(self) -> None:
        """Stop reading: what the venue sends stays in the network's buffers."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...

    async def close(self) -> None:
        """Say goodbye and close."""
        ...


class Sockets(Protocol):
    """What opens connections: `open_socket`, or what stands in for it."""

    async def __call__(
        self,
        url: str,
        listener: Listener,
        *,
        leave: Exit,
        headers: tuple[tuple[str, str], ...] = (),
        fast: bool | None = None,
    ) -> Socket:
        """An open connection that reports to the listener; raises TransportError where it cannot be opened."""
        ...


async def open_socket(
    url: str, listener: Listener, *, leave: Exit, headers: tuple[tuple[str, str], ...] = (), fast: bool | None = None
) -> Socket:
    """An open connection that reports to the listener. `fast` chooses picows; None: where it is installed.

    Raises TransportError where it cannot be opened, NotUpgraded where the venue refuses it with a status.
    """
    opener = _opener(fast, leave)
    try:
        async with asyncio.timeout(OPEN_WITHIN):
            socket: Socket = await opener(url, listener, leave, headers)
            return socket
    except TimeoutError as error:
        raise TransportError(f"{url}: no connection within {OPEN_WITHIN:g} s") from error
    except asyncio.CancelledError:
        raise
    except Exception as error:
        text = f"{url}: {str(error) or type(error).__name__}"
        if (status := _status_of(error)) is not None:
            raise NotUpgraded(text, *status) from error
        raise TransportError(text) from error


def _status_of(error: Exception) -> tuple[int, dict[str, str], bytes] | None:
    """What a venue answered to the handshake, as either client tells it; None where it was something else that failed."""
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    told: Any = error
    if "websockets.InvalidStatus" in names:
        status, body = told.response.status_code, told.response.body
    elif "picows.WSInvalidStatusError" in names and told.response is not None:
        status, body = told.response.status, told.raw_body
    else:
        return None
    return int(status), {name.lower(): value for name, value in told.response.headers.items()}, bytes(body or b"")


def _opener(fast: bool | None, leave: Exit) -> Callable[..., Any]:  # noqa: FBT001 - a choice of three
    if fast is not False and leave.proxy is None:
        with contextlib.suppress(ImportError):
            import picows  # noqa: F401

            return _open_picows
    return _open_websockets


# ---------------------------------------------------------------- websockets


class _WebsocketsSocket:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def send(self, data: str | bytes) -> None:
        import websockets

        try:
            await self._connection.send(data)
        except websockets.ConnectionClosed as error:
            raise TransportError(f"the connection is closed: {error}") from error

    async def ping(self) -> None:
        import websockets

        try:
            await self._connection.ping()
        except websockets.ConnectionClosed as error:
            raise TransportError(f"the connection is closed: {error}") from error

    def pause(self) -> None:
        self._connection.transport.pause_reading()

    def resume(self) -> None:
        self._connection.transport.resume_reading()

    async def close(self) -> None:
        self._connection.end("closed by us")
        with contextlib.suppress(Exception):
            self._connection.transport.resume_reading()  # or its goodbye is never read
        await self._connection.close()


async def _open_websockets(url: str, listener: Listener, leave: Exit, headers: tuple[tuple[str, str], ...]) -> Socket:
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.frames import Frame, Opcode
    from websockets.protocol import State

    class Connection(ClientConnection):
        """Cuts whole messages out of what is read and hands them on; every other frame goes the long way of websockets.

        Its parser takes ten times as long for a message, and its queue, and a task to empty it, as long again.
        """

        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            self.parts: list[bytes] = []
            self.ended = False
            self.cutting = False  # whether websockets was given whole frames only: then the next byte begins one
            self.rest = b""

        def data_received(self, data: bytes) -> None:
            if self.cutting:
                self.cut(self.rest + data if self.rest else data)
                return
            end = data.find(b"\r\n\r\n") + 4 if self.protocol.state is State.CONNECTING else 0
            if end < 4:  # also where the end of the handshake is torn apart: then websockets reads all by itself
                super().data_received(data)
                return
            super().data_received(data[:end])
            self.cutting = self.protocol.state is State.OPEN
            if self.cutting:
                self.cut(data[end:])
            elif end < len(data):
                super().data_received(data[end:])

        def cut(self, data: bytes) -> None:
            """Hand on the messages in these bytes, which begin with a frame; keep the frame that is not yet there in full."""
            found: list[bytes] = []
            at, have, whole = 0, len(data), not self.parts
            while have - at >= 4 and whole:  # nearly all messages have this head
                head, size = _HEAD(data, at)
                end = at + 4 + size
                if head != MEDIUM or end > have:
                    break
                found.append(data[at + 4 : end])
                at = end
            while have - at >= 2:
                size = data[at + 1]
                begin = at + 2
                if size == 126:
                    begin = at + 4
                    if begin > have:
                        break
                    size = data[at + 2] << 8 | data[at + 3]
                elif size == 127:
                    begin = at + 10
                    if begin > have:
                        break
                    size = int.from_bytes(data[at + 2 : begin], "big")
                elif size > 127:  # masked, which no server may do
                    size = LARGEST + 1
                end = begin + size
                if size > LARGEST:  # websockets says what is wrong with it
                    self.cutting = False
                elif end > have:
                    break
                elif (data[at] == TEXT or data[at] == BINARY) and not self.parts:
                    found.append(data[begin:end])
                    at = end
                    continue
                if found:
                    listener.messages(found)
                    found = []
                if self.cutting:
                    super().data_received(data[at:end])
                    at = end
                    self.cutting = self.protocol.state is State.OPEN
                if not self.cutting:
                    self.rest = b""
                    super().data_received(data[at:])
                    return
            if found:
                listener.messages(found)
            self.rest = data[at:]

        def process_event(self, event: Any) -> None:
            if not isinstance(event, Frame) or event.opcode not in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
                super().process_event(event)
                if isinstance(event, Frame) and event.opcode in {Opcode.PING, Opcode.PONG}:
                    listener.alive()
            elif event.fin and not self.parts:
                listener.messages([bytes(event.data)])
            else:
                self.parts.append(bytes(event.data))
                if event.fin:
                    whole, self.parts = b"".join(self.parts), []
                    listener.messages([whole])

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self.end(str(self.protocol.close_exc))

        def end(self, why: str) -> None:
            if not self.ended:
                self.ended = True
                listener.lost(why)

    connection = await connect(
        url,
        create_connection=Connection,
        additional_headers=dict(headers),
        user_agent_header=user_agent(),
        proxy=leave.proxy,
        compression=None,
        ping_interval=None,
        max_size=LARGEST,
        close_timeout=CLOSE_WITHIN,
        open_timeout=OPEN_WITHIN,
    )
    return _WebsocketsSocket(connection)


# ---------------------------------------------------------------- picows


async def _open_picows(url: str, listener: Listener, leave: Exit, headers: tuple[tuple[str, str], ...]) -> Socket:
    import picows

    del leave
    kinds: Any = picows.WSMsgType
    text, close, ping = int(kinds.TEXT), int(kinds.CLOSE), int(kinds.PING)  # plain numbers compare faster
    pong = int(kinds.PONG)
    data = frozenset({text, int(kinds.BINARY), int(kinds.CONTINUATION)})

    class Reader(picows.WSListener):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[bytes] = []
            self.parts: list[bytes] = []
            self.size = 0
            self.ended = False
            self.given_up = False
            self.shaken = asyncio.Event()

        def on_ws_connected(self, transport: Any) -> None:
            self.shaken.set()
            if self.given_up:
                transport.disconnect()

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            kind = frame.msg_type
            if kind == text and frame.fin:
                self.found.append(frame.get_payload_as_bytes())
            elif kind in data:
                self.parts.append(frame.get_payload_as_bytes())
                self.size += len(self.parts[-1])
                if self.size > LARGEST:
                    raise picows.WSProtocolError(
                        picows.WSCloseCode.MESSAGE_TOO_BIG, f"a message larger than {LARGEST} bytes"
                    )
                if frame.fin:
                    self.found.append(b"".join(self.parts))
                    self.parts, self.size = [], 0
            elif kind == ping:
                transport.send_pong(frame.get_payload_as_bytes())
                listener.alive()
            elif kind == pong:
                listener.alive()
            elif kind == close:
                said = frame.get_close_message() or b""
                why = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
                self.end(f"closed by the venue: {int(frame.get_close_code())} {why}".rstrip())
                transport.send_close(frame.get_close_code())
                transport.disconnect()
            if frame.last_in_buffer or len(self.found) == AT_ONCE:
                self.hand_over()

        def hand_over(self) -> None:
            if self.found:
                found, self.found = self.found, []
                listener.messages(found)

        def end(self, why: str) -> None:
            if not self.ended:
                self.hand_over()
                self.ended = True
                listener.lost(why)

    reader = Reader()
    try:
        transport, _ = await picows.ws_connect(
            lambda: reader,
            url,
            extra_headers={"User-Agent": user_agent(), **dict(headers)},
            enable_auto_ping=False,
            enable_auto_pong=False,
            max_frame_size=LARGEST,
        )
    except asyncio.CancelledError:  # picows keeps a connection whose handshake nobody waits for any more
        reader.given_up = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHAKES_WITHIN):
                await reader.shaken.wait()
        raise
    over = asyncio.ensure_future(transport.wait_disconnected())
    over.add_done_callback(lambda done: reader.end(_why(done)))
    return _PicowsSocket(transport, reader, over)


def _why(over: asyncio.Future[Any]) -> str:
    """Why picows gave a connection up; the venue's own goodbye was heard before."""
    error = None if over.cancelled() else over.exception()
    return f"closed by us: {error}" if error is not None else "the connection was cut"


class _PicowsSocket:
    def __init__(self, transport: Any, reader: Any, over: asyncio.Future[Any]) -> None:
        self._transport, self._reader, self._over = transport, reader, over

    async def send(self, data: str | bytes) -> None:
        import picows

        if self._reader.ended:
            raise TransportError("the connection is closed")
        self._transport.send(picows.WSMsgType.TEXT, data.encode() if isinstance(data, str) else data)

    async def ping(self) -> None:
        if self._reader.ended:
            raise TransportError("the connection is closed")
        self._transport.send_ping(b"tradeflood")

    def pause(self) -> None:
        self._transport.underlying_transport.pause_reading()

    def resume(self) -> None:
        self._transport.underlying_transport.resume_reading()

    async def close(self) -> None:
        self._reader.end("closed by us")
        self._transport.send_close(1000)
        self._transport.disconnect()
        await asyncio.wait({self._over}, timeout=CLOSE_WITHIN)  # or the loop may end before the connection does
