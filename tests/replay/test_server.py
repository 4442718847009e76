"""Serving, as the CLI and the tests of connectors use it."""

import asyncio
import json
import socket

import httpx
import pytest
import websockets

from tradeflood.errors import UsageError
from tradeflood.models.time import MINUTE, parse_time
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated

pytestmark = pytest.mark.loopback

START = parse_time("2026-03-04T05:06:07")


def run(main):
    return asyncio.run(asyncio.wait_for(main, 5))


async def drained(client):
    """Reads until the connection is over."""
    while True:
        await client.recv()


def test_rest_and_feed_show_the_same_market():
    """Every trade the feed sends is what REST tells afterwards, and both are the source's."""
    source = Simulated(9)

    async def main():
        async with serve(source, ["binance"], speed=60, start=START) as served:
            rest, feed = served["binance"]
            async with websockets.connect(f"{feed}/ws") as client:
                await client.send('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}')
                assert json.loads(await client.recv()) == {"result": None, "id": 1}
                live = [json.loads(await client.recv()) for _ in range(40)]
            async with httpx.AsyncClient(base_url=rest) as http:
                params = {"symbol": "BTCUSDT", "fromId": live[0]["t"], "limit": 40}
                rows = (await http.get("/api/v3/historicalTrades", params=params)).json()
            return live, rows, served.settings(), served.clock.now()

    live, rows, settings, now = run(main())
    assert [(row["t"], row["p"], row["q"], row["T"]) for row in live] == [
        (row["id"], row["price"], row["qty"], row["time"]) for row in rows
    ]
    trades = source.at("binance").trades("BTC/USDT", "raw", now=now, from_id=live[0]["t"], limit=40)
    assert [int(trade.trade_id) for trade in trades] == [row["t"] for row in live]
    assert settings["binance"]["rest_url"].startswith("http://127.0.0.1:")
    assert START < now < START + 5 * MINUTE


def test_faults_are_played_and_logged():
    async def main():
        async with serve(seed=1, venues=["binance"], faults=["429=1#1", "cut=3"], speed=60) as served:
            rest, feed = served["binance"]
            async with httpx.AsyncClient(base_url=rest) as http:
                statuses = [(await http.get("/api/v3/time")).status_code for _ in range(2)]
            async with websockets.connect(f"{feed}/ws/btcusdt@trade") as client:
                with pytest.raises(websockets.ConnectionClosedError):
                    await drained(client)
            return statuses, [played.name for played in served.faults.injected]

    assert run(main()) == ([429, 200], ["429", "cut"])


def test_a_port_that_is_taken_is_one_clear_line():
    async def main():
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            async with serve(venues=["binance"], port=taken.getsockname()[1]):
                pass

    with pytest.raises(UsageError, match="cannot serve binance on port"):
        run(main())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"venues": ["nowhere"]}, "no replay for venue 'nowhere'"),
        ({"faults": ["explode"]}, "there is no fault 'explode'"),
        ({"venues": ["binance"], "faults": ["429@okx"]}, "names okx, which is not served"),
        ({"speed": 0}, "speed 0"),
    ],
)
def test_wrong_options_are_usage_errors(options, says):
    async def main():
        async with serve(**options):
            pass

    with pytest.raises(UsageError, match=says):
        run(main())


def test_a_slow_answer_holds_up_no_other_connection():
    async def main():
        async with serve(venues=["binance"], faults=["slow=0.3#1"]) as served, httpx.AsyncClient() as http:
            url = f"{served['binance'][0]}/api/v3/time"
            loop = asyncio.get_running_loop()
            begin = loop.time()
            slow = asyncio.create_task(http.get(url))
            await asyncio.sleep(0.05)
            await http.get(url)
            quick = loop.time() - begin
            await slow
            return quick, loop.time() - begin

    quick, slow = run(main())
    assert quick < 0.3 <= slow
