"""Run: a plan being carried out, as a machine without I/O or clock.

    take() a request · feed() its reply, or fail() it, or put it back() · until nothing is left

Queries become asks (one per dataset and missing spans), asks become steps and wants by calling their bindings,
wants of the same turn and arguments are united and cut into pages, equal requests become one node. A reply is
decoded once and handed to everybody who waits for a part of it. Bindings with a question in them are coroutines,
driven by hand: their answers are further asks and wants of the same run.
"""

from __future__ import annotations

import gc
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from operator import attrgetter
from types import CoroutineType, MappingProxyType
from typing import Any

from tradeflood.coverage import Claim, Coverage, Dataset, Failure, Frame, State, clipped, held, stretches
from tradeflood.coverage.claims import settled
from tradeflood.coverage.evidence import PAST_HORIZON
from tradeflood.errors import DeclarationError, PayloadChanged, TradeFloodError, UnknownMarket, UsageError
from tradeflood.models import Market, Model, interval
from tradeflood.models.checks import exact
from tradeflood.models.identity import number_equals
from tradeflood.models.time import SECOND, iso
from tradeflood.planner.newest import as_asked, balanced, unproven, witnessed
from tradeflood.planner.parts import (
    AHEAD,
    DONE,
    FAILED,
    NEVER,
    WAITING,
    Held,
    Node,
    Series,
    Venues,
    Want,
    Work,
    ordered,
)
from tradeflood.planner.proofs import claims_of, claims_of_derived
from tradeflood.planner.query import Query
from tradeflood.spans import EMPTY, Span, Spans
from tradeflood.turns import (
    Ask,
    Binding,
    Both,
    BoundTurn,
    Chain,
    Numbering,
    Page,
    Reply,
    Step,
    Turn,
    Windows,
)
from tradeflood.turns.request import Identity
from tradeflood.turns.turn import Lane, judged_rows

NO_HORIZONS: Mapping[Dataset, int] = MappingProxyType({})

FASTEST = 100_000
"""Rows per second that no market exceeds over a whole range."""


