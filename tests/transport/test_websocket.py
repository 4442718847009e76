"""Both WebSocket clients against a server that misbehaves: every message whole, and one reason when it is over."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
import websockets
from websockets.asyncio.server import serve
from websockets.utils import accept_key

from tradeflood.errors import TransportError
from tradeflood.transport import DIRECT, user_agent
from tradeflood.transport.websocket import AT_ONCE, LARGEST, NotUpgraded, open_socket

pytestmark = pytest.mark.loopback

BOTH = [pytest.param(False, id="websockets"), pytest.param(True, id="picows")]
HUGE = 10_000_000


class Ears:
    def __init__(self):
        self.heard, self.whys, self.pulses = [], [], 0
        self.stirred = asyncio.Event()

    def messages(self, frames):
        assert frames
        assert {type(frame) for frame in frames} == {bytes}
        self.heard += frames
        self.stirred.set()

    def lost(self, why):
        self.whys.append(why)
        self.stirred.set()

    def alive(self):
        self.pulses += 1
        self.stirred.set()

    async def until(self, good):
        while not good(self):
            self.stirred.clear()
            await asyncio.wait_for(self.stirred.wait(), 5)


@asynccontextmanager
async def talking(play, fast, **options):
    """A server that plays its part on each connection, a client at it, and its ears."""
    if fast:
        pytest.importorskip("picows")
    ears = Ears()
    async with serve(play, "127.0.0.1", 0, compression=None, max_size=None, **options) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/path?a=b"
        socket = await open_socket(url, ears, leave=DIRECT, headers=(("X-Ours", "1"),), fast=fast)
        try:
            yield socket, ears
        finally:
            await socket.close()


def run(main):
    asyncio.run(asyncio.wait_for(main(), 10))


@pytest.mark.parametrize("fast", BOTH)
def test_messages_come_whole_and_in_order_and_go_out(fast):
    """Text, binary, empty, in pieces, large; and the request says who we are."""
    told = []

    async def play(peer):
        told.append((peer.request.path, peer.request.headers["User-Agent"], peer.request.headers["X-Ours"]))
        await peer.send("ä")
        await peer.send(b"\x00\xff")
        await peer.send("")
        await peer.send(["in ", "", "pieces"])
        await peer.send("x" * 1_000_000)
        told.append(await peer.recv())
        told.append(await peer.recv())
        await peer.send("end")
        await peer.wait_closed()

    async def main():
        async with talking(play, fast) as (socket, ears):
            await socket.send("text")
            await socket.send(b"bytes")
            await ears.until(lambda e: e.heard[-1:] == [b"end"])
            assert ears.heard == ["ä".encode(), b"\x00\xff", b"", b"in pieces", b"x" * 1_000_000, b"end"]

    run(main)
    assert told[0] == ("/path?a=b", user_agent(), "1")
    assert [said if isinstance(said, str) else said.decode() for said in told[1:]] == ["text", "bytes"]


@pytest.mark.parametrize("fast", BOTH)
def test_thousands_of_messages_at_once_come_in_order(fast):
    many = [f"{number}".encode() for number in range(2 * AT_ONCE + 7)]

    async def play(peer):
        for message in many:
            await peer.send(message.decode())
        await peer.wait_closed()

    async def main():
        async with talking(play, fast) as (socket, ears):
            socket.pause()
            await asyncio.sleep(0.2)
            socket.resume()
            await ears.until(lambda e: len(e.heard) >= len(many))
            assert ears.heard == many

    run(main)


@pytest.mark.parametrize("fast", BOTH)
@pytest.mark.parametrize("fragments", [1, 10])
def test_a_message_of_ten_million_bytes_ends_the_connection_by_name(fast, fragments):
    """In one frame or in ten: the reason says what happened. Pieces are not gathered; picows may have one frame whole."""

    async def play(peer):
        await peer.send("before")
        piece = "x" * (HUGE // fragments)
        await peer.send(piece if fragments == 1 else [piece] * fragments)
        await peer.send("after")
        await peer.wait_closed()

    async def main():
        async with talking(play, fast) as (_, ears):
            await ears.until(lambda e: e.whys)
            assert ears.heard[0] == b"before"
            assert fragments == 1 or max(map(len, ears.heard)) < LARGEST
            (why,) = ears.whys
            assert "1009" in why or "larger than" in why or "exceeding" in why, why
            assert "\n" not in why

    assert HUGE > LARGEST
    run(main)


@pytest.mark.parametrize("fast", BOTH)
def test_a_close_says_code_and_reason(fast):
    async def play(peer):
        await peer.send("1")
        await peer.close(4001, "slow consumer")

    async def main():
        async with talking(play, fast) as (socket, ears):
            await ears.until(lambda e: e.whys)
            assert ears.heard == [b"1"]
            assert "4001" in ears.whys[0]
            assert "slow consumer" in ears.whys[0]
            assert "b'" not in ears.whys[0]
            with pytest.raises(TransportError):
                await socket.send("too late")
        assert len(ears.whys) == 1

    run(main)


@pytest.mark.parametrize("fast", BOTH)
@pytest.mark.parametrize("what", ["cut", "half", "unmasked nonsense", "reset"])
def test_a_connection_that_breaks_is_lost_once(fast, what):
    """Cut between frames, inside a frame, or full of what is no frame."""

    async def play(peer):
        await peer.send("1")
        raw = {
            "cut": b"",
            "reset": b"",
            "half": b"\x81\x7e\x03\xe8half of it",
            "unmasked nonsense": b"\xff\xff\xff\xff\xff\xff",
        }[what]
        peer.transport.write(raw)
        await asyncio.sleep(0)
        if what == "reset":
            peer.transport.abort()
        else:
            peer.transport.close()

    async def main():
        async with talking(play, fast) as (_, ears):
            await ears.until(lambda e: e.whys)
            assert ears.heard == [b"1"]
            assert ears.whys[0]
        assert len(ears.whys) == 1

    run(main)


@pytest.mark.parametrize("fast", BOTH)
def test_pings_of_the_venue_are_answered(fast):
    answered = asyncio.Event()

    async def play(peer):
        pong = await peer.ping(b"are you there")
        await pong
        answered.set()
        await peer.send("yes")
        await peer.wait_closed()

    async def main():
        async with talking(play, fast) as (_, ears):
            await ears.until(lambda e: e.heard)
            assert answered.is_set()

    run(main)


@pytest.mark.parametrize("fast", BOTH)
def test_closing_is_said_once_and_does_not_hang_where_nobody_answers(fast):
    async def play(peer):
        await peer.send("1")
        peer.transport.pause_reading()
        await over.wait()

    async def main():
        begin = asyncio.get_running_loop().time()
        async with talking(play, fast, close_timeout=0.01) as (socket, ears):
            await ears.until(lambda e: e.heard)
            await socket.close()
            assert ears.whys == ["closed by us"]
            assert asyncio.get_running_loop().time() - begin < 2.5
            over.set()

    over = asyncio.Event()
    run(main)


@pytest.mark.parametrize("fast", BOTH)
def test_who_is_paused_reads_nothing_until_resumed(fast):
    async def play(peer):
        await peer.send("1")
        await peer.recv()
        await peer.send("2")
        await peer.wait_closed()

    async def main():
        async with talking(play, fast) as (socket, ears):
            await ears.until(lambda e: e.heard)
            socket.pause()
            await socket.send("go on")
            await asyncio.sleep(0.05)
            assert ears.heard == [b"1"]
            socket.resume()
            await ears.until(lambda e: len(e.heard) == 2)

    run(main)


@pytest.mark.parametrize("fast", BOTH)
@pytest.mark.parametrize("url", ["ws://127.0.0.1:1/", "ws://nobody.invalid/", "http://127.0.0.1:1/", "nonsense"])
def test_what_cannot_be_opened_is_a_transport_error_that_names_it(fast, url):
    async def main():
        with pytest.raises(TransportError) as error:
            await open_socket(url, Ears(), leave=DIRECT, fast=fast)
        assert str(error.value).startswith(f"{url}: ")
        assert "\n" not in str(error.value)

    run(main)


@pytest.mark.parametrize("fast", BOTH)
@pytest.mark.parametrize("status", [200, 404, 429, 503])
def test_a_refused_handshake_is_a_transport_error_that_says_how(fast, status):
    def refuse(peer, request):
        answer = peer.respond(status, "<html>no</html>")
        answer.headers["Retry-After"] = "77"
        return answer

    async def play(peer):
        raise AssertionError

    async def main():
        async with serve(play, "127.0.0.1", 0, process_request=refuse) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            with pytest.raises(NotUpgraded, match=str(status)) as caught:
                await open_socket(url, Ears(), leave=DIRECT, fast=fast)
            refusal = caught.value
            assert (refusal.status, refusal.headers["retry-after"], refusal.body) == (status, "77", b"<html>no</html>")

    run(main)
    assert websockets


def frame(first, payload):
    """An unmasked frame as a server sends it."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    return bytes((first, 126)) + size.to_bytes(2, "big") + payload if size < 1 << 16 else (
        bytes((first, 127)) + size.to_bytes(8, "big") + payload
    )  # fmt: skip


