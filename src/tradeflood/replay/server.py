"""Venues served on loopback: `async with serve(source, ["binance"]) as urls:`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from fractions import Fraction

from tradeflood.errors import UsageError
from tradeflood.replay.desk import LOOPBACK, Clock, desk_of, desks
from tradeflood.replay.faults import Fault, Faults, FaultyDesk
from tradeflood.replay.recorded import Recorded
from tradeflood.replay.simulated import Simulated
from tradeflood.replay.source import Source
from tradeflood.replay.wire import WireServer


class Served(dict[str, tuple[str, str]]):
    """The served venues: {venue: (rest_url, feed_url)}, with the clock they go by and the faults they play."""

    def __init__(self, clock: Clock, faults: Faults) -> None:
        super().__init__()
        self.clock = clock
        self.faults = faults

    def settings(self) -> dict[str, dict[str, str]]:
        """The `[venues.…]` part of a configuration that points every venue here."""
        return {venue: {"rest_url": rest, "feed_url": feed} for venue, (rest, feed) in self.items()}


@asynccontextmanager
async def serve(
    source: Source | None = None,
    venues: Iterable[str] | None = None,
    port: int = 0,
    *,
    speed: float | str | Fraction = 1,
    start: int | None = None,
    faults: Iterable[str | Fault] = (),
    seed: int = 0,
    host: str = LOOPBACK,
) -> AsyncIterator[Served]:
    """The addresses of the venues (all that have a desk unless named), on consecutive ports from `port`.

    Port 0 takes any that are free. Without a source it is the simulated market of `seed`. `start` is the venue time
    at which the clock begins, now unless told; it runs `speed` times as fast as real time. A recording has the real
    time, and its frames come `speed` times as fast as they did.
    Raises UsageError for an unknown venue, a fault that is none, and a port that is taken.
    """
    clock = Clock(speed, start)
    pace = clock.speed
    if isinstance(source, Recorded):
        clock = Clock(1, start)
    served = Served(clock, Faults(faults, seed))
    names = list(desks()) if venues is None else list(dict.fromkeys(venues))
    strangers = {fault.venue for fault in served.faults.chosen if fault.venue} - set(names)
    if strangers:
        raise UsageError(
            f"a fault names {', '.join(sorted(strangers))}, which is not served; there is {', '.join(names)}"
        )
    source = Simulated(seed) if source is None else source
    async with AsyncExitStack() as stack:
        for place, venue in enumerate(names):
            desk = desk_of(venue)
            if isinstance(source, Recorded):
                desk = source.desk(desk, clock, pace)
            server = WireServer(FaultyDesk(desk, source, clock, served.faults), clock.now)
            wanted = port + place if port else 0
            try:
                await server.open(host, wanted)
            except (OSError, OverflowError) as error:
                raise UsageError(f"cannot serve {venue} on port {wanted}: {error}; choose another port") from error
            stack.push_async_callback(server.close)
            served[venue] = (f"http://{host}:{server.port}", f"ws://{host}:{server.port}")
        yield served
