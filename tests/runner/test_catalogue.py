"""What there is to be had, as people see it."""

from tradeflood.config import load_config
from tradeflood.plugins import load
from tradeflood.runner.catalogue import offers
from tradeflood.runner.venues import SessionVenues


def test_how_far_back_a_venue_goes_is_what_its_binding_says():
    """All of it, so many days, the newest rows only, as it is now, or nothing."""
    load()
    told = {(o.venue, o.model, o.variants): o.reach for o in offers(SessionVenues(load_config(None).venues))}
    assert told["binance", "trade", "kind raw"] == "all"
    assert told["okx", "trade", "kind raw"] == "90 days"
    assert told["nobitex", "trade", "kind raw"] == "newest"
    assert told["bitget", "ticker", ""] == "now"
    assert told["okx", "trade", "kind merged"] == "no"
