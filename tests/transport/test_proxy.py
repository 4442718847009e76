"""Exits: a real proxy on this machine, spoken to as HTTP and as SOCKS5; budgets are counted per exit."""

import asyncio
import json
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

import tradeflood as tf
from tradeflood.errors import TransportError, UsageError
from tradeflood.models.time import MINUTE, parse_time
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.flood import Flood
from tradeflood.testing import FakeClock, FakeTransport
from tradeflood.transport import DIRECT, Direct, Exit, StaticPool
from tradeflood.transport.websocket import open_socket

START = parse_time("2026-03-04T05:06:07")


@asynccontextmanager
async def proxy():
    """A proxy for CONNECT, absolute addresses and SOCKS5; its port, and the list of what was asked of it."""
    heard, tasks = [], set()

    async def pour(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def talk(reader, writer):
        tasks.add(asyncio.current_task())
        first = await reader.readexactly(1)
        if first == b"\x05":
            await reader.readexactly((await reader.readexactly(1))[0])
            writer.write(b"\x05\x00")
            _, _, _, kind = await reader.readexactly(4)
            length = 4 if kind == 1 else (await reader.readexactly(1))[0]
            host = await reader.readexactly(length)
            port = int.from_bytes(await reader.readexactly(2))
            name = ".".join(map(str, host)) if kind == 1 else host.decode()
            heard.append(("SOCKS5", f"{name}:{port}"))
            inner, outer = await asyncio.open_connection(name, port)
            writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        else:
            head = first + await reader.readuntil(b"\r\n\r\n")
            method, target, rest = head.split(b" ", 2)
            heard.append((method.decode(), target.decode()))
            address = target.decode() if method == b"CONNECT" else urlsplit(target.decode()).netloc
            name, _, port = address.partition(":")
            inner, outer = await asyncio.open_connection(name, int(port))
            if method == b"CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                path = target.decode().split(address, 1)[1]
                outer.write(method + b" " + path.encode() + b" " + rest)
        await asyncio.gather(pour(reader, outer), pour(inner, writer))

    serving = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield serving.sockets[0].getsockname()[1], heard
    finally:
        serving.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.loopback
@pytest.mark.parametrize(("scheme", "method"), [("http", "GET"), ("socks5", "SOCKS5")])
def test_requests_of_a_kind_leave_through_their_exits(tmp_path, monkeypatch, scheme, method):
    """Pages of history go through the proxy, and bring what they bring without; other requests leave directly."""
    monkeypatch.chdir(tmp_path)
    if scheme == "socks5":
        pytest.importorskip("socksio")

    async def main():
        async with serve(Simulated(3), ["binance"], start=START) as served, proxy() as (port, heard):
            config = {"venues": served.settings(), "proxies": {"paged": [f"{scheme}://127.0.0.1:{port}"]}}
            async with Flood(config) as flood:
                words = {"interval": "1m", "start": "2026-03-01", "end": "2026-03-01T01:00"}
                frame = await flood.collect(tf.Candle, "binance:BTC/USDT", **words)
                await flood.collect(tf.Market, "binance:*")
            async with Flood({"venues": served.settings()}) as flood:
                direct = await flood.collect(tf.Candle, "binance:BTC/USDT", **words)
            rows, others = ([(row.open_time, row.close) for row in found] for found in (frame, direct))
            return rows, others, heard, served.settings()["binance"]["rest_url"]

    rows, others, heard, url = asyncio.run(main())
    assert len(rows) == 60
    assert rows == others
    assert [said for said, _ in heard] == [method]
    assert urlsplit(url).netloc in heard[0][1]


class Ears:
    def __init__(self):
        self.heard, self.why = [], None

    def messages(self, frames):
        self.heard += frames

    def lost(self, why):
        self.why = why

    def alive(self):
        pass


@pytest.mark.loopback
@pytest.mark.parametrize(("scheme", "method"), [("http", "CONNECT"), ("socks5", "SOCKS5")])
def test_a_feed_goes_through_an_exit_too(scheme, method):
    if scheme == "socks5":
        pytest.importorskip("python_socks")

    async def main():
        async with serve(Simulated(3), ["binance"], speed=60) as served, proxy() as (port, heard):
            ears = Ears()
            url = served["binance"][1] + "/stream"
            socket = await open_socket(url, ears, leave=Exit(f"{scheme}://127.0.0.1:{port}"))
            await socket.send('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}')
            while len(ears.heard) < 3:
                await asyncio.sleep(0.01)
            await socket.close()
            return ears.heard, heard

    frames, heard = asyncio.run(asyncio.wait_for(main(), 5))
    assert json.loads(frames[0]) == {"result": None, "id": 1}
    assert [said for said, _ in heard] == [method]


@pytest.mark.loopback
def test_an_exit_that_is_down_is_a_transport_error():
    async def main():
        with pytest.raises(TransportError):
            await open_socket("ws://127.0.0.1:2", Ears(), leave=Exit("http://127.0.0.1:1"))

    asyncio.run(main())


def test_a_pool_is_used_in_turn_and_only_for_its_kind():
    pool = StaticPool({"paged": ["http://a:1", "socks5://b:2"], "feed": []})
    assert [pool.exit("paged").proxy for _ in range(3)] == ["http://a:1", "socks5://b:2", "http://a:1"]
    assert pool.exit("rest") is pool.exit("feed") is DIRECT
    assert Direct().exit("paged") is DIRECT
    assert str(DIRECT) == "direct"


@pytest.mark.parametrize(
    ("pools", "says"),
    [
        ({"paegd": ["http://a"]}, "no kind of turn 'paegd'; there are rest, paged, poll, feed"),
        ({"paged": ["a:1"]}, "proxies.paged: no exit 'a:1'; write http"),
        ({"paged": ["ftp://a:1"]}, "no exit 'ftp://a:1'"),
    ],
)
def test_a_pool_that_is_none(pools, says):
    with pytest.raises(UsageError, match=says):
        StaticPool(pools)


def test_two_exits_spend_twice_as_much(tmp_path, monkeypatch):
    """12,000 weight in a minute where one address may spend 6,000: through two exits nobody waits."""
    monkeypatch.chdir(tmp_path)

    def elapsed(exits):
        transport = FakeTransport(lambda call: [], FakeClock(START))

        async def main():
            config = {"proxies": {"paged": exits}, "venues": {"binance": {"limits": {"weight": 100}}}}
            async with Flood(config, transport=transport, clock=transport.clock) as flood:
                await flood.collect(tf.Candle, "binance:BTC/USDT", interval="1m", start="2025-01-01", end="2025-03-11")

        asyncio.run(main())
        assert transport.count == {"/api/v3/klines": 100}
        assert {call.exit.proxy for call in transport.calls} == set(exits)
        return transport.clock.elapsed

    assert elapsed(["http://a:1"]) >= MINUTE
    assert elapsed(["http://a:1", "http://b:1"]) < MINUTE
