"""Configuration: what is wrong is one line that names the place; the environment wins over the file."""

from pathlib import Path

import pytest

from tradeflood.config import STORE, Collect, Config, load_config
from tradeflood.errors import UsageError
from tradeflood.runner.flood import Flood
from tradeflood.runner.runner import Runner
from tradeflood.turns import Settings

WHOLE = """
bus = "memory://"
store = "chdb://./there"
record = "recordings"

[[collect]]
model = "trade"
markets = ["binance:BTC/USDT", "okx:*/USDT"]
history = "1h"

[[collect]]
model = "candle"
interval = "1m"
origin = "venue"
markets = ["binance:BTC/USDT"]

[venues.binance]
rest_url = "http://127.0.0.1:9001"
feed_url = "ws://127.0.0.1:9001"
limits = { weight = 1200 }
feed = { streams = 10 }

[proxies]
paged = ["http://127.0.0.1:8080", "socks5://127.0.0.1:1080"]
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(text, name="tradeflood.toml"):
    Path(name).write_text(text, encoding="utf-8")
    return name


def test_a_file_with_everything_in_it():
    assert load_config(write(WHOLE, "other.toml")) == Config(
        store="chdb://./there",
        record="recordings",
        collect=[
            Collect("trade", ["binance:BTC/USDT", "okx:*/USDT"], "1h"),
            Collect("candle", ["binance:BTC/USDT"], None, "1m", None, "venue"),
        ],
        venues={"binance": Settings("http://127.0.0.1:9001", "ws://127.0.0.1:9001", {"weight": 1200}, {"streams": 10})},
        proxies={"paged": ["http://127.0.0.1:8080", "socks5://127.0.0.1:1080"]},
    )


def test_the_usual_file_is_read_where_it_is_and_missed_by_nobody():
    assert load_config() == Config()
    write('store = "memory://"')
    assert load_config().store == "memory://"
    assert load_config({"store": "chdb://x"}).store == "chdb://x"
    assert load_config(Config(store="chdb://y")).store == "chdb://y"


def test_a_dict_has_the_same_shape():
    import tomllib

    assert load_config(tomllib.loads(WHOLE)) == load_config(write(WHOLE))


def test_settings_reach_the_connector():
    flood = Flood(write(WHOLE))
    binance = flood.venues.connector("binance")
    assert binance.rest.url == "http://127.0.0.1:9001"
    assert binance.feed.url == "ws://127.0.0.1:9001"
    assert binance.rest.budget.limit == 1200
    assert binance.feed.streams == 10
    assert not Path("recordings").exists()


def test_the_environment_wins(monkeypatch):
    write(WHOLE)
    monkeypatch.setenv("TRADEFLOOD_STORE", "memory://")
    monkeypatch.setenv("TRADEFLOOD_VENUES__BINANCE__REST_URL", "http://elsewhere:1")
    monkeypatch.setenv("TRADEFLOOD_VENUES__OKX__FEED_URL", "ws://elsewhere:2")
    monkeypatch.setenv("TRADEFLOOD_RECORD", "")
    monkeypatch.setenv("TRADEFLOOD_SPILL", "aside")
    config = load_config()
    assert (config.store, config.record, config.spill) == ("memory://", "recordings", "aside")
    assert config.venues["binance"] == Settings(
        "http://elsewhere:1", "ws://127.0.0.1:9001", {"weight": 1200}, {"streams": 10}
    )
    assert config.venues["okx"] == Settings(feed_url="ws://elsewhere:2")


WRONG = [
    ("store = ", "tradeflood.toml: not TOML: Invalid value (at end of document)"),
    ("[[collect]\n", "tradeflood.toml: not TOML: "),
    ("\ufffe\x00", "tradeflood.toml: not TOML: "),
    (
        "stroe = 'x'",
        "tradeflood.toml: no key 'stroe'; there are bus, store, record, spill, spill_limit, overflow, audit, collect, venues, proxies",
    ),
    ("record = ''", "tradeflood.toml: record: name a folder, or leave the key out"),
    ("spill = ''", "tradeflood.toml: spill: name a folder, or leave the key out"),
    ("spill_limit = 0", "tradeflood.toml: spill_limit: must be a number of bytes, not 0"),
    ("spill_limit = '1G'", "tradeflood.toml: spill_limit: must be a whole number, not '1G'"),
    ("store = 5", "tradeflood.toml: store: must be text, not 5"),
    ("store = ''", "tradeflood.toml: store: no store ''; write it like chdb://"),
    ("store = './data'", "tradeflood.toml: store: no store './data'"),
    ("bus = 'kafka://x'", "tradeflood.toml: bus: no bus 'kafka://x'; there is memory://"),
    ("collect = 5", "tradeflood.toml: collect: must be a list, not 5"),
    ("collect = [5]", "tradeflood.toml: collect[0]: must be a table, not 5"),
    ("[collect]\nmodel = 'trade'", "tradeflood.toml: collect: must be a list, not a table; in TOML a list"),
    ("[[collect]]\nmodel = 'trade'", "tradeflood.toml: collect[0]: the key 'markets' is missing"),
    ("[[collect]]\nmarkets = []", "tradeflood.toml: collect[0]: the key 'model' is missing"),
    (
        "[[collect]]\nmodel = 'trade'\nmarkets = 'binance:*'",
        "tradeflood.toml: collect[0].markets: must be a list, not 'binance:*'",
    ),
    ("[[collect]]\nmodel = 'trade'\nmarkets = ['a', 5]", "tradeflood.toml: collect[0].markets[1]: must be text, not 5"),
    ("[[collect]]\nmodel = 1\nmarkets = []", "tradeflood.toml: collect[0].model: must be text, not 1"),
    (
        "[[collect]]\nmodel = 'a'\nmarkets = []\nkinds = 1",
        "tradeflood.toml: collect[0]: no key 'kinds'; there are model, markets",
    ),
    (
        "[[collect]]\nmodel = 'a'\nmarkets = []\nhistory = '1x'",
        "tradeflood.toml: collect[0].history: not a duration: '1x'",
    ),
    ("venues = 1", "tradeflood.toml: venues: must be a table, not 1"),
    ("[venues]\nbinance = 1", "tradeflood.toml: venues.binance: must be a table, not 1"),
    (
        "[venues.binance]\nurl = 'x'",
        "tradeflood.toml: venues.binance: no key 'url'; there are rest_url, feed_url, limits, feed",
    ),
    ("[venues.binance]\nrest_url = 1", "tradeflood.toml: venues.binance.rest_url: must be text, not 1"),
    (
        "[venues.binance]\nlimits = { weight = 'x' }",
        "tradeflood.toml: venues.binance.limits.weight: must be a whole number",
    ),
    (
        "[venues.binance]\nlimits = { weight = true }",
        "tradeflood.toml: venues.binance.limits.weight: must be a whole number",
    ),
    ("[proxies]\npaged = 'http://x'", "tradeflood.toml: proxies.paged: must be a list"),
    ("[proxies]\npaged = [1]", "tradeflood.toml: proxies.paged[0]: must be text, not 1"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_a_mistake_is_one_line_that_names_the_place(text, says):
    with pytest.raises(UsageError) as error:
        load_config(write(text))
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_no_toml():
    Path("tradeflood.toml").write_bytes(b"store = '\xff\xfe'")
    with pytest.raises(UsageError, match=r"^tradeflood.toml: not TOML: "):
        load_config()


def test_a_file_that_cannot_be_read():
    Path("folder").mkdir()
    with pytest.raises(UsageError, match="^folder: cannot be read: Is a directory"):
        load_config("folder")
    with pytest.raises(UsageError, match="^nothing: there is no such file"):
        load_config("nothing")


# What only a session can know: venues, models and what they offer.

UNKNOWN = [
    ("[venues.binanse]\nrest_url = 'http://x'", "venues.binanse: no such venue; did you mean 'binance'?"),
    ("[venues.zzz]\n", "venues.zzz: no such venue; there are "),
    ("[venues.binance]\nrest_url = 'x'", "venues.binance.rest_url: no URL 'x'; write scheme, host and port"),
    ("[venues.binance]\nrest_url = 'ftp://x'", "venues.binance.rest_url: no URL 'ftp://x'"),
    ("[venues.binance]\nrest_url = 'http://x:99999999'", "venues.binance.rest_url: no URL"),
    (
        "[venues.binance]\nfeed_url = 'http://x'",
        "venues.binance.feed_url: no URL 'http://x'; write scheme, host and port, such as ws://",
    ),
    ("[venues.binance]\nlimits = { wieght = 5 }", "venues.binance.limits: no budget 'wieght'; there are weight"),
    ("[venues.binance]\nlimits = { weight = 0 }", "venues.binance.limits.weight: must be at least 1, not 0"),
    ("[venues.binance]\nfeed = { steams = 5 }", "venues.binance.feed: no setting 'steams'; there are "),
    ("[venues.binance]\nfeed = { streams = 'x' }", "venues.binance.feed.streams: must be a whole number, not 'x'"),
    ("[venues.binance]\nfeed = { streams = 0 }", "venues.binance.feed.streams: must be at least 1, not 0"),
    (
        "[venues.binance]\nfeed = { messages = 5 }",
        "venues.binance.feed.messages: must be [how many, in how many ns], not 5",
    ),
    ("[venues.binance]\nfeed = { url = 'x' }", "venues.binance.feed: no setting 'url'"),
    (
        "[venues.binance]\nfeed = { subscriptions = [[5, 1], 7] }",
        "venues.binance.feed.subscriptions: must be [how many, in how many ns], not [[5, 1], 7]; or a list of such",
    ),
    ("[venues.binance]\nfeed = { attempts = [[5, 0]] }", "venues.binance.feed.attempts: must be at least 1, not 0"),
    ("[venues.binance]\nfeed = { connections = 0 }", "venues.binance.feed.connections: must be at least 1, not 0"),
    ("[venues.binance]\nfeed = { others = 'x' }", "venues.binance.feed.others: must be a list of addresses, not 'x'"),
    ("[venues.binance]\nfeed = { others = ['http://x'] }", "venues.binance.feed.others: no URL 'http://x'"),
    ("[proxies]\nrset = ['http://x']", "proxies: no kind of turn 'rset'; there are rest, paged, poll, feed"),
    ("[proxies]\nrest = ['x']", "proxies.rest: no exit 'x'; write http://host:port or socks5://host:port"),
]


@pytest.mark.parametrize(("text", "says"), UNKNOWN)
def test_a_session_is_not_made_of_what_is_not_there(text, says):
    with pytest.raises(UsageError) as error:
        Flood(write(text))
    assert str(error.value).startswith(says)


WANTS = [
    ("model = 'trdae'\nmarkets = ['binance:BTC/USDT']", "collect[0]: no model 'trdae'; there are "),
    ("model = 'trade'\nmarkets = []", "collect[0]: no markets; name some"),
    ("model = 'trade'\nmarkets = ['BTC/USDT']", "collect[0]: no market 'BTC/USDT'; write it VENUE:BASE/QUOTE"),
    ("model = 'trade'\nmarkets = ['binance:BTC/USDT', 'nowhere:BTC/USDT']", "collect[0]: no venue 'nowhere'"),
    ("model = 'trade'\nmarkets = ['binance:BTCUSDT']", "collect[0]: no market 'BTCUSDT'; write it BASE/QUOTE"),
    ("model = 'candle'\nmarkets = ['binance:BTC/USDT']", "collect[0]: candle: say interval="),
    (
        "model = 'candle'\ninterval = '7m'\nmarkets = ['binance:BTC/USDT']",
        "collect[0]: binance candle: no interval '7m'",
    ),
    ("model = 'trade'\nkind = 'cooked'\nmarkets = ['binance:BTC/USDT']", "collect[0]: trade: no kind 'cooked'"),
    ("model = 'trade'\ninterval = '1m'\nmarkets = ['binance:BTC/USDT']", "collect[0]: trade: no option 'interval'"),
]


@pytest.mark.parametrize(("text", "says"), WANTS)
def test_a_runner_is_not_made_of_what_cannot_be_collected(text, says):
    flood = Flood(write(f"record = 'there'\n[[collect]]\n{text}\n"))
    with pytest.raises(UsageError) as error:
        Runner(flood)
    assert str(error.value).startswith(says)
    assert sorted(path.name for path in Path().iterdir()) == ["tradeflood.toml"]


def test_a_setting_in_the_environment_that_is_none(monkeypatch):
    monkeypatch.setenv("TRADEFLOOD_VENUES__BINANCE__URL", "x")
    with pytest.raises(UsageError, match="^TRADEFLOOD_VENUES__BINANCE__URL: no such setting of a venue"):
        load_config()


def test_a_venue_in_the_environment_that_is_none(monkeypatch):
    monkeypatch.setenv("TRADEFLOOD_VENUES__BINANSE__REST_URL", "http://x")
    with pytest.raises(UsageError, match="did you mean 'binance'"):
        Flood()


def test_the_default_store_is_named_once():
    """What the pages say is what the code says."""
    assert STORE == "chdb://./tradeflood-data"
    page = Path(__file__).parents[1] / "docs" / "look-up" / "configuration.md"
    assert STORE in page.read_text(encoding="utf-8")


def test_every_key_is_on_the_page():
    """A key that nobody can look up does not exist."""
    from attrs import fields

    page = (Path(__file__).parents[1] / "docs" / "look-up" / "configuration.md").read_text(encoding="utf-8")
    names = {field.name for cls in (Config, Collect, Settings) for field in fields(cls)}
    assert {name for name in names if name not in page} == set()


def test_what_is_neither_a_path_nor_a_dict_is_no_configuration():
    with pytest.raises(UsageError, match="a configuration is a path or a dict, not 5"):
        load_config(5)


def test_a_byte_order_mark_is_overlooked(tmp_path):
    path = tmp_path / "t.toml"
    path.write_text('\ufeffstore = "memory://"\n', encoding="utf-8")
    assert load_config(path).store == "memory://"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("STROE", "TRADEFLOOD_STROE: no such setting; did you mean TRADEFLOOD_STORE?"),
        ("OVERFLOW", "TRADEFLOOD_OVERFLOW: overflow cannot be set so; write it into a configuration file"),
        ("SPILL_LIMIT", "TRADEFLOOD_SPILL_LIMIT: spill_limit cannot be set so"),
        ("VENUES__BINANCE", "TRADEFLOOD_VENUES__BINANCE: venues cannot be set so"),
    ],
)
def test_a_variable_that_would_be_overlooked_is_refused(monkeypatch, name, says):
    monkeypatch.setenv(f"TRADEFLOOD_{name}", "x")
    with pytest.raises(UsageError) as error:
        load_config({})
    assert str(error.value).startswith(says)


def test_a_variable_of_somebody_else_is_left_alone(monkeypatch):
    monkeypatch.setenv("TRADEFLOOD_RECORDINGS", "there")
    monkeypatch.setenv("TRADEFLOOD_CHAOS_SEEDS", "7")
    assert load_config({}).record is None
