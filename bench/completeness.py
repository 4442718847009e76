"""One table: who misses trades when a venue misbehaves, and who says so.

    python bench/completeness.py [--seconds 17] [--only cuts,withheld] [--verbose]

A simulated market, of which every trade is known, is served in Binance's protocol in real time, and the same
misbehaviour is played to cryptofeed, ccxt.pro and TradeFlood at the same time, each in a fresh process with a venue
of its own. What each of them delivered (TradeFlood: stored) of the trades of one stretch of time is held against the
truth. The stretch begins when everybody has subscribed, and ends a second before everybody is stopped, so it has the
same trades for all of them. `raised` counts the exceptions that reach the user, `log` the log lines of warnings.

Ends with exit code 1 where TradeFlood claims to hold a trade that is not in its store.
"""

import argparse
import asyncio
import json
import logging
import sys
import time
from collections import Counter

from tradeflood.models.time import SECOND, parse_time
from tradeflood.replay.desk import Clock
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Listing, Simulated

SEED = 7
START = parse_time("2026-03-04T05:06:07")
FILLS = (1, 2, 1, 3, 1, 1, 2, 1)
BUSY = (  # a busy day: six hundred merged trades a second, so that a few seconds of real time are ten thousand
    Listing("BTC", "USDT", 6_000_000, 2, 40_000, 5, 960_000, FILLS),
    Listing("ETH", "USDT", 300_000, 2, 60_000, 4, 720_000, FILLS),
    Listing("SOL", "USDT", 15_000, 2, 90_000, 3, 480_000, FILLS),
)
MARKETS = tuple(listing.market for listing in BUSY)
WARM = 4  # seconds that everybody has to connect
GRACE = 1.0  # seconds that what was sent has to arrive, before the clients are stopped
PATIENCE = 5  # seconds of silence after which cryptofeed connects anew; its default of 120 would outlast the run
LIMIT = 40.0  # seconds that a client has to start, and to end

TITLES = {
    "cuts": "three cuts, nobody let in for 0.3 s",
    "withheld": "18 % withheld, no cut",
    "one mute": "one stream of three mute for ever",
    "all mute": "all streams mute for ever",
    "late mute": "mute at the right edge",
}


def faults(name: str, seconds: int) -> list[str]:
    """The misbehaviour of a scenario, as `tradeflood replay --fault` takes it."""
    return {
        "cuts": ["cut=3000#3", "away=0.3"],
        "withheld": ["withhold=0.18"],
        "one mute": ["mutetopic=3"],
        "all mute": ["mute"],
        "late mute": [f"mutelate={WARM + seconds - 5}"],
    }[name]


# --- the clients: each prints `ready`, is told where to connect and when to end, and prints what it got ----------------


