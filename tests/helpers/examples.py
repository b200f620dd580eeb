"""How many examples a property is tried on, whichever profile of hypothesis is chosen (tests/conftest.py)."""

from hypothesis import settings


def examples(whole: int) -> settings:
    """`whole` in `make test`; of the profile's share, but ten at least, in another."""
    return settings(max_examples=max(whole * settings.default.max_examples // 100, 10))
