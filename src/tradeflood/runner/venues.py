"""The connectors of a session: one per venue, with the user's settings."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from tradeflood import plugins
from tradeflood.errors import UsageError
from tradeflood.turns import Connector, Settings, registry


class SessionVenues:
    """Connectors by venue; those without settings are made when first asked for.

    Raises UsageError for settings of a venue that does not exist, and for settings that it does not have.
    """

    def __init__(self, settings: Mapping[str, Settings]) -> None:
        plugins.load()
        self.registry = registry
        self._settings = settings
        self._made: dict[str, Connector] = {}
        for venue in settings:
            if venue not in registry.connectors:
                near = get_close_matches(venue, registry.connectors, 1)
                known = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(registry.connectors))}"
                raise UsageError(f"venues.{venue}: no such venue; {known}")
            self.connector(venue)

    def connector(self, venue: str) -> Connector:
        """The connector of a venue.

        Raises UsageError where there is none.
        """
        made = self._made.get(venue)
        if made is None:
            made = self._made[venue] = self.registry.connector(venue)(self._settings.get(venue))
        return made
