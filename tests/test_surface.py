"""The names that others rely on: all there, sorted, and nothing beside them."""

import inspect

import tradeflood as tf

FIXED = """
    collect plan Flood Query Ask Model Market Trade Candle Ticker OrderBook Currency Side Connector Binding turn
    turn_execution both get Spans Page Request Reply Turn Windows Chain Rest Feed Budget Symbols ms seconds minutes hours
""".split()

# Named by the blueprint, built later: each leaves this set on the day it arrives.
LATER = {"OrderBook", "Currency"}


def shelf(name):
    """Constants, then classes, then the rest: the order that the linter keeps in __all__."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2, name)


def test_all_is_sorted():
    """A reader finds a name where they look for it."""
    assert list(tf.__all__) == sorted(tf.__all__, key=shelf)
    assert len(set(tf.__all__)) == len(tf.__all__)


def test_the_fixed_names_are_exported():
    """What the documentation promises can be imported from the front page."""
    missing = set(FIXED) - LATER - set(tf.__all__)
    assert not missing, sorted(missing)


def test_every_name_leads_somewhere():
    """__all__ names nothing that is not there."""
    assert [name for name in tf.__all__ if not hasattr(tf, name)] == []


def test_every_error_is_exported():
    """Whoever catches an error can name it."""
    from tradeflood import errors

    tree = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
        if not name.startswith("_")
    }
    assert tree - set(tf.__all__) == set()


def test_nothing_public_is_forgotten():
    """A public name of the front page is in __all__, or it is a module."""
    public = {name for name, value in vars(tf).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public - set(tf.__all__) - {"annotations"} == set()


def test_every_export_has_a_docstring():
    """What is exported says what it is."""
    bare = [
        name
        for name in tf.__all__
        if (inspect.isclass(value := getattr(tf, name)) or inspect.isfunction(value)) and not inspect.getdoc(value)
    ]
    assert bare == []
