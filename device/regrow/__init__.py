"""regrow on a Pi and on the host: read packs, grow weights, run, report."""

__version__ = "0.1.0"
