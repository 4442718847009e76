"""The example plug-in, installed, used and removed, in processes of their own; this one never learns of it."""

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "plugins" / "tradeflood-example"
RANGE = "--start 2024-01-01T10:00 --end 2024-01-01T10:10"


@contextmanager
def replaying(room, *venues):
    """`tradeflood replay` in a process of its own; the room's commands are pointed at it."""
    words = [
        "replay",
        "--port",
        "0",
        "--for",
        "60s",
        "--json",
        *(word for venue in venues for word in ("--venue", venue)),
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "tradeflood.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=room.environment,
        cwd=room.folder,
    ) as process:
        try:
            text = ""
            while not text.endswith("\n}\n"):
                line = process.stdout.readline()
                assert line, "it ended before it said where it listens"
                text += line
            room.settings = {
                f"TRADEFLOOD_VENUES__{venue}__{name}".upper(): url
                for venue, urls in json.loads(text).items()
                for name, url in urls.items()
            }
            yield
        finally:
            process.terminate()
            room.settings = {}


@pytest.mark.loopback
def test_installed_used_and_removed(room):
    """Installed, its venue and its model are there as if built in; removed, only what was stored is left."""
    room.install(PACKAGE)
    with replaying(room, "example", "binance"):
        plugins, venues, migrated, trades, candles, imbalance, again, coverage = room.run(
            "plugins --json",
            "venues --json",
            "migrate --json",
            f"collect trade example:BTC/USDT {RANGE} --json",
            f"collect candle example:*/USDT --interval 1m {RANGE} --json",
            f"collect imbalance binance:BTC/USDT --interval 1m {RANGE} --out store",
            f"collect imbalance binance:BTC/USDT --interval 1m {RANGE} --strict --offline --json",
            "coverage --json",
        )

    (brought,) = [each for each in json.loads(plugins[1]) if each["name"] == "example"]
    assert brought == {
        "name": "example",
        "version": "0.1.0",
        "hooks": ["tradeflood_modules"],
        "venues": ["example"],
        "models": ["imbalance"],
        "bindings": ["binance imbalance", "example candle", "example market", "example trade"],
        "error": None,
    }
    offers = {(offer["venue"], offer["model"], offer["live"]) for offer in json.loads(venues[1]) if offer["history"]}
    assert {("example", "trade", True), ("example", "market", False), ("binance", "imbalance", False)} <= offers
    assert any(change.startswith("imbalances 0001 ") for change in json.loads(migrated[1])["migrations"])

    assert len(json.loads(trades[1])["rows"]) > 600
    assert {row["market"] for row in json.loads(candles[1])["rows"]} == {
        "BTC/USDT",
        "DOGE/USDT",
        "ETH/USDT",
        "SOL/USDT",
    }
    assert (imbalance[0], imbalance[2]) == (0, f"10 new rows in chdb://{room.folder / 'store'}\n")
    rows = json.loads(again[1])["rows"]
    assert [row["closed"] for row in rows] == [True] * 10
    assert again[0] == 0
    assert {line["model"] for line in json.loads(coverage[1])} == {"trade", "candle", "imbalance"}
    assert [command[2] for command in (plugins, venues, trades, coverage)] == [""] * 4

    shutil.rmtree(room.packages)
    plugins, venues, coverage, rows, gone, nowhere = room.run(
        "plugins --json",
        "venues --json",
        "coverage --json",
        f"collect trade example:BTC/USDT {RANGE} --offline --json",
        f"collect imbalance binance:BTC/USDT --interval 1m {RANGE}",
        f"collect trade example:BTC/USDT {RANGE} --out json",
    )
    assert [each["name"] for each in json.loads(plugins[1])] == ["tradeflood"]
    assert "example" not in {offer["venue"] for offer in json.loads(venues[1])}
    assert {line["model"] for line in json.loads(coverage[1])} == {"trade", "candle"}
    assert len(json.loads(rows[1])["rows"]) == len(json.loads(trades[1])["rows"])
    assert gone == (2, "", "tradeflood: no model 'imbalance'; there are candle, market, ticker, trade\n")
    assert nowhere == (2, "", "tradeflood: no venue 'example'; there are binance, bitget, nobitex, okx\n")
    query = "SELECT count(), sum(bought + sold) > 0 FROM imbalances"
    told = room.python(
        "from tradeflood.store import open_store\n"
        f"with open_store('chdb://{room.folder / 'store'}') as store: print(store.query({query!r}, 'TSV').decode())"
    )
    assert told.split() == ["10", "1"]


def test_nothing_in_the_library_knows_it():
    """No file of the package names the plug-in, its venue's class or its model."""
    words = ("tradeflood_example", "tradeflood-example", "imbalance", "ExampleDesk")
    knowing = [
        path.name
        for path in (ROOT / "src").rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in words)
    ]
    assert knowing == []