class Run:
    """A plan being carried out. It has no clock: `now` is when planning began, venues' clocks come with replies.

    `horizons` says how long a moment of a dataset can be asked for, in ns, where somebody knows better than its binding.
    """

    def __init__(
        self, queries: Sequence[Query[Any]], venues: Venues, now: int, store: Held | None = None,
        horizons: Mapping[Dataset, int] = NO_HORIZONS,
    ) -> None:  # fmt: skip
        self.queries, self.venues, self.now, self.store = tuple(queries), venues, now, store
        self.horizons = horizons
        self.nodes: dict[Identity, Node] = {}
        self.works: dict[Dataset, Work] = {}
        self.series: dict[tuple[Any, Any], Series] = {}
        self.ready: dict[Lane, list[tuple[int, int, Node]]] = {}
        self.failures: dict[Query[Any], list[Failure]] = {}
        self.clocks: dict[str, int] = {}
        self.asked = self.merged = self.tasks = self.outstanding = 0
        self.matches: dict[Query[Any], tuple[Market, ...]] = {}
        self._dirty: list[Series] = []
        self._unresolved: dict[str, int] = {}
        self._named: dict[str, list[Query[Any]]] = {}
        self._stuck: list[tuple[Any, Work | None]] = []
        self._bindings: dict[tuple[str, type[Model], tuple[str, ...]], Binding[Any]] = {}
        self._number = 0
        collecting = gc.isenabled()
        gc.disable()  # everything made here lives on: collecting is pure loss
        try:
            for query in dict.fromkeys(self.queries):
                self._resolve(query)
            self._release()
            self._settle()
        finally:
            if collecting:
                gc.enable()

    # ---------------------------------------------------------------- the outside

    def take(self, lane: Lane) -> Node | None:
        """The next request of a lane, the one whose data perish first; None where none is ready."""
        queue = self.ready.get(lane)
        return heapq.heappop(queue)[2] if queue else None

    def back(self, node: Node) -> None:
        """Put a request back at the head of its lane: it was not answered and not refused."""
        heapq.heappush(self.ready.setdefault(node.lane, []), (node.deadline, -1, node))

    def feed(self, node: Node, reply: Reply) -> None:
        """Take in an answer that the connector has judged good."""
        connector = node.bound.connector
        clock = connector.clock(reply)
        self.clocks[connector.venue] = max(self.clocks.get(connector.venue, 0), clock)
        node.reply, node.clock = reply, clock
        try:
            node.rows, node.state = node.bound.decode(reply.body), DONE
        except TradeFloodError as error:
            node.state, node.error = FAILED, error
        self._finished(node)

    def fail(self, node: Node, error: TradeFloodError) -> None:
        """Give a request up: the spans that wanted it fail, everything else goes on."""
        node.state, node.error = FAILED, error
        self._finished(node)

    def give_up(self) -> None:
        """Nothing more is asked: what was answered counts, also of what would have taken further requests."""
        waiting = {id(want): want for node in self.nodes.values() for _, _, wants in node.uses for want in wants}
        for want in waiting.values():
            if want.into is not None and want.covered and want.into.ask.model.time:
                want.into.claims += claims_of(want, want.into, self.clocks.get(want.into.ask.venue, self.now))

    @property
    def done(self) -> bool:
        """Whether nothing is left to ask."""
        return self.outstanding == 0

    def lanes(self) -> list[Lane]:
        """The lanes on which something is ready."""
        return [lane for lane, queue in self.ready.items() if queue]

    def waiting_works(self) -> list[Work]:
        """The datasets whose binding waits for an answer before it can say what else it needs."""
        return [work for _, work in self._stuck if work is not None]

    def unresolved(self) -> dict[str, int]:
        """Per venue, how many names wait for its market list."""
        return {venue: count for venue, count in self._unresolved.items() if count}

    # ---------------------------------------------------------------- answers

    def parts(self, query: Query[Any]) -> list[Work]:
        """The datasets that answer a query, in the order of their markets."""
        return [
            work
            for market in self.matches.get(query, ())
            if (work := self.works.get(Dataset(query.model, query.venue, market.market, query.variant)))
        ]

    def frame(self, query: Query[Any]) -> Frame[Any]:
        """The answer of a query: rows of its range, with coverage and failures."""
        rows: list[Model] = []
        coverage: dict[Dataset, list[Any]] = {}
        failures = list(self.failures.get(query, ()))
        time = query.model.time
        if query.model is Market:
            work = self.works.get(Dataset(Market, query.venue, "*", ()))
            if work:
                failures += work.failures
                rows = [m for m in work.models.values() if fnmatchcase(m.market, query.pattern)]  # type: ignore[attr-defined]
                if not rows and not failures:
                    failures.append(_unlisted(query))
            return Frame(Market, ordered(Market, rows), Coverage({}), failures)
        for work in self.parts(query):
            models: Any = work.models.values()
            if time:
                models = [row for row in models if query.start <= getattr(row, time) < query.end]
                coverage[work.ask.dataset] = clipped(stretches(work.claims), query.start, query.end)
            rows += ordered(query.model, models)
            failures += [f for f in work.failures if not time or (f.start < query.end and query.start < f.end)]
        return Frame(query.model, rows, Coverage(coverage), failures)

    # ---------------------------------------------------------------- names, per venue, before anything is merged

    def _resolve(self, query: Query[Any]) -> None:
        connector = self.venues.connector(query.venue)
        if query.model is Market:
            self._ask(_list_ask(query.venue, self.now))
            return
        self._binding(query.venue, query.model, query.variant)
        if query.is_pattern or connector.symbols.listed:
            self._unresolved[query.venue] = self._unresolved.get(query.venue, 0) + 1
            self._drive(self._names(query), None)
        else:
            symbol = connector.symbols.spell(query.pattern)
            base, _, quote = query.pattern.partition("/")
            self.matches[query] = (Market(query.venue, query.pattern, symbol, base, quote),)
            self._named.setdefault(query.venue, []).append(query)

    async def _names(self, query: Query[Any]) -> None:
        """Find the markets of a pattern in the venue's list; a list that fails is the query's failure."""
        try:
            frame = await _list_ask(query.venue, self.now)
            found = tuple(row for row in frame if fnmatchcase(row.market, query.pattern))
            if frame.failures and not found:
                self.failures[query] = [Failure(None, query.start, query.end, f.error) for f in frame.failures]
            elif not found:
                self.failures[query] = [_unlisted(query)]
            self.matches[query] = found
            self._named.setdefault(query.venue, []).append(query)
        finally:
            self._unresolved[query.venue] -= 1
            self._release()

    def _release(self) -> None:
        """Unite the wants of every venue whose names are all known, and call the bindings: once per dataset."""
        for venue in [name for name in self._named if not self._unresolved.get(name)]:
            united: dict[tuple[type[Model], tuple[str, ...], str], tuple[Market, Spans]] = {}
            for query in self._named.pop(venue):
                spans = query.spans
                for market in self.matches[query]:
                    key = (query.model, query.variant, market.market)
                    known = united.get(key)
                    united[key] = (market, spans if known is None else known[1] | spans)
            for (model, variant, name), (market, spans) in united.items():
                self._ask(Ask(model, venue, name, market.symbol, variant, spans, self.now, market))

    # ---------------------------------------------------------------- asks: united, less what is held, the rest to the binding

    def _ask(self, ask: Ask, done: Callable[[Work], None] | None = None) -> Work:
        dataset = ask.dataset
        work = self.works.get(dataset)
        first = work is None
        if work is None:
            work = self.works[dataset] = Work(ask)
        new = ask.spans - work.asked
        work.asked |= new
        if first and self.store is not None and ask.model.time:
            work.claims += self.store.claims(dataset)
            work.known = len(work.claims)
        missing = new - settled(work.claims) if new and work.claims else new
        if done is not None and self.store is not None and work.known:
            there = (ask.spans & held(work.claims[: work.known])) - work.loaded
            work.loaded |= there
            for row in self.store.rows(dataset, there) if there else ():
                work.models.setdefault(row.position, row)
        if (first and not ask.model.time) or missing:
            self._bind(work, ask, missing)
        if done is not None:
            if work.open:
                work.waiting.append(done)
            else:
                done(work)
        return work

    def _bind(self, work: Work, ask: Ask, missing: Spans) -> None:
        connector = self.venues.connector(ask.venue)
        binding = self._binding(ask.venue, ask.model, ask.variant)
        if missing and missing[-1][1] > self.now + AHEAD:
            missing &= Spans.of((-NEVER, self.now + AHEAD))
            if not missing:
                return
        work.horizon = self.horizons.get(ask.dataset, binding.horizon)
        if binding.horizon is not None and missing:
            reach = Spans.of((self.now - binding.horizon, NEVER))
            for start, end in missing - reach:
                work.claims.append(_past(ask.dataset, start, end, self.now))
            missing &= reach
            if not missing:
                return
        if missing != ask.spans:
            ask = Ask(ask.model, ask.venue, ask.market, ask.symbol, ask.variant, missing, ask.now, ask.listing)
        work.open += 1
        try:
            if not binding.has_history():
                raise UsageError(f"{ask.dataset.label}: the venue gives no history of it; stream it")
            made = binding(connector, ask)
            if isinstance(made, CoroutineType):
                self._drive(made, work)
            else:
                self._emit(made, work)
        except TradeFloodError as error:
            self._failed(work, missing, error)
        except Exception as error:  # noqa: BLE001 - a binding is somebody else's code
            self._failed(work, missing, _broken(type(binding), error))
        self._closed(work)

    def _binding(self, venue: str, model: type[Model], variant: tuple[str, ...]) -> Binding[Any]:
        """The binding that makes a model at a venue, looked up once."""
        key = (venue, model, variant)
        binding = self._bindings.get(key)
        if binding is None:
            connector = self.venues.connector(venue)
            binding = self._bindings[key] = self.venues.registry.binding(type(connector), model, variant)()
        return binding

    def _emit(self, made: Any, work: Work) -> None:
        """Take what a binding returned: a step, several, or rows."""
        if made is None:
            return
        if isinstance(made, Step):
            _plausible(made.turn)
            self._want(Want(made.turn, into=work, step=made))
        elif isinstance(made, tuple):
            for part in made:
                self._emit(part, work)
        elif isinstance(made, Turn):
            raise DeclarationError(
                f"{work.ask.dataset.label}: its binding returned {made!r} unpacked; mark a @turn_execution"
            )
        else:
            ask = work.ask
            rows = _as_asked(ask, self._binding(ask.venue, ask.model, ask.variant), list(made))
            self._take_rows(work, [exact(row) for row in rows], None)
            self._inherit(work)

    def _inherit(self, work: Work) -> None:
        """Rows made from other models fail where those failed, and hold what those hold."""
        for frame in work.basis:
            for failure in frame.failures:
                self._failed(work, Spans.of((failure.start, failure.end)) & work.asked, failure.error)
        work.claims += claims_of_derived(work, self.clocks.get(work.ask.venue, self.now))

    def _closed(self, work: Work) -> None:
        work.open -= 1
        if not work.open:
            waiting, work.waiting = work.waiting, []
            for done in waiting:
                done(work)

    def _failed(self, work: Work | None, spans: Spans, error: TradeFloodError) -> None:
        if work is not None:
            dataset = work.ask.dataset
            parts = spans or (() if work.ask.model.time else ((0, 0),))
            work.failures += [Failure(dataset, start, end, error) for start, end in parts]

    # ---------------------------------------------------------------- wants: united now, cut at the end of the tick

    def _want(self, want: Want) -> None:
        turn = want.turn
        key = (turn.bound, turn.args)
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series(turn.bound, turn.args)
        if want.into is not None:
            want.into.open += 1
        if turn.spans:
            series.wanted |= turn.spans
        for symbol in turn.symbols:
            series.symbols[symbol] = None
        series.new.append(want)
        if not series.queued:
            series.queued = True
            self._dirty.append(series)

    def _settle(self) -> None:
        """Cut everything that was wanted since the last time."""
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for series in dirty:
                self._cut(series)
        if self.done and self.tasks:
            self._unstick()

    def _cut(self, series: Series) -> None:
        series.queued = False
        wants, series.new = series.new, []
        spec = series.bound.spec
        for want in wants:
            want.left += 1  # not finished before all its pages are counted
        for node, page in series.live:
            self._attach(series, node, page, wants, follow=False)  # what follows it is in the series already
        try:
            for page in self._pages(series):
                self._node(series, page, wants)
        except TradeFloodError as error:
            for want in wants:
                want.errors.append(error)
        except Exception as error:  # noqa: BLE001 - a request builder is somebody else's code
            for want in wants:
                want.errors.append(DeclarationError(f"turn {series.bound.connector.venue}.{spec.name}: {error!r}"))
        for want in wants:
            self._less(want)

    def _pages(self, series: Series) -> Iterator[Page]:
        spec = series.bound.spec
        if spec.symbols is not None:
            todo = [symbol for symbol in series.symbols if symbol not in series.symbols_asked]
            series.symbols_asked.update(todo)
            for at in range(0, len(todo), spec.symbols):
                yield Page(symbols=tuple(todo[at : at + spec.symbols]))
        elif spec.pages is not None:
            todo_spans = series.wanted - series.asked
            series.asked |= todo_spans
            pages = spec.pages.cut(todo_spans, series.bound.step(series.args))
            text = _interval(series.bound, series.args)
            if text is not None and isinstance(spec.pages, Windows):
                style = spec.pages
                pages = (witnessed(page, style, text, self.now) for page in balanced(pages, style, text, self.now))
            yield from pages
        elif not series.live:
            yield Page()

    def _node(self, series: Series, page: Page, wants: list[Want]) -> None:
        bound = series.bound
        request = bound.request(as_asked(page) if _interval(bound, series.args) else page, series.args)
        key = request.identity(bound.connector.venue)
        self.asked += 1
        node = self.nodes.get(key)
        if node is None:
            work = wants[0].work if wants else None
            deadline = NEVER
            if work is not None and work.horizon is not None:
                of_time = wants[0].into is not None and wants[0].turn.ids is None
                deadline = (page.start if of_time else work.asked.bounds[0]) + work.horizon
            node = self.nodes[key] = Node(key, bound, request, page, deadline)
            if work is not None:
                work.weight += node.weight
            self._number += 1
            self.outstanding += 1
            entry = (deadline, self._number, node)
            queue = self.ready.get(node.lane)
            if not queue:
                self.ready[node.lane] = [entry]
            elif deadline == NEVER and queue[-1][0] == NEVER:
                queue.append(entry)  # numbers rise, so the order of the heap holds
            else:
                heapq.heappush(queue, entry)
        else:
            self.merged += 1
        series.live.append((node, page))
        self._attach(series, node, page, wants, follow=True)

    def _attach(self, series: Series, node: Node, page: Page, wants: list[Want], *, follow: bool) -> None:
        mine = wants if len(wants) == 1 and wants[0].meets(page) else [want for want in wants if want.meets(page)]
        if not mine:
            return
        for want in mine:
            want.left += 1
        if node.state == WAITING:
            node.uses.append((series, page, mine))
        else:
            self._spread(node, series, page, mine, follow=follow)

    # ---------------------------------------------------------------- answers arrive

    def _finished(self, node: Node) -> None:
        self.outstanding -= 1
        uses, node.uses = node.uses, []
        for series, page, wants in uses:
            self._spread(node, series, page, wants, follow=True)
        node.packed, node.unproven, node.other_rows = {}, {}, None
        self._settle()

    def _spread(self, node: Node, series: Series, page: Page, wants: list[Want], *, follow: bool) -> None:
        rows, error, span = node.rows, node.error, None
        style = series.bound.spec.pages
        if series.bound is not node.bound and node.reply is not None:
            try:
                rows, error = node.rows_of(series.bound), None
            except TradeFloodError as wrong:
                error = wrong
        if error is None and style is not None:
            try:
                following = _following(series, page, rows, node.clock)
                span = style.covers(page, rows)
                if isinstance(style, Windows):
                    span = _without(span, following)
                elif isinstance(style, Chain):
                    _bracket(wants, style, page, rows)
            except TradeFloodError as wrong:
                error = wrong
            except Exception as wrong:  # noqa: BLE001 - the style calls the connector's functions on rows
                error = series.bound.changed(wrong, node.reply.body if node.reply else b"")
            else:
                if follow and following is not None:
                    self._node(series, following, wants)
        for want in wants:
            if error is not None:
                self._lost(want, page, error)
            else:
                self._give(want, node, rows, span, page)
            self._less(want)

    def _lost(self, want: Want, page: Page, error: TradeFloodError) -> None:
        want.errors.append(error)
        if want.into is not None:
            spans = want.turn.spans
            ids = want.turn.ids
            missing = Spans.of(*ids.times) if ids is not None else (spans or EMPTY) & Spans.of((page.start, page.end))
            self._failed(want.into, missing or want.into.asked, error)
            want.errors.clear()

    def _give(self, want: Want, node: Node, rows: Any, span: Span | None, page: Page) -> None:
        bound = want.turn.bound
        if bound.spec.by is not None and want.symbols:
            by_symbol = _by_symbol(node, bound, rows)
            rows = [row for symbol in want.turn.symbols for row in by_symbol.get(symbol, ())]
        if want.step is None:
            if want.rows is None or not isinstance(rows, list):
                want.rows = rows
            else:
                want.rows = [*want.rows, *rows]
        elif want.into is not None:
            key = (want.step.pure, want.step.args, want.turn.symbols, bound)
            try:
                models = node.packed.get(key)
                if models is None:
                    made = _as_asked(want.into.ask, want.step.binding, list(want.step.models(rows)))
                    models = [exact(model) for model in made]
                    if want.step.binding.numbering is Numbering.NONE:
                        models = number_equals(models)
                    node.packed[key], node.unproven[key] = models, unproven(models, node.clock)
            except TradeFloodError as error:
                self._lost(want, page, error)
                return
            except Exception as error:  # noqa: BLE001 - a packing step is somebody else's code
                self._lost(want, page, bound.changed(error, node.reply.body if node.reply else b""))
                return
            if isinstance(bound.spec.pages, Windows) and (extent := _extent(models)) is not None:
                want.answers.append(extent)
            taken: Sequence[Model] = models
            if page.margin and _interval(bound, want.turn.args):  # what lies beyond has told what it was to tell
                taken = [model for model in models if getattr(model, model.time or "") < page.end]
            taken = _no_worse(want, taken, node.unproven.get(key, frozenset()))
            want.into.grain = max(want.into.grain, bound.grain)
            self._take_rows(want.into, taken, node.reply, node.clock)
        if span is not None and span[0] < span[1]:
            want.covered.append(span)
        want.clock = min(want.clock, node.clock)

    def _take_rows(self, work: Work, models: Sequence[Model], reply: Reply | None, clock: int = NEVER) -> None:
        names = {column.name for column in work.ask.model.columns()}
        time = work.ask.model.time
        if time and "closed" in names and "interval" in work.ask.model.key:
            grid = interval(work.ask.interval)
            for model in models:
                if model.closed is None:  # type: ignore[attr-defined]
                    model.closed = grid.next(getattr(model, time)) <= clock  # type: ignore[attr-defined]
        if reply is not None and "received_at" in names:
            for model in models:
                model.received_at = reply.received_at  # type: ignore[attr-defined]
        keep = work.models
        for model in models:
            keep[model.position] = model

    def _less(self, want: Want) -> None:
        want.left -= 1
        if want.left:
            return
        if want.into is not None:
            for error in want.errors:
                self._failed(want.into, want.turn.spans or want.into.asked, error)
            if want.into.ask.model.time:
                want.into.claims += claims_of(want, want.into, self.clocks.get(want.into.ask.venue, self.now))
        if want.done is not None:
            want.done(want)
        if want.into is not None:
            self._closed(want.into)

    # ---------------------------------------------------------------- coroutines: bindings with a question in them

    def _drive(self, coroutine: Any, work: Work | None) -> None:
        self.tasks += 1
        if work is not None:
            work.open += 1
        self._step(coroutine, work, None, None)

    def _step(self, coroutine: Any, work: Work | None, value: Any, error: TradeFloodError | None) -> None:
        try:
            need = coroutine.throw(error) if error is not None else coroutine.send(value)
        except StopIteration as stop:
            self._ended(work, stop.value)
            return
        except TradeFloodError as wrong:
            self._ended(work, None, wrong)
            return
        except Exception as wrong:  # noqa: BLE001 - a binding is somebody else's code
            label = work.ask.dataset.label if work else "a list of markets"
            self._ended(work, None, DeclarationError(f"the binding of {label} failed: {wrong!r}"))
            return
        needs = tuple(need) if isinstance(need, Both) else (need,)
        for part in needs:
            if not isinstance(part, Turn | Ask):
                coroutine.close()
                label = work.ask.dataset.label if work else "a list of markets"
                why = f"the binding of {label} awaited {part!r}, which is neither a turn nor a model"
                self._ended(work, None, DeclarationError(why))
                return
        self._await(coroutine, work, needs, together=isinstance(need, Both))

    def _await(self, coroutine: Any, work: Work | None, needs: tuple[Any, ...], *, together: bool) -> None:
        got: list[Any] = [None] * len(needs)
        left = [len(needs)]
        errors: list[TradeFloodError] = []
        waiting = (coroutine, work)
        self._stuck.append(waiting)

        def arrived(index: int, value: Any, error: TradeFloodError | None) -> None:
            got[index] = value
            left[0] -= 1
            if error is not None:
                errors.append(error)
            if not left[0] and waiting in self._stuck:
                self._stuck.remove(waiting)
                answer = tuple(got) if together else got[0]
                self._step(coroutine, work, None if errors else answer, errors[0] if errors else None)

        def wanted(index: int) -> Callable[[Want], None]:
            def done(want: Want) -> None:
                if work is not None:
                    work.clock = min(work.clock, want.clock)
                arrived(index, want.rows, want.errors[0] if want.errors else None)

            return done

        def asked(index: int, spans: Spans) -> Callable[[Work], None]:
            def done(other: Work) -> None:
                frame = other.frame(spans)
                if work is not None:
                    work.basis.append(frame)
                arrived(index, frame, None)

            return done

        if not needs:
            self._stuck.remove(waiting)
            self._step(coroutine, work, (), None)
            return
        for index, part in enumerate(needs):
            if isinstance(part, Turn):
                self._want(Want(part, done=wanted(index), work=work))
            else:
                try:
                    self._ask(part, asked(index, part.spans))
                except TradeFloodError as error:
                    arrived(index, None, error)

    def _ended(self, work: Work | None, made: Any, error: TradeFloodError | None = None) -> None:
        self.tasks -= 1
        if work is None:
            return
        if error is None:
            try:
                self._emit(made, work)
            except TradeFloodError as wrong:
                error = wrong
        if error is not None:
            self._failed(work, work.asked, error)
        self._closed(work)

    def _unstick(self) -> None:
        """Nothing is left to ask and somebody still waits: a model that awaits itself. That is an error, not a silence."""
        while self._stuck:
            coroutine, work = self._stuck.pop()
            coroutine.close()
            label = work.ask.dataset.label if work else "a list of markets"
            self._ended(work, None, DeclarationError(f"the binding of {label} waits for itself"))


