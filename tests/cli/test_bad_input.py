"""What people get wrong: one clear line on standard error, the documented exit code, and nothing written."""

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tradeflood as tf
from tradeflood.cli.main import main
from tradeflood.errors import Incomplete, StoreError, UnknownMarket, UsageError
from tradeflood.models.time import MS
from tradeflood.runner.execute import Patience
from tradeflood.store import open_store
from tradeflood.testing.venues import venues_here

DAY = ("--start", "2024-01-01", "--end", "2024-01-02")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def stored(monkeypatch):
    """A store is configured; it does not exist yet."""
    monkeypatch.setenv("TRADEFLOOD_STORE", "chdb://./store")


@pytest.fixture(scope="module")
def served():
    """Binance and Nobitex on this machine."""
    with venues_here("binance", "nobitex") as served:
        yield served


@pytest.fixture
def venues(served, unconfigured, monkeypatch):
    """The configuration points there."""
    for venue, urls in served.settings().items():
        for name, url in urls.items():
            monkeypatch.setenv(f"TRADEFLOOD_VENUES__{venue}__{name}".upper(), url)


@pytest.fixture
def refused(capfd):
    """A command line that must be refused; the one line that it says."""

    def run(*args, code=2):
        before = sorted(Path().rglob("*"))
        with pytest.raises(SystemExit) as end:
            main([str(arg) for arg in args])
        out, err = capfd.readouterr()
        assert out == ""
        assert err.count("\n") == 1, err
        assert err.startswith("tradeflood: ")
        assert "Traceback" not in err
        assert sorted(Path().rglob("*")) == before
        assert end.value.code == code, err
        return err

    return run


# ---------------------------------------------------------------- words

QUESTIONS = [
    (("trade", "nowhere:BTC/USDT"), "no venue 'nowhere'; there are"),
    (("trade", "Binance:BTC/USDT"), "no venue 'Binance'"),
    (("trade", "BTC/USDT"), "no market 'BTC/USDT'; write it VENUE:BASE/QUOTE"),
    (("trade", "binance:"), "no market 'binance:'"),
    (("trade", "binance:BTCUSDT"), "no market 'BTCUSDT'; write it BASE/QUOTE"),
    (("trade", "binance:BTC/USDT/X"), "no market 'BTC/USDT/X'"),
    (("trade", "binance:/USDT"), "no market '/USDT'"),
    (("trades", "binance:BTC/USDT"), "no model 'trades'; there are "),
    (("", "binance:BTC/USDT"), "no model ''"),
    (("candle", "binance:BTC/USDT"), 'say interval=, such as interval="1m"'),
    (("candle", "binance:BTC/USDT", "--interval", "7m"), "7m"),
    (("candle", "binance:BTC/USDT", "--interval", "0m"), "0m"),
    (("candle", "binance:BTC/USDT", "--interval", "soon"), "soon"),
    (("candle", "binance:BTC/USDT", "--interval", "-1m"), "-1m"),
    (("candle", "binance:BTC/USDT", "--interval", "1d@Nowhere/City"), "Nowhere/City"),
    (
        ("candle", "binance:BTC/USDT", "--interval", "1m", "--origin", "moon"),
        "no origin 'moon'; there are venue, trades",
    ),
    (("trade", "binance:BTC/USDT", "--kind", "cooked"), "no kind 'cooked'; there are raw, merged"),
    (("trade", "nobitex:BTC/IRT", "--kind", "merged"), "nobitex trade: no kind 'merged'; there are raw"),
    (("trade", "binance:BTC/USDT", "--interval", "1m"), "no option 'interval'"),
    (("trade", "binance:BTC/USDT", "--variant", "colour=red"), "no option 'colour'"),
    (("trade", "binance:BTC/USDT", "--variant", "colour"), "write NAME=VALUE"),
    (("market", "binance:*", "--kind", "spot"), "no option 'kind'"),
    (("trade", "binance: BTC/USDT"), "no market ' BTC/USDT'; write it BASE/QUOTE"),
    (("trade", "okx:BTC/USDT\n"), "no market 'BTC/USDT\\n'; write it BASE/QUOTE"),
    (("trade", "binance:BTC/USDT", "--variant", "start=2024-01-01"), "start has an option or an argument of its own"),
    (("trade", "binance:BTC/USDT", "--variant", "self=x"), "self has an option or an argument of its own"),
    (("trade", "binance:BTC/USDT", "--kind", "raw", "--variant", "kind=merged"), "kind has an option or an argument"),
    (("trade", "nobitex:btc/irt"), "no market 'btc/irt'; write it in capitals: BTC/IRT"),
]

