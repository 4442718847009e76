"""The floors: what it costs to receive the frames, and to receive and decode them, with nothing behind it.

Run by bench/run.py, each in a fresh process: python bench/floors.py NAME PORT FRAMES
"""

import asyncio
import socket

import common
from common import MissingError, Tally


def event_loop_runner():
    """asyncio's runner, on uvloop where that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


def typed_decoder():
    """A function from the bytes of a message to a typed object whose price and size are still text."""
    try:
        import msgspec
    except ImportError:
        raise MissingError("msgspec is not installed") from None

    class AggTrade(msgspec.Struct):
        s: str
        a: int
        p: str
        q: str
        f: int
        l: int  # noqa: E741 - the venue's name
        T: int
        m: bool

    class Frame(msgspec.Struct):
        stream: str
        data: AggTrade

    return msgspec.json.Decoder(Frame).decode


def with_socket(port: int, frames: int) -> dict[str, object]:
    """Bytes off a plain socket, not even split into frames: the server's own speed."""
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    head = f"GET {common.STREAMS} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    tally = Tally(frames)
    tail = bytearray()
    buffer = memoryview(bytearray(1 << 20))
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.sendall(head.encode())
        while b"\r\n\r\n" not in tail:
            tail += wire.recv(1 << 16)
        tally.start()
        # A message has one opening of its inner object; counting these needs no frame splitting. The seam of two reads may hide one.
        del tail[: tail.index(b"\r\n\r\n") + 4]
        mark = b'"data":{'
        tally.delivered = tail.count(mark)
        seam = bytes(tail[-len(mark) + 1 :])
        wire.settimeout(2)
        while tally.delivered < frames:
            size = wire.recv_into(buffer)
            if not size:
                break
            got = buffer[:size].tobytes()
            tally.delivered += got.count(mark) + (seam + got[: len(mark) - 1]).count(mark)
            seam = got[-len(mark) + 1 :]
        tally.stop()
    return tally.result("bytes only")


def with_websockets(port: int, frames: int, decode=None) -> dict[str, object]:
    try:
        from websockets.asyncio.client import connect
    except ImportError:
        raise MissingError("websockets is not installed") from None
    tally = Tally(frames)

    async def read() -> None:
        async with connect(f"ws://127.0.0.1:{port}{common.STREAMS}", compression=None) as feed:
            await feed.recv(decode=False)
            tally.start()
            count = 1
            while count < frames:
                data = await feed.recv(decode=False)
                if decode is not None:
                    decode(data)
                count += 1
            tally.stop()
            tally.delivered = count

    asyncio.run(read())
    return tally.result("asyncio")


def with_picows(port: int, frames: int, decode=None) -> dict[str, object]:
    try:
        from picows import WSListener, WSMsgType, ws_connect
    except ImportError:
        raise MissingError("picows is not installed: pip install 'tradeflood[fast]'") from None
    tally = Tally(frames)
    text = WSMsgType.TEXT

    class Counter(WSListener):
        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def on_ws_frame(self, transport, frame) -> None:
            if frame.msg_type is text:
                if decode is not None:
                    decode(frame.get_payload_as_memoryview())
                self.count += 1
                if self.count == 1:
                    tally.start()
                elif self.count == frames:
                    tally.stop()
                    transport.disconnect()

    async def read() -> None:
        transport, counter = await ws_connect(Counter, f"ws://127.0.0.1:{port}{common.STREAMS}")
        await transport.wait_disconnected()
        tally.delivered = counter.count

    run = event_loop_runner()
    run(read())
    return tally.result("asyncio" if run is asyncio.run else "uvloop")


def websockets_decoded(port: int, frames: int) -> dict[str, object]:
    return with_websockets(port, frames, typed_decoder())


def picows_decoded(port: int, frames: int) -> dict[str, object]:
    return with_picows(port, frames, typed_decoder())


CONTESTANTS = {
    "socket": with_socket,
    "websockets": with_websockets,
    "websockets+msgspec": websockets_decoded,
    "picows": with_picows,
    "floor": picows_decoded,
}

if __name__ == "__main__":
    common.contest(CONTESTANTS)
