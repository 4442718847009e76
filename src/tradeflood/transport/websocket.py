"""WebSocket clients: `websockets`, and `picows` where it is installed. Both hand every message to a listener."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Protocol

from tradeflood.errors import TransportError
from tradeflood.transport.base import Exit
from tradeflood.transport.http import user_agent

LARGEST = 4 * 1024 * 1024
"""The largest message that is read, in bytes; a larger one ends the connection."""

OPEN_WITHIN = 15.0
CLOSE_WITHIN = 1.0


class Listener(Protocol):
    """Who is told of messages. Called from the event loop; it must not wait."""

    def message(self, data: bytes) -> None:
        """A whole message."""
        ...

    def lost(self, why: str) -> None:
        """The connection is over; said once."""
        ...


class Socket(Protocol):
    """An open connection."""

    async def send(self, data: str | bytes) -> None:
        """Write a message."""
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


async def open_socket(
    url: str, listener: Listener, *, leave: Exit, headers: tuple[tuple[str, str], ...] = (), fast: bool | None = None
) -> Socket:
    """An open connection that reports to the listener. `fast` chooses picows; None: where it is installed.

    Raises TransportError where it cannot be opened.
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
        raise TransportError(f"{url}: {str(error) or type(error).__name__}") from error


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

    class Connection(ClientConnection):
        """Hands messages on as they are parsed: its own queue, and a task to empty it, cost more than all the rest."""

        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            self.parts: list[bytes] = []
            self.ended = False

        def process_event(self, event: Any) -> None:
            if not isinstance(event, Frame) or event.opcode not in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
                super().process_event(event)
            elif event.fin and not self.parts:
                listener.message(bytes(event.data))
            else:
                self.parts.append(bytes(event.data))
                if event.fin:
                    whole, self.parts = b"".join(self.parts), []
                    listener.message(whole)

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
    data = frozenset({text, int(kinds.BINARY), int(kinds.CONTINUATION)})
    heard = listener.message

    class Reader(picows.WSListener):
        def __init__(self) -> None:
            super().__init__()
            self.parts: list[bytes] = []
            self.size = 0
            self.ended = False

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            kind = frame.msg_type
            if kind == text and frame.fin:
                heard(frame.get_payload_as_bytes())
            elif kind in data:
                self.parts.append(frame.get_payload_as_bytes())
                self.size += len(self.parts[-1])
                if self.size > LARGEST:
                    raise picows.WSProtocolError(
                        picows.WSCloseCode.MESSAGE_TOO_BIG, f"a message larger than {LARGEST} bytes"
                    )
                if frame.fin:
                    whole, self.parts, self.size = b"".join(self.parts), [], 0
                    heard(whole)
            elif kind == ping:
                transport.send_pong(frame.get_payload_as_bytes())
            elif kind == close:
                said = frame.get_close_message() or b""
                why = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
                self.end(f"closed by the venue: {int(frame.get_close_code())} {why}".rstrip())
                transport.send_close(frame.get_close_code())
                transport.disconnect()

        def end(self, why: str) -> None:
            if not self.ended:
                self.ended = True
                listener.lost(why)

    made: Any = await picows.ws_connect(
        Reader,
        url,
        extra_headers={"User-Agent": user_agent(), **dict(headers)},
        enable_auto_ping=False,
        enable_auto_pong=False,
        max_frame_size=LARGEST,
    )
    transport, reader = made
    over = asyncio.ensure_future(transport.wait_disconnected())
    over.add_done_callback(lambda done: reader.end(_why(done)))
    return _PicowsSocket(transport, reader)


def _why(over: asyncio.Future[Any]) -> str:
    """Why picows gave a connection up; the venue's own goodbye was heard before."""
    error = None if over.cancelled() else over.exception()
    return f"closed by us: {error}" if error is not None else "the connection was cut"


class _PicowsSocket:
    def __init__(self, transport: Any, reader: Any) -> None:
        self._transport, self._reader = transport, reader

    async def send(self, data: str | bytes) -> None:
        import picows

        if self._reader.ended:
            raise TransportError("the connection is closed")
        self._transport.send(picows.WSMsgType.TEXT, data.encode() if isinstance(data, str) else data)

    def pause(self) -> None:
        self._transport.underlying_transport.pause_reading()

    def resume(self) -> None:
        self._transport.underlying_transport.resume_reading()

    async def close(self) -> None:
        self._reader.end("closed by us")
        self._transport.send_close(1000)
        self._transport.disconnect()
