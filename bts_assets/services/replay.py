"""A batch made again from the ledger alone, and compared with what was stored, number by number. It stores nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.digests import series_digests
from bts_assets.contracts.errors import BtsError, UsageError
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.hyperparameters import Hyperparameters, bounds
from bts_assets.contracts.panel import Panel, input_digest
from bts_assets.contracts.quantiles import QUANTILE_COLUMNS
from bts_assets.forecasting.batch import Batch, make_batch
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.canary import canary_stations, spliced
from bts_assets.forecasting.comparison import Compared, compare, compare_ledgers
from bts_assets.forecasting.fit import fit_bundle
from bts_assets.forecasting.recalibration import Recalibration
from bts_assets.services.breach_replay import ComparedBreaches, replay_breaches
from bts_assets.services.home import Home
from bts_assets.services.lineage_rebuild import Alone, OnProgress, Span, of_series, rebuild
from bts_assets.storage.forecasts import is_as_published, read_batch
from bts_assets.storage.provenance import code_version, machine, packages
from bts_assets.storage.recalibrations import read_recalibration

_SERIES: Final = ["station_id", "parameter_id"]


class ReplayRefused(BtsError):
    """There is nothing to replay, or nothing to compare it with."""


@dataclass(frozen=True)
class Replayed:
    """What making a batch again came to; its input and its model were those of then, or there would be none.

    made: the batch's row. recalibration: as it was applied. breaches: those that it foresaw. differs, first: what does
    not agree, and the first difference in words; None: all agrees.
    other_kind: how machine and packages differ from those of then; None: not at all. notes: what else is not as then.
    """

    batch_id: int
    made: Mapping[str, Any]
    panel: Panel
    catalogue: Catalogue
    recalibration: Recalibration | None
    batch: Batch
    files: int
    forecasts: Compared
    ledger_rows: int
    ledger_differing: int
    breaches: ComparedBreaches
    differs: Literal["forecasts", "ledger", "breaches"] | None
    first: str | None
    other_kind: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Retrained:
    """A model version trained again. same: its digest is; forecasts: of the replayed batch, beside those of then.

    agrees: it is the same or, on another kind of machine, forecasts the same within the tolerance.
    """

    model_version_id: int
    digest: str
    same: bool
    agrees: bool
    forecasts: Compared


def batch_served(home: Home, seen_at: datetime | None = None) -> int:
    """The batch that served at an instant, as `bts.forecast_as_of` has it; by default now.

    Raises:
        ReplayRefused: if none did.
    """
    with home.engine.connect() as connection:
        batch_id: int | None = connection.scalar(_SERVED, {"seen_at": seen_at})
    if batch_id is None:
        raise ReplayRefused(f"nothing had been published by {seen_at}" if seen_at else "nothing was published yet")
    return batch_id


def replay(
    home: Home, batch_id: int, series: tuple[int, int] | None = None, on_progress: OnProgress | None = None
) -> Replayed:
    """Make a batch again and compare it with what is stored: all of it, or one series (station, parameter).

    Raises:
        ReplayRefused: if there is no such batch or series, its forecasts are no longer stored, or its recalibration is
            not what it was.
        InputGone: if readings that it was made from are gone or altered.
        ModelStoreError: if its model version is gone or altered.
    """
    stored = _stored(home, batch_id, series)
    made = stored.made
    known = rebuild(home, _span(made), on_progress, stored.every[[*_SERIES, "last_observed_at"]].dropna(), stored.alone)
    bundle = home.models.load(made["bundle_digest"], made["mlflow_model_uri"])
    stations = stored.every["station_id"].to_numpy(np.int64)
    batch = _forecast(home, made, bundle, known.panel, known.catalogue, stored.recalibration, stations)
    batch = batch.with_last_heard(known.heard)
    forecasts, entries = (_of(series, rows) for rows in (batch.to_frame(), batch.ledger))
    if stored.ledger.empty and entries.empty:
        station, parameter = series or (None, None)
        raise UsageError(f"batch {batch_id} has no series of station {station}, parameter {parameter}")
    other_kind = _other_kind(made)
    compared = compare(stored.forecasts, forecasts, exact=other_kind is None)
    ledger_differing, ledger_first = compare_ledgers(stored.ledger, entries)
    with home.engine.connect() as connection:
        breaches = replay_breaches(
            connection, made, batch, known.panel, known.catalogue, series, exact=other_kind is None
        )
    first = "; ".join(words for words in (compared.first, None if stored.intact else _ALTERED) if words)
    return Replayed(
        batch_id=batch_id,
        made=made,
        panel=known.panel,
        catalogue=known.catalogue,
        recalibration=stored.recalibration,
        batch=batch,
        files=known.files,
        forecasts=compared,
        ledger_rows=len(stored.ledger),
        ledger_differing=ledger_differing,
        breaches=breaches,
        differs="forecasts" if first else "ledger" if ledger_first else "breaches" if breaches.first else None,
        first=first or ledger_first or breaches.first,
        other_kind=other_kind,
        notes=(*known.notes, *_code_note(made)),
    )


@dataclass(frozen=True)
class _Stored:
    """A batch, or one series of it, as it is stored. every: the ledger of all its series; alone: the series by itself,
    if its digests allow; intact: it is what was published.
    """

    made: Mapping[str, Any]
    forecasts: pd.DataFrame
    ledger: pd.DataFrame
    every: pd.DataFrame
    recalibration: Recalibration | None
    alone: Alone | None
    intact: bool


def _stored(home: Home, batch_id: int, series: tuple[int, int] | None) -> _Stored:
    with home.engine.connect() as connection:
        row = connection.execute(_MADE, {"batch": batch_id}).mappings().first()
        if row is None:
            raise UsageError(f"there is no batch {batch_id}; bts.batch lists them all")
        if row["pruned_at"] is not None:
            raise ReplayRefused(
                f"the forecasts of batch {batch_id} were pruned on {row['pruned_at']:%Y-%m-%d}, being older than"
                " BTS_FORECAST_RETENTION: there is nothing to compare with"
            )
        made = dict(row)
        forecasts = read_batch(connection, batch_id, series).sort_values([*_SERIES, "step_ahead"], ignore_index=True)
        recalibration = _recalibration(connection, made)
        every = pd.DataFrame(connection.execute(_STORED_LEDGER, {"batch": batch_id}).mappings().all())
        alone = _alone(every, made, series) if series else None
        intact = _series_intact(forecasts, every, alone) if series else _intact(connection, made)
    ledger = _of(series, every)
    if forecasts.empty and (ledger["status"] != "excluded").any():
        raise ReplayRefused(f"the forecasts of batch {batch_id} are no longer stored: there is nothing to compare with")
    return _Stored(made, forecasts, ledger, every, recalibration, alone, intact)


def _span(made: Mapping[str, Any]) -> Span:
    """What a batch was made from."""
    return Span(
        what=f"batch {made['batch_id']}",
        grid=_grid(made),
        start=made["input_start"],
        end=made["issued_at"],
        ledger_seq=made["input_ledger_seq"],
        digest=made["observations_digest"],
        catalogue_digest=made["catalogue_digest"],
        reading_ids=made["settings"].get("BTS_READING_IDS", "auto"),
    )


def _grid(made: Mapping[str, Any]) -> Grid:
    step = timedelta(seconds=made["step_seconds"])
    return Grid(step, made["issued_at"] - made["input_start"], made["horizon_steps"] * step)


def retrain(home: Home, replayed: Replayed, on_progress: OnProgress | None = None) -> Retrained:
    """Train the model version of a replayed batch again, from its own lineage, and forecast the batch with it.

    Raises:
        ReplayRefused: if its training was cut short by the clock.
        InputGone: if readings that it was trained on are gone or altered.
    """
    number = replayed.made["model_version_id"]
    with home.engine.connect() as connection:
        version = connection.execute(_VERSION, {"version": number}).mappings().one()
    if version["truncated"]:
        raise ReplayRefused(f"training of model version {number} was cut short by the clock: it cannot be repeated")
    span = Span(
        what=f"model version {number}",
        grid=Grid(*(timedelta(seconds=version[f"{name}_seconds"]) for name in ("step", "context", "horizon"))),
        start=version["training_start"],
        end=version["training_end"],
        ledger_seq=version["training_ledger_seq"],
        digest=version["observations_digest"],
        catalogue_digest=version["catalogue_digest"],
        reading_ids=version["settings"].get("BTS_READING_IDS", "auto"),
        most_series=version["training_series"],
        seed=version["seed"],
    )
    known = rebuild(home, span, on_progress)
    settings = version["settings"]
    fitted = fit_bundle(
        known.panel,
        known.catalogue,
        effort=version["effort"],
        seed=version["seed"],
        zone=ZoneInfo(settings["BTS_TIMEZONE"]),
        hyperparameters=_hyperparameters(settings),
        statistical_max_series=int(settings.get("BTS_STATISTICAL_MAX_SERIES", 0)),
        on_progress=on_progress,
    )
    again = _forecast(home, replayed.made, fitted.bundle, replayed.panel, replayed.catalogue, replayed.recalibration)
    forecasts = compare(replayed.batch.to_frame(), again.to_frame(), exact=replayed.other_kind is None)
    digest, same = fitted.bundle.digest, fitted.bundle.digest == version["bundle_digest"]
    return Retrained(
        number, digest, same, same or (replayed.other_kind is not None and not forecasts.beyond), forecasts
    )


_SERVED: Final = sa.text("""
    SELECT batch_id FROM bts.publication
    WHERE serves_latest AND published_at <= coalesce(CAST(:seen_at AS timestamptz), now())
    ORDER BY publication_seq DESC LIMIT 1