RANGES = [
    (("--start", "2024-01-02", "--end", "2024-01-01"), "start 2024-01-02T00:00:00Z is not before the end"),
    (("--start", "2024-01-01", "--end", "2024-01-01"), "is not before the end"),
    (("--start", "yesterday"), "not a time: 'yesterday'"),
    (("--start", "2024-13-01"), "not a time: '2024-13-01'"),
    (("--start", "2024-02-30"), "not a time"),
    (("--start", ""), "not a time: ''"),
    (("--end", "2024-01-01T25:00"), "not a time"),
    (("--end", "99999-01-01"), "not a time"),
    (("--start", "1704067200"), "not a time"),
    (("--start", "2200-01-01"), "is not before the end"),
    (("--start", "0001-01-01T00:00:00+14:00"), "no time of a market: '0001-01-01T00:00:00+14:00'; write one from 1970"),
    (("--end", "1969-12-31"), "no time of a market: '1969-12-31'"),
    (("--end", "9999-12-31"), "no time of a market: '9999-12-31'; write one from 1970 to 2262"),
]


@pytest.mark.parametrize(("words", "says"), QUESTIONS)
@pytest.mark.parametrize("command", ["collect", "plan", "stream"])
def test_words_that_name_nothing(refused, stored, command, words, says):
    """Said before a venue is asked or a store is opened."""
    assert says in refused(command, *words, *(DAY if command != "stream" and words[0] != "market" else ()))


@pytest.mark.parametrize(("words", "says"), RANGES)
@pytest.mark.parametrize("command", ["collect", "plan"])
def test_ranges_that_are_none(refused, stored, command, words, says):
    assert says in refused(command, "trade", "binance:BTC/USDT", *words)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("collect", "trade"), "Missing argument 'MARKET...'"),
        (("collect",), "Missing argument 'MODEL'"),
        (("collect", "trade", "binance:BTC/USDT", "--begin", "2024-01-01"), "No such option"),
        (("collect", "trade", "binance:BTC/USDT", "--out", "excel"), "'excel' is not one of"),
        (("collect", "market", "binance:*", "--start", "2024-01-01"), "market is a list: it has neither start nor end"),
        (("fly",), "No such command 'fly'"),
        (("markets", "nowhere"), "no venue 'nowhere'"),
        (("markets", ""), "no venue ''; there are"),
        (("markets", "binance:BTC/USDT"), "no venue 'binance:BTC/USDT'; there are"),
        (("collect", "candle", "binance:BTC/USDT", "--interval", "9999M"), "no interval '9999M'; there are"),
        (("collect", "trade", "binance:BTC/USDT", "--file", "x.csv"), "--file takes csv, json or parquet"),
        (("collect", "trade", "binance:BTC/USDT", "--out", "store", "--file", "x.csv"), "--file takes csv, json"),
        (("collect", "trade", "binance:BTC/USDT", "--out", "csv", "--json"), "--json and --out csv: say one of them"),
        (("stream", "trade", "binance:BTC/USDT", "--out", "store", "--json"), "--json and --out store: say one"),
        (("stream", "trade", "binance:BTC/USDT", "--for", ""), "not a duration: ''"),
        (("markets",), "Missing argument"),
        (("stream", "trade", "binance:BTC/USDT", "--for", "soon"), "not a duration: 'soon'"),
        (("stream", "market", "binance:BTC/USDT"), "no live market"),
        (("run", "--for", "0s"), "not a duration: '0s'"),
        (("run", "--for", "5"), "not a duration: '5'"),
        (("run", "--for", ""), "not a duration: ''"),
        (("run", "--record", ""), "--record: name a folder"),
        (("run", ""), "cannot be read"),
        (("run", "nowhere.toml"), "nowhere.toml: there is no such file"),
        (("run", "--config", "nowhere.toml"), "nowhere.toml: there is no such file"),
        (("replay", "nowhere"), "nowhere"),
        (("replay", ""), "no recording in ."),
        (("replay", "--for", ""), "not a duration: ''"),
        (("audit", "--start", "0001-01-01"), "no time of a market: '0001-01-01'"),
        (("replay", "nowhere", "--simulate"), "say DIR or --simulate, not both"),
        (("replay", "--fault", "explode"), "there is no fault 'explode'; there are 429"),
        (("replay", "--fault", "429@nowhere"), "nowhere, which is not served"),
        (("replay", "--venue", "nowhere"), "no replay for venue 'nowhere'"),
        (("replay", "--speed", "fast"), "speed fast"),
        (("replay", "--speed", "0"), "speed 0"),
        (("replay", "--speed", "-1"), "speed -1"),
        (("replay", "--speed", "nan"), "speed nan"),
        (("replay", "--speed", "1/0"), "speed 1/0"),
        (("replay", "--port", "70000"), "70000 is not in the range"),
        (("replay", "--port", "x"), "'x' is not a valid integer"),
        (("replay", "--for", "x"), "not a duration"),
        (("coverage",), "there is no store chdb://./tradeflood-data"),
        (("coverage", "binance:*"), "there is no store"),
    ],
)
def test_commands_that_are_none(refused, args, says):
    assert says in refused(*args)


