"""Symbols: how a venue spells a market."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from tradeflood.errors import UsageError


@frozen
class Symbols:
    """The spelling of regular names, such as `{base}{quote}` or `{base}-{quote}`.

    `rename` maps our assets to the venue's. `listed` says that only the venue's own list knows, so that the
    list is asked before anything else. `capitals` says that every asset is written in capitals, so that another spelling
    is a mistake: a venue that overlooks it would answer, and the same market would be there under two names.
    """

    form: str = "{base}{quote}"
    rename: Mapping[str, str] = field(factory=dict)
    listed: bool = False
    capitals: bool = False

    def spell(self, market: str) -> str:
        """The venue's symbol for a market such as `BTC/USDT`.

        Raises UsageError where the market is not written BASE/QUOTE.
        """
        base, slash, quote = market.partition("/")
        if not (base and slash and quote) or "/" in quote or any(map(str.isspace, market)):
            raise UsageError(f"no market {market!r}; write it BASE/QUOTE, such as BTC/USDT")
        if self.capitals and market != market.upper():
            raise UsageError(f"no market {market!r}; write it in capitals: {market.upper()}")
        return self.form.format(base=self.rename.get(base, base), quote=self.rename.get(quote, quote))
