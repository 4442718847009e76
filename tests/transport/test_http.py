"""The HTTP client against servers that misbehave: an answer, or a TransportError that says what was asked; and in time."""

import asyncio
import gzip
import time
import zlib
from contextlib import asynccontextmanager

import pytest

from tradeflood.errors import TransportError, UsageError
from tradeflood.testing import FakeClock
from tradeflood.transport import DIRECT, Call, Exit, HttpTransport, user_agent
from tradeflood.transport import http as module
from tradeflood.turns import Budget, Request, get

pytestmark = pytest.mark.loopback

BUDGET = Budget("weight", 10, per=1)


@asynccontextmanager
async def server(*answers, heard=None):
    """A server that answers each request with the next of these bytes, or by calling them with the writer."""
    left = list(answers)
    tasks = set()

    async def talk(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            while left:
                head = await reader.readuntil(b"\r\n\r\n")
                if heard is not None:
                    heard.append(head)
                answer = left.pop(0)
                if callable(answer):
                    await answer(writer)
                else:
                    writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    serving = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}"
    finally:
        serving.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await serving.wait_closed()


def whole(body, *headers, status="200 OK"):
    return b"\r\n".join([f"HTTP/1.1 {status}".encode(), *headers, b"Content-Length: %d" % len(body), b"", body])


def call(url, request=None, **more):
    return Call("somewhere", url, request or get("/x", a=1), "rest", BUDGET, 1, **more)


def ask(*answers, request=None, heard=None, timeout=2.0, whole_within=3.0, headers=()):
    """What the client makes of an answer."""

    async def main():
        clock = FakeClock()
        transport = HttpTransport(clock, timeout=timeout, whole=whole_within)
        try:
            async with server(*answers, heard=heard) as url:
                return await transport.send(call(url, request, headers=headers))
        finally:
            await transport.close()

    return asyncio.run(asyncio.wait_for(main(), 10))


def test_an_answer_comes_back_with_its_status_headers_and_our_time():
    reply = ask(whole(b'{"a":1}', b"Date: Thu, 01 Jan 2026 00:00:00 GMT", b"X-Used: 5", status="418 I'm a teapot"))
    assert (reply.status, reply.body, reply.headers["x-used"]) == (418, b'{"a":1}', "5")
    assert reply.received_at == FakeClock().now()


def test_what_is_sent_says_who_we_are_and_what_the_connector_declares():
    heard = []
    ask(
        whole(b"1"),
        heard=heard,
        request=Request("/a/b", (("q", "x y&z"),), "POST", (("K", "v"),), b"{}"),
        headers=(("H", "w"),),
    )
    head = heard[0].decode()
    assert head.startswith("POST /a/b?q=x+y%26z HTTP/1.1\r\n")
    assert f"User-Agent: {user_agent()}".lower() in head.lower()
    assert "H: w" in head
    assert "K: v" in head
    ask(whole(b"1"), heard=heard, headers=(("User-Agent", "TraderBot/TradeFlood"),))
    assert heard[1].lower().count(b"user-agent") == 1
    assert b"TraderBot/TradeFlood" in heard[1]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_body_is_unpacked(encoding):
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding](b"[]" * 1000)
    assert ask(whole(packed, f"Content-Encoding: {encoding}".encode())).body == b"[]" * 1000


def closes(writer):
    writer.close()
    return asyncio.sleep(0)


async def drips(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(100):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def waits(writer):
    await asyncio.sleep(5)


async def half(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    writer.close()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (closes, "disconnected"),
        (half, "closed"),
        (waits, "no answer within 0.2 s"),
        (drips, "no whole answer within 0.3 s"),
        (b"not HTTP at all\r\n\r\n", "illegal"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ""),
        (whole(b"no gzip", b"Content-Encoding: gzip"), ""),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n", ""),
    ],
)
def test_an_answer_that_does_not_come_is_a_transport_error_that_names_the_request(answer, says):
    begin = time.monotonic()
    with pytest.raises(TransportError) as error:
        ask(answer, timeout=0.2, whole_within=0.3)
    assert "somewhere: GET http://127.0.0.1:" in str(error.value)
    assert "/x?a=1: " in str(error.value)
    assert says in str(error.value)
    assert error.value.request.path == "/x"
    assert error.value.__cause__ is not None
    assert time.monotonic() - begin < 2


def test_a_body_without_end_is_cut_off(monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 1000)

    async def endless(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            writer.write(b"64\r\n" + b"x" * 100 + b"\r\n")
            await writer.drain()

    with pytest.raises(TransportError, match="an answer of more than 1000 bytes"):
        ask(endless)


def test_nobody_there_is_known_at_once():
    begin = time.monotonic()
    with pytest.raises(TransportError, match="somewhere: GET http://127.0.0.1:1/x"):
        asyncio.run(HttpTransport(FakeClock()).send(call("http://127.0.0.1:1")))
    assert time.monotonic() - begin < 1


@pytest.mark.parametrize("url", ["http://", "nonsense://x", "http://[::1", "http://x\x00y"])
def test_an_address_that_is_none_is_a_transport_error(url):
    with pytest.raises(TransportError):
        asyncio.run(HttpTransport(FakeClock()).send(call(url)))


@pytest.mark.parametrize("proxy", ["ftp://x", "nonsense"])
def test_an_exit_that_is_none_is_a_usage_error(proxy):
    with pytest.raises(UsageError, match="exit "):
        asyncio.run(HttpTransport(FakeClock()).send(call("http://127.0.0.1:1", exit=Exit(proxy))))


def test_a_slow_venue_takes_no_connection_from_another():
    """Thirty requests hang at one venue; another one answers meanwhile."""

    async def main():
        transport = HttpTransport(FakeClock(), timeout=5)
        async with server(*[waits] * 30) as slow, server(whole(b"1")) as fast:
            hanging = [asyncio.create_task(transport.send(call(slow))) for _ in range(30)]
            await asyncio.sleep(0.05)
            quick = Call("elsewhere", fast, get("/x"), "rest", BUDGET, 1)
            reply = await asyncio.wait_for(transport.send(quick), 1)
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
            await transport.close()
            return reply.body

    assert asyncio.run(main()) == b"1"


def test_the_environment_of_others_is_not_ours(monkeypatch):
    """Proxies are named in the configuration; HTTP_PROXY is somebody else's."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert ask(whole(b"1")).body == b"1"
    assert DIRECT.proxy is None
