"""Every setting: its name (BTS_*), default, unit and meaning. Read once, at the edge, and handed down."""

import logging
import os
import re
from collections.abc import Iterable
from datetime import date, time, timedelta
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, ValidationError, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

from bts_assets.contracts.errors import UsageError
from bts_assets.contracts.grid import Grid, GridError, context_for, format_duration
from bts_assets.contracts.hyperparameters import Hyperparameters, bounds
from bts_assets.contracts.landing_columns import LANDING_COLUMNS
from bts_assets.contracts.nights import START

log = logging.getLogger(__name__)

TrainingEffort = Literal["quick", "standard", "thorough"]
ReadingIds = Literal["auto", "key", "ignore"]
Engine = Literal["local", "ray"]

#: A century: what can be taken from any date of a recording without leaving the calendar.
_LONGEST: Final = timedelta(days=36500)
_UNITS: Final = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}

#: Settings that have another name now.
RENAMED: Final = {
    "BTS_SETTLE": "BTS_FILE_STABLE_FOR",
    "BTS_HEAVY_SERIES": "BTS_STATISTICAL_MAX_SERIES",
    "BTS_DIFFERENTIAL_BOUND": "BTS_MAX_FORECAST_DIVERGENCE",
}


class SettingsError(UsageError):
    """A setting that cannot be used: one line with its name, its value and what would do."""


def parse_duration(text: Any) -> Any:
    """`15min`, `48h`, `7d`, `1s`: a number and a unit."""
    if not isinstance(text, str):
        return text
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|sec|min|m|h|d)\s*", text)
    if not match:
        raise ValueError("is not a duration; write a number and a unit, for example 15min, 48h or 7d")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > _LONGEST.total_seconds():
        raise ValueError(f"is too long; the longest duration is {format_duration(_LONGEST)}")
    return timedelta(seconds=seconds)


def parse_size(text: Any) -> Any:
    """`4GB`, `512MB`: a number and a unit, of 1024 times 1024 times 1024 and so on."""
    if not isinstance(text, str):
        return text
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(mb|gb)\s*", text.lower())
    if not match or not float(match[1]):
        raise ValueError("is not a size; write a number and a unit, for example 4GB or 512MB")
    return round(float(match[1]) * {"mb": 1 << 20, "gb": 1 << 30}[match[2]])


def parse_zone(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("is not a time zone; write an IANA name, for example UTC or Asia/Ho_Chi_Minh") from error


def parse_columns(text: Any) -> Any:
    """`value=val,station_id=site`: our names of columns, and those of the landing files' headers."""
    if not isinstance(text, str):
        return text
    names: dict[str, str] = {}
    for pair in text.split(","):
        ours, separator, theirs = (part.strip() for part in pair.partition("="))
        if ours not in LANDING_COLUMNS or not separator or not theirs:
            raise ValueError(
                f"has '{pair.strip()}', which is no OURS=HEADER with OURS one of {', '.join(LANDING_COLUMNS)};"
                " write for example value=val,station_id=site"
            )
        if ours in names or theirs.lower() in {name.lower() for name in names.values()}:
            raise ValueError(f"names '{ours if ours in names else theirs}' twice")
        names[ours] = theirs
    return ",".join(f"{ours}={theirs}" for ours, theirs in names.items())


def parse_ready_by(text: Any) -> Any:
    """`04:00`: a time of day after the start of the night."""
    if not isinstance(text, str):
        return text
    if not re.fullmatch(r"\s*([01]?\d|2[0-3]):[0-5]\d\s*", text):
        raise ValueError("is not a time of day; write for example 04:00")
    hour, minute = text.split(":")
    ready_by = time(int(hour), int(minute))
    if ready_by <= START:
        raise ValueError(f"is not after the start of the night, {START:%H:%M}")
    return ready_by


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]
Zone = Annotated[ZoneInfo, BeforeValidator(parse_zone)]
Columns = Annotated[str, BeforeValidator(parse_columns)]
ReadyBy = Annotated[time, BeforeValidator(parse_ready_by)]


