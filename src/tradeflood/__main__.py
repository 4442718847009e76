"""`python -m tradeflood`: the command line."""

from tradeflood.cli.main import main

main()
