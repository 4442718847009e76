"""The peers, each as its own documentation shows it, reading our local server; both only count what reaches the user.

Run by bench/run.py, each in a fresh process: python bench/peers.py NAME PORT FRAMES
"""

import asyncio
import time

import common
from common import MissingError, Tally

LIMIT = 20.0  # seconds after which a contestant stops and reports what it has by then
SILENCE = 2.0  # seconds without a trade after which nothing more is expected


def cryptofeed(port: int, frames: int) -> dict[str, object]:
    """Binance trades of cryptofeed with a callback that counts, on the event loop it chooses itself (uvloop where installed)."""
    try:
        from cryptofeed import FeedHandler
        from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint, WSAsyncConn
        from cryptofeed.defines import TRADES
        from cryptofeed.exchanges import Binance
    except ImportError:
        raise MissingError("cryptofeed is not installed: pip install --group bench") from None

    class LocalBinance(Binance):
        websocket_endpoints = [WebsocketEndpoint(f"wss://127.0.0.1:{port}")]  # noqa: RUF012 - read by cryptofeed
        rest_endpoints = [RestEndpoint(f"http://127.0.0.1:{port}", routes=Routes("/api/v3/exchangeInfo"))]  # noqa: RUF012

        def connect(self):
            # cryptofeed insists on wss:// when a connection is made, and takes ws:// once it is.
            connections = super().connect()
            for connection, *_ in connections:
                if isinstance(connection, WSAsyncConn):
                    connection.address = connection.address.replace("wss://", "ws://", 1)
            return connections

    tally = Tally(frames)
    deadline = time.perf_counter() + LIMIT
    handler = FeedHandler(config={"uvloop": True, "log": {"disabled": True}})
    loop = asyncio.new_event_loop()  # of the policy that the handler has just set
    asyncio.set_event_loop(loop)

    async def on_trade(_trade, _receipt: float) -> None:
        tally.delivered += 1
        if tally.delivered == 1:
            tally.start()
        elif tally.delivered == frames or (not tally.delivered & 4095 and time.perf_counter() > deadline):
            tally.stop()
            loop.stop()

    markets = [market.replace("/", "-") for market in common.MARKETS]
    handler.add_feed(
        LocalBinance(
            symbols=markets, channels=[TRADES], callbacks={TRADES: on_trade}, config={"log": {"disabled": True}}
        )
    )
    handler.run(install_signal_handlers=False)
    return tally.result("uvloop" if type(loop).__module__.startswith("uvloop") else "asyncio")


def ccxt_pro(port: int, frames: int) -> dict[str, object]:
    """watch_trades_for_symbols of ccxt.pro in the loop of its manual; distinct trades are counted."""
    try:
        import ccxt.pro
    except ImportError:
        raise MissingError("ccxt is not installed: pip install --group bench") from None
    tally = Tally(frames)

    async def read() -> None:
        venue = ccxt.pro.binance(
            {"enableRateLimit": False, "options": {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False}}
        )
        venue.urls["api"]["public"] = f"http://127.0.0.1:{port}/api/v3"
        # ccxt tells spot from futures by "/stream" in the address, which the host of the real one has.
        venue.urls["api"]["ws"]["spot"] = f"ws://127.0.0.1:{port}/stream/ws"
        seen: set[tuple[str, str]] = set()
        try:
            await venue.load_markets()
            deadline = time.perf_counter() + LIMIT
            while len(seen) < frames and time.perf_counter() < deadline:
                try:
                    trades = await asyncio.wait_for(
                        venue.watch_trades_for_symbols(list(common.MARKETS), params={"name": "aggTrade"}), SILENCE
                    )
                except TimeoutError:
                    break
                if not seen:
                    tally.start()
                seen.update((trade["symbol"], trade["id"]) for trade in trades)
                tally.stop()
        finally:
            tally.delivered = len(seen)
            await venue.close()

    asyncio.run(read())
    return tally.result("asyncio")


CONTESTANTS = {"cryptofeed": cryptofeed, "ccxt.pro": ccxt_pro}

if __name__ == "__main__":
    common.contest(CONTESTANTS)