@pytest.mark.parametrize("fast", BOTH)
@pytest.mark.parametrize("piece", [1, 2, 3, 5, 1000, 1 << 20])
def test_frames_torn_anywhere_are_whole_messages_in_their_order(fast, piece):
    if fast:
        pytest.importorskip("picows")
    wanted = [b"", b"a", b"b" * 125, b"c" * 126, b"d" * 700, b"one two", b"e" * 70_000 if piece > 5 else b"e", b"last"]
    sent = b"".join(
        [
            *(frame(0x81, payload) for payload in wanted[:3]),
            frame(0x89, b"ping"),
            frame(0x82, wanted[3]),
            frame(0x81, wanted[4]),
            frame(0x01, b"one"),
            frame(0x89, b""),
            frame(0x80, b" two"),
            *(frame(0x81, payload) for payload in wanted[6:]),
        ]
    )

    async def serve_raw(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
        accepted = accept_key(key.split(b":")[1].strip().decode())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accepted.encode() + b"\r\n\r\n" + sent[:piece]
        )
        for at in range(piece, len(sent), piece):
            writer.write(sent[at : at + piece])
            await asyncio.sleep(0)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    async def main():
        ears = Ears()
        async with await asyncio.start_server(serve_raw, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            socket = await open_socket(url, ears, leave=DIRECT, fast=fast)
            await ears.until(lambda ears: len(ears.heard) >= len(wanted) or ears.whys)
            await socket.close()
        assert ears.heard == wanted
        assert ears.whys == ["closed by us"]

    run(main)


@pytest.mark.parametrize("fast", BOTH)
def test_a_connection_that_is_given_up_in_its_handshake_does_not_stay(fast):
    """Whoever closes a stream while it opens a connection would leave it open for ever, with picows."""
    if fast:
        pytest.importorskip("picows")
    ended = []

    async def shake(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        key = next(
            line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
        )
        await asyncio.sleep(0.05)
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(key.decode()).encode() + b"\r\n\r\n"
        )
        with suppress(ConnectionError):
            await reader.read()
        ended.append(True)
        writer.close()

    async def main():
        async with await asyncio.start_server(shake, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            opening = asyncio.create_task(open_socket(url, Ears(), leave=DIRECT, fast=fast))
            await asyncio.sleep(0.02)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            while not ended:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 5))
