"""TradeFlood itself: Trade objects delivered to the caller, with each transport, the ledger on.

Run by bench/run.py, each in a fresh process: python bench/ours.py NAME PORT FRAMES
"""

import common
from common import MissingError


def delivered(port: int, frames: int, transport: str) -> dict[str, object]:
    """Trade objects that came out of `Flood.stream`, counted."""
    try:
        import tradeflood as tf

        flood = tf.Flood
    except (ImportError, AttributeError):
        raise MissingError("tradeflood has no live transport yet") from None
    # TODO: fill in when the live transport exists: Flood with the venue's URLs at this port, merged trades of
    # common.MARKETS, a common.Tally over what is delivered, the ids of each market checked to be without a hole.
    raise MissingError(f"not wired yet: {flood.__name__} with {transport}, port {port}, {frames} frames")


def with_websockets(port: int, frames: int) -> dict[str, object]:
    return delivered(port, frames, "websockets")


def with_picows(port: int, frames: int) -> dict[str, object]:
    return delivered(port, frames, "picows")


CONTESTANTS = {"tradeflood+websockets": with_websockets, "tradeflood+picows": with_picows}

if __name__ == "__main__":
    common.contest(CONTESTANTS)
