"""Our clock: the machine's, but for its being set back."""

from tradeflood.models.time import HOUR, MINUTE, SECOND
from tradeflood.transport import SystemClock


class Machine:
    def __init__(self):
        self.wall, self.steady = 1_000 * HOUR, 5 * SECOND

    def passes(self, duration):
        self.wall += duration
        self.steady += duration


def clock_of(machine):
    return SystemClock(lambda: machine.wall, lambda: machine.steady)


def test_it_is_the_machines_time_also_where_that_jumps_ahead():
    machine = Machine()
    clock = clock_of(machine)
    machine.passes(MINUTE)
    assert clock.now() == machine.wall
    machine.wall += 8 * HOUR  # the machine slept, or was set
    assert clock.now() == machine.wall


def test_where_the_machine_is_set_back_time_goes_on_and_meets_it_later():
    machine = Machine()
    clock = clock_of(machine)
    before = clock.now()
    machine.wall -= HOUR
    for _ in range(25):
        machine.passes(SECOND)
        clock.now()
    assert 22 * SECOND < clock.now() - before < 25 * SECOND
    machine.passes(10 * HOUR)
    assert clock.now() == machine.wall
