"""What a rate does not show: the memory of a long stream, and how long a row takes at a steady pace.

    python bench/steady.py [--trades 5000000] [--pace 5000] [--seconds 8]

Memory: TradeFlood's own process while trades are delivered and dropped. Latency: from the moment a frame is made, in the
process of the server, to its model in the caller's hands; and to its row in the store with its claims, by batches of a
second as `tradeflood run` writes them. Alone, and while histories are collected into the same store.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import common
from ours import markets, settings
from run import HERE, Server

WARM = 1.0  # seconds of a latency measurement that do not count
FIELDS = "{:40}{:>12}{:>12}{:>12}{:>12}"


def resident() -> float:
    """The memory of this process in MB."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        raise common.MissingError("the memory of a process is told by /proc only")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


# ---------------------------------------------------------------- each in a process of its own


def memory(port: int, trades: int) -> dict[str, object]:
    """MB after every fifth of so many trades, none kept."""
    import tradeflood as tf

    marks: list[float] = []

    async def read() -> None:
        seen = 0
        async with tf.Flood(settings(port)) as flood:
            async for batch in flood.stream(tf.Trade, *markets(), kind="merged", fast=False).batches():
                seen += len(batch)
                del batch
                if seen >= (len(marks) + 1) * trades // 5:
                    marks.append(resident())
                if seen >= trades:
                    return

    asyncio.run(read())
    return {"marks": marks}


def latency(port: int, seconds: float, rest: str | None) -> dict[str, object]:
    """Milliseconds from frame to model and from frame to row, and how many rows were collected meanwhile."""
    import tradeflood as tf
    from tradeflood.runner.keeper import Keeper
    from tradeflood.runner.runner import BATCH_AGE

    told: dict[str, list[float]] = {"model": [], "row": []}
    counts = {"kept": 0, "collected": 0}

    async def backfill(store: str) -> None:
        """Candles and trades of ever older hours, one request for rows after the other."""
        end = datetime.now(UTC) - timedelta(hours=1)
        async with tf.Flood({"store": store, "venues": {"binance": {"rest_url": rest}}}) as flood:
            while True:
                begin = end - timedelta(minutes=30)
                for model, variant in ((tf.Trade, {"kind": "raw"}), (tf.Candle, {"interval": "1m"})):
                    got = await flood.collect(model, *markets()[:2], start=begin, end=end, **variant)
                    counts["collected"] += len(got)
                end = begin

    async def go(folder: str) -> None:
        store = f"chdb://{folder}"
        async with tf.Flood(settings(port, store)) as flood:
            keeper = Keeper(flood.venues, flood.open_store())
            waiting: list[tf.Trade] = []
            began = time.perf_counter()

            async def keep() -> None:
                while True:
                    await asyncio.sleep(BATCH_AGE / 1e9)
                    rows = waiting[:]
                    waiting.clear()
                    await asyncio.to_thread(keeper.write, rows)
                    now = time.perf_counter_ns()
                    if time.perf_counter() - began > WARM:
                        told["row"] += [(now - int(row.first_id or 0)) / 1e6 for row in rows]
                    counts["kept"] += len(rows)

            tasks = [asyncio.create_task(keep())] + ([asyncio.create_task(backfill(store))] if rest else [])
            stream = flood.stream(tf.Trade, *markets(), kind="merged", fast=False)
            async for batch in stream.batches():
                now = time.perf_counter_ns()
                if time.perf_counter() - began > WARM:
                    told["model"] += [(now - int(row.first_id or 0)) / 1e6 for row in batch]
                waiting += batch
                for task in tasks:
                    if task.done():
                        await task
                if time.perf_counter() - began > WARM + seconds:
                    break
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    with tempfile.TemporaryDirectory(prefix="tradeflood-bench-") as folder:
        asyncio.run(go(folder))
    out: dict[str, object] = {"collected": counts["collected"], "kept": counts["kept"]}
    for name, some in told.items():
        cuts = statistics.quantiles(some, n=100)
        out[name] = [cuts[49], cuts[98], max(some)]
    return out


# ---------------------------------------------------------------- the table


def alone(what: str, port: int, amount: float, rest: str | None = None) -> dict[str, object]:
    """The result of a measurement in a fresh process."""
    command = [sys.executable, str(HERE / "steady.py"), "--only", what, str(port), str(amount), rest or ""]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode:
        return {"missing": (done.stderr.strip().splitlines() or ["failed"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def simulated() -> Iterator[str]:
    """The REST address of a simulated Binance in a process of its own."""
    command = [sys.executable, "-m", "tradeflood", "replay", "--venue", "binance", "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        text = ""
        while True:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise SystemExit("the simulated market did not start")
            text += line
            with contextlib.suppress(json.JSONDecodeError):
                told = json.loads(text)
                break
        yield told.get("venues", told)["binance"]["rest_url"]
    finally:
        process.terminate()
        process.wait(10)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trades", type=int, default=5_000_000, help="for the memory (default: %(default)s)")
    parser.add_argument(
        "--pace", type=int, default=5_000, help="trades a second for the latency (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of each latency (default: %(default)s)")
    parser.add_argument("--only", nargs=4, metavar=("WHAT", "PORT", "AMOUNT", "REST"), help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.only:
        what, port, amount, rest = options.only
        common.pin(common.CLIENT)
        out = (
            memory(int(port), int(float(amount)))
            if what == "memory"
            else latency(int(port), float(amount), rest or None)
        )
        print(json.dumps(out), flush=True)
        return

    with Server(100_000) as server:
        server.sends(options.trades, raw=False)
        told = alone("memory", server.port, options.trades)
        if "missing" in told:
            print(f"memory: {told['missing']}")
        else:
            marks = told["marks"]
            steps = "  ".join(
                f"{(number + 1) * options.trades // 5:,}: {mark:.0f}" for number, mark in enumerate(marks)
            )
            print(f"MB resident after so many trades, delivered and dropped:  {steps}", flush=True)
        query = f"http://127.0.0.1:{server.port}/bench?pace={options.pace}"
        urllib.request.urlopen(query, timeout=60).close()
        print("\n" + FIELDS.format(f"ms at {options.pace:,} trades a second", "p50", "p99", "most", "trades"))
        lines = [("", alone("latency", server.port, options.seconds))]
        with simulated() as rest:
            lines.append((", in a backfill", alone("latency", server.port, options.seconds, rest)))
        for beside, told in lines:
            if "missing" in told:
                print(f"latency{beside}: {told['missing']}")
                continue
            for name, what in (("model", "frame to model"), ("row", "frame to row in the store")):
                p50, p99, most = told[name]
                print(FIELDS.format(what + beside, f"{p50:,.2f}", f"{p99:,.2f}", f"{most:,.1f}", f"{told['kept']:,}"))
            if beside:
                print(f"Rows of history collected meanwhile: {told['collected']:,}.")


if __name__ == "__main__":
    main()