""")
_MADE: Final = sa.text("""
    SELECT b.*, v.bundle_digest, v.mlflow_model_uri, v.packages AS training_packages, v.machine AS training_machine,
           c.bundle_digest AS canary_digest, c.mlflow_model_uri AS canary_uri
    FROM bts.batch AS b JOIN bts.model_version AS v USING (model_version_id)
    LEFT JOIN bts.model_version AS c ON c.model_version_id = b.canary_version_id WHERE b.batch_id = :batch
""")
_STORED_LEDGER: Final = sa.text("SELECT * FROM bts.forecast_ledger WHERE batch_id = :batch")
_VERSION: Final = sa.text("SELECT * FROM bts.model_version WHERE model_version_id = :version")


def _recalibration(connection: sa.Connection, made: Mapping[str, Any]) -> Recalibration | None:
    """What was applied to a batch: as it is stored, whatever later nights or later observations would say."""
    stored = read_recalibration(connection, made["batch_id"])
    if (stored.digest if stored else None) != made["recalibration_digest"]:
        raise ReplayRefused(
            f"the recalibration of batch {made['batch_id']} was deleted or altered (bts.recalibration): its forecasts"
            " cannot be made again"
        )
    return stored


def _forecast(
    home: Home,
    made: Mapping[str, Any],
    bundle: Bundle,
    panel: Panel,
    catalogue: Catalogue,
    recalibration: Recalibration | None,
    every_station: np.ndarray | None = None,
) -> Batch:
    """The batch of a version; with the forecasts of the challenger that served some stations of it, if one did."""
    batch = make_batch(bundle, panel, catalogue, recalibration=recalibration)
    if made["canary_digest"] is None:
        return batch
    challenger = home.models.load(made["canary_digest"], made["canary_uri"])
    known = panel.station_id if every_station is None else every_station
    stations = canary_stations(known, made["canary_digest"], made["canary_share"])
    return spliced(batch, make_batch(challenger, panel, catalogue, recalibration=recalibration), stations)


def _of(series: tuple[int, int] | None, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one series, or all."""
    if series is None:
        return rows
    return of_series(rows, series)