@pytest.mark.parametrize("command", ["collect", "plan", "stream", "markets", "coverage", "migrate", "venues", "run"])
def test_every_command_refuses_a_configuration_that_is_none(refused, command):
    Path("bad.toml").write_text("stroe = 'x'\n")
    words = {"collect": ("trade", "binance:BTC/USDT"), "markets": ("binance",)}
    words |= {"plan": words["collect"], "stream": words["collect"]}
    told = refused(command, *words.get(command, ()), "--config", "bad.toml")
    assert "bad.toml: no key 'stroe'; there are bus, store" in told


def test_a_port_that_is_taken(refused):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "choose another port" in refused("replay", "--port", taken.getsockname()[1])


def test_parquet_on_a_terminal(capsys, monkeypatch):
    """Said before anything is asked."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(SystemExit) as end:
        main(["collect", "trade", "binance:BTC/USDT", *DAY, "--out", "parquet"])
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "tradeflood: parquet is binary: name a --file, or send the output elsewhere\n")


@pytest.mark.parametrize("out", ["csv", "json", "parquet"])
def test_a_file_that_cannot_be_written(refused, venues, out):
    told = refused(
        "collect", "candle", "binance:BTC/USDT", "--interval", "1h", *DAY, "--out", out, "--file", "no/such/folder/x"
    )
    assert "--file no/such/folder/x: cannot be written: No such file or directory" in told


# ---------------------------------------------------------------- what only the venue knows


@pytest.mark.parametrize("words", [("candle", "--interval", "1h"), ("trade",)])
def test_a_market_that_the_venue_does_not_know(refused, venues, words):
    """Binance answers -1121."""
    model, *rest = words
    assert "-1121" in refused("collect", model, "binance:NOPE/USDT", *rest, *DAY)


def test_a_store_that_got_nothing_is_not_left_behind(refused, venues, stored):
    """The mistake shows after the store was opened; a folder that was made for it, and stayed empty, goes again."""
    assert "-1121" in refused("collect", "trade", "binance:NOPE/USDT", *DAY)
    assert "list the markets with: tradeflood markets binance" in refused(
        "collect", "trade", "binance:NOPE/USDT", *DAY, "--out", "store"
    )
    assert "no market" in refused("stream", "trade", "binance:NOPE/USDT", "--out", "store", "--for", "9s")


def test_a_store_that_is_not_there_answers_nothing_offline(refused, stored):
    """A typo in its name is no empty answer."""
    assert "there is no store chdb://./store" in refused("collect", "trade", "binance:BTC/USDT", *DAY, "--offline")


def test_a_folder_of_something_else_is_no_store_and_stays_as_it_is(refused, monkeypatch):
    Path("mine").mkdir()
    Path("mine/notes").write_text("")
    monkeypatch.setenv("TRADEFLOOD_STORE", "chdb://./mine")
    assert "there is no store chdb://./mine" in refused("coverage")
    assert "there is no store" in refused("audit")
    assert "there is no store" in refused("collect", "trade", "binance:BTC/USDT", *DAY, "--offline")


def test_a_store_in_the_home_folder_is_found(monkeypatch, stored):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    monkeypatch.setenv("TRADEFLOOD_STORE", "chdb://~/store")
    for command in ("migrate", "coverage"):
        with pytest.raises(SystemExit) as end:
            main([command])
        assert end.value.code == 0


def test_what_the_store_has_never_heard_of_is_no_empty_answer(stored, capfd):
    with open_store("chdb://./store") as store:
        store.migrate()
    for words in (("trade", "binance:BCT/USDT", *DAY), ("market", "okx:NO*")):
        with pytest.raises(SystemExit) as end:
            main(["collect", *words, "--offline"])
        said = f"tradeflood: the store holds nothing of {words[1]}; see what it holds with: tradeflood coverage\n"
        assert (end.value.code, *capfd.readouterr()) == (2, "", said)


def test_a_store_that_was_there_stays_also_if_it_is_empty(venues, stored):
    for words in (["migrate"], ["collect", "trade", "binance:NOPE/USDT", *DAY, "--out", "store"]):
        with pytest.raises(SystemExit):
            main(words)
        assert Path("store").is_dir()


def test_run_of_a_market_that_is_not_there_names_the_entry_and_the_nearest_name(venues, stored, capfd):
    """Nobody waits for it, and what the other entries brought is kept."""
    Path("t.toml").write_text(
        '[[collect]]\nmodel = "trade"\nmarkets = ["binance:BTC/USDT"]\nhistory = "1m"\n'
        '[[collect]]\nmodel = "trade"\nmarkets = ["nobitex:BCT/IRT"]\nhistory = "1m"\n'
    )
    with pytest.raises(SystemExit) as end:
        main(["run", "t.toml", "--for", "60s"])
    _, err = capfd.readouterr()
    line = "tradeflood: collect[1]: nobitex: no market 'BCT/IRT'; did you mean nobitex:BTC/IRT? list them with:"
    assert line in err
    assert end.value.code == 2


def test_run_of_lists_alone_is_done(venues, stored, capfd):
    """They have no range, so that no line of the table tells of them."""
    Path("t.toml").write_text('[[collect]]\nmodel = "market"\nmarkets = ["nobitex:*"]\n')
    with pytest.raises(SystemExit) as end:
        main(["run", "t.toml", "--for", "2s"])
    out, _ = capfd.readouterr()
    assert end.value.code == 0
    assert "6 rows of market nobitex:*" in out


def test_run_of_a_history_older_than_any_market_ends_no_run(venues, stored, capfd):
    Path("t.toml").write_text(
        '[[collect]]\nmodel = "candle"\ninterval = "1w"\nmarkets = ["binance:BTC/USDT"]\nhistory = "99999999w"\n'
    )
    with pytest.raises(SystemExit) as end:
        main(["run", "t.toml", "--for", "2s"])
    assert end.value.code != 2
    assert "no time of a market" not in capfd.readouterr().err


def test_a_stream_of_a_market_that_is_not_there(refused, venues):
    """Binance acknowledges what it does not know, and stays silent."""
    told = refused("stream", "trade", "binance:BTC/USTD", "--for", "60s")
    assert "binance: no market 'BTC/USTD'; did you mean binance:BTC/USDT? list them with: tradeflood markets" in told


def test_a_pattern_that_matches_nothing(refused, venues):
    told = refused("collect", "candle", "binance:NOPE*/USDT", "--interval", "1h", *DAY)
    assert "no market matches 'NOPE*/USDT'; list them with: tradeflood markets binance" in told
    assert "no market matches" in refused("stream", "trade", "binance:NOPE*/USDT", "--for", "1s")
    assert "no market matches" in refused("collect", "market", "binance:NOPE*")
    assert "no market 'NOPE/USDT'" in refused("collect", "market", "binance:NOPE/USDT")


def test_one_market_of_two_is_delivered_and_the_other_named(venues, capfd):
    """What could be had is shown; the line on standard error names what could not; the exit code says so."""
    with pytest.raises(SystemExit) as end:
        main(["collect", "candle", "binance:BTC/USDT", "binance:NOPE/USDT", "--interval", "1h", *DAY, "--out", "csv"])
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 25
    assert "-1121" in err
    assert end.value.code == 2


def test_strict_says_what_is_missing_and_exits_with_three(venues, capfd):
    """Nobitex gives its recent trades only: an hour of them cannot be held."""
    with pytest.raises(SystemExit) as end:
        main(
            [
                "collect",
                "trade",
                "nobitex:BTC/IRT",
                "--start",
                "2024-01-01",
                "--end",
                "2024-01-02",
                "--strict",
                "--out",
                "csv",
            ]
        )
    _, err = capfd.readouterr()
    assert end.value.code == 3
    assert "not complete: " in err
    assert "Traceback" not in err


# ---------------------------------------------------------------- the library says the same


def test_the_library_raises_what_the_commands_say(venues, stored):
    for words, says in [*QUESTIONS[:6], *QUESTIONS[9:11]]:
        model, market, *rest = words
        variant = {rest[0].removeprefix("--"): rest[1]} if rest else {}
        known = tf.Trade if model == "trade" else tf.Candle
        with pytest.raises(UsageError) as error:
            tf.collect(known, market, start="2024-01-01", end="2024-01-02", **variant)
        assert says in str(error.value)
        with pytest.raises(UsageError):
            tf.plan(tf.Query(known, market, start="2024-01-01", end="2024-01-02", **variant)).explain()
    assert not Path("store").exists()


def test_the_library_refuses_what_is_no_model_or_query():
    for wrong in ("trade", int, None, tf.Model):
        with pytest.raises(UsageError):
            tf.collect(wrong, "binance:BTC/USDT")
    with pytest.raises(UsageError, match="say which market"):
        tf.collect(tf.Trade)
    with pytest.raises(UsageError, match="no market 5"):
        tf.collect(tf.Trade, 5)
    with pytest.raises(UsageError, match="not a time: 5"):
        tf.collect(tf.Trade, "binance:BTC/USDT", start=5)
    with pytest.raises(UsageError, match="a plan is made of queries"):
        tf.plan("binance:BTC/USDT")
    with pytest.raises(UsageError, match="candle: no interval \\['1h'\\]; write it as text"):
        tf.collect(tf.Candle, "binance:BTC/USDT", interval=["1h"])
    with pytest.raises(UsageError, match='say origin=, such as origin="venue"'):
        tf.collect(tf.Candle, "binance:BTC/USDT", interval="1h", origin=None)
    flood = tf.Flood()
    with pytest.raises(UsageError, match="a stream begins now and ends when you leave it: it has no start"):
        flood.stream(tf.Trade, "binance:BTC/USDT", start="2024-01-01")
    with pytest.raises(UsageError, match="only a plan can be run"):
        asyncio.run(flood.run("binance:BTC/USDT"))


def test_the_errors_of_the_library_can_be_told_apart(venues):
    with pytest.raises(UnknownMarket) as unknown:
        tf.collect(tf.Trade, "binance:NOPE/USDT", start="2024-01-01", end="2024-01-02")
    assert isinstance(unknown.value, UsageError)
    assert unknown.value.request.path == "/api/v3/aggTrades"
    assert "tradeflood markets" in unknown.value.remedy
    with pytest.raises(Incomplete):
        tf.collect(tf.Trade, "nobitex:BTC/IRT", start="2024-01-01", end="2024-01-02", strict=True)


# ---------------------------------------------------------------- stores


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://localhost", "no store 'redis://localhost': there are"),
        ("./data", "no store './data'"),
        ("chdb://", "name a folder"),
        ("memory://x", "takes nothing behind it"),
    ],
)
@pytest.mark.parametrize(
    "command", [("migrate",), ("run", "--for", "1s"), ("collect", "trade", "binance:BTC/USDT", *DAY)]
)
def test_a_store_that_is_none(refused, monkeypatch, command, url, says):
    monkeypatch.setenv("TRADEFLOOD_STORE", url)
    assert says in refused(*command)


@pytest.mark.parametrize(
    "command",
    [
        ("migrate",),
        ("run", "--for", "1s"),
        ("collect", "trade", "binance:BTC/USDT", *DAY),
        ("plan", "trade", "binance:BTC/USDT", *DAY),
    ],
)
def test_a_store_that_cannot_be_written(refused, monkeypatch, command):
    Path("file").write_text("")
    monkeypatch.setenv("TRADEFLOOD_STORE", "chdb://./file/store")
    assert "cannot write there: Not a directory; choose another folder" in refused(*command, code=1)


def test_a_store_that_another_process_holds(refused, monkeypatch, tmp_path):
    """The line says which process, and nothing waits for it."""
    monkeypatch.setenv("TRADEFLOOD_STORE", f"chdb://{tmp_path}/store")
    script = f"from tradeflood.store import open_store; s = open_store('chdb://{tmp_path}/store'); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            for command in (
                ("migrate",),
                ("coverage",),
                ("run", "--for", "1s"),
                ("collect", "trade", "binance:BTC/USDT", *DAY),
            ):
                assert f"process {holder.pid} holds it; stop that, or choose another folder" in refused(
                    *command, code=1
                )
            with pytest.raises(StoreError, match="holds it"):
                tf.collect(tf.Trade, "binance:BTC/USDT", start="2024-01-01", end="2024-01-02")
        finally:
            holder.communicate("\n")


# ---------------------------------------------------------------- no network


@pytest.fixture
def cut(monkeypatch):
    """Every venue is at an address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for venue in ("BINANCE", "OKX", "NOBITEX", "BITGET"):
        monkeypatch.setenv(f"TRADEFLOOD_VENUES__{venue}__REST_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv(f"TRADEFLOOD_VENUES__{venue}__FEED_URL", f"ws://127.0.0.1:{port}")


@pytest.fixture
def hasty(monkeypatch):
    """Tries follow one another at once."""
    monkeypatch.setattr("tradeflood.runner.flood.Patience", lambda: Patience(first_delay=10 * MS))


def test_run_without_a_network_says_so_soon_and_names_the_way_out(cut, capfd):
    begin = time.monotonic()
    with pytest.raises(SystemExit) as end:
        main(["run", "--for", "5s"])
    out, err = capfd.readouterr()
    assert time.monotonic() - begin < 15
    assert end.value.code == 1
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("tradeflood: ")]
    assert "no venue answers" in line
    assert line.endswith("see it work with: tradeflood run --replay")
    assert len(line) < 600
    assert "Traceback" not in err


