"""The resource of every asset: the home, opened once per run, and the one origin that the whole run works with."""

from datetime import UTC, datetime
from functools import cached_property

import dagster as dg
from pydantic import Field, PrivateAttr

from bts_assets.contracts.origin import Origin, OriginError, asked_origin, choose_origin
from bts_assets.defs.abandoned_runs import PROCESS, this_process
from bts_assets.services.home import Home, open_home
from bts_assets.settings import load_settings
from bts_assets.storage.observations import observed_span


class Night(dg.ConfigurableResource):
    """The landing folder and origin of one run. Left empty, settings and the clock decide."""

    landing_dir: str | None = Field(
        default=None, description="folder of landing files, for example /data/landing; empty: BTS_LANDING_DIR"
    )
    as_of: str | None = Field(
        default=None,
        description="forecast origin, for example 2026-11-20T02:00+00:00, in BTS_TIMEZONE where it names no offset;"
        " empty: the newest grid instant, or the end of an old recording",
    )

    _home: Home = PrivateAttr()
    _now: datetime = PrivateAttr()

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        self._now = datetime.now(UTC)
        if context.run is not None and context.instance is not None:
            context.instance.add_run_tags(context.run.run_id, {PROCESS: this_process()})
        # Retraining and backtests work on what nights have made: only nights and ingest bring the schema up to date.
        migrates = context.run is None or context.run.job_name not in ("retrain", "backtest")
        log = context.log
        self._home = open_home(
            load_settings(landing_dir=self.landing_dir), migrates=migrates, say=log.warning if log else None
        )

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        self._home.engine.dispose()

    @property
    def home(self) -> Home:
        return self._home

    @property
    def now(self) -> datetime:
        """The instant of the run: read once, so that its assets cannot disagree about the origin."""
        return self._now

    @cached_property
    def origin(self) -> Origin:
        settings = self._home.settings
        with self._home.engine.connect() as connection:
            span = observed_span(connection, settings.grid)
        asked = self._asked()
        if asked and span and asked <= span.start:
            raise OriginError(f"--as-of {self.as_of} lies before the first observation, which is of {span.start}")
        ends = (span.end, span.heard_until) if span else (None, None)
        return choose_origin(settings.grid, self._now, asked, *ends)

    def _asked(self) -> datetime | None:
        return None if self.as_of is None else asked_origin(self.as_of, self._home.settings.timezone, self._now)
