"""One file per venue: its server side. A subclass of Desk that states `venue =` is found by being defined."""
