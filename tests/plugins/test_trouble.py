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
