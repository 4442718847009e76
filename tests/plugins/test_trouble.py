"""Plug-ins that are wrong: each is one line that names it, and the rest goes on."""

import json

import pytest

VENUE = """
import tradeflood as tf

class {name}(tf.Connector):
    venue = "somewhere"
    rest = tf.Rest("https://example.com", tf.Budget("requests", 1, per=tf.minutes(1)))
"""
MODEL = """
import tradeflood as tf
from attrs import define

@define
class Depth(tf.Model, key=("venue", "market", "at"), time="at"):
    venue: str
    market: str
    at: tf.Time
"""


def test_rivals_for_one_venue(room):
    """The first keeps the venue; the other is named, with what to do."""
    room.write("alpha", VENUE.format(name="Alpha"))
    room.write("beta", VENUE.format(name="Beta"))
    plugins, venues = room.run("plugins --json", "venues --json")
    told = {each["name"]: each for each in json.loads(plugins[1])}
    assert told["alpha"]["venues"] == ["somewhere"]
    assert told["beta"]["venues"] == []
    why = (
        "DeclarationError: venue 'somewhere' is alpha_module.Alpha already; "
        "beta_module.Beta must subclass it to replace it"
    )
    assert told["beta"]["error"] == why
    assert plugins[2] == f"tradeflood: the plug-in beta 1.0 failed and is left out: {why}\n"
    assert venues[0] == 0


def test_a_subclass_replaces(room):
    """That is how a venue is changed on purpose."""
    room.write("alpha", VENUE.format(name="Alpha"))
    room.write("beta", "from alpha_module import Alpha\nclass Beta(Alpha): ...\n")
    ((_, out, err),) = room.run("plugins --json")
    assert [each["error"] for each in json.loads(out)] == [None] * 3
    assert err == ""


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise RuntimeError('out of\\norder')", "RuntimeError: out of order"),
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("def (", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (
            "class Other(tf.Connector):\n    venue = 'other'",
            "Other: say where other is asked: rest = tradeflood.Rest(…)",
        ),
        ("class Other(Broken):\n    venue = 'a:b'", "Other: venue is 'a:b'; write letters, digits, _ and - alone"),
        ("class Other(Broken):\n    venue = 5", "Other: venue is 5; write letters"),
        (
            "from tradeflood import hookimpl\n@hookimpl\ndef tradeflood_nothing(): ...",
            "unknown hook 'tradeflood_nothing'",
        ),
    ],
)
def test_one_that_fails_takes_nothing_down(room, code, says):
    """What it had defined before it failed is forgotten; everything else works."""
    room.write("broken", f"{MODEL}\n{VENUE.format(name='Broken')}\n{code}\n")
    room.write("good", VENUE.format(name="Good"))
    plugins, venues, collect = room.run("plugins --json", "venues", "collect depth binance:BTC/USDT")
    told = {each["name"]: each for each in json.loads(plugins[1])}
    assert says in " ".join(told["broken"]["error"].split())
    assert (told["broken"]["venues"], told["broken"]["models"]) == ([], [])
    assert (told["good"]["venues"], told["good"]["error"]) == (["somewhere"], None)
    assert plugins[2].startswith("tradeflood: the plug-in broken 1.0 failed and is left out: ")
    assert plugins[2].count("\n") == 1
    assert venues[0] == 0
    assert (collect[0], "no model 'depth'" in collect[2]) == (2, True)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("@define\n", "", "model Depth is no attrs class; decorate it with attrs.define"),
        ("tf.Time", "float", "model Depth.at: no column for <class 'float'>"),
        ('time="at"', 'time="at", table="trades"', "the table 'trades' belongs to trade; name another"),
        ('"at"), time="at"', '"when"), time="when"', "its key names when, which it lacks"),
        ("at: tf.Time", "at: tf.Time\n    table: str", "model Depth: no field may be called table"),
    ],
)
def test_a_model_that_cannot_be_stored(room, old, new, says):
    """It is left out when it is found, and no store fails for it."""
    room.write("broken", MODEL.replace(old, new))
    plugins, migrate = room.run("plugins --json", "migrate --json")
    (told,) = [each for each in json.loads(plugins[1]) if each["name"] == "broken"]
    assert says in told["error"]
    assert told["models"] == []
    assert migrate[0] == 0


