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
        return await asyncio.wait_for(opener(url, listener, leave, headers), OPEN_WITHIN)
    except TimeoutError as error:
        raise TransportError(f"{url}: no connection within {OPEN_WITHIN:g} s") from error
    except asyncio.CancelledError:
        raise
    except Exception as error:
        raise TransportError(f"{url}: {error or type(error).__name__}") from error


def _opener(fast: bool | None, leave: Exit) -> Callable[..., Any]:  # noqa: FBT001 - a choice of three
    if fast is not False and leave.proxy is None:
        with contextlib.suppress(ImportError):
            import picows  # noqa: F401, PLC0415

            return _open_picows
    return _open_websockets


# ---------------------------------------------------------------- websockets


class _WebsocketsSocket:
    def __init__(self, connection: Any, listener: Listener) -> None:
        self._connection, self._listener = connection, listener
        self._reading = asyncio.Event()
        self._reading.set()
        self._task = asyncio.create_task(self._read())

    async def send(self, data: str | bytes) -> None:
        import websockets  # noqa: PLC0415

        try:
            await self._connection.send(data)
        except websockets.ConnectionClosed as error:
            raise TransportError(f"the connection is closed: {error}") from error

    def pause(self) -> None:
        self._reading.clear()

    def resume(self) -> None:
        self._reading.set()

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(Exception):
            self._connection.transport.resume_reading()
        await self._connection.close()

    async def _read(self) -> None:
        import websockets  # noqa: PLC0415

        message, recv = self._listener.message, self._connection.recv
        why = "closed"
        try:
            while True:
                await self._reading.wait()
                message(await recv(decode=False))
        except websockets.ConnectionClosed as error:
            why = str(error)
        except asyncio.CancelledError:
            why = "closed by us"
            raise
        finally:
            self._listener.lost(why)


async def _open_websockets(url: str, listener: Listener, leave: Exit, headers: tuple[tuple[str, str], ...]) -> Socket:
    from websockets.asyncio.client import connect  # noqa: PLC0415

    connection = await connect(
        url,
        additional_headers=dict(headers),
        user_agent_header=user_agent(),
        proxy=leave.proxy,
        compression=None,
        ping_interval=None,
        max_size=LARGEST,
        close_timeout=CLOSE_WITHIN,
        open_timeout=OPEN_WITHIN,
    )
    return _WebsocketsSocket(connection, listener)


# ---------------------------------------------------------------- picows


async def _open_picows(url: str, listener: Listener, leave: Exit, headers: tuple[tuple[str, str], ...]) -> Socket:
    import picows  # noqa: PLC0415

    del leave
    text, binary = picows.WSMsgType.TEXT, picows.WSMsgType.BINARY
    close, ping, more = picows.WSMsgType.CLOSE, picows.WSMsgType.PING, picows.WSMsgType.CONTINUATION

    class Reader(picows.WSListener):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.parts: list[bytes] = []
            self.ended = False

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            kind = frame.msg_type
            if kind in (text, binary) and frame.fin and not self.parts:
                listener.message(frame.get_payload_as_bytes())
            elif kind in (text, binary, more):
                self.parts.append(frame.get_payload_as_bytes())
                if frame.fin:
                    whole, self.parts = b"".join(self.parts), []
                    listener.message(whole)
            elif kind == ping:
                transport.send_pong(frame.get_payload_as_bytes())
            elif kind == close:
                self.end(f"closed by the venue: {frame.get_close_code()} {frame.get_close_message() or ''}".rstrip())
                transport.send_close(frame.get_close_code())
                transport.disconnect()

        def on_ws_disconnected(self, transport: Any) -> None:
            del transport
            self.end("the connection was cut")

        def end(self, why: str) -> None:
            if not self.ended:
                self.ended = True
                listener.lost(why)

    transport, reader = await picows.ws_connect(
        Reader,
        url,
        extra_headers={"User-Agent": user_agent(), **dict(headers)},
        enable_auto_ping=False,
        enable_auto_pong=False,
        max_frame_size=LARGEST,
    )
    return _PicowsSocket(transport, reader)


class _PicowsSocket:
    def __init__(self, transport: Any, reader: Any) -> None:
        self._transport, self._reader = transport, reader

    async def send(self, data: str | bytes) -> None:
        import picows  # noqa: PLC0415

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


