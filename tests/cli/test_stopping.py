"""Signals at any moment: a command ends soon, says so in a line, and claims nothing that is not there.

Each command is a process of its own; the venue is served here, or is a socket that takes everything and says nothing.
"""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tradeflood.cli.collecting import stream_job
from tradeflood.coverage import Dataset
from tradeflood.errors import StoreError
from tradeflood.models import Trade
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated
from tradeflood.store import open_store
from tradeflood.store.chdb import ChdbStore
from tradeflood.testing.venues import venues_here

pytestmark = pytest.mark.loopback

BTC = Dataset(Trade, "binance", "BTC/USDT", ("raw",))
FILL = ("collect", "trade", "binance:BTC/USDT", "--start", "2026-03-01", "--end", "2026-03-20", "--out", "store")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def configured(rest_url, feed_url, collect=""):
    """The path of a configuration with one venue and a store."""
    text = f'store = "chdb://./store"\n{collect}[venues.binance]\nrest_url = "{rest_url}"\nfeed_url = "{feed_url}"\n'
    Path("t.toml").write_text(text)
    return "t.toml"


@pytest.fixture
def silent():
    """The configuration of a run over a venue that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        collect = '[[collect]]\nmodel = "trade"\nmarkets = ["binance:{}"]\n'

        def over(market):
            return configured(f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}", collect.format(market))

        yield over


@pytest.fixture
def served():
    """The configuration of a simulated venue, whose time is thirty times as fast."""
    with venues_here("binance", speed=30) as served:
        yield configured(**served.settings()["binance"])


@contextmanager
def started(*args, before=(), **more):
    """The command as a process, and its standard error, line by line."""
    words = [*before, sys.executable, "-m", "tradeflood.cli.main", *args]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, **more) as process:
        try:
            yield process
        finally:
            process.kill()


def waited(process, within):
    """The exit code and what is left of standard error, of a process that must end within so many seconds."""
    begin = time.monotonic()
    _, err = process.communicate(timeout=within + 20)
    assert time.monotonic() - begin < within
    return process.returncode, err


def test_a_run_is_stopped_while_a_venue_does_not_list_its_markets(silent):
    with started("run", silent("*/USDT")) as process:
        process.stderr.readline()  # "collecting from …"
        time.sleep(0.3)
        process.terminate()
        code, err = waited(process, 5)
    assert code == 1
    assert "no venue answers" in err


def test_a_run_over_a_venue_that_does_not_list_its_markets_ends_in_time(silent):
    with started("run", silent("*/USDT"), "--for", "1s") as process:
        assert waited(process, 8)[0] == 1


def test_a_second_signal_ends_a_run_at_once(silent):
    """One that comes together with the first, as from `timeout`, does not."""
    with started("run", silent("BTC/USDT")) as process:
        process.stderr.readline()
        time.sleep(0.5)
        process.terminate()
        time.sleep(0.1)
        process.terminate()
        assert process.stderr.readline().startswith("stopping: ")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        code, err = waited(process, 5)
    assert code == -signal.SIGINT
    assert err.startswith("tradeflood: ended at once, by SIGINT; ")
    assert err.count("\n") == 1


SLOW = """
import sys, time
from tradeflood.cli.main import main
from tradeflood.store.chdb import ChdbStore
ChdbStore.datasets = lambda self: print("asked", file=sys.stderr, flush=True) or time.sleep(30) or []
main(["collect", "trade", "binance:BTC/USDT", "--start", "2026-03-01", "--end", "2026-03-02", "--offline"])
"""


def test_a_second_ctrl_c_ends_a_thread_that_reads_a_large_store(monkeypatch):
    """A thread cannot be cancelled, and is waited for: a line says so."""
    monkeypatch.setenv("TRADEFLOOD_STORE", "chdb://./store")
    with open_store("chdb://./store") as store:
        store.migrate()
    with subprocess.Popen([sys.executable, "-c", SLOW], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "asked\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("stopping: ")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        code, err = waited(process, 5)
    assert code == -signal.SIGINT
    assert err.count("\n") == 1


@pytest.mark.parametrize("before", [(), ("sh", "-c", 'trap "" INT; exec "$@"', "sh")], ids=["shell", "background"])
def test_sigterm_ends_a_filling_as_ctrl_c_does(served, before):
    with started(*FILL, "--config", served, before=before, stdout=subprocess.PIPE) as process:
        while not Path("store/data").exists():
            time.sleep(0.05)
        time.sleep(1)
        process.terminate()
        process.terminate()  # as `timeout` does
        code, err = waited(process, 10)
    assert code == 128 + signal.SIGTERM
    told = re.fullmatch(
        r"stopped after (\d+) new rows; the same command goes on from what is in chdb://./store\n+", err
    )
    assert told, err
    with open_store("chdb://./store") as store:
        there = store.summary()
    assert int(told[1]) == sum(each.rows for each in there)


@pytest.mark.parametrize("how", ["SIGTERM", "--for"])
def test_a_stream_that_nobody_reads_ends_too(served, how):
    """As in `tradeflood stream … | less`: what was not printed is counted."""
    more = () if how == "SIGTERM" else ("--for", "4s")
    read, write = os.pipe()
    os.set_blocking(write, False)
    while True:
        try:
            os.write(write, b"\n" * 4096)  # the pipe is full from the beginning
        except BlockingIOError:
            break
    os.set_blocking(write, True)
    with started("stream", "trade", "binance:BTC/USDT", *more, "--config", served, stdout=write) as process:
        os.close(write)
        if how == "SIGTERM":
            time.sleep(3)
            process.terminate()
        code, err = waited(process, 10)
    os.close(read)
    assert code == 1
    assert re.search(
        r"^tradeflood: \d+ rows were not printed, because standard output takes no more$", err, re.MULTILINE
    )


def test_a_stream_stopped_while_the_store_is_slow_writes_one_batch_after_the_other(monkeypatch, tmp_path):
    """The rows of the batch that is under way are refused in the end: nothing is claimed about them."""
    busy, together = threading.Lock(), []
    write, begun = ChdbStore.write, []

    def slow(self, batches, claims=()):
        together.append(not busy.acquire(blocking=False))
        begun.append(batches)
        try:
            time.sleep(1.5)
            if len(begun) == 1:
                raise StoreError("no room")
            write(self, batches, claims)
        finally:
            busy.release()

    monkeypatch.setattr(ChdbStore, "write", slow)
    url = f"chdb://{tmp_path / 'store'}"

    async def main():
        async with serve(Simulated(7), ["binance"], seed=1, speed=20) as served:
            config = {"store": url, "venues": served.settings()}
            with pytest.raises(StoreError, match="no room"):
                await stream_job("trade", ("binance:BTC/USDT",), {}, "1s", "store", config)

    asyncio.run(main())
    assert not any(together)
    with open_store(url) as store:
        rows = store.read(BTC, 0, 1 << 62)
        claims = store.claims(BTC)
    assert sum(claim.count for claim in claims) <= len(rows)


def test_what_a_stream_printed_last_is_whole(served, tmp_path):
    """Stopped, it prints what has come; every line is one row."""
    with Path("out").open("w") as out, started("stream", "trade", "binance:BTC/USDT", "--out", "json", "--for", "2s", "--config", served, stdout=out) as process:  # fmt: skip
        assert waited(process, 10) == (0, "")
    ids = [int(json.loads(line)["trade_id"]) for line in Path("out").read_text().splitlines()]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
