"""Clock, registry, limits and the portions of a conversation, without I/O."""

import pytest

from tradeflood.errors import UsageError
from tradeflood.models.time import MINUTE, SECOND
from tradeflood.replay.desk import Clock, Conversation, Desk, desk_of, desks
from tradeflood.replay.limits import Rolling, Window


class Watch:
    """A monotonic clock that is wound by hand."""

    def __init__(self):
        self.time = 1_000

    def __call__(self):
        return self.time


def test_the_clock_starts_where_told_and_runs_at_its_speed():
    watch = Watch()
    clock = Clock("1.5", 10 * SECOND, monotonic=watch)
    assert clock.now() == 10 * SECOND
    watch.time += 4 * SECOND
    assert clock.now() == 16 * SECOND
    assert clock.paced(16 * SECOND) == 14 * SECOND


@pytest.mark.parametrize("speed", [0, -1])
def test_a_clock_that_stands_is_refused(speed):
    with pytest.raises(UsageError, match="speed"):
        Clock(speed)


def test_desks_are_found_by_their_modules():
    assert "binance" in desks()
    assert issubclass(desk_of("binance"), Desk)
    with pytest.raises(UsageError, match=r"no replay for venue 'nowhere'; there is .*binance"):
        desk_of("nowhere")


def test_a_window_begins_on_the_clock():
    window = Window(10, MINUTE)
    assert [window.spend("a", 6, time) for time in (59 * SECOND, 59 * SECOND, 60 * SECOND)] == [6, 12, 6]
    assert window.spend("b", 1, 60 * SECOND) == 1
    assert window.left(95 * SECOND) == 25 * SECOND


def test_a_rolling_limit_allows_so_many_in_any_window():
    rolling = Rolling(2, SECOND)
    times = [0, SECOND // 2, SECOND - 1, SECOND, SECOND + 1]
    assert [rolling.allows("a", time) for time in times] == [True, True, False, True, False]


class Counting(Conversation):
    """Owes one frame per ten seconds."""

    def receive(self, message, now):
        return [f"heard {message}"]

    def due(self, after, up_to):
        ten = 10 * SECOND
        return [(time, str(time // SECOND)) for time in range(after // ten * ten + ten, up_to + 1, ten)]


def test_a_slow_reader_gets_portion_after_portion_until_nothing_is_due():
    conversation = Counting(Clock(1, 0), 0)
    portions = []
    while frames := conversation.advance(35 * SECOND):
        portions.append(frames)
    assert portions == [["10"], ["20"], ["30"]]
    assert conversation.advance(35 * SECOND) == []
    assert conversation.advance(40 * SECOND) == ["40"]
