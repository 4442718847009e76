"""TradeFlood itself: Trade objects delivered to the caller, with each transport, the ledger on.

Run by bench/run.py, each in a fresh process: python bench/ours.py NAME PORT FRAMES
"""

import asyncio
from importlib.util import find_spec

import common
from common import MissingError
from floors import event_loop_runner


def delivered(port: int, frames: int, transport: str) -> dict[str, object]:
    """Trade objects that came out of `Flood.stream`, counted; every market's ids without a hole."""
    import tradeflood as tf

    fast = transport == "picows"
    if fast and find_spec("picows") is None:
        raise MissingError("picows is not installed")
    url = f"127.0.0.1:{port}"
    config = {"venues": {"binance": {"rest_url": f"http://{url}", "feed_url": f"ws://{url}"}}}
    markets = [f"binance:{market}" for market in common.MARKETS]
    tally = common.Tally(frames)

    async def read(look):
        seen = 0
        async with tf.Flood(config) as flood:
            async for batch in flood.stream(tf.Trade, *markets, kind="merged", fast=fast).batches():
                look(batch)
                seen += len(batch)
                if seen >= frames:
                    return

    def count(batch):
        if not tally.delivered:
            tally.start()
        tally.delivered += len(batch)
        tally.stop()

    last = {}

    def check(batch):
        for trade in batch:
            number = int(trade.trade_id)
            if last.setdefault(trade.market, number - 1) != number - 1:
                raise SystemExit(f"{trade.market}: {number} follows {last[trade.market]}")
            last[trade.market] = number

    for look in (count, check):  # the second time only to see that no id is missing; it is not timed
        (event_loop_runner() if fast else asyncio.run)(read(look))
    return tally.result("ids checked")


def with_websockets(port: int, frames: int) -> dict[str, object]:
    return delivered(port, frames, "websockets")


def with_picows(port: int, frames: int) -> dict[str, object]:
    return delivered(port, frames, "picows")


CONTESTANTS = {"tradeflood+websockets": with_websockets, "tradeflood+picows": with_picows}

if __name__ == "__main__":
    common.contest(CONTESTANTS)
