"""What is held, on what evidence: claims, their arithmetic, and frames that carry them."""

from tradeflood.coverage.claims import Claim, Dataset, Grade, State, Stretch, clipped, digest_of, held, stretches
from tradeflood.coverage.frame import Coverage, Failure, Frame

__all__ = [
    "Claim",
    "Coverage",
    "Dataset",
    "Failure",
    "Frame",
    "Grade",
    "State",
    "Stretch",
    "clipped",
    "digest_of",
    "held",
    "stretches",
]
