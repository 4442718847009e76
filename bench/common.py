"""What the scripts of the bench share: the markets, the shape of a result, the place of each process."""

import json
import os
import sys
import time
from collections.abc import Callable

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT")
MARKETS = tuple(f"{symbol.removesuffix('USDT')}/USDT" for symbol in SYMBOLS)
TOPICS = frozenset(f"{symbol.lower()}@aggTrade" for symbol in SYMBOLS)
STREAMS = "/stream?streams=" + "/".join(sorted(TOPICS))

SERVER, CLIENT = "server", "client"


class MissingError(Exception):
    """A contestant cannot take part; the text says why, in one line."""


def pin(role: str) -> None:
    """Give the server the last core and the contestant the others, where there are two and the system lets us."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            os.sched_setaffinity(0, cores[-1:] if role == SERVER else cores[:-1])


class Tally:
    """Counts what is delivered and stops the clock at the last of it.

    The clock runs from the first delivery to the last one, so that connecting and subscribing are not measured.
    """

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.delivered = 0
        self.first = self.last = self.begun = self.spent = 0.0

    def start(self) -> None:
        self.first = self.last = time.perf_counter()
        self.begun = time.process_time()

    def stop(self) -> None:
        self.last = time.perf_counter()
        self.spent = time.process_time() - self.begun

    def result(self, note: str = "") -> dict[str, object]:
        return {"delivered": self.delivered, "seconds": self.last - self.first, "cpu": self.spent, "note": note}


def contest(contestants: dict[str, Callable[[int, int], dict[str, object]]]) -> None:
    """Run the contestant named on the command line (NAME PORT FRAMES) and print its result as the last line, in JSON."""
    name, port, frames = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    pin(CLIENT)
    try:
        result = contestants[name](port, frames)
    except MissingError as missing:
        result = {"missing": str(missing)}
    print(json.dumps(result), flush=True)
