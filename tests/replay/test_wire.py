"""The shell on a real socket: HTTP and WebSocket on one port, split bytes, pipelining, back-pressure."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest
import websockets

from tradeflood.models.time import SECOND, parse_time
from tradeflood.replay.desk import Clock, Close, Conversation, Fate, Half, HttpAnswer, Ping, as_json
from tradeflood.replay.wire import WireServer

pytestmark = pytest.mark.loopback

NOW = parse_time("2026-03-04T05:06:07")


class Echo(Conversation):
    """Answers what it hears; sends what it was given."""

    def __init__(self, owed=()):
        super().__init__(Clock(1, NOW), NOW)
        self.owed = list(owed)
        self.heard = []
        self.asked = 0

    def receive(self, message, now):
        self.heard.append(message)
        return [message] if isinstance(message, (str, bytes)) else []

    def due(self, after, up_to):
        return []

    def advance(self, now):
        self.asked += 1
        return [self.owed.pop(0)] if self.owed else []


class Endless(Echo):
    """Always owes more."""

    def advance(self, now):
        self.asked += 1
        return ["x" * 50_000]


class Mirror:
    """A desk that answers with what it was asked."""

    venue = "mirror"

    def __init__(self, feed=None):
        self.feed = feed

    def answer(self, request, now):
        if request.path == "/broken":
            raise RuntimeError("a mistake in a desk")
        fate = {"/half": Fate.HALF, "/nothing": Fate.NOTHING}.get(request.path, Fate.WHOLE)
        value = {
            "method": request.method,
            "path": request.path,
            "params": request.params,
            "body": request.body.decode(),
        }
        answer = as_json(value)
        return HttpAnswer(
            answer.status, answer.headers, answer.body, SECOND // 5 if request.path == "/slow" else 0, fate
        )

    def connect(self, path, params, now, client):
        return self.feed or HttpAnswer(404, {}, b"no feed here")


@asynccontextmanager
async def mirror(feed=None):
    server = WireServer(Mirror(feed), lambda: NOW, tick=0.001)
    await server.open("127.0.0.1", 0)
    try:
        yield server.port
    finally:
        await server.close()


def run(main):
    """Runs one loopback test; nothing here may take longer than five seconds."""
    return asyncio.run(asyncio.wait_for(main, 5))


async def drained(client):
    """Reads until the connection is over."""
    while True:
        await client.recv()


async def raw(port, *parts, pause=0.0):
    """What the server says to these bytes until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(pause)
    said = await reader.read()
    writer.close()
    return said


def test_requests_share_a_connection_and_carry_the_desks_date():
    async def main():
        async with mirror() as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            first = await client.get("/a/b", params={"x": "1 2", "y": "é"})
            second = await client.post("/c", content=b"body")
            return first, second

    first, second = run(main())
    assert first.json() == {"method": "GET", "path": "/a/b", "params": {"x": "1 2", "y": "é"}, "body": ""}
    assert second.json()["body"] == "body"
    assert first.headers["Date"] == "Wed, 04 Mar 2026 05:06:07 GMT"
    assert first.extensions["network_stream"] is not None


