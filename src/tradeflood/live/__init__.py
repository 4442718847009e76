"""Live conversations, without I/O."""

from tradeflood.live.conversation import Conversation
from tradeflood.live.freshness import Freshness

__all__ = ["Conversation", "Freshness"]
