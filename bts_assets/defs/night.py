"""The resource of every asset: the home, opened once per run, and the origins that the whole run works with."""

from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cached_property

import dagster as dg
from pydantic import Field, PrivateAttr

from bts_assets.contracts.nights import origin_of
from bts_assets.contracts.origin import Origin, OriginError, asked_origin
from bts_assets.defs.abandoned_runs import PROCESS, this_process
from bts_assets.defs.partitions import nights_of, partition_of, zone_of_nights
from bts_assets.services.home import Home, open_home
from bts_assets.services.night_origin import origin_at
from bts_assets.settings import load_settings


class Night(dg.ConfigurableResource):
    """The landing folder and origin of one run. Left empty, the run's partitions, settings and the clock decide."""

    landing_dir: str | None = Field(
        default=None, description="folder of landing files, for example /data/landing; empty: BTS_LANDING_DIR"
    )
    as_of: str | None = Field(
        default=None,
        description="forecast origin, for example 2026-11-20T02:00+00:00, in BTS_TIMEZONE where it names no offset;"
        " empty: 02:00 of the run's nights; without any, the newest grid instant, or the end of an old recording",
    )
    why: str | None = Field(
        default=None, description="why this origin, for people, for example: files of May were mended; empty: as asked"
    )

    _home: Home = PrivateAttr()
    _now: datetime = PrivateAttr()
    _nights: list[date] = PrivateAttr()

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        self._now = datetime.now(UTC)
        self._nights = nights_of(context.run.tags if context.run else {})
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
    def origins(self) -> list[Origin]:
        """The origins of the nights that the run makes, ascending; one, unless it is a backfill of several.

        Raises:
            OriginError: if one lies ahead of now, before the first observation, or in another night than the run's.
        """
        if self.as_of is None and self._nights:
            return [self._of_a_night(night) for night in self._nights]
        if self.as_of is None:
            return [origin_at(self._home, self._now)]
        asked = asked_origin(self.as_of, self._home.settings.timezone, self._now)
        origin = origin_at(self._home, self._now, asked, f"--as-of {self.as_of}")
        if self._nights and [partition_of(origin.issued_at)] != [night.isoformat() for night in self._nights]:
            raise OriginError(
                f"as_of {self.as_of} is of the night {partition_of(origin.issued_at)}, and the run makes"
                f" {self._nights[0]}{f' to {self._nights[-1]}' if len(self._nights) > 1 else ''}: leave as_of empty"
            )
        return [replace(origin, why=self.why or origin.why)]

    @property
    def origin(self) -> Origin:
        """The origin of the night, the last one of several."""
        return self.origins[-1]

    def _of_a_night(self, night: date) -> Origin:
        asked = origin_of(night, zone_of_nights()).astimezone(UTC)
        words = f"the night of {night}, with its origin at {asked:%Y-%m-%d %H:%M} UTC,"
        if asked > self._now:
            raise OriginError(f"{words} is still to come")
        return replace(origin_at(self._home, self._now, asked, words), why="02:00 of its night")
