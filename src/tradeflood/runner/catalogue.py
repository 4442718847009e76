"""What there is to be had: every venue, model and variant that some binding makes."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from tradeflood.models import Model
from tradeflood.models.time import DAY
from tradeflood.runner.venues import SessionVenues


@frozen
class Offer:
    """One binding, as people see it."""

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
                history = binding.has_history()
                reach = "no" if not history else "all" if binding.horizon is None else f"{binding.horizon // DAY} days"
                found.append(Offer(venue, model.name(), ", ".join(parts), reach, binding.has_live(), history))
    return found
