"""A process that serves ready-made Binance aggTrade frames as fast as a client reads them.

    python bench/frames_server.py --frames 300000          # prints one line: ready PORT

Everything is built before the first client comes, so while a contestant is measured this process only copies bytes
into a socket. One port serves the WebSocket and the few REST calls that clients make before they subscribe.

GET /bench?frames=N sets how many frames the connections opened from then on are sent, in whole thousands, over and over
where that is more than were built. GET /bench?pace=R lets them be sent R frames a second, made as they are sent: the
first raw id of each is then the moment of it, in ns of the machine's monotonic clock.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import socket
import time
import urllib.parse
from collections.abc import Iterator

import common
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

CHUNK = 1_000  # frames written at once: about 200 kB
STARTS = {"BTCUSDT": 6183763, "ETHUSDT": 318255, "BNBUSDT": 57210, "SOLUSDT": 15402, "XRPUSDT": 6120}  # in hundredths
WEIGHTS = (40, 25, 15, 12, 8)  # how the trades fall on the markets, in percent


def payloads(frames: int, *, wrapped: bool) -> Iterator[bytes]:
    """The messages, the same for every run but for their times: ids without a gap in each market, times that never fall."""
    dice = random.Random(1)
    ids = {symbol: 3_123_456_789 + 1_000_000 * place for place, symbol in enumerate(common.SYMBOLS)}
    raw = {symbol: 2 * number for symbol, number in ids.items()}
    prices = dict(STARTS)
    moment = int(time.time() * 1000) - frames
    for symbol in dice.choices(common.SYMBOLS, WEIGHTS, k=frames):
        moment += dice.randrange(3)
        prices[symbol] = max(100, prices[symbol] + dice.randrange(-2, 3))
        ids[symbol] += 1
        first, last = raw[symbol] + 1, raw[symbol] + dice.randrange(1, 4)
        raw[symbol] = last
        whole, part = divmod(prices[symbol], 100)
        size = dice.randrange(1_000, 999_999)
        data = (
            f'{{"e":"aggTrade","E":{moment + 1},"s":"{symbol}","a":{ids[symbol]},"p":"{whole}.{part:02}000000",'
            f'"q":"0.{size:06}00","f":{first},"l":{last},"T":{moment},"m":{"true" if size & 1 else "false"},"M":true}}'
        )
        yield (f'{{"stream":"{symbol.lower()}@aggTrade","data":{data}}}' if wrapped else data).encode()


def framed(payload: bytes) -> bytes:
    """One whole unmasked text frame."""
    size = len(payload)
    head = bytes((0x81, size)) if size < 126 else bytes((0x81, 126)) + size.to_bytes(2, "big")
    return head + payload


def chunks_of(frames: int, *, wrapped: bool) -> list[bytes]:
    """The frames joined by the thousand; a chunk always ends where a frame ends."""
    messages = payloads(frames, wrapped=wrapped)
    return [b"".join(map(framed, itertools.islice(messages, CHUNK))) for _ in range(0, frames, CHUNK)]


def exchange_info() -> bytes:
    """The market list, as full as ccxt and cryptofeed need it."""
    symbols = [
        {
            "symbol": symbol,
            "status": "TRADING",
            "baseAsset": symbol.removesuffix("USDT"),
            "baseAssetPrecision": 8,
            "quoteAsset": "USDT",
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "baseCommissionPrecision": 8,
            "quoteCommissionPrecision": 8,
            "orderTypes": ["LIMIT", "MARKET"],
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": [
                {
                    "filterType": "PRICE_FILTER",
                    "minPrice": "0.01000000",
                    "maxPrice": "1000000.00000000",
                    "tickSize": "0.01000000",
                },
                {"filterType": "LOT_SIZE", "minQty": "0.00000100", "maxQty": "9000.00000000", "stepSize": "0.00000100"},
                {
                    "filterType": "NOTIONAL",
                    "minNotional": "5.00000000",
                    "applyMinToMarket": True,
                    "maxNotional": "9000000.00000000",
                },
            ],
            "permissions": [],
            "permissionSets": [["SPOT"]],
        }
        for symbol in common.SYMBOLS
    ]
    limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}]
    now = int(time.time() * 1000)
    return json.dumps(
        {"timezone": "UTC", "serverTime": now, "rateLimits": limits, "exchangeFilters": [], "symbols": symbols}
    ).encode()


class Desk:
    """What all connections share: the frames, and how many of them the next connection gets."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.pace = 0
        self.built: dict[bool, list[bytes]] = {True: chunks_of(frames, wrapped=True)}

    def chunks(self, *, wrapped: bool) -> list[bytes]:
        """The frames to send; the unwrapped form is built when /bench first says that it is wanted."""
        if wrapped not in self.built:
            self.built[wrapped] = chunks_of(len(self.built[not wrapped]) * CHUNK, wrapped=wrapped)
        return list(itertools.islice(itertools.cycle(self.built[wrapped]), -(-self.frames // CHUNK)))

    def rest(self, target: str) -> tuple[int, bytes]:
        """Status and body for a plain request."""
        url = urllib.parse.urlsplit(target)
        if url.path == "/bench":
            query = urllib.parse.parse_qs(url.query)
            self.pace = int(query.get("pace", ["0"])[0])
            self.frames = int(query.get("frames", [self.frames])[0])
            sent = len(self.chunks(wrapped=query.get("form") != ["raw"])) * CHUNK
            return 200, json.dumps({"frames": sent}).encode()
        if url.path == "/api/v3/exchangeInfo":
            return 200, exchange_info()
        if url.path == "/api/v3/time":
            return 200, json.dumps({"serverTime": int(time.time() * 1000)}).encode()
        if url.path == "/api/v3/ping":
            return 200, b"{}"
        return 404, b'{"code":-1000,"msg":"not served by the bench"}'


class Talk:
    """One connection: the protocol of websockets without its I/O for what is rare, ready bytes for the flood."""

    def __init__(self, desk: Desk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.desk, self.reader, self.writer = desk, reader, writer
        self.protocol = ServerProtocol()
        self.wrapped = True
        self.topics: set[str] = set()
        self.flood: asyncio.Task[None] | None = None

    async def run(self) -> None:
        self.writer.transport.set_write_buffer_limits(high=1 << 18)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        try:
            while not self.reader.at_eof():
                data = await self.reader.read(65536)
                if data:
                    self.protocol.receive_data(data)
                else:
                    self.protocol.receive_eof()
                for event in self.protocol.events_received():
                    if isinstance(event, Request):
                        self.answer(event)
                    elif event.opcode is Opcode.TEXT:
                        self.subscribe(json.loads(event.data))
                self.flush()
                if self.protocol.state in (State.CLOSING, State.CLOSED) and self.flood is not None:
                    self.flood.cancel()
                if self.protocol.state is State.OPEN and self.flood is None and self.topics.issuperset(common.TOPICS):
                    self.flood = asyncio.create_task(self.pour())
        except ConnectionError:
            pass  # a contestant that has what it wants may go without a goodbye
        finally:
            if self.flood is not None:
                self.flood.cancel()
            self.writer.close()

    def answer(self, request: Request) -> None:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            status, body = self.desk.rest(request.path)
            response = self.protocol.reject(status, body.decode())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = "application/json"
            self.protocol.send_response(response)
            return
        self.protocol.send_response(self.protocol.accept(request))
        url = urllib.parse.urlsplit(request.path)
        self.wrapped = "/ws" not in url.path
        for topics in urllib.parse.parse_qs(url.query).get("streams", ()):
            self.topics.update(topics.split("/"))

    def subscribe(self, message: dict[str, object]) -> None:
        if message.get("method") == "SUBSCRIBE":
            self.topics.update(map(str, message["params"]))
        self.protocol.send_text(json.dumps({"result": None, "id": message.get("id")}).encode())

    def flush(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                self.writer.write(data)
            elif self.writer.can_write_eof():
                with contextlib.suppress(OSError):  # the client may be gone already
                    self.writer.write_eof()

    async def pour(self) -> None:
        if self.desk.pace:
            await self.drip(self.desk.pace)
            return
        for chunk in self.desk.chunks(wrapped=self.wrapped):
            self.writer.write(chunk)
            await self.writer.drain()

    async def drip(self, pace: int) -> None:
        """Frames at a steady pace, a few each millisecond, until nobody listens."""
        began, sent = time.perf_counter(), 0
        first = int(time.time() * 1e3)
        while True:
            for number in range(sent, int((time.perf_counter() - began) * pace)):
                symbol = common.SYMBOLS[number % len(common.SYMBOLS)]
                moment = time.perf_counter_ns()
                self.writer.write(framed(
                    f'{{"stream":"{symbol.lower()}@aggTrade","data":{{"e":"aggTrade","E":{first},"s":"{symbol}",'
                    f'"a":{3_000_000_000 + number // len(common.SYMBOLS)},"p":"{STARTS[symbol] / 100:.8f}","q":"0.{number % 977:06}00",'
                    f'"f":{moment},"l":{moment},"T":{first + number * 1000 // pace},"m":true,"M":true}}}}'.encode()
                ))  # fmt: skip
                sent = number + 1
            await self.writer.drain()
            await asyncio.sleep(0.001)


async def serve(frames: int, port: int) -> None:
    desk = Desk(-(-frames // CHUNK) * CHUNK)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Talk(desk, reader, writer).run()

    server = await asyncio.start_server(talk, "127.0.0.1", port, backlog=16)
    print("ready", server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300_000)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    arguments = parser.parse_args()
    common.pin(common.SERVER)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.frames, arguments.port))


if __name__ == "__main__":
    main()
