"""Venues on this machine, for scripts, notebooks and tests that are not coroutines themselves.

with venues_here("binance"):
    tf.collect(tf.Candle, "binance:BTC/USDT", interval="1h", start="2024-01-01", end="2024-01-02")
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from fractions import Fraction
from typing import TypeAlias

from tradeflood.config import PREFIX
from tradeflood.plugins import load
from tradeflood.replay.server import Served, serve
from tradeflood.replay.source import Source

_Serving: TypeAlias = tuple[Served, asyncio.AbstractEventLoop, asyncio.Event]


@contextmanager
def venues_here(
    *venues: str,
    source: Source | None = None,
    speed: float | str | Fraction = 1,
    start: int | None = None,
    seed: int = 0,
) -> Iterator[Served]:
    """The addresses of these venues (all that have a desk unless named), served by a thread until the end.

    Meanwhile the environment points this process and its children at them. `serve` says what the rest means.
    """
    load()
    told: Future[_Serving] = Future()

    async def hold() -> None:
        over = asyncio.Event()
        try:
            async with serve(source, venues or None, speed=speed, start=start, seed=seed) as served:
                told.set_result((served, asyncio.get_running_loop(), over))
                await over.wait()
        except BaseException as error:
            if told.done():
                raise
            told.set_exception(error)

    thread = threading.Thread(target=lambda: asyncio.run(hold()), name="venues", daemon=True)
    thread.start()
    served, loop, over = told.result()
    addresses = {
        f"{PREFIX}VENUES__{venue}__{name}".upper(): url
        for venue, urls in served.settings().items()
        for name, url in urls.items()
    }
    before = {name: os.environ.get(name) for name in addresses}
    os.environ.update(addresses)
    try:
        yield served
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        loop.call_soon_threadsafe(over.set)
        thread.join()
