"""One server per venue: HTTP/1.1 and WebSocket on the same port, as a thin shell around a desk.

Nothing here decides what is said. Back-pressure is the kernel's and asyncio's: every write waits until the buffer
is below its mark, so a slow reader slows its own feed and holds at most one portion of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import partial
from http.client import responses
from typing import Protocol, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
from websockets.datastructures import Headers
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import State
from websockets.server import ServerProtocol

from tradeflood.models.time import SECOND
from tradeflood.replay.desk import (
    Close,
    Conversation,
    Fate,
    Frame,
    Half,
    HttpAnswer,
    HttpRequest,
    Message,
    Ping,
    Pong,
)

TICK = 0.02
"""Seconds of real time between two looks at what a feed owes."""

_PARTING = 1.0
"""Seconds that a client has to answer a close before the connection is closed anyway."""

_READ = 65_536
_BUFFERED = 65_536
_HEAD = 65_536
_BODY = 1 << 20
_MESSAGE = 1 << 20

Now: TypeAlias = Callable[[], int]
_Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

log = logging.getLogger(__name__)


class Answering(Protocol):
    """What the shell needs of a desk, or of what stands in front of one."""

    venue: str

    def answer(self, request: HttpRequest, now: int) -> HttpAnswer:
        """The answer to a request."""

    def connect(self, path: str, params: Mapping[str, str], now: int, client: str) -> Conversation | HttpAnswer:
        """The conversation on a path, or the answer that refuses it."""


class WireServer:
    """A desk behind a socket. `await open()`, then `port` says where; `await close()` ends every connection."""

    def __init__(self, desk: Answering, now: Now, *, tick: float = TICK) -> None:
        self._desk = desk
        self._now = now
        self._tick = tick
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self, host: str, port: int) -> None:
        """Listens; port 0 takes any that is free. Raises OSError where the port is taken."""
        self._server = await asyncio.start_server(self._accept, host, port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stops listening and cuts what is connected."""
        if self._server is None:
            return
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writer.transport.set_write_buffer_limits(high=_BUFFERED)
        try:
            await self._talk((reader, writer))
        except ConnectionError:
            pass  # the client left: no news
        except asyncio.CancelledError:
            writer.transport.abort()  # the server closes, and waits for no reader
        finally:
            self._connections.discard(task)
            writer.close()

    async def _talk(self, streams: _Streams) -> None:
        """One connection, from its first byte to its last: requests in their order, then perhaps a feed."""
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD)
        while True:
            try:
                read = await _request(http, streams)
            except h11.RemoteProtocolError as error:
                await self._refuse_bytes(http, streams, error)
                return
            if read is None:
                return
            request, raw = read
            said = self._asked(request)
            if isinstance(said, Conversation):
                await self._feed(streams, said, raw, http.trailing_data[0])
                return
            if not await self._send(http, streams[1], request, said):
                return
            http.start_next_cycle()

    def _asked(self, request: HttpRequest) -> HttpAnswer | Conversation:
        """What the desk says now; a desk that fails does not take the server with it."""
        try:
            if request.headers.get("upgrade", "").lower() == "websocket":
                return self._desk.connect(request.path, request.params, self._now(), request.client)
            return self._desk.answer(request, self._now())
        except Exception:
            log.exception("the %s desk failed at %s %s", self._desk.venue, request.method, request.path)
            return HttpAnswer(500, {"Content-Type": "text/plain"}, b"the desk failed; its log says why\n")

    async def _send(
        self, http: h11.Connection, writer: asyncio.StreamWriter, request: HttpRequest, answer: HttpAnswer
    ) -> bool:
        """Sends the answer and says whether another request may follow."""
        if answer.delay:
            await asyncio.sleep(answer.delay / SECOND)
        if answer.fate is Fate.NOTHING:
            return False
        head = [*answer.headers.items(), ("Content-Length", str(len(answer.body)))]
        if not any(name.lower() == "date" for name in answer.headers):  # a recorded answer keeps its own
            head.append(("Date", _date(self._now())))
        reason = responses.get(answer.status, "").encode()
        parts = [http.send(h11.Response(status_code=answer.status, headers=head, reason=reason))]
        body = b"" if request.method == "HEAD" else answer.body
        if answer.fate is Fate.HALF:
            body = body[: len(body) // 2]
        parts.append(http.send(h11.Data(data=body)) if body else b"")
        whole = answer.fate is Fate.WHOLE
        if whole:
            parts.append(http.send(h11.EndOfMessage()))
        writer.write(b"".join(part for part in parts if part))
        await writer.drain()
        return whole and http.our_state is h11.DONE and http.their_state is h11.DONE

    async def _refuse_bytes(self, http: h11.Connection, streams: _Streams, error: h11.RemoteProtocolError) -> None:
        """Answers what is not HTTP, where an answer is still possible."""
        if http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            answer = HttpAnswer(error.error_status_hint, {"Content-Type": "text/plain"}, f"{error}\n".encode())
            await self._send(http, streams[1], HttpRequest("GET", "/"), answer)

    async def _feed(self, streams: _Streams, conversation: Conversation, raw: h11.Request, rest: bytes) -> None:
        """Takes the connection over and speaks WebSocket on it until either side ends it."""
        protocol = ServerProtocol(max_size=_MESSAGE)  # no extensions: permessage-deflate is never agreed
        handshake = Handshake(
            raw.target.decode("ascii"), Headers([(n.decode(), v.decode("latin-1")) for n, v in raw.headers])
        )
        protocol.receive_data(handshake.serialize())
        protocol.events_received()
        response = protocol.accept(handshake)
        del response.headers["Date"]
        response.headers["Date"] = _date(self._now())
        protocol.send_response(response)
        await _flush(protocol, streams[1])
        if protocol.state is not State.OPEN:
            return
        sender = asyncio.create_task(self._send_due(protocol, streams[1], conversation))
        try:
            await self._hear(protocol, streams, conversation, rest)
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _hear(self, protocol: ServerProtocol, streams: _Streams, conversation: Conversation, rest: bytes) -> None:
        """Reads messages and answers them until the connection is over."""
        reader, writer = streams
        pending: list[WireFrame] = []
        data = rest
        while True:
            if data:
                protocol.receive_data(data)
            for event in protocol.events_received():
                assert isinstance(event, WireFrame)
                message = _message(event, pending)
                if message is not None and protocol.state is State.OPEN:
                    _put(protocol, writer, self._said(partial(conversation.receive, message)))
            await _flush(protocol, writer)
            if protocol.eof_sent or writer.is_closing():
                return
            data = await reader.read(_READ)
            if not data:
                protocol.receive_eof()
                return

    async def _send_due(
        self, protocol: ServerProtocol, writer: asyncio.StreamWriter, conversation: Conversation
    ) -> None:
        """Sends what the feed owes, as fast as the client reads it."""
        while protocol.state is State.OPEN and not writer.is_closing():
            frames = self._said(conversation.advance)
            if frames:
                _put(protocol, writer, frames)
                await _flush(protocol, writer)
            else:
                await asyncio.sleep(self._tick)
        await asyncio.sleep(_PARTING)
        writer.close()

    def _said(self, question: Callable[[int], list[Frame]]) -> list[Frame]:
        """What the conversation says now; one that fails is closed as a server's mistake."""
        try:
            return question(self._now())
        except Exception:
            log.exception("a conversation of the %s desk failed", self._desk.venue)
            return [Close(1011, "the desk failed")]


async def _request(http: h11.Connection, streams: _Streams) -> tuple[HttpRequest, h11.Request] | None:
    """The next whole request, None when the client has left."""
    reader, writer = streams
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            if http.they_are_waiting_for_100_continue:
                writer.write(http.send(h11.InformationalResponse(status_code=100, headers=[])))
            http.receive_data(await reader.read(_READ))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _BODY:
                raise h11.RemoteProtocolError("the body is too long", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            return _read(head, bytes(body), writer), head
        else:  # ConnectionClosed
            return None


def _read(head: h11.Request, body: bytes, writer: asyncio.StreamWriter) -> HttpRequest:
    """A request as the desks see it. A repeated parameter counts once, the last time."""
    target = urlsplit(head.target.decode("latin-1"))
    return HttpRequest(
        head.method.decode("ascii"),
        unquote(target.path) or "/",
        dict(parse_qsl(target.query, keep_blank_values=True)),
        {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers},
        body,
        writer.get_extra_info("peername")[0],
    )


def _message(frame: WireFrame, pending: list[WireFrame]) -> Message | None:
    """What a frame completes: fragments are kept in `pending`, whose size the protocol bounds."""
    if frame.opcode is Opcode.PING:
        return Ping(bytes(frame.data))
    if frame.opcode is Opcode.PONG:
        return Pong(bytes(frame.data))
    if frame.opcode is Opcode.CLOSE:
        return None
    pending.append(frame)
    if not frame.fin:
        return None
    data = b"".join(bytes(part.data) for part in pending)
    text = pending[0].opcode is Opcode.TEXT
    pending.clear()
    return data.decode("utf-8", "replace") if text else data


def _put(protocol: ServerProtocol, writer: asyncio.StreamWriter, frames: list[Frame]) -> None:
    """Gives frames to the protocol; whatever follows an end is not sent."""
    for frame in frames:
        if protocol.state is not State.OPEN:
            return
        match frame:
            case str():
                protocol.send_text(frame.encode())
            case bytes():
                protocol.send_binary(frame)
            case Ping():
                protocol.send_ping(frame.payload)
            case Half():
                whole = WireFrame(Opcode.TEXT, frame.text.encode()).serialize(mask=False)
                writer.write(b"".join(protocol.data_to_send()) + whole[: len(whole) // 2])
                writer.close()
                return
            case Close(code=None):
                writer.write(b"".join(protocol.data_to_send()))
                writer.close()
                return
            case Close():
                protocol.send_close(frame.code, frame.reason)


async def _flush(protocol: ServerProtocol, writer: asyncio.StreamWriter) -> None:
    """Writes what the protocol wants to say, and waits until the client has taken enough of it."""
    data = b"".join(protocol.data_to_send())
    if data and not writer.is_closing():
        writer.write(data)
    await writer.drain()


def _date(now: int) -> str:
    return formatdate(now // SECOND, usegmt=True)