def test_two_models_of_one_name(room):
    """Their tables would be one."""
    room.write("alpha", MODEL)
    room.write("beta", MODEL)
    ((_, _, err),) = room.run("plugins")
    assert err.count("\n") == 1
    assert "the plug-in beta 1.0 failed" in err
    assert "alpha_module.Depth already; give beta_module.Depth another name" in err


def test_stores_of_one_that_fails_are_left_out_too(room):
    """Nor does it take the place of a store that was there."""
    stores = """
from tradeflood import hookimpl

@hookimpl
def tradeflood_stores():
    return {"elsewhere": print, "chdb": print}
"""
    room.write("broken", MODEL.replace("tf.Time", "float") + stores)
    migrate, coverage = room.run("migrate", "coverage")
    assert migrate[0] == coverage[0] == 0, (migrate, coverage)


BINDING = """
import tradeflood as tf
from decimal import Decimal

class Wrong{number}(tf.Connector):
    venue = "wrong{number}"
    rest = tf.Rest("https://example.com", tf.Budget("requests", 1, per=tf.minutes(1)))

class Trades{number}(tf.Binding[tf.Trade], connector=Wrong{number}):
    def __call__(self, venue, ask):
        one, at = Decimal(1), ask.spans[0][0]
        trade = tf.Trade(ask.venue, ask.market, "raw", "1", one, one, tf.Side.BUY, at)
        {change}
        return [trade]
"""
CHANGES = {
    "trade.market = 'ETH/USDT'": "the binding wrong_module.Trades0 made a row of wrong0 ETH/USDT raw",
    "trade.venue = 'binance'": "the binding wrong_module.Trades1 made a row of binance BTC/USDT raw",
    "trade.kind = 'merged'": "the binding wrong_module.Trades2 made a row of wrong2 BTC/USDT merged",
    "trade = 'text'": "the binding wrong_module.Trades3 made a str instead of a trade",
    "trade.venue_time = None": "a row whose values have other types than its fields",
    "trade.price = 1.5": "a row whose values have other types than its fields",
}


def test_rows_that_nobody_asked_for_are_not_stored(room):
    """Of another market, or of another venue, they would lie among what its own connector collected."""
    room.write("wrong", "".join(BINDING.format(number=number, change=change) for number, change in enumerate(CHANGES)))
    words = "collect trade wrong{}:BTC/USDT --start 2024-01-01 --end 2024-01-02 --out {}"
    for out in ("csv", "store"):
        told = room.run(*(words.format(number, out) for number in range(len(CHANGES))))
        for (code, printed, err), says in zip(told, CHANGES.values(), strict=True):
            assert (code, printed, err.count("\n")) == (1, "", 1)
            assert says in err
    assert not (room.folder / "store").exists()


@pytest.mark.parametrize(
    ("opener", "says"),
    [
        ("lambda url: 1 / 0", "what opens ours:// failed: ZeroDivisionError('division by zero')"),
        ("lambda url: None", "what opens ours:// gave None, which is no tradeflood.store.Store"),
        ("5", "what opens ours:// failed: TypeError"),
    ],
)
def test_a_store_that_its_plug_in_cannot_open(room, opener, says):
    room.write("ours", f"import tradeflood as tf\n@tf.hookimpl\ndef tradeflood_stores(): return {{'ours': {opener}}}\n")
    room.settings["TRADEFLOOD_STORE"] = "ours://x"
    for code, out, err in room.run("coverage", "migrate", "run --for 1s"):
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert says in err
