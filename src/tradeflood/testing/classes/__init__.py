"""A venue of each class, on your desk: eight connectors, their bindings, and the servers that they talk to.

which class is it?        how the past is had            what comes live          module
contiguous   ids 1, 2, 3      by id                          the same ids             `connectors.Contiguous`
chained      id − count       by id, a row per order         the same                 `connectors.Chained`
jumping      ids with gaps    by id                          the same                 `connectors.Jumping`
snowflake    ids with a time  back from an id                the same                 `connectors.Snowflake`
last60       ids 1, 2, 3      the last 60 and no more        the same ids             `connectors.Last60`
offsets      none             the last 100 and no more       counted messages         `connectors.Offsets`
polled       none, seconds    the last 100 and no more       no feed                  `connectors.Polled`
multiplicity none             on from a time                 nothing but the rows     `connectors.Multiplicity`

    with venues():
        async with serve(venues=["snowflake"], seed=5) as served:
            async with Flood({"venues": served.settings()}) as flood:
                frame = await flood.collect(Trade, "snowflake:BTC/USDT", start=…, end=…)
        assert list(frame) == truth("snowflake", seed=5).trades("BTC/USDT", start, end)  # but for received_at
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tradeflood import plugins
from tradeflood.replay.desk import Desk
from tradeflood.replay.simulated import Simulated
from tradeflood.replay.source import Source
from tradeflood.testing.classes.connectors import BINDINGS, CONNECTORS
from tradeflood.testing.classes.desk import desk_for
from tradeflood.testing.classes.shapes import SHAPES, Shape, Tape
from tradeflood.turns import registry

__all__ = ["SHAPES", "VENUES", "Shape", "Tape", "truth", "venues"]

VENUES = tuple(SHAPES)
"""The venues, by name."""


@contextmanager
def venues() -> Iterator[tuple[str, ...]]:
    """The names of the venues; until the end they are registered, and can be served and configured like any other."""
    plugins.load()  # what is loaded inside a scope is forgotten with it
    with registry.scope(), Desk.scope():
        for connector in CONNECTORS:
            registry.enter_connector(connector)
        for binding in BINDINGS:
            registry.enter_binding(binding)
        for shape in SHAPES.values():
            desk_for(shape)
        yield VENUES


def truth(venue: str, source: Source | None = None, *, seed: int = 0) -> Tape:
    """What a venue shows of a source, the simulated market of `seed` unless told: what a perfect collector holds of it.

    `truth("polled").trades("BTC/USDT", start, end)` are its trades, with the venue's ids and times.
    Raises KeyError for a venue that is none of these.
    """
    return Tape(SHAPES[venue], (Simulated(seed) if source is None else source).at(venue))