def _no_worse(want: Want, models: Sequence[Model], doubtful: frozenset[int]) -> Sequence[Model]:
    """The candles of an answer without those that nothing shows to be final where another answer has shown that it is."""
    work = want.into
    assert work is not None
    if not doubtful and not work.unproven:
        return models
    want.unproven |= doubtful
    final = work.models.keys() - work.unproven
    taken = [model for model in models if model.position not in doubtful & final]
    positions = {model.position for model in taken}
    work.unproven = work.unproven - positions | positions & doubtful
    return taken


def _bracket(wants: Sequence[Want], style: Chain, page: Page, rows: Sequence[Any]) -> None:
    """Note what an answer saw of its page and beyond its edges; what goes on from another answer has a row in common with it."""
    before, after = style.firm(page, rows)
    shown = style.shown(page, rows)
    for want in wants:
        want.shown.append(shown)
        want.firm.update((page.start,) * before)
        want.firm_ends.update((page.end,) * after)
        if page.cursor is None:
            want.seams.update((page.start, page.end))


def _extent(models: Sequence[Model]) -> Span | None:
    """The lowest and highest position of an answer, where positions are numbers."""
    places = [
        int(place)
        for model in models
        if isinstance(place := model.position, int) or (isinstance(place, str) and place.isdecimal())
    ]
    return (min(places), max(places)) if places else None


