"""The command `tradeflood`: a thin door over the runner."""
