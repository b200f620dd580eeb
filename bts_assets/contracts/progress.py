"""How long work reports its progress: the stage, the units done, the units in all. Who listens is elsewhere."""

from collections.abc import Callable

OnProgress = Callable[[str, int, int], None]
