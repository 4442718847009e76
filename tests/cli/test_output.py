"""What people see of coverage."""

from tradeflood.cli.output import timeline, told
from tradeflood.coverage import Grade, State, Stretch
from tradeflood.models.time import SECOND


def part(start, end, state=State.HELD, grade=Grade.A):
    return Stretch(start * SECOND, end * SECOND, state, grade if state is State.HELD else None, "…")


def test_a_timeline_shows_the_worst_of_each_part():
    """Held, weakly held, unknown, lost, disputed and open, one after the other."""
    parts = [
        part(0, 10), part(10, 20, grade=Grade.D), part(30, 40, State.LOST), part(40, 50, State.DISPUTED), part(50, 60, State.OPEN)
    ]  # fmt: skip
    assert timeline(parts, 0, 60 * SECOND, 6) == "█▓·x!░"
    assert timeline(parts, 0, 60 * SECOND, 3) == "▓x!"
    assert timeline([], 0, SECOND, 4) == "····"


def test_coverage_in_words_counts_holes_and_not_the_open_edge():
    """What is open is no hole."""
    assert told([part(0, 50), part(50, 60, State.OPEN)]) == "83.3% held (A)"
    assert told([part(0, 10), part(20, 40)]) == "75% held (A), 1 hole: 1970-01-01T00:00:10Z … 1970-01-01T00:00:20Z"
    assert "2 holes" in told([part(0, 10), part(20, 30), part(40, 50)])
    assert told([]) == "nothing claimed"
