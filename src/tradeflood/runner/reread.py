"""A recording read anew: what venues once said, read by the parsers of today, goes into the store.

Frames take the way of live rows (`hear`, then the channel of their topic), bodies the way of answers (the turn's
decoder, then the binding's step); both carry the moment at which they came. A row that was parsed wrongly is thereby
replaced: its key and its moment are the same, so the later writing counts. Claims are those that the rows themselves
prove, linked ids and closed candles, in the name of the parser that read them now.

A recording of any length is read twice, line by line: first to see what is in it, then to read it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from attrs import define, field, frozen

from tradeflood.coverage import Claim, Dataset, State
from tradeflood.errors import TradeFloodError, UsageError
from tradeflood.models import Candle, Market, Model, interval
from tradeflood.models.checks import exact
from tradeflood.models.identity import number_equals
from tradeflood.models.time import HOUR
from tradeflood.planner.parts import ordered
from tradeflood.planner.proofs import parser_of
from tradeflood.replay.reading import Reading
from tradeflood.replay.recording import Exchange, Files, Recording, Said, files_of, venues
from tradeflood.runner.coarse import restore_times
from tradeflood.runner.keeper import Tail
from tradeflood.runner.line import Channel
from tradeflood.runner.stream import subscription
from tradeflood.runner.venues import SessionVenues
from tradeflood.store import Store
from tradeflood.store.base import dataset_of
from tradeflood.turns import Ask, Binding, BoundTurn, Connector, Numbering, Page, Rows, Step
from tradeflood.turns.turn import judged_rows

PORTION = 20_000
"""How many rows are written at once."""

CARRIED = 500
"""How many of a dataset's newest rows are looked at again with the next ones, so that their claims join."""

TROUBLES = 20
"""How many different troubles are told."""

Tell: TypeAlias = Callable[["Anew"], None]


@define
class Anew:
    """What came of reading a recording anew: rows per dataset, claims, and what could not be read."""

    rows: dict[Dataset, int] = field(factory=dict)
    claims: int = 0
    lines: int = 0
    unreadable: int = 0
    trouble: dict[str, None] = field(factory=dict)
    parsers: dict[str, str] = field(factory=dict)

    def blame(self, error: TradeFloodError) -> None:
        """Count what could not be read, and keep why."""
        self.unreadable += 1
        if len(self.trouble) < TROUBLES:
            self.trouble[str(error)] = None


def reread(folder: str | Path, known: SessionVenues, store: Store, tell: Tell | None = None) -> Anew:
    """What came of reading the recordings below a folder anew, into a store; `tell` hears of it at every portion.

    Raises UsageError where there is no recording, for a line that is not of the form, and for a venue that nobody knows;
    StoreError where the store fails.
    """
    there, anew = Path(folder), Anew()
    files = {venue: files for venue in venues(there) if any(_paths(files := files_of(there, venue)))}
    if not files:
        raise UsageError(f"no recording in {folder}: it has no VENUE/rest-*.jsonl and no VENUE/feed-*.jsonl")
    connectors = {venue: known.connector(venue) for venue in files}
    for venue, connector in connectors.items():
        anew.parsers[venue] = parser_of(connector)
        _Venue(connector, known, files[venue], store, anew, tell or (lambda _: None)).read()
    return anew


def _paths(files: Files) -> Iterable[Path]:
    return (*files.rest, *files.feed)


@frozen
class _Reader:
    """One dataset's way of reading an answer."""

    step: Step[Any]
    binding: type[Binding[Any]]

    def models(self, rows: Any) -> list[Model]:
        """The rows of an answer as models."""
        made = [exact(row) for row in self.step.models(rows)]
        return list(number_equals(made)) if self.binding.numbering is Numbering.NONE else made


@define(eq=False)
class _Shape:
    """A kind of request: who reads its answers, by the symbol of a row where one answer is about several markets."""

    bound: BoundTurn[Any, Any]
    method: str
    texts: Mapping[str, str]
    readers: list[_Reader] = field(factory=list)
    by_symbol: dict[str, list[_Reader]] = field(factory=lambda: defaultdict(list))

    def is_of(self, exchange: Exchange) -> bool:
        """Whether an answer is one to such a request."""
        return exchange.method == self.method and all(
            exchange.params.get(name, value) == value for name, value in self.texts.items()
        )

    def models(self, rows: Any) -> list[Model]:
        """Everything that is in an answer."""
        made = [model for reader in self.readers for model in reader.models(rows)]
        by = self.bound.spec.by
        if by is None or not self.by_symbol:
            return made
        parts: dict[str, list[Any]] = {}
        for row in judged_rows(rows):
            parts.setdefault(by(row), []).append(row)
        for symbol, some in parts.items():
            for reader in self.by_symbol.get(symbol, ()):
                made += reader.models(some)
        return made


