"""Interval arithmetic: the one piece of mathematics on which merging, coverage and refill stand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]


class Spans(tuple[Span, ...]):
    """Disjoint, ascending, half-open integer intervals, of time or of ids.

    A value: equal when it covers the same integers, hashable, falsy when empty.
    `a | b`, `a & b` and `a - b` are union, intersection and difference.

    >>> Spans.of((0, 5), (3, 9)) - Spans.of((4, 6))
    Spans.of((0, 4), (6, 9))
    """

    __slots__ = ()

    @classmethod
    def of(cls, *pairs: Span) -> Spans:
        """The union of the pairs; a pair that ends where it starts, or before, is empty."""
        if len(pairs) == 1:
            return cls(pairs) if pairs[0][0] < pairs[0][1] else EMPTY
        return _joined(sorted(pair for pair in pairs if pair[0] < pair[1]))

    def __or__(self, other: Spans) -> Spans:
        """Everything that is in either."""
        if not other or self == other:
            return self
        if not self:
            return other
        return _joined(sorted((*self, *other)))

    def __sub__(self, other: Spans) -> Spans:
        """What is here and not there."""
        if not other or not self:
            return self
        left: list[Span] = []
        first = 0
        for start, end in self:
            while first < len(other) and other[first][1] <= start:
                first += 1
            for low, high in other[first:]:
                if low >= end:
                    break
                if low > start:
                    left.append((start, low))
                start = high  # noqa: PLW2901 - the rest of the span is what remains to be cut
                if start >= end:
                    break
            if start < end:
                left.append((start, end))
        return Spans(left)

    def __and__(self, other: Spans) -> Spans:
        """What is in both."""
        return self - (self - other)

    def __repr__(self) -> str:
        return f"Spans.of({', '.join(map(repr, self))})"

    @property
    def size(self) -> int:
        """How many integers are covered."""
        return sum(end - start for start, end in self)

    @property
    def bounds(self) -> Span:
        """The first integer covered and the one after the last; (0, 0) when empty."""
        return (self[0][0], self[-1][1]) if self else (0, 0)

    def touches(self, start: int, end: int) -> bool:
        """Whether any integer of [start, end) is covered."""
        for low, high in self:  # no any(): a generator costs three times as much, and plans ask this a lot
            if low < end and start < high:
                return start < end
        return False

    def covers(self, other: Spans) -> bool:
        """Whether nothing of the other lies outside."""
        return not other - self


def _joined(ascending: Iterable[Span]) -> Spans:
    out: list[Span] = []
    for start, end in ascending:
        if out and start <= out[-1][1]:
            if end > out[-1][1]:
                out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return Spans(out)


EMPTY = Spans()
