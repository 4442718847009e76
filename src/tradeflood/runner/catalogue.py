"""What there is to be had: every venue, model and variant that some binding makes."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from tradeflood.models import Model
from tradeflood.models.time import DAY
from tradeflood.runner.venues import SessionVenues
from tradeflood.turns import Binding


@frozen
class Offer:
    """One binding, as people see it. `reach` is how far back it goes: no, now, newest, so many days, all."""

    venue: str
    model: str
    variants: str
    reach: str
    live: bool
    history: bool

    def to_json(self) -> dict[str, Any]:
        """The offer as JSON values."""
        return {
            "venue": self.venue, "model": self.model, "variants": self.variants, "history": self.history,
            "reach": self.reach, "live": self.live,
        }  # fmt: skip


def offers(venues: SessionVenues) -> list[Offer]:
    """Every offer, by venue and model."""
    found = []
    for venue, connector in sorted(venues.registry.connectors.items()):
        for model in sorted(Model.models.values(), key=lambda model: model.name()):
            for binding in venues.registry.candidates(connector, model):
                parts = [f"{part.name} {' '.join(binding.offered(part.name)) or 'any'}" for part in model.variants()]
                live, history = binding.has_live(), binding.has_history()
                found.append(Offer(venue, model.name(), ", ".join(parts), _reach(binding), live, history))
    return found


def _reach(binding: type[Binding[Any]]) -> str:
    """How far back a binding goes, in a word or two."""
    if not binding.has_history():
        return "no"
    if binding.model.time is None:
        return "now"
    if binding.horizon_rows is not None:
        return "newest"
    return "all" if binding.horizon is None else f"{binding.horizon // DAY} days"
