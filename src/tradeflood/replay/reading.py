"""Reading a recording with the eyes of a connector and its bindings."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import product
from types import CoroutineType
from typing import Any

import msgspec

from tradeflood.errors import TradeFloodError
from tradeflood.models import Candle, Market, Model, Trade, interval
from tradeflood.models.identity import Ordinals, number_equals
from tradeflood.models.time import HOUR, parse_time
from tradeflood.replay.recording import Exchange, Recording
from tradeflood.replay.verbatim import Played, Shape
from tradeflood.spans import EMPTY, Spans
from tradeflood.turns import Ask, Binding, Both, Connector, Numbering, Page, Request, Rows, Step, Turn
from tradeflood.turns.registry import registry
from tradeflood.turns.turn import TurnSpec, judged_rows

QUOTES = "USDT USDC FDUSD BUSD TUSD DAI USD EUR GBP TRY BRL JPY RUB UAH IRT RLS BTC ETH BNB".split()
"""How a symbol is parted where the recording has no list of markets."""

_ROUNDS = 32
"""How often a binding may ask before it says what it wants."""


class Reading:
    """What a connector and its bindings make of a recording: `frames`, `markets`, and rows in `trades` and `candles`.

    A binding says which request it would make and what it makes of the answer, so recorded answers are found by
    request and read by whoever would have asked. Its own questions are answered from the recording too.
    """

    def __init__(self, connector: Connector, recording: Recording) -> None:
        self.connector = connector
        self._now = max((part[-1].at for part in (recording.answers, recording.frames) if part), default=0)
        self._by_path: dict[str, list[Exchange]] = defaultdict(list)
        for exchange in recording.answers:
            if self._good(exchange):
                self._by_path[exchange.path].append(exchange)
        self.frames, heard = self._hear(recording)
        self._topics = tuple(heard)
        self.markets = self._markets(heard)
        self.trades: dict[tuple[str, str], dict[Any, Trade]] = defaultdict(dict)
        self.candles: dict[tuple[str, str], dict[Any, Candle]] = defaultdict(dict)
        for row in self._rows(heard):
            if isinstance(row, Trade):
                self.trades[row.market, row.kind].setdefault(row.position, row)
            elif isinstance(row, Candle) and row.closed:
                self.candles[row.market, row.interval][row.position] = row

    def _good(self, exchange: Exchange) -> bool:
        try:
            self.connector.judge(exchange.reply)
        except TradeFloodError:
            return False
        return True

    def _hear(self, recording: Recording) -> tuple[list[Played], dict[str, list[Rows]]]:
        """The frames that have rows, and the rows by topic."""
        played, heard = [], defaultdict(list)
        for said in recording.frames:
            frame = said.frame
            try:
                events = list(self.connector.hear(frame.encode() if isinstance(frame, str) else frame))
            except Exception:  # noqa: BLE001, S112 - what the venue said there nobody understood then either
                continue
            rows = [event for event in events if isinstance(event, Rows)]
            if rows:
                played.append(Played(said.at, frame, frozenset(event.topic for event in rows)))
            for event in rows:
                heard[event.topic].append(event)
        return played, heard

    # ------------------------------------------------------------ markets

    def _markets(self, topics: Iterable[str]) -> dict[str, Market]:
        """The recorded lists, the newest last; and what is recorded without standing in a list."""
        found: dict[str, Market] = {}
        for binding, ask in self.lists():
            for part in self._made(binding, ask):
                made = [row for _, row in self._packed(part, binding)] if isinstance(part, Step) else [part]
                found |= {row.market: row for row in made if isinstance(row, Market)}
        known = {row.symbol.upper() for row in found.values()}
        for word in sorted(self._words(topics)):
            if word not in known and (market := self._guess(word)) is not None:
                found.setdefault(market.market, market)
        return found

    def _words(self, topics: Iterable[str]) -> set[str]:
        """Every word in which a symbol may stand."""
        asked = (line for lines in self._by_path.values() for line in lines)
        texts = [text for line in asked for text in (line.path, *line.params.values())]
        return {
            word.upper()
            for text in (*texts, *topics)
            for parts in (re.split(r"[^\w.-]+", text), re.split(r"[^A-Za-z0-9]+", text))
            for word in parts
            if word
        }

    def _guess(self, word: str) -> Market | None:
        """The market whose symbol a word is, told by its quote; None where it is none."""
        symbols = self.connector.symbols
        ours = {theirs: asset for asset, theirs in symbols.rename.items()}
        for quote in QUOTES:
            theirs = symbols.rename.get(quote, quote)
            form = re.escape(symbols.form).replace(r"\{base\}", "([A-Z0-9]+)").replace(r"\{quote\}", theirs)
            if match := re.fullmatch(form, word):
                base = ours.get(match[1], match[1])
                return Market(self.connector.venue, f"{base}/{quote}", word, base, quote)
        return None

    # ------------------------------------------------------------ trades and candles

    def _rows(self, heard: dict[str, list[Rows]]) -> Iterator[Model]:
        """Everything that the bindings make of answers and frames, the newest last."""
        for binding, ask in self.asks((Trade, Candle)):
            yield from self._of(binding, ask, heard)

    def asks(self, models: Iterable[type[Model]]) -> Iterator[tuple[type[Binding[Any]], Ask]]:
        """Every dataset of some models of which something may have been recorded, with the binding that makes it."""
        words = self._words(self._topics)
        for market in self.markets.values():
            if market.symbol.upper() not in words:
                continue
            for model in models:
                for binding in registry.candidates(type(self.connector), model):
                    for variant in product(*(binding.offered(part.name) for part in model.variants())):
                        yield binding, self._ask(model, market, variant)

    def lists(self) -> Iterator[tuple[type[Binding[Any]], Ask]]:
        """The list of markets, with the bindings that make it: one question about all of them."""
        ask = Ask(Market, self.connector.venue, "*", "*", (), EMPTY, self._now)
        return ((binding, ask) for binding in registry.candidates(type(self.connector), Market))

    def parts(self, binding: type[Binding[Any]], ask: Ask) -> Iterator[Step[Any] | Model]:
        """The steps that a binding would take for an ask, or its rows, its questions answered from the recording."""
        return self._made(binding, ask)

    def _ask(self, model: type[Model], market: Market, variant: tuple[str, ...]) -> Ask:
        spans = Spans.of((parse_time("2000-01-01"), max(self._now, HOUR)))
        return Ask(model, self.connector.venue, market.market, market.symbol, variant, spans, self._now, market)

    def _of(self, binding: type[Binding[Any]], ask: Ask, heard: dict[str, list[Rows]]) -> Iterator[Model]:
        told: list[tuple[int, Model]] = []
        for part in self._made(binding, ask):
            told += self._packed(part, binding) if isinstance(part, Step) else ()
        if binding.has_live():
            told += self._packed_live(binding().live(self.connector, ask), binding, heard)
        yield from (row for _, row in sorted(told, key=lambda pair: pair[0]))

    def _made(self, binding: type[Binding[Any]], ask: Ask) -> Iterator[Any]:
        """The steps and rows that a binding answers with; nothing where it lacks what was not recorded."""
        if not binding.has_history():
            return
        try:
            made = binding()(self.connector, ask)
            if isinstance(made, CoroutineType):
                made = self._driven(made)
        except Exception:  # noqa: BLE001 - it was not recorded what it asks for
            return
        yield from made if isinstance(made, (tuple, list)) else () if made is None else (made,)

    def _driven(self, coroutine: Any) -> Any:
        """What a binding with questions returns when they are answered from the recording."""
        value: Any = None
        try:
            for _ in range(_ROUNDS):
                need = coroutine.send(value)
                needs = tuple(need) if isinstance(need, Both) else (need,)
                answers = tuple(self._answer(part) for part in needs)
                value = answers if isinstance(need, Both) else answers[0]
        except StopIteration as stop:
            return stop.value
        finally:
            coroutine.close()
        return None

    def _answer(self, turn: Turn[Any]) -> Any:
        """The rows of the newest recorded answer to such a turn, none where there is none."""
        request = turn.bound.request(Page(symbols=turn.symbols), turn.args)
        for exchange in reversed(list(self._matching(request))):
            rows, by = turn.bound.decode(exchange.reply.body), turn.bound.spec.by
            return rows if by is None else [row for row in judged_rows(rows) if by(row) in turn.symbols]
        return []

    def _matching(self, request: Request) -> Iterator[Exchange]:
        """The recorded answers to such a request. Texts name market and variant; numbers are sizes, times and cursors."""
        texts = {name: value for name, value in request.params if isinstance(value, str)}
        for exchange in self._by_path.get(request.path, ()):
            if exchange.method == request.method and all(
                exchange.params.get(name, value) == value for name, value in texts.items()
            ):
                yield exchange

    def _packed(self, step: Step[Any], binding: type[Binding[Any]]) -> Iterator[tuple[int, Model]]:
        """What a step makes of the recorded answers to its turn, each with when it came."""
        bound = step.turn.bound
        page = Page(self._now - HOUR, self._now, symbols=step.turn.symbols)
        for exchange in self._matching(bound.request(page, step.turn.args)):
            reply = exchange.reply
            try:
                models = step.models(bound.decode(reply.body))
            except Exception:  # noqa: BLE001, S112 - it is not what the connector takes it for: served as it is, no more
                continue
            clock = self.connector.clock(reply)
            for row in number_equals(models) if binding.numbering is Numbering.NONE else models:
                if isinstance(row, Candle) and row.closed is None:
                    row.closed = interval(row.interval).next(row.open_time) <= clock
                yield exchange.at, row

    def _packed_live(
        self, step: Any, binding: type[Binding[Any]], heard: dict[str, list[Rows]]
    ) -> Iterator[tuple[int, Model]]:
        """What a live step makes of the recorded frames of its topic, all of them at the end of the recording."""
        if not isinstance(step, Step) or not step.turn.bound.spec.live:
            return
        bound, ordinals = step.turn.bound, Ordinals()
        decode = msgspec.json.Decoder(bound.spec.reply).decode
        for event in heard.get(bound.topic(step.turn.args), ()):
            if binding.numbering is Numbering.NONE and ordinals.repeats(event.sequence):
                continue
            try:
                rows = judged_rows(decode(event.rows)) if isinstance(event.rows, msgspec.Raw) else event.rows
                models = step.models(rows)
            except Exception:  # noqa: BLE001, S112 - as above
                continue
            for row in ordinals.of_live(models) if binding.numbering is Numbering.NONE else models:
                yield self._now, row


def lists(connector: Connector) -> Iterator[Shape]:
    """The requests with which a connector asks for lists: of markets, of tickers."""
    many = tuple(f"S{number}" for number in range(200))
    for name in dir(type(connector)):
        spec = getattr(type(connector), name, None)
        if not isinstance(spec, TurnSpec) or spec.live or spec.params or spec.pages is not None:
            continue
        bound = getattr(connector, name)
        for page in (Page(symbols=many[:1]), Page(symbols=many[:2]), Page(symbols=many)):
            request = bound.request(page, ())
            yield request.path, frozenset(name for name, _ in request.params)
