"""What planning costs per turn, at growing numbers of turns, for the best and the worst shape of a plan.

    python bench/planning.py [--turns 1000,10000,100000] [--rounds 3]

deep: one query over so long a range that it is cut into all the pages. wide: every turn is a query of its own, on a
market of its own, for a page of its own, so that nothing is shared. The clock runs over `plan(...)` until every request
is built; nothing is sent. Aim: under 15 µs per turn, and no more of them per turn at 100,000 than at 1,000.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from common import MissingError

PAGE = timedelta(seconds=1000)  # one page of Binance's candles of a second
BEGIN = datetime(2018, 1, 1, tzinfo=UTC)


def library():
    """The library, once it can plan."""
    try:
        import tradeflood as tf

        _ = tf.plan, tf.Query, tf.Candle
    except (ImportError, AttributeError):
        raise MissingError("tradeflood has no planner yet") from None
    return tf


def deep(tf, turns: int) -> list[object]:
    """One query, one market, `turns` pages."""
    return [tf.Query(tf.Candle, "binance:BTC/USDT", interval="1s", start=BEGIN, end=BEGIN + turns * PAGE)]


def wide(tf, turns: int) -> list[object]:
    """`turns` queries, each with its own market and one page."""
    return [
        tf.Query(
            tf.Candle,
            f"binance:A{number}/USDT",
            interval="1s",
            start=BEGIN + number * PAGE,
            end=BEGIN + (number + 1) * PAGE,
        )
        for number in range(turns)
    ]


def requests_of(tf, queries: list[object]) -> int:
    """The number of requests in the plan for the queries, all of them built."""
    return len(tf.plan(*queries).requests)


def cost(tf, shape: Callable[[object, int], list[object]], turns: int, rounds: int) -> tuple[float, float]:
    """The median and the least time per turn, in microseconds."""
    times = []
    for _ in range(rounds):
        queries = shape(tf, turns)
        gc.collect()
        begin = time.perf_counter()
        built = requests_of(tf, queries)
        times.append((time.perf_counter() - begin) / turns * 1e6)
        if built != turns:
            raise SystemExit(f"{shape.__name__}: {turns:,} turns were wanted, the plan has {built:,}")
    return statistics.median(times), min(times)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", default="1000,10000,100000", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    arguments = parser.parse_args(words)
    sizes = [int(size) for size in arguments.turns.split(",")]
    try:
        tf = library()
        requests_of(tf, deep(tf, 10))  # imports and look-ups that are made once are not planning
        print(f"{'planning, µs per turn':24}" + "".join(f"{size:>12,}" for size in sizes))
        for shape, words in ((deep, "best: one query"), (wide, "worst: nothing shared")):
            cells = [cost(tf, shape, size, arguments.rounds) for size in sizes]
            print(f"{words:24}" + "".join(f"{middle:>12.2f}" for middle, _ in cells))
            print(f"{'  least':24}" + "".join(f"{least:>12.2f}" for _, least in cells), flush=True)
    except MissingError as missing:
        print(f"planning: {missing}")


if __name__ == "__main__":
    main()