def _interval(bound: BoundTurn[Any, Any], args: tuple[Any, ...]) -> str | None:
    """The interval of a turn whose pages are cut by intervals."""
    style = bound.spec.pages
    if style is None or style.per != "interval":
        return None
    text: str = args[bound.spec.where["interval"]]
    return text


def _following(series: Series, page: Page, rows: Any, clock: int) -> Page | None:
    """The page that must follow an answer; on a grid none that has no position before the venue's clock."""
    style = series.bound.spec.pages
    assert style is not None
    if isinstance(style, Chain):
        return style.after(page, rows, clock)
    if style.per != "interval":
        return style.after(page, rows)
    end = page.high if style.back else page.end  # what is filled from its end may hold nothing but what lies beyond
    following = style.after(Page(page.start, min(end, clock), page.cursor), rows)
    if following is None:
        return None
    following = Page(following.start, min(following.end, page.end), following.cursor)
    start = interval(series.args[series.bound.spec.where["interval"]]).ceil(following.start)
    return Page(start, following.end, following.cursor) if start < following.end else None


def _without(span: Span, following: Page | None) -> Span:
    """What an answer settles of a page: not what is asked for again, whose answer may never come."""
    if following is None:
        return span
    return (span[0], following.start) if following.start > span[0] else (following.end, span[1])


