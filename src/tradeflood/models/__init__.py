"""Venue-free data: the models, their units, and the forms that follow from each declaration."""

from tradeflood.models.base import Column, Kind, Model, Side, Time, Variant
from tradeflood.models.candle import Candle
from tradeflood.models.interval import Interval, interval
from tradeflood.models.market import Market
from tradeflood.models.ticker import Ticker
from tradeflood.models.trade import Trade

__all__ = [
    "Candle",
    "Column",
    "Interval",
    "Kind",
    "Market",
    "Model",
    "Side",
    "Ticker",
    "Time",
    "Trade",
    "Variant",
    "interval",
]
