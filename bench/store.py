"""How rows should rest in ClickHouse: sorting keys, partitions and durable inserts, each timed on the embedded store.

    python bench/store.py [--trades 1000000] [--days 2000]

Each layout gets a fresh folder and the same rows: trades of 10 markets at 4 venues in batches of 50,000, daily
candles of 12 markets written market by market as a backfill does. The figures in docs/understand/store.md are from here.
"""

import argparse
import shutil
import tempfile
import time
from decimal import Decimal

import attrs
from chdb import session

from tradeflood.coverage import Dataset
from tradeflood.models import Candle, Side, Trade
from tradeflood.models.forms import to_arrow
from tradeflood.models.time import DAY, HOUR, MINUTE, MS
from tradeflood.store import tables

START = 1_700_000_000 * 1_000_000_000
VENUES = ("binance", "okx", "kraken", "nobitex")
BATCH = 50_000


def trade_batches(count):
    """Trades as a live session brings them: every market in every batch, 20 ms between a market's trades."""
    markets = [(venue, f"C{number}/USDT") for number, venue in enumerate(VENUES * 3)][:10]
    for first in range(0, count, BATCH):
        rows = []
        for number in range(first, min(first + BATCH, count)):
            venue, market = markets[number % len(markets)]
            turn = number // len(markets)
            rows.append(
                Trade(
                    venue, market, "raw", str(9_950_000 + turn), Decimal(6_000_000 + number % 977) / 100,
                    Decimal(1 + number % 1_231) / 100_000, Side.BUY if number % 3 else Side.SELL,
                    START + turn * 20 * MS, START + turn * 20 * MS + 5 * MS,
                )
            )  # fmt: skip
        yield to_arrow(Trade, rows)


def candle_batches(days):
    """Daily candles, one write per market."""
    one = Decimal("1.25")
    for number, venue in enumerate(VENUES * 3):
        market, at = f"C{number}/USDT", START // DAY * DAY - days * DAY
        yield to_arrow(
            Candle,
            [
                Candle(venue, market, "1d", "venue", at + day * DAY, one, one, one, one, one, one, 5, True)
                for day in range(days)
            ],
        )


class Room:
    """A fresh engine with one table."""

    def __init__(self, layout, model, *, fsync):
        self.folder = tempfile.mkdtemp(prefix="tradeflood-bench-")
        self.session = session.Session(self.folder)
        self.layout, self.model = layout, model
        statement = tables.create(layout)
        self.session.query(statement if fsync else statement.replace(" = 1", " = 0", 2))

    def fill(self, batches):
        statement = tables.insert(self.layout, self.model, "Python(rows)", START)
        began = time.perf_counter()
        for rows in batches:  # noqa: B007 - chdb reads the name in this frame
            self.session.query(statement)
        return time.perf_counter() - began

    def ask(self, question, repeat=5):
        best = []
        for _ in range(repeat):
            began = time.perf_counter()
            self.session.query(question.sql, "Arrow", params=dict(question.values))
            best.append(time.perf_counter() - began)
        return min(best) * 1000

    def number(self, sql):
        return float(str(self.session.query(sql, "TSV")).strip() or 0)

    def close(self):
        self.session.close()
        shutil.rmtree(self.folder)


def measure(title, layout, model, batches, dataset, span, *, fsync=True):
    room = Room(layout, model, fsync=fsync)
    rows = sum(len(batch) for batch in batches)
    seconds = room.fill(batches)
    parts = room.number(f"SELECT count() FROM system.parts WHERE active AND table = '{layout.rows}'")
    read = room.ask(tables.select(layout, dataset, *span))
    middle = room.ask(tables.Question(f"SELECT count() FROM {layout.rows} FINAL", {}))
    room.session.query(f"OPTIMIZE TABLE {layout.rows} FINAL")
    merged = room.ask(tables.select(layout, dataset, *span))
    size = room.number(f"SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = '{layout.rows}'")
    print(
        f"{title:<58} {rows / seconds:>9,.0f} rows/s {parts:>5.0f} parts  range {read:>7.1f} ms, merged {merged:>6.1f} ms"
        f"  count {middle:>7.1f} ms {size / rows:>6.1f} B/row",
        flush=True,
    )
    room.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trades", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=2_000)
    options = parser.parse_args()
    evolve = attrs.evolve

    trades = list(trade_batches(options.trades))
    ours = tables.layout_of(Trade)
    market = Dataset(Trade, "okx", "C1/USDT", ("raw",))
    half = START + options.trades // 20 * 20 * MS
    minute = (half, half + MINUTE)
    for title, layout, fsync in (
        ("trades: ours (… seq, trade_id), by venue", ours, True),
        ("trades: ours without fsync", ours, False),
        ("trades: no partition", evolve(ours, partition_by="tuple()"), True),
        ("trades: (… trade_id) as text, by venue", evolve(ours, order_by=Trade.key), True),
        ("trades: ours without the index of times", evolve(ours, index=None), True),
        ("trades: by venue and market", evolve(ours, partition_by="(venue, market)"), True),
    ):
        measure(title, layout, Trade, trades, market, minute, fsync=fsync)

    candles = list(candle_batches(options.days))
    ours = tables.layout_of(Candle)
    market = Dataset(Candle, "okx", "C1/USDT", ("1d", "venue"))
    month = (START - 400 * DAY, START - 370 * DAY + HOUR)
    for title, layout in (
        ("candles: by venue", evolve(ours, partition_by="venue")),
        ("candles: by month of open_time", evolve(ours, partition_by="toYYYYMM(open_time)")),
        ("candles: by year of open_time", evolve(ours, partition_by="toYear(open_time)")),
        ("candles: no partition", evolve(ours, partition_by="tuple()")),
    ):
        measure(title, layout, Candle, candles, market, month)


if __name__ == "__main__":
    main()