def _alone(ledger: pd.DataFrame, made: Mapping[str, Any], series: tuple[int, int]) -> Alone | None:
    """One series with the digest that the batch's own is made of; None: its code gave none, or there is no such series.

    Raises:
        ReplayRefused: if the digests of the series are not those that the batch's is made of.
    """
    row = _of(series, ledger)
    if row.empty or row["input_digest"].isna().any():
        return None
    grid = _grid(made)
    ordered = ledger.sort_values(_SERIES)["input_digest"]
    every = input_digest(grid, made["issued_at"].astimezone(UTC), grid.context_steps, map(bytes, ordered))
    if every != made["observations_digest"]:
        raise ReplayRefused(f"the digests in the forecast ledger of batch {made['batch_id']} were altered")
    return Alone(*series, bytes(row["input_digest"].iloc[0]))


def _series_intact(stored: pd.DataFrame, ledger: pd.DataFrame, alone: Alone | None) -> bool:
    """Whether what is stored of one series is what was published, as far as its ledger row can tell."""
    if alone is None:
        return True
    told = alone.of(ledger)["forecast_digest"].iloc[0]
    if stored.empty or told is None:
        return stored.empty and told is None
    first, numbers = stored.iloc[:1], stored[list(QUANTILE_COLUMNS)].to_numpy()[None]
    return series_digests(first["station_id"].to_numpy(), first["parameter_id"].to_numpy(), numbers) == [bytes(told)]


_ALTERED: Final = "the stored rows are not those that were published: their digest is another"


def _intact(connection: sa.Connection, made: Mapping[str, Any]) -> bool:
    """Whether what is stored is what was published, which the digest of then knows on any machine."""
    names = ("batch_id", "issued_at", "horizon_steps", "forecasts_digest")
    return is_as_published(connection, *(made[name] for name in names))


def _other_kind(made: Mapping[str, Any]) -> str | None:
    """How the machine and the packages here differ from those of then, in words."""
    # Where a batch does not record what it was made by, its model version does.
    then = {name: made.get(name) or made[f"training_{name}"] for name in ("machine", "packages")}
    now = machine() | packages()
    changed = [
        f"{name} {was} then, {now.get(name)} now"
        for name, was in (then["machine"] | then["packages"]).items()
        if was != now.get(name)
    ]
    return ", ".join(changed) or None


def _code_note(made: Mapping[str, Any]) -> tuple[str, ...]:
    then, now = made["code_version"], code_version()
    return (f"the code is not that of then: {then} then, {now} now",) if then != now else ()


def _hyperparameters(settings: Mapping[str, str]) -> Hyperparameters:
    """As the settings of then have them; one that there was none of yet has its default."""
    names = {name: f"BTS_LSTM_{name.upper()}" for name in bounds()}
    given = {n: type(getattr(Hyperparameters, n))(settings[key]) for n, key in names.items() if key in settings}
    return Hyperparameters(**given)