class _Venue:
    """The recording of one venue, being read."""

    def __init__(
        self, connector: Connector, known: SessionVenues, files: Files, store: Store, anew: Anew, tell: Tell
    ) -> None:
        self._connector, self._known, self._files = connector, known, files
        self._anew, self._tell = anew, tell
        self._hear = _ear(connector)
        self._rows = _Written(connector, known, store, anew)
        self._shapes: dict[str, list[_Shape]] = defaultdict(list)
        self._channels: dict[str, list[Channel]] = defaultdict(list)
        self._dirty: dict[Channel, None] = {}
        self._at = 0

    def read(self) -> None:
        """Nothing; it is in the store."""
        self._look()
        for line in self._files.everything():
            self._anew.lines += 1
            if line.at != self._at:
                self._flush()
                self._at = line.at
            if isinstance(line, Exchange):
                self._answer(line)
            elif line.dir == "in":
                self._frame(line)
            elif line.dir == "connect":
                for channel in self._all_channels():
                    channel.replacing(line.at)
            if self._rows.waiting >= PORTION:
                self._rows.write()
                self._tell(self._anew)
        self._flush()
        self._rows.proofs += self._proofs(rest=True)
        self._rows.write()
        self._tell(self._anew)

    # ---------------------------------------------------------------- what is in it

    def _look(self) -> None:
        """Find out which datasets were recorded, from one line of every kind."""
        answers: dict[Any, Exchange] = {}
        topics: dict[str, Said] = {}
        for line in self._files.everything():
            self._at = max(self._at, line.at)
            if isinstance(line, Exchange):
                key = line.method, line.path, tuple((k, v) for k, v in line.params.items() if not _is_number(v))
                known = answers.get(key)
                if (known is None or _length(known) < 2 * _length(line)) and self._is_good(line):  # not an empty one
                    answers[key] = line
            elif line.dir == "in":
                for event in self._heard(line):
                    topics.setdefault(event.topic, line)
        frames = {id(line): line for line in topics.values()}
        reading = Reading(self._connector, Recording(tuple(answers.values()), tuple(frames.values())))
        models = [model for model in dict.fromkeys(Model.models.values()) if model is not Market]
        for binding, ask in [*reading.lists(), *reading.asks(models)]:
            parts = (*reading.parts(binding, ask), *_polled(binding, self._connector, ask))
            for part in parts:
                if isinstance(part, Step):
                    self._expect(part, binding)
            if ask.model.time is None:  # a list that is made of several answers
                self._rows.take([part for part in parts if isinstance(part, Model)])
            if binding.has_live():
                self._tune_in(binding, ask, topics)

    def _expect(self, step: Step[Any], binding: type[Binding[Any]]) -> None:
        bound = step.turn.bound
        page = Page(self._at - HOUR, self._at, symbols=step.turn.symbols)
        request = bound.request(page, step.turn.args)
        many = bound.spec.symbols is not None
        texts = {} if many else {name: value for name, value in request.params if isinstance(value, str)}
        found = next(
            (s for s in self._shapes[request.path] if (s.bound, s.method, s.texts) == (bound, request.method, texts)),
            None,
        )
        if found is None:
            found = _Shape(bound, request.method, texts)
            self._shapes[request.path].append(found)
        reader = _Reader(step, binding)
        if many:
            for symbol in step.turn.symbols:
                found.by_symbol[symbol].append(reader)
        elif reader not in found.readers:
            found.readers.append(reader)

    def _tune_in(self, binding: type[Binding[Any]], ask: Ask, topics: Mapping[str, Said]) -> None:
        try:
            sub = subscription(ask, self._connector, binding())
        except TradeFloodError:
            return  # it is made of other live rows, which are read anew themselves
        if sub.topic is not None and sub.topic in topics:
            self._channels[sub.topic].append(Channel(sub, self._at))

    def _is_good(self, exchange: Exchange) -> bool:
        try:
            self._connector.judge(exchange.reply)
        except TradeFloodError:
            return False
        return True

    # ---------------------------------------------------------------- answers

    def _answer(self, exchange: Exchange) -> None:
        """Every row of an answer; where none of those who might can read it, that is counted."""
        shapes = [shape for shape in self._shapes.get(exchange.path, ()) if shape.is_of(exchange)]
        if not shapes or not self._is_good(exchange):
            return
        reply, errors, read = exchange.reply, [], False
        clock = self._connector.clock(reply)
        for shape in shapes:
            try:
                models = shape.models(shape.bound.decode(reply.body))
            except TradeFloodError as error:
                errors.append(error)
                continue
            except Exception as error:  # noqa: BLE001 - a packing step is somebody else's code
                errors.append(shape.bound.changed(error, reply.body))
                continue
            read = True
            for row in models:
                if isinstance(row, Candle) and row.closed is None:
                    row.closed = interval(row.interval).next(row.open_time) <= clock
                if hasattr(row, "received_at"):
                    row.received_at = exchange.at
            self._rows.take(models, shape.bound.grain)
        if not read:
            self._anew.blame(errors[0])

    # ---------------------------------------------------------------- frames

    def _heard(self, said: Said) -> list[Rows]:
        frame = said.frame
        try:
            return list(self._hear(frame.encode() if isinstance(frame, str) else frame))
        except Exception:  # noqa: BLE001 - what the venue said there nobody understood then either
            return []

    def _frame(self, said: Said) -> None:
        """The rows of a frame, laid aside until all that came with it is."""
        for event in self._heard(said):
            for channel in self._channels.get(event.topic, ()):
                try:
                    channel.add(event)
                except TradeFloodError as error:
                    self._anew.blame(error)
                else:
                    self._dirty[channel] = None

    def _flush(self) -> None:
        """What came together becomes models together, as it did when it was heard."""
        dirty, self._dirty = self._dirty, {}
        for channel in dirty:
            self._rows.take(channel.models(self._at, self._anew.blame))
        self._rows.proofs += self._proofs() if dirty and self._rows.waiting >= PORTION else ()

    def _proofs(self, *, rest: bool = False) -> list[Claim]:
        """What the numbers of messages prove."""
        return [
            claim
            for channel in self._all_channels()
            if channel.offsets is not None
            for claim in channel.offsets.claims(rest=rest)
        ]

    def _all_channels(self) -> list[Channel]:
        return [channel for channels in self._channels.values() for channel in channels]


