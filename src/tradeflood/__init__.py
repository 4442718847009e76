"""Say what market data you want; get it with the fewest requests, and be told how complete it is.

import tradeflood as tf

candles = tf.collect(tf.Candle, "binance:BTC/USDT", interval="1m", start="2024-01-01", end="2024-01-02")
candles.to_polars()
print(candles.coverage)
"""

from __future__ import annotations

import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:
    from tradeflood.coverage import Claim, Coverage, Dataset, Failure, Frame, Grade, State
    from tradeflood.errors import (
        DeclarationError,
        Incomplete,
        PayloadChanged,
        RateLimited,
        Refused,
        SequenceGap,
        StoreError,
        TradeFloodError,
        TransportError,
        Unavailable,
        UnknownMarket,
        UsageError,
        VenueError,
    )
    from tradeflood.hookspecs import hookimpl
    from tradeflood.models import Candle, Market, Model, Side, Ticker, Time, Trade
    from tradeflood.models.time import hours, minutes, ms, seconds
    from tradeflood.planner import Plan, Query, Result
    from tradeflood.runner.api import collect, plan
    from tradeflood.runner.flood import Flood
    from tradeflood.spans import Spans
    from tradeflood.turns import (
        Acked,
        Alive,
        Answer,
        Ask,
        Binding,
        Budget,
        Chain,
        Connector,
        Denied,
        Feed,
        Heartbeat,
        Leaving,
        Numbering,
        Page,
        Recent,
        Reply,
        Request,
        Rest,
        Rows,
        Symbols,
        Turn,
        Windows,
        both,
        get,
        ids_of,
        turn,
        turn_execution,
    )

_ROOMS = {
    "coverage": ("Claim", "Coverage", "Dataset", "Failure", "Frame", "Grade", "State"),
    "errors": (
        "DeclarationError", "Incomplete", "PayloadChanged", "RateLimited", "Refused", "SequenceGap", "StoreError",
        "TradeFloodError", "TransportError", "Unavailable", "UnknownMarket", "UsageError", "VenueError",
    ),
    "hookspecs": ("hookimpl",),
    "models": ("Candle", "Market", "Model", "Side", "Ticker", "Time", "Trade"),
    "models.time": ("hours", "minutes", "ms", "seconds"),
    "planner": ("Plan", "Query", "Result"),
    "runner.api": ("collect", "plan"),
    "runner.flood": ("Flood",),
    "spans": ("Spans",),
    "turns": (
        "Acked", "Alive", "Answer", "Ask", "Binding", "Budget", "Chain", "Connector", "Denied", "Feed", "Heartbeat",
        "Leaving", "Numbering", "Page", "Recent", "Reply", "Request", "Rest", "Rows", "Symbols", "Turn", "Windows", "both", "get",
        "ids_of", "turn", "turn_execution",
    ),
}  # fmt: skip
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Acked",
    "Alive",
    "Answer",
    "Ask",
    "Binding",
    "Budget",
    "Candle",
    "Chain",
    "Claim",
    "Connector",
    "Coverage",
    "Dataset",
    "DeclarationError",
    "Denied",
    "Failure",
    "Feed",
    "Flood",
    "Frame",
    "Grade",
    "Heartbeat",
    "Incomplete",
    "Leaving",
    "Market",
    "Model",
    "Numbering",
    "Page",
    "PayloadChanged",
    "Plan",
    "Query",
    "RateLimited",
    "Recent",
    "Refused",
    "Reply",
    "Request",
    "Rest",
    "Result",
    "Rows",
    "SequenceGap",
    "Side",
    "Spans",
    "State",
    "StoreError",
    "Symbols",
    "Ticker",
    "Time",
    "Trade",
    "TradeFloodError",
    "TransportError",
    "Turn",
    "Unavailable",
    "UnknownMarket",
    "UsageError",
    "VenueError",
    "Windows",
    "both",
    "collect",
    "get",
    "hookimpl",
    "hours",
    "ids_of",
    "minutes",
    "ms",
    "plan",
    "seconds",
    "turn",
    "turn_execution",
]


def __getattr__(name: str) -> _typing.Any:
    """Load a public name from its room when it is first used: saying hello imports nothing heavy."""
    if name not in _HOME:
        raise AttributeError(f"module 'tradeflood' has no attribute {name!r}")
    value = globals()[name] = getattr(_importlib.import_module(f"tradeflood.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
