"""Built-in venues, one file each. Nothing lists them: `tradeflood.plugins` finds every module in here."""
