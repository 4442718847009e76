"""What can be asked of a venue and how models are made of the answers: declarations and values, no network."""

from tradeflood.turns.ask import Ask
from tradeflood.turns.binding import Binding, Execution, Numbering, Step, turn_execution
from tradeflood.turns.connector import Connector, Settings
from tradeflood.turns.events import Acked, Alive, Answer, Denied, Event, Frames, Leaving, Out, Rows
from tradeflood.turns.limits import Budget, Feed, Heartbeat, Rest
from tradeflood.turns.pages import Chain, Ids, Page, Recent, Windows, ids_of
from tradeflood.turns.registry import Registry, registry
from tradeflood.turns.request import Reply, Request, get
from tradeflood.turns.symbols import Symbols
from tradeflood.turns.turn import Both, BoundTurn, Turn, TurnSpec, both, turn

__all__ = [
    "Acked", "Alive", "Answer", "Ask", "Binding", "Both", "BoundTurn", "Budget", "Chain", "Connector", "Denied", "Event",
    "Execution", "Feed", "Frames", "Heartbeat", "Ids", "Leaving", "Numbering", "Out", "Page", "Recent", "Registry", "Reply", "Request", "Rest",
    "Rows", "Settings", "Step", "Symbols", "Turn", "TurnSpec", "Windows", "both", "get", "ids_of", "registry", "turn",
    "turn_execution",
]  # fmt: skip
