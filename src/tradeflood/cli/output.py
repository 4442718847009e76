"""How answers are shown: tables for people, CSV and JSON for programs."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from typing import Any

from tradeflood.coverage import Frame, Grade, State, Stretch, clipped
from tradeflood.coverage.claims import good_enough
from tradeflood.models import Model
from tradeflood.models.forms import to_json
from tradeflood.models.time import iso
from tradeflood.spans import Spans

SHOWN = 20
_WIDE = 200


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=1)
    sys.stdout.write("\n")
    sys.stdout.flush()  # whoever reads a pipe of something that goes on, such as `replay`, has it now


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """A table on standard output; not cut where it is not a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)
    table = Table(*headers, box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console.print(table)


def frame_json(frame: Frame[Any]) -> dict[str, Any]:
    """Rows, coverage and failures as JSON values."""
    return {
        "rows": [to_json(row) for row in frame],
        "coverage": frame.coverage.to_json(),
        "failures": [str(failure.error) for failure in frame.failures],
    }


def frame_csv(frame: Frame[Any]) -> str:
    """The rows as CSV with a header."""
    out = io.StringIO()
    write_csv(out, frame.model, frame, header=True)
    return out.getvalue()


def write_csv(out: Any, model: type[Model], rows: Any, *, header: bool) -> None:
    """Rows as lines of CSV."""
    names = [column.name for column in model.columns()]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(to_json(row) for row in rows)


def print_frame(frame: Frame[Any]) -> None:
    """The first and last rows as a table, then the coverage."""
    names = [
        column.name
        for column in frame.model.columns()
        if column.name != "received_at" and (not frame or any(getattr(row, column.name) is not None for row in frame))
    ]
    shown: list[Any] = list(frame)
    cut = len(shown) - SHOWN
    if cut > 0:
        shown = [*frame[: SHOWN // 2], None, *frame[-SHOWN // 2 :]]
    rows = [
        [to_json(row)[name] for name in names] if row is not None else [f"… {cut} more", *[""] * (len(names) - 1)]
        for row in shown
    ]
    print_table(names, rows)
    if text := str(frame.coverage):
        sys.stdout.write(text + "\n")


MARKS = {State.HELD: "█", State.OPEN: "░", State.PENDING: "▒", State.LOST: "x", State.DISPUTED: "!"}
WEAK, UNKNOWN = "▓", "·"


def timeline(parts: Sequence[Stretch], start: int, end: int, width: int = 32) -> str:
    """Coverage at a glance, a mark for each part of the time: the worst that is in it.

    █ held, ▓ held on weaker evidence than B, ░ open, ▒ pending, x lost, ! disputed, · unknown.
    """
    marks = []
    for number in range(width):
        low, high = start + (end - start) * number // width, start + (end - start) * (number + 1) // width
        here = clipped(parts, low, high)
        seen = {
            WEAK if part.state is State.HELD and not good_enough(part.grade, Grade.B) else MARKS[part.state]
            for part in here
        }
        if Spans.of((low, high)) - Spans.of(*((part.start, part.end) for part in here)):
            seen.add(UNKNOWN)
        marks.append(max(seen, key="█▓░▒·x!".index, default=UNKNOWN))
    return "".join(marks)


def told(parts: Sequence[Stretch]) -> str:
    """Coverage in a few words: how much of its range is held, on which grades, and the holes."""
    if not parts:
        return "nothing claimed"
    start, end = parts[0].start, parts[-1].end
    held = Spans.of(*((part.start, part.end) for part in parts if part.state is State.HELD))
    grades = sorted({part.grade.value for part in parts if part.state is State.HELD and part.grade})
    share = f"{held.size * 1000 // max(1, end - start) / 10:g}% held ({''.join(grades) or '-'})"
    missing = Spans.of((start, end)) - held
    still_open = Spans.of(*((part.start, part.end) for part in parts if part.state is State.OPEN))
    holes = missing - still_open
    if holes:
        count = "1 hole" if len(holes) == 1 else f"{len(holes)} holes"
        share += f", {count}: {iso(holes[0][0])} … {iso(holes[0][1])}" + (" …" if len(holes) > 1 else "")
    return share
