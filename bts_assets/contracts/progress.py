"""How long work reports: what is being done, how much of it is done, how much there is. Who listens is elsewhere."""

from collections.abc import Callable

OnProgress = Callable[[str, int, int], None]
