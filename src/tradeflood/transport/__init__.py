"""The network: HTTP and WebSocket clients, and the wrappers around them."""

from tradeflood.transport.base import DIRECT, Call, Exit, Kind, Rank, Transport, call_of
from tradeflood.transport.clock import Clock, SystemClock
from tradeflood.transport.http import HttpTransport, user_agent
from tradeflood.transport.limiter import Limited, Limiter, Pause, Window
from tradeflood.transport.proxy import Direct, ProxyScheme, StaticPool
from tradeflood.transport.record import Recorded, Recorder

__all__ = [
    "DIRECT", "Call", "Clock", "Direct", "Exit", "HttpTransport", "Kind", "Limited", "Limiter", "Pause", "ProxyScheme",
    "Rank", "Recorded", "Recorder", "StaticPool", "SystemClock", "Transport", "Window", "call_of", "user_agent",
]  # fmt: skip