class Said(logging.Handler):
    """Counts what a client logs, warnings and worse."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []
        logging.getLogger().addHandler(self)

    def emit(self, record):
        self.lines.append(record.getMessage().splitlines()[0])


def cryptofeed():
    from cryptofeed import FeedHandler
    from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint, WSAsyncConn
    from cryptofeed.defines import TRADES
    from cryptofeed.exchanges import Binance

    class LocalBinance(Binance):
        def connect(self):
            # cryptofeed insists on wss:// when a connection is made, and takes ws:// once it is.
            connections = super().connect()
            for connection, *_ in connections:
                if isinstance(connection, WSAsyncConn):
                    connection.address = connection.address.replace("wss://", "ws://", 1)
            return connections

    said, got = Said(), []
    place = yield
    port = place["port"]
    LocalBinance.websocket_endpoints = [WebsocketEndpoint(f"wss://127.0.0.1:{port}")]
    LocalBinance.rest_endpoints = [RestEndpoint(f"http://127.0.0.1:{port}", routes=Routes("/api/v3/exchangeInfo"))]
    handler = FeedHandler(config={"uvloop": False, "log": {"disabled": True}})
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def on_trade(trade, _receipt):
        got.append((trade.symbol.replace("-", "/"), trade.id))

    handler.add_feed(
        LocalBinance(
            symbols=[market.replace("/", "-") for market in MARKETS], channels=[TRADES], callbacks={TRADES: on_trade},
            timeout=PATIENCE, timeout_interval=1, config={"log": {"disabled": True}},
        )
    )  # fmt: skip
    loop.call_later(place["until"] - time.monotonic(), loop.stop)
    handler.run(install_signal_handlers=False)
    yield {"got": got, "exceptions": 0, "lines": said.lines}


def ccxt_pro():
    import ccxt.pro

    said, got, raised = Said(), [], []
    place = yield

    async def watch(venue):
        # The loop of its manual, which goes on after an error.
        while True:
            try:
                await venue.load_markets()
                trades = await venue.watch_trades_for_symbols(list(MARKETS), params={"name": "aggTrade"})
            except ccxt.NetworkError as error:
                raised.append(str(error))
                await asyncio.sleep(0)
            else:
                got.extend((trade["symbol"], trade["id"]) for trade in trades)

    async def main():
        venue = ccxt.pro.binance(
            {"enableRateLimit": False, "options": {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False}}
        )
        venue.has["fetchCurrencies"] = False
        venue.urls["api"]["public"] = f"http://127.0.0.1:{place['port']}/api/v3"
        # ccxt tells spot from futures by "/stream" in the address, which the host of the real one has.
        venue.urls["api"]["ws"]["spot"] = f"ws://127.0.0.1:{place['port']}/stream/ws"
        try:
            await asyncio.wait_for(watch(venue), place["until"] - time.monotonic())
        except TimeoutError:
            pass
        finally:
            await venue.close()

    asyncio.run(main())
    yield {"got": got, "exceptions": len(raised), "lines": said.lines}


def tradeflood():
    from tradeflood.runner.flood import Flood
    from tradeflood.runner.runner import Runner

    class VenueTime:
        def __init__(self, place):
            now = time.monotonic_ns()
            self.clock = Clock(1, place["venue"] + now - place["real"])

        def now(self):
            return self.clock.now()

        async def sleep(self, duration):
            await asyncio.sleep(max(0, duration) / SECOND)

    said = Said()
    place = yield
    url = f"//127.0.0.1:{place['port']}"
    config = {
        "store": "memory://",
        "venues": {"binance": {"rest_url": f"http:{url}", "feed_url": f"ws:{url}"}},
        "collect": [{"model": "trade", "kind": "merged", "markets": [f"binance:{market}" for market in MARKETS]}],
    }

    async def main():
        async with Flood(config, clock=VenueTime(place)) as flood:
            stop = asyncio.Event()
            asyncio.get_running_loop().call_later(place["until"] - time.monotonic(), stop.set)
            report = await Runner(flood).run(stop)
            got, told = [], {}
            for part in report.collected:
                market = part.dataset.market
                got += [(market, row.trade_id) for row in flood.store.read(part.dataset, 0, 1 << 62)]
                told[market] = [[piece.start, piece.end, piece.state, piece.grade] for piece in part.parts]
            return {"got": got, "exceptions": 0, "lines": said.lines, "told": told, "failures": report.failures}

    yield asyncio.run(main())


CLIENTS = {"cryptofeed": cryptofeed, "ccxt.pro": ccxt_pro, "TradeFlood": tradeflood}


def client(name: str) -> None:
    """One client, in a process of its own."""
    steps = CLIENTS[name]()
    try:
        next(steps)
    except ImportError as error:
        print(f"is not installed ({error.name}): pip install --group bench", flush=True)
        return
    print("ready", flush=True)
    print(json.dumps(steps.send(json.loads(sys.stdin.readline()))), flush=True)


# --- the venue, and what it did ---------------------------------------------------------------------------------------


async def contest(name: str, scenario: str, seconds: int) -> dict:
    """What one client got of one scenario, beside what happened."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", __file__, "--client", name,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 26,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LIMIT):
            word = (await process.stdout.readline()).decode().strip()
        if word != "ready":
            return {"missing": word or "did not start"}
        source = Simulated(SEED, listings=BUSY)
        async with serve(source, ["binance"], start=START, faults=faults(scenario, seconds), seed=SEED) as served:
            port = int(served["binance"][0].rpartition(":")[2])
            real = time.monotonic_ns()
            place = {"port": port, "venue": served.clock.now(), "real": real}
            place["until"] = real / SECOND + WARM + seconds + GRACE
            process.stdin.write(json.dumps(place).encode() + b"\n")
            async with asyncio.timeout(WARM + seconds + GRACE + LIMIT):
                line = await process.stdout.readline()
            result = json.loads(line) if line.strip() else {"missing": "ended without a word"}
            result["played"] = Counter(played.name for played in served.faults.injected)
    except TimeoutError:
        return {"missing": "took too long"}
    else:
        return result
    finally:
        if process.returncode is None:
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 3)
            except TimeoutError:
                process.kill()
                await process.wait()


