"""Live conversations, without I/O: what is said and heard, what silence means, what numbers and observers prove."""

from tradeflood.live.conversation import Conversation
from tradeflood.live.escalation import Condition, Escalation, Rung, Standing, condition
from tradeflood.live.freshness import Freshness
from tradeflood.live.offsets import Offsets
from tradeflood.live.pair import Agreement, United
from tradeflood.live.witness import happened, is_dead, witnesses

__all__ = [
    "Agreement", "Condition", "Conversation", "Escalation", "Freshness", "Offsets", "Rung", "Standing", "United", "condition",
    "happened", "is_dead", "witnesses",
]  # fmt: skip
