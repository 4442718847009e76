"""What we test with, for those who build on us: fakes of time and network here, hypothesis strategies beside them."""

from tradeflood.testing.clock import FakeClock, VenueTime
from tradeflood.testing.transport import FakeTransport, answers_of, params_of, reply

__all__ = ["FakeClock", "FakeTransport", "VenueTime", "answers_of", "params_of", "reply"]
