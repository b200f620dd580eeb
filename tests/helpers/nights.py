"""The origin of the published night, and what a night that was run for real looks like to tests; no tests are here."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from bts_assets.services.home import Home

SHARED: Final = Path(__file__).resolve().parents[3] / "shared" / "data"

#: The end of the simulated network's readings, and the origin of the published night.
NIGHT: Final = datetime(2026, 3, 10, tzinfo=UTC)


class PublishedNight:
    """A night that was run for real, its environment, and what its assets said."""

    def __init__(
        self, environment: dict[str, str], home: Home, said: dict[str, dict[str, Any]], reached: list[str]
    ) -> None:
        self.environment, self.home, self.said = environment, home, said
        self.reached = reached  # what it reached for beyond loopback
        self.engine = home.engine

    def rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.text(query), values).mappings()]


HomeMaker = Callable[..., Home]
NightRunner = Callable[..., PublishedNight]