def truth(seconds: int) -> dict:
    """Every trade of the stretch: its time by market and id."""
    source, low = Simulated(SEED, listings=BUSY).at("binance"), START + WARM * SECOND
    high = low + seconds * SECOND
    return {
        (market, row.trade_id): row.venue_time
        for market in MARKETS
        for row in source.trades(market, "merged", start=low, end=high, limit=1 << 40, now=high)
    }


def judged(result: dict, happened: dict) -> dict:
    """Delivered, short by, doubled; and of what is absent, how much is named and how much is claimed to be there."""
    got = Counter((market, number) for market, number in map(tuple, result["got"]))
    absent = [key for key in happened if key not in got]
    doubled = sum(got[key] - 1 for key in happened if key in got)
    told = result.get("told", {})
    holes = Counter()
    for key in absent:
        holes[state_at(told.get(key[0], []), happened[key])] += 1
    firsts = {market: min(int(number) for name, number in happened if name == market) for market in MARKETS}
    heard = {market: [int(number) for name, number in got if name == market] for market in MARKETS}
    spans = [piece for pieces in told.values() for piece in pieces]
    return {
        "late": any(min(numbers, default=0) >= firsts[market] for market, numbers in heard.items()),
        "delivered": len(happened) - len(absent), "short": len(absent), "doubled": doubled, "holes": holes,
        "grades": "".join(sorted({piece[3] for piece in spans if piece[2] == "held" and piece[3]})),
    }  # fmt: skip


def state_at(pieces: list, at: int) -> str:
    """What coverage says of a moment."""
    found = next((f"{state} {grade or ''}".strip() for start, end, state, grade in pieces if start <= at < end), None)
    return found or "not held"  # between two stretches: coverage shows the gap


def says(name: str, result: dict, figures: dict) -> str:
    """What a client said of what it lacks; what the peers raise and log tells of connections, never of trades."""
    if name != "TradeFlood":
        return "trouble, not what is missing" if result["exceptions"] or result["lines"] else "nothing"
    if not figures["short"]:
        return f"complete, grade {figures['grades']}"
    words = {True: "WRONG, absent and", False: "named:"}
    return "; ".join(
        f"{words[state.startswith('held')]} {state} {count:,}" for state, count in figures["holes"].items()
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=17, help="length of the stretch (default: %(default)s)")
    parser.add_argument("--only", default=",".join(TITLES), help="some of: " + ", ".join(TITLES))
    parser.add_argument("--verbose", action="store_true", help="also print what was logged")
    arguments = parser.parse_args()
    chosen = [name.strip() for name in arguments.only.split(",")]
    if unknown := set(chosen) - set(TITLES):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(TITLES)}")
    if arguments.seconds < 17:
        parser.error("--seconds starts at 17: the third cut comes late")
    happened = truth(arguments.seconds)
    begin = time.monotonic()
    head = f"{'':36}{'':12}{'happened':>9}{'delivered':>10}{'short by':>9}{'doubled':>8}{'raised':>7}{'log':>5}   says of it"
    print(head, flush=True)
    wrong = 0
    for scenario in chosen:
        results = await asyncio.gather(*(contest(name, scenario, arguments.seconds) for name in CLIENTS))
        for name, result in zip(CLIENTS, results, strict=True):
            title = TITLES[scenario] if name == next(iter(CLIENTS)) else ""
            if "missing" in result:
                print(f"{title:36}{name:12}{len(happened):>9,}   {result['missing']}", flush=True)
                continue
            figures = judged(result, happened)
            wrong += sum(count for state, count in figures["holes"].items() if state.startswith("held"))
            print(
                f"{title:36}{name:12}{len(happened):>9,}{figures['delivered']:>10,}{figures['short']:>9,}"
                f"{figures['doubled']:>8,}{result['exceptions']:>7}{len(result['lines']):>5}   {says(name, result, figures)}"
                + (" (it connected late: no fair count)" if figures["late"] else ""),
                flush=True,
            )
            if arguments.verbose:
                print("   ", dict(result["played"]), result.get("failures", ""), file=sys.stderr)
                for line in result["lines"][:12]:
                    print("   ", line[:200], file=sys.stderr)
    print(f"\n{arguments.seconds} s of {len(MARKETS)} markets, {time.monotonic() - begin:.0f} s in all.")
    if wrong:
        raise SystemExit(f"{wrong} trades are absent and claimed to be held")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        client(sys.argv[2])
    else:
        asyncio.run(main())