if TYPE_CHECKING:
    _LstmSettings = BaseSettings
else:
    # One field per hyper-parameter, so that their defaults and bounds stand in one place.
    _LstmSettings = create_model(
        "_LstmSettings",
        __base__=BaseSettings,
        **{
            f"lstm_{name}": (type(default), Field(default, ge=b.least, le=b.most, description=f"LSTM: {b.about}"))
            for name, b in bounds().items()
            for default in [getattr(Hyperparameters, name)]
        },
    )


class Settings(_LstmSettings):
    """The settings of one run. `BTS_HOME` alone decides which state a command works on."""

    model_config = SettingsConfigDict(env_prefix="BTS_", frozen=True, extra="ignore", env_ignore_empty=True)

    home: Path = Field(Path(".bts"), description="folder of all state: Postgres, Dagster, MLflow, Parquet")
    landing_dir: Path | None = Field(None, description="folder of landing files; unset: a simulated network")
    stations_file: Path | None = Field(None, description="CSV of stations: station_id,name,region,latitude,...")
    catalogue: Path | None = Field(None, description="CSV of parameters over those shipped; bts catalogue writes one")

    step: Duration = Field(timedelta(minutes=15), description="grid width; divides a day; fixed per home")
    context: Duration = Field(
        default_factory=lambda given: context_for(given.get("step", timedelta(minutes=15))),
        description="length of the history that a forecast is made from; unset: 1,008 steps in whole weeks, one to six",
    )
    horizon: Duration = Field(timedelta(hours=48), description="how far ahead a batch reaches")
    timezone: Zone = Field(ZoneInfo("UTC"), description="zone of the schedule and of calendar features")
    first_night: date | None = Field(
        None, description="first night that can be run or backfilled; unset: the day of the oldest observation"
    )
    ready_by: ReadyBy = Field(time(4), description="time of day in BTS_TIMEZONE by which a night's batch is due")
    landing_timezone: Zone = Field(ZoneInfo("UTC"), description="time zone of reading times without an offset")
    landing_columns: Columns | None = Field(
        None,
        description="column names in your landing files, where they differ from ours: value=val,station_id=site,...",
    )
    landing_dayfirst: bool | None = Field(
        None, description="true: 03/04/2026 is 3 April, false: 4 March; unset: such rows are rejected"
    )
    landing_decimal: Literal["comma", "point"] | None = Field(
        None,
        description="mark of decimals in landing files (comma or point), where 1,234 could be either; unset: by"
        " content",
    )
    file_stable_for: Duration = Field(
        timedelta(seconds=1),
        description="a landing file is taken once its size and time of change have stayed the same for this long",
    )
    max_file_bytes: int = Field(1 << 30, gt=0, description="a larger landing file is refused (bytes)")
    max_skew: Duration = Field(
        timedelta(days=1),
        description="a reading dated further in the future than this, when it is ingested, is rejected",
    )
    reading_ids: ReadingIds = Field(
        "auto",
        description="whether a reading's id identifies it: key (always), ignore (never), auto (decided from the"
        " content, per file, station and day)",
    )
    rejected_kept: int = Field(
        1000, ge=0, description="rejected rows kept with their text, per file; the rest are counted"
    )

    training_effort: TrainingEffort = Field(
        "quick",
        description="amount of training work (quick, standard or thorough): a fixed number of optimiser steps and"
        " seeds",
    )
    training_span: Duration | None = Field(
        None, description="longest history that training uses; unset: all stored history, up to 24 million values"
    )
    training_ceiling: Duration = Field(
        timedelta(hours=2),
        description="time limit of a training; a version whose training was cut short is labelled, and promoted only"
        " where no usable champion exists",
    )
    seed: int = Field(20170418, ge=0, description="seed of everything random in training")
    statistical_max_series: int = Field(
        200,
        ge=0,
        description="largest number of series on which statistical models (statsforecast) are tried; the training"
        " effort lowers it further",
    )

    forecast_retention: Duration | None = Field(
        None,
        description="forecasts are deleted when their origin is this much older than the origin being served; unset:"
        " all are kept",
    )
    observation_retention: Duration | None = Field(
        None,
        description="the same for observations, and for readings that no stored batch needs; unset: all are kept",
    )

    retrain_after: Duration = Field(
        timedelta(days=7),
        description="a challenger is trained once the newest model version is this old; 0d: only by hand",
    )
    retrain_cooldown: Duration = Field(
        timedelta(days=3),
        description="least age of the newest model version before evidence (drift, accuracy, new data) may start"
        " another training",
    )
    retrain_skill: float = Field(
        0.0,
        gt=-1,
        lt=1,
        description="share by which a week's MASE must be below the best baseline's; else a challenger is trained",
    )
    promotion_margin: float = Field(
        0.01, ge=0, lt=1, description="share by which a challenger's errors must be below the champion's"
    )
    max_forecast_divergence: float = Field(
        1.0,
        gt=0,
        description="distance, in widths of the 80 % interval, beyond which the forecasts of challenger and champion"
        " for a series count as divergent",
    )
    probation_nights: int = Field(
        0, ge=0, description="nights that a challenger runs in shadow before it may serve; 0: the backtest decides"
    )

    breach_persistence: Duration = Field(
        timedelta(0),
        description="a breach counts once its series lies beyond the limit for so long; 0s: for one step",
    )
    breach_recovery: float = Field(
        0.0,
        ge=0,
        le=1,
        description="a breach is over once its series has come back past the limit by this share of the distance"
        " between limit and forecast",
    )
    alert_urls: str | None = Field(
        None, description="where alerts go: URLs of apprise, with blanks between them, for example mailto://..."
    )
    alert_webhook: str | None = Field(None, description="an address that gets each message of alerts as JSON by POST")
    alert_probability: float = Field(
        0.75, gt=0, le=1, description="probability of a breach within 48 h from which on it raises an alert"
    )
    alert_timeout: Duration = Field(
        timedelta(seconds=10), description="longest time that a night waits for all channels together"
    )
    alert_messages_per_hour: int = Field(
        20, gt=0, description="most messages that a channel gets in an hour; the most severe go first"
    )
    drift_false_alarms: float = Field(
        0.05,
        gt=0,
        le=10,
        description="false alarms of drift that a station may raise in a year, all its series together",
    )

    database_url: str | None = Field(None, description="libpq URL of your own Postgres (14 or newer); unset: embedded")
    reader_database_url: str | None = Field(
        None, description="libpq URL of the same database for a role that only reads; bts sql and bts url use it"
    )
    direct_database_url: str | None = Field(
        None, description="the same past a connection pool, for Dagster, MLflow and backups; unset: BTS_DATABASE_URL"
    )
    mlflow_tracking_uri: str | None = Field(
        None,
        description="URL of your own MLflow server; unset: its tables are in our Postgres, its artifacts in the home",
    )
    explorer_token: str | None = Field(
        None,
        description="password of the explorer; required when it listens on an address that other machines reach",
    )
    idle_stop: Duration = Field(
        timedelta(minutes=15), description="the embedded Postgres stops after so long without a client"
    )
    memory: Size | None = Field(
        None,
        description="memory that a night may take, for example 4GB; unset: three quarters of what the machine or its"
        " container has",
    )
    engine: Engine = Field(
        "local",
        description="where the parts of a large network are worked on: local (this machine) or ray (a Ray cluster)",
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="how many processes share the work; unset: only the night's own, in two threads; on Ray as many"
        " as the cluster has CPUs",
    )
    ray_address: str | None = Field(
        None,
        description="address of the Ray cluster, for example ray://head:10001; unset: the one that this machine is"
        " part of",
    )
    lock_timeout: Duration = Field(timedelta(seconds=30), description="longest wait for a lock in Postgres")

    @property
    def grid(self) -> Grid:
        return Grid(self.step, self.context, self.horizon)

    @property
    def header_names(self) -> dict[str, str]:
        """Our names of columns -> those of the landing files' headers, where they differ."""
        pairs = (pair.partition("=") for pair in (self.landing_columns or "").split(",") if pair)
        return {ours: theirs for ours, _, theirs in pairs}

    @property
    def hyperparameters(self) -> Hyperparameters:
        return Hyperparameters(**{name: getattr(self, f"lstm_{name}") for name in bounds()})

    def public(self) -> dict[str, str]:
        """Every setting that decides a result, as text without secrets; kept with each batch and model version."""
        hidden = {"home", "landing_dir", "stations_file", "catalogue", "mlflow_tracking_uri", "idle_stop", "memory"}
        hidden |= {"engine", "workers", "ray_address", "explorer_token", "first_night", "drift_false_alarms"}
        hidden |= {name for name in type(self).model_fields if name.endswith(("database_url", "_retention"))}
        hidden |= {name for name in type(self).model_fields if name.startswith(("alert_", "retrain_"))}
        hidden -= {"alert_probability"}  # it decides which breaches of a batch are alerts
        return {f"BTS_{k.upper()}": _text(v) for k, v in self if k not in hidden}