def _by_symbol(node: Node, bound: BoundTurn[Any, Any], rows: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] | None = node.packed.get(bound)  # type: ignore[assignment]
    if found is None:
        found = {}
        by = bound.spec.by
        assert by is not None
        for row in judged_rows(rows):
            found.setdefault(by(row), []).append(row)
        node.packed[bound] = found  # type: ignore[assignment]
    return found


def _list_ask(venue: str, now: int) -> Ask:
    return Ask(Market, venue, "*", "*", (), EMPTY, now)


def _unlisted(query: Query[Any]) -> Failure:
    what = "no market matches" if query.is_pattern else "no market"
    error = UnknownMarket(f"{query.venue}: {what} {query.pattern!r}; list them with: tradeflood markets {query.venue}")
    return Failure(None, query.start, query.end, error)


def _plausible(turn: Turn[Any]) -> None:
    """Nothing for ids as a market can have them.

    Raises PayloadChanged where there would be more of them than any market trades: an answer with a wild id must not
    become a billion requests.
    """
    if turn.ids is None:
        return
    for (first, after), (start, end) in zip(turn.ids.ids, turn.ids.times, strict=True):
        if (after - first) * SECOND > FASTEST * max(SECOND, end - start):
            text = f"{turn!r}: {after - first} ids between {iso(start)} and {iso(end)}, more than any market trades"
            raise PayloadChanged(text)


