"""Live conversations, without I/O."""

from tradeflood.live.conversation import Conversation

__all__ = ["Conversation"]