def _text(value: Any) -> str:
    if isinstance(value, time):
        return f"{value:%H:%M}"
    return format_duration(value) if isinstance(value, timedelta) else "" if value is None else str(value)


#: Names that are read elsewhere: passwords, what docker-compose.yml and the explorer take, where a process is to die.
_READ_ELSEWHERE: Final = re.compile(
    r"BTS_(\w+_PASSWORD|\w+_PORT|CODE_\w+|IMAGE_TAG|LANDING_HOST_DIR|DAGSTER_DATABASE_URL|REQUEST_LOG|EXPLORER_TOKEN"
    r"|CRASH_AT|UP_SERVES)"
)


def unknown_settings(environ: Iterable[str]) -> list[str]:
    """A line for each name that begins with BTS_ and that nothing reads, with the setting of the nearest name."""
    names = [f"BTS_{name.upper()}" for name in Settings.model_fields]
    told = []
    for name in sorted(environ):
        if name.startswith("BTS_") and name not in names and not _READ_ELSEWHERE.fullmatch(name):
            near = get_close_matches(name, names, n=1)
            told.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ", and is ignored"))
    return told


@cache
def _warn_once(told: str) -> None:
    log.warning("%s", told)


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; `overrides` are what a command line says, and win.

    Raises:
        SettingsError: one line naming the setting, its value and what would do.
    """
    for old, new in RENAMED.items():
        if os.environ.get(old):
            raise SettingsError(f"{old} is now called {new}: rename it")
    for told in unknown_settings(os.environ.keys() - RENAMED.keys()):
        _warn_once(told)
    try:
        settings = Settings(**{k: v for k, v in overrides.items() if v is not None})
        settings.grid  # noqa: B018 - refuses a step, context or horizon that does not make a grid
    except ValidationError as error:
        first = error.errors()[0]
        name = f"BTS_{str(first['loc'][0]).upper()}"
        raise SettingsError(
            f"{name}={first['input']} {first['msg'].removeprefix('Value error, ').replace('Input should', 'should')}"
        ) from None
    except GridError as error:
        raise SettingsError(str(error)) from None
    _check_retention(settings)
    return settings.model_copy(update={"home": settings.home.expanduser().absolute()})


def _check_retention(settings: Settings) -> None:
    kept = settings.observation_retention
    for name in ("context", "training_span"):
        read = getattr(settings, name)
        if kept is not None and read is not None and kept < read:
            raise SettingsError(
                f"BTS_OBSERVATION_RETENTION={format_duration(kept)} is shorter than"
                f" BTS_{name.upper()}={format_duration(read)}, which a night needs: lengthen it, or shorten that"
            )