def test_one_connection_answers_many_requests_in_turn():
    async def main():
        async with mirror() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            said = []
            for number in range(3):
                writer.write(f"GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                said.append(json.loads(await reader.readexactly(length))["path"])
            writer.close()
            return said

    assert run(main()) == ["/0", "/1", "/2"]


def test_pipelined_requests_are_answered_in_order():
    async def main():
        async with mirror() as port:
            one, two = (
                b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n",
                b"GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            )
            return await raw(port, one + two)

    said = run(main())
    assert said.index(b'"/slow"') < said.index(b'"/2"')
    assert said.count(b"HTTP/1.1 200 OK") == 2


def test_bytes_may_be_split_anywhere():
    async def main():
        async with mirror() as port:
            request = b"POST /p?a=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"
            return await raw(port, *(request[place : place + 1] for place in range(len(request))))

    assert run(main()).endswith(b'{"method":"POST","path":"/p","params":{"a":"1"},"body":"body"}')


@pytest.mark.parametrize(("sent", "status"), [(b"nonsense\r\n\r\n", b"400"), (b"GET / HTTP/1.1\r\n\r\n", b"400")])
def test_what_is_not_http_is_refused(sent, status):
    async def main():
        async with mirror() as port:
            return await raw(port, sent)

    assert run(main()).startswith(b"HTTP/1.1 " + status)


def test_head_has_no_body_and_a_failing_desk_is_a_500(caplog):
    async def main():
        async with mirror() as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            return await client.head("/x"), await client.get("/broken"), await client.get("/after")

    head, broken, after = run(main())
    assert head.content == b""
    assert int(head.headers["Content-Length"]) > 0
    assert (broken.status_code, after.status_code) == (500, 200)
    assert "a mistake in a desk" in caplog.text


def test_half_an_answer_and_none_at_all_are_broken_connections():
    async def main():
        async with mirror() as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            for path in ("/half", "/nothing"):
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.get(path)
            return await client.get("/after")

    assert run(main()).status_code == 200


def test_a_websocket_shares_the_port_and_agrees_on_no_compression():
    async def main():
        feed = Echo(["one", b"two", Ping(b"hi")])
        async with mirror(feed) as port, websockets.connect(f"ws://127.0.0.1:{port}/ws") as client:
            said = [await client.recv(), await client.recv()]
            await client.send("text")
            await client.send(["in ", "three ", "parts"])
            await client.send(b"bytes")
            said += [await client.recv() for _ in range(3)]
            return (
                said,
                client.response.headers.get("Sec-WebSocket-Extensions"),
                client.response.headers["Date"],
                feed.heard,
            )

    said, extensions, date, heard = run(main())
    assert said == ["one", b"two", "text", "in three parts", b"bytes"]
    assert extensions is None
    assert date == "Wed, 04 Mar 2026 05:06:07 GMT"
    assert any(type(message).__name__ == "Pong" and message.payload == b"hi" for message in heard)


def test_a_feed_that_is_refused_is_plain_http():
    async def main():
        async with mirror() as port:
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with websockets.connect(f"ws://127.0.0.1:{port}/ws"):
                    pass
            return refused.value.response

    assert run(main()).status_code == 404


@pytest.mark.parametrize(
    ("frame", "code"), [(Close(1008, "Too many requests"), 1008), (Close(None), None), (Half("x" * 1000), None)]
)
def test_a_connection_ends_with_a_code_or_breaks_off(frame, code):
    async def main():
        async with (
            mirror(Echo(["one", frame, "never"])) as port,
            websockets.connect(f"ws://127.0.0.1:{port}/ws") as client,
        ):
            assert await client.recv() == "one"
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await client.recv()
            return closed.value.rcvd

    received = run(main())
    assert (received and received.code) == code


def test_a_reader_that_does_not_read_stops_the_feed():
    """The feed is asked for more only as far as the kernel's buffers and one portion reach."""

    async def main():
        feed = Endless()
        async with mirror(feed) as port:
            async with websockets.connect(f"ws://127.0.0.1:{port}/ws", max_queue=1) as client:
                await client.recv()
                before = -1
                while feed.asked != before:
                    before = feed.asked
                    await asyncio.sleep(0.05)
                stopped = feed.asked
                for _ in range(50):
                    await client.recv()
                client.transport.abort()
            return stopped, feed.asked

    stopped, after = run(main())
    assert stopped < 400
    assert after > stopped


def test_the_server_closes_while_a_feed_is_open():
    async def main():
        async with mirror(Endless()) as port:
            client = await websockets.connect(f"ws://127.0.0.1:{port}/ws", max_queue=1)
            await client.recv()
        with pytest.raises(websockets.ConnectionClosed):
            await drained(client)

    run(main())