def test_collect_without_a_network_is_one_line(refused, cut, hasty):
    told = refused("collect", "candle", "binance:BTC/USDT", "okx:BTC/USDT", "--interval", "1h", *DAY, code=1)
    assert "binance: GET http://127.0.0.1:" in told


# ---------------------------------------------------------------- stopped on the way


class Dribble(io.RawIOBase):
    """A pipe that takes ten bytes at a time, as one does where signals interrupt it."""

    def __init__(self):
        self.taken = b""

    def writable(self):
        return True

    def write(self, data):
        self.taken += bytes(data[:10])
        return min(10, len(data))


def test_a_long_answer_is_written_whole_also_without_a_buffer(monkeypatch):
    """As under PYTHONUNBUFFERED, where Python itself drops what one write does not take."""
    pipe = Dribble()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, write_through=True))
    with pytest.raises(SystemExit):
        main(["venues", "--json"])
    assert len(json.loads(pipe.taken)) > 10


def started(*args, **more):
    """The command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tradeflood.cli.main", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def test_run_of_patterns_without_a_network_says_the_same(cut, hasty, capfd):
    """The market list that fails is named, not waited for."""
    Path("t.toml").write_text('[[collect]]\nmodel = "trade"\nmarkets = ["binance:*/USDT"]\n')
    with pytest.raises(SystemExit) as end:
        main(["run", "t.toml", "--for", "5s"])
    assert end.value.code == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("tradeflood: ")]
    assert "no venue answers" in line


def test_run_where_the_network_swallows_everything(capfd, monkeypatch):
    """Nobody answers and nobody refuses: the time is over, and that is what is said."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        port = silent.getsockname()[1]
        monkeypatch.setenv("TRADEFLOOD_VENUES__BINANCE__REST_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("TRADEFLOOD_VENUES__BINANCE__FEED_URL", "ws://127.0.0.1:1")
        monkeypatch.setattr("tradeflood.runner.runner.SETTLE_WITHIN", 0.2)
        Path("t.toml").write_text('[[collect]]\nmodel = "trade"\nmarkets = ["binance:BTC/USDT"]\nhistory = "1m"\n')
        begin = time.monotonic()
        with pytest.raises(SystemExit) as end:
            main(["run", "t.toml", "--for", "1s"])
    assert time.monotonic() - begin < 5
    assert end.value.code == 1
    assert "no venue answers; check the network" in capfd.readouterr().err


@pytest.mark.loopback
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_stops_on_a_signal_with_everything_flushed(venues, capfd, number):
    """Exit code 0, the table, no traceback; what came live is in the store."""
    Path("t.toml").write_text(
        'store = "chdb://./store"\n[[collect]]\nmodel = "trade"\nmarkets = ["binance:BTC/USDT"]\nhistory = "10s"\n'
    )
    with started("run", "t.toml") as process:
        process.stderr.readline()  # "collecting from …"
        time.sleep(1.5)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "binance:BTC/USDT" in out
    assert "Traceback" not in err
    with pytest.raises(SystemExit) as end:
        main(["coverage", "--config", "t.toml"])
    assert end.value.code == 0
    assert "binance:BTC/USDT" in capfd.readouterr().out


@pytest.mark.loopback
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize("words", [("collect", *DAY), ("stream", "--for", "20s")])
@pytest.mark.parametrize("out", ["table", "csv", "json"])
def test_an_output_on_a_full_disk_is_one_line(venues, words, out):
    command, *rest = words
    words = [command, "candle", "binance:BTC/USDT", "--interval", "1m", *rest, "--out", out]
    with Path("/dev/full").open("w") as full:
        told = subprocess.run(
            [sys.executable, "-m", "tradeflood.cli.main", *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30,
            check=False,
        )  # fmt: skip
    assert (told.returncode, told.stderr) == (1, "tradeflood: cannot go on: No space left on device\n")


@pytest.mark.loopback
@pytest.mark.parametrize("out", ["table", "csv", "json"])
def test_a_reader_that_leaves_is_no_error(venues, out):
    """As in `tradeflood collect … | head -1`."""
    read, write = os.pipe()
    words = ["collect", "candle", "binance:BTC/USDT", "--interval", "1m", *DAY, "--out", out]
    with subprocess.Popen(
        [sys.executable, "-m", "tradeflood.cli.main", *words], stdout=write, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(write)
        os.close(read)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
