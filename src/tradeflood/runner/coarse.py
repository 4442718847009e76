"""Times that an answer cuts: a venue's history may tell to the second what its feed told to the millisecond."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tradeflood.coverage import Dataset
from tradeflood.models import Model
from tradeflood.runner.late import near
from tradeflood.store import Store


def restore_times(
    store: Store, dataset: Dataset, rows: Sequence[Model], grain: int, beside: Iterable[Model] = ()
) -> bool:
    """Whether there were any: rows whose times were cut to `grain` ns have again the finer ones that are stored, or `beside`.

    A known time that does not begin with the cut one is not believed.
    """
    time, found = dataset.model.time or "", False
    known = {row.position: getattr(row, time) for row in beside}
    for part in near(rows, time):
        first, last = getattr(part[0], time), getattr(part[-1], time)
        stored = {row.position: getattr(row, time) for row in store.read(dataset, first, last + grain)}
        for row in part:
            cut = getattr(row, time)
            fine = stored.get(row.position, known.get(row.position, cut))
            if fine != cut and fine // grain * grain == cut:
                setattr(row, time, fine)
                found = True
    return found
