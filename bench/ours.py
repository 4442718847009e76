"""TradeFlood itself, with each transport: Trade objects delivered to the caller, and rows durable in the store.

Run by bench/run.py, each in a fresh process: python bench/ours.py NAME PORT FRAMES [--profile]
"""

import asyncio
import cProfile
import gc
import pstats
import sys
import tempfile
import time
from functools import partial
from importlib.util import find_spec

import common
from common import MissingError
from floors import event_loop_runner

FIRST_LOOK = 1_000_000
"""How long (ns) a look takes for the first rows, which start the clock."""


def settings(port: int, store: str | None = None) -> dict[str, object]:
    """The configuration that points Binance at a server on this machine."""
    venues = {"binance": {"rest_url": f"http://127.0.0.1:{port}", "feed_url": f"ws://127.0.0.1:{port}"}}
    return {"venues": venues} | ({"store": store} if store else {})


def markets() -> list[str]:
    return [f"binance:{market}" for market in common.MARKETS]


def checked_transport(transport: str) -> bool:
    """Whether the fast transport is meant, which must be installed then."""
    if transport == "picows" and find_spec("picows") is None:
        raise MissingError("picows is not installed")
    return transport == "picows"


def delivered(port: int, frames: int, transport: str, *, single: bool = False) -> dict[str, object]:
    """Trade objects that came out of `Flood.stream`, counted; every market's ids without a hole."""
    import tradeflood as tf

    fast = checked_transport(transport)
    run = event_loop_runner() if fast else asyncio.run
    tally = common.Tally(frames)

    async def count() -> None:
        async with tf.Flood(settings(port)) as flood:
            async for batch in flood.stream(tf.Trade, *markets(), kind="merged", fast=fast).batches():
                if not tally.delivered:
                    tally.start()
                tally.delivered += len(batch)
                if tally.delivered >= frames:
                    tally.stop()
                    return

    async def count_singly() -> None:
        async with tf.Flood(settings(port)) as flood:
            async for _ in flood.stream(tf.Trade, *markets(), kind="merged", fast=fast):
                tally.delivered += 1
                if tally.delivered == 1:
                    tally.start()
                elif tally.delivered == frames:
                    tally.stop()
                    return

    async def check() -> None:
        last: dict[str, int] = {}
        seen = 0
        async with tf.Flood(settings(port)) as flood:
            async for trade in flood.stream(tf.Trade, *markets(), kind="merged", fast=fast):
                number = int(trade.trade_id)
                if last.setdefault(trade.market, number - 1) != number - 1:
                    raise SystemExit(f"{trade.market}: {number} follows {last[trade.market]}")
                last[trade.market] = number
                seen += 1
                if seen == frames:
                    return

    run(count_singly() if single else count())
    run(check())  # only to see that no id is missing; it is not timed
    return tally.result("ids checked")


def durable(port: int, frames: int, transport: str) -> dict[str, object]:
    """Rows that rest in chdb with their claims, as the runner brings them there: stream, keeper, outlet, known store."""
    import tradeflood as tf
    from tradeflood.cli.running import COLLECTED_EVERY
    from tradeflood.coverage import held
    from tradeflood.runner.keeper import Keeper
    from tradeflood.runner.outlet import Outlet
    from tradeflood.runner.runner import BATCH_AGE

    fast = checked_transport(transport)
    tally = common.Tally(frames)
    gc.set_threshold(*COLLECTED_EVERY)

    async def keep(folder: str) -> None:
        async with tf.Flood(settings(port, f"chdb://{folder}")) as flood:
            store = flood.open_store()
            store.write({tf.Market: [tf.Market("binance", "BTC/USDT", "BTCUSDT", "BTC", "USDT")]})  # so tables are made
            outlet = Outlet(store)
            keeper = Keeper(flood.venues, outlet, known=store)
            stream = flood.stream(tf.Trade, *markets(), kind="merged", fast=fast)
            await stream.begin()
            while not stream.count:
                await stream.gather(FIRST_LOOK)
            tally.start()
            seen = 0
            while seen < frames:
                await stream.gather(BATCH_AGE)
                rows, proofs = stream.take(), stream.proofs()
                seen += len(rows)
                await asyncio.to_thread(keeper.write, rows, proofs)
            await stream.close()
            await asyncio.to_thread(keeper.close, stream.take(), stream.proofs())
            await asyncio.to_thread(outlet.close)
            tally.stop()
            summary = store.summary()
            tally.delivered = sum(one.rows for one in summary)
            for one in summary:
                if not held(store.claims(one.dataset)).covers(tf.Spans.of((one.first + 1, one.last))):
                    raise SystemExit(f"{one.dataset.label}: not all rows are claimed")

    with tempfile.TemporaryDirectory(prefix="tradeflood-bench-") as folder:
        (event_loop_runner() if fast else asyncio.run)(keep(folder))
    return tally.result("rows and claims on the disk")


CONTESTANTS = {
    "tradeflood+websockets": partial(delivered, transport="websockets"),
    "tradeflood+picows": partial(delivered, transport="picows"),
    "one by one": partial(delivered, transport="websockets", single=True),
    "durable": partial(durable, transport="websockets"),
}


def profile() -> None:
    """Where the time goes, of the contestant named on the command line: the functions with the most of their own."""
    name, port, frames = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    common.pin(common.CLIENT)
    CONTESTANTS[name](port, min(frames, 10_000))  # what is done once is done
    watcher = cProfile.Profile(time.perf_counter)
    watcher.enable()
    CONTESTANTS[name](port, frames)
    watcher.disable()
    pstats.Stats(watcher).strip_dirs().sort_stats("tottime").print_stats(20)


if __name__ == "__main__":
    if "--profile" in sys.argv:
        profile()
    else:
        common.contest(CONTESTANTS)
