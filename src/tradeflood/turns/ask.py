"""Ask: what a binding is called with."""

from __future__ import annotations

from collections.abc import Generator
from functools import cache
from typing import Any

from msgspec import Struct

from tradeflood.coverage import Dataset, Frame
from tradeflood.errors import DeclarationError
from tradeflood.models import Market, Model
from tradeflood.spans import EMPTY, Spans


def variant_of(model: type[Model], given: dict[str, str]) -> tuple[str, ...]:
    """The variant that these words name, defaults filled in.

    Raises DeclarationError where a word is missing or unknown.
    """
    known = {part.name: part for part in model.variants()}
    for name in given:
        if name not in known:
            raise DeclarationError(f"{model.name()} has no {name!r}; it has {', '.join(known) or 'no variants'}")
    values = tuple(given.get(part.name, part.default) for part in known.values())
    if None in values:
        raise DeclarationError(f"{model.name()} needs {', '.join(n for n, p in known.items() if p.default is None)}")
    return values  # type: ignore[return-value]


@cache
def _places(model: type[Model]) -> dict[str, int]:
    return {part.name: index for index, part in enumerate(model.variants())}


class Ask(Struct, frozen=True, gc=False):
    """One dataset and the spans of it that are missing. Await it inside a binding: a Frame, rows with coverage.

    `symbol` is the venue's spelling of `market`; `listing` is the market's row where the venue's list was asked.
    `now` is when planning began, in ns.
    """

    model: type[Model]
    venue: str
    market: str
    symbol: str
    variant: tuple[str, ...]
    spans: Spans
    now: int
    listing: Market | None = None

    @property
    def dataset(self) -> Dataset:
        """What this is one ask of."""
        return Dataset(self.model, self.venue, self.market, self.variant)

    def part(self, name: str) -> str:
        """A part of the variant by name, such as `interval`.

        Raises DeclarationError where the model has none of that name.
        """
        place = _places(self.model).get(name)  # type: ignore[arg-type]  # a class has a hash, whatever its rows have
        if place is None:
            raise DeclarationError(f"{self.model.name()} has no {name!r}")
        return self.variant[place]

    @property
    def interval(self) -> str:
        """The candle's interval."""
        return self.part("interval")

    @property
    def kind(self) -> str:
        """The trade's kind."""
        return self.part("kind")

    @property
    def origin(self) -> str:
        """The candle's origin."""
        return self.part("origin")

    def other(self, model: type[Model], *, spans: Spans | None = None, **variant: str) -> Ask:
        """The same market and spans of another model: await it."""
        wanted = self.spans if spans is None else spans
        return Ask(
            model, self.venue, self.market, self.symbol, variant_of(model, variant),
            wanted if model.time else EMPTY, self.now, self.listing,
        )  # fmt: skip

    def __await__(self) -> Generator[Any, Any, Frame[Any]]:
        return (yield self)  # type: ignore[no-any-return]