class _Written:
    """Rows on their way into the store, with the claims that follow from them."""

    def __init__(self, connector: Connector, known: SessionVenues, store: Store, anew: Anew) -> None:
        self._connector, self._known, self._store, self._anew = connector, known, store, anew
        self._parser = parser_of(connector)
        self._parts: dict[Dataset, list[Any]] = {}
        self._carried: dict[Dataset, list[Any]] = {}
        self.proofs: list[Claim] = []
        self.waiting = 0

    def take(self, models: Sequence[Model], grain: int = 1) -> None:
        """Lay rows aside; one that no store can hold is left out and counted. Their times are cut to `grain` ns."""
        if grain > 1:
            apart: dict[Dataset, list[Model]] = defaultdict(list)
            for row in models:
                apart[dataset_of(row)].append(row)
            for dataset, rows in apart.items():
                restore_times(self._store, dataset, rows, grain, self._parts.get(dataset, ()))
        for model in models:
            try:
                row = exact(model)
            except TradeFloodError as error:
                self._anew.blame(error)
                continue
            self._parts.setdefault(dataset_of(row), []).append(row)
            self.waiting += 1

    def write(self) -> None:
        """Nothing; what was laid aside is in the store, rows first."""
        batches: dict[type[Model], list[Model]] = defaultdict(list)
        parts, self._parts, self.waiting = self._parts, {}, 0
        claims, self.proofs = self.proofs, []
        for dataset, rows in parts.items():
            batches[dataset.model] += rows
            self._anew.rows[dataset] = self._anew.rows.get(dataset, 0) + len(rows)
            if dataset.model.time is not None:
                claims += self._claims(dataset, rows)
        sure = [claim for claim in claims if claim.state is State.HELD]  # a recording may lack what the venue did send
        self._anew.claims += len(sure)
        if batches or sure:
            self._store.write(batches, sure)

    def _claims(self, dataset: Dataset, rows: list[Any]) -> list[Claim]:
        """What rows prove of one another, in whatever order they came, and with the last ones before them."""
        binding = self._known.registry.binding(type(self._connector), dataset.model, dataset.variant)
        tail = Tail(dataset, self._parser, binding.numbering)
        together = self._carried.get(dataset, []) + rows
        self._carried[dataset] = ordered(dataset.model, together)[-CARRIED:]
        return [*tail.claims(together), *tail.rest()]


def _ear(connector: Connector) -> Callable[[bytes], Iterator[Rows]]:
    """What hears the rows of a frame, as a live connection does: the common type first, then everything else."""
    frames = connector.frames
    if frames is None:
        return lambda data: (event for event in connector.hear(data) if isinstance(event, Rows))
    decode = msgspec.json.Decoder(frames.type).decode
    topic, row = attrgetter(frames.topic), attrgetter(frames.row)

    def hear(data: bytes) -> Iterator[Rows]:
        try:
            frame = decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            yield from (event for event in connector.hear(data) if isinstance(event, Rows))
        else:
            yield Rows(topic(frame), [row(frame)])

    return hear


def _polled(binding: type[Binding[Any]], connector: Connector, ask: Ask) -> Iterator[Step[Any]]:
    """The steps by which a dataset is polled, where it is not, or not always, streamed."""
    for made, there in ((binding.live, binding.has_live()), (binding.fallback, binding.has_fallback())):
        if there:
            try:
                step = made(binding(), connector, ask)
            except Exception:  # noqa: BLE001, S112 - a binding is somebody else's code; it says so when it is streamed
                continue
            if isinstance(step, Step) and not step.turn.bound.spec.live:
                yield step


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdecimal()


def _length(exchange: Exchange) -> int:
    return len(exchange.body or exchange.base64 or "")
