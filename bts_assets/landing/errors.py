"""The two ways in which a landing file is not taken: refused for good, or left for the next look."""


class LandingFileRefused(ValueError):
    """A landing file that cannot be used at all: one line that says why, for the ledger."""


class StillChanging(Exception):
    """A landing file that changed, moved or went away while it was read: leave it for the next look."""