def _past(dataset: Dataset, start: int, end: int, now: int) -> Claim:
    return Claim(dataset, start, end, State.LOST, None, PAST_HORIZON, as_of=now)


def _as_asked(ask: Ask, binding: Binding[Any], rows: list[Any]) -> list[Any]:
    """Rows that a binding made, where each is of the dataset that was asked for.

    Raises DeclarationError that names what the first other one is of: it would be stored where nobody asked for it.
    """
    who = f"{ask.dataset.label}: the binding {type(binding).__module__}.{type(binding).__qualname__} made"
    for kind in dict.fromkeys(map(type, rows)):
        if not issubclass(kind, ask.model):
            raise DeclarationError(f"{who} a {kind.__name__} instead of a {ask.model.name()}")
    wanted = {"venue": ask.venue, "market": ask.market, **ask.model.variant_words(ask.variant)}
    if ask.market == "*":  # a list of all markets
        del wanted["market"]
    places = attrgetter(*wanted, "venue")  # of one name alone it would give no tuple
    for found in dict.fromkeys(map(places, rows)):
        if found[:-1] != tuple(wanted.values()):
            raise DeclarationError(f"{who} a row of {' '.join(map(str, found[:-1]))}")
    return rows


def _broken(binding: Any, error: Exception) -> DeclarationError:
    return DeclarationError(f"the binding {binding.__module__}.{binding.__qualname__} failed: {error!r}")
