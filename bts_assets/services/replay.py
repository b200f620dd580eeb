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
from bts_assets.contracts.errors import BtsError
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.hyperparameters import Hyperparameters, bounds
from bts_assets.contracts.panel import Panel, input_digest
from bts_assets.contracts.quantiles import QUANTILE_COLUMNS
from bts_assets.forecasting.adaptive import Recalibration
from bts_assets.forecasting.batch import Batch, make_batch
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.canary import canary_stations, spliced
from bts_assets.forecasting.fit import fit_bundle
from bts_assets.services.home import Home
from bts_assets.services.lineage_rebuild import Alone, OnProgress, Span, rebuild
from bts_assets.storage.forecasts import is_as_published, read_batch
from bts_assets.storage.provenance import code_version, machine, packages
from bts_assets.storage.recalibrations import read_recalibration

#: The same kind of machine with the same packages gives the same bits. On another a number may differ by so much of its
#: scale: the mean width of its series' 90 % interval in the batch, or a thousandth of itself where that is more.
TOLERANCE: Final = 1e-3

_SERIES: Final = ["station_id", "parameter_id"]
_STEPS: Final = [*_SERIES, "step_ahead", "issued_at", "target_at"]
_LEDGER: Final = ["status", "source", "reason", "last_observed_at", "history_steps", "context_steps", "components"]


class ReplayRefused(BtsError):
    """There is nothing to replay, or nothing to compare it with."""


@dataclass(frozen=True)
class Compared:
    """Forecasts beside the same made again. beyond: how many differ by more than is allowed; largest: the largest
    difference, in scales (see `TOLERANCE`); first: the first that is beyond, in words.
    """

    numbers: int
    differing: int
    beyond: int
    largest: float
    first: str | None


@dataclass(frozen=True)
class Replayed:
    """What making a batch again came to; its input and its model were those of then, or there would be none.

    made: the batch's row. recalibration: as it was applied. differs, first: what does not agree, and the first
    difference in words; None: all agrees.
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
    differs: Literal["forecasts", "ledger"] | None
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
    with home.engine.connect() as connection:
        row = connection.execute(_MADE, {"batch": batch_id}).mappings().first()
        if row is None:
            raise ReplayRefused(f"there is no batch {batch_id}; bts.batch lists them all")
        if row["pruned_at"] is not None:
            raise ReplayRefused(
                f"the forecasts of batch {batch_id} were pruned on {row['pruned_at']:%Y-%m-%d}, being older than"
                " BTS_FORECAST_RETENTION: there is nothing to compare with"
            )
        made = dict(row)
        stored = read_batch(connection, batch_id, series).sort_values([*_SERIES, "step_ahead"], ignore_index=True)
        recalibration = _recalibration(connection, made)
        ledger = pd.DataFrame(connection.execute(_STORED_LEDGER, {"batch": batch_id}).mappings().all())
        alone = _alone(ledger, made, series) if series else None
        intact = _series_intact(stored, ledger, alone) if series else _intact(connection, made)
    listed = _of(series, ledger) if series else ledger
    if stored.empty and (listed["status"] != "excluded").any():
        raise ReplayRefused(f"the forecasts of batch {batch_id} are no longer stored: there is nothing to compare with")
    step = timedelta(seconds=made["step_seconds"])
    span = Span(
        what=f"batch {batch_id}",
        grid=Grid(step, made["issued_at"] - made["input_start"], made["horizon_steps"] * step),
        start=made["input_start"],
        end=made["issued_at"],
        ledger_seq=made["input_ledger_seq"],
        digest=made["observations_digest"],
        catalogue_digest=made["catalogue_digest"],
        reading_ids=made["settings"].get("BTS_READING_IDS", "auto"),
    )
    known = rebuild(home, span, on_progress, ledger[[*_SERIES, "last_observed_at"]].dropna(), alone)
    stations = ledger["station_id"].to_numpy(np.int64)
    bundle = home.models.load(made["bundle_digest"], made["mlflow_model_uri"])
    batch = _forecast(home, made, bundle, known.panel, known.catalogue, recalibration, stations).with_last_heard(
        known.heard
    )
    altered = None if intact else _ALTERED
    rebuilt, entries = batch.to_frame(), batch.ledger
    if series is not None:
        stored, rebuilt, ledger, entries = (_of(series, rows) for rows in (stored, rebuilt, ledger, entries))
        if ledger.empty and entries.empty:
            raise ReplayRefused(f"batch {batch_id} has no series of station {series[0]}, parameter {series[1]}")
    other_kind = _other_kind(made)
    forecasts = compare(stored, rebuilt, exact=other_kind is None)
    ledger_differing, ledger_first = _compare_ledgers(ledger, entries)
    first = "; ".join(words for words in (forecasts.first, altered) if words)
    return Replayed(
        batch_id=batch_id,
        made=made,
        panel=known.panel,
        catalogue=known.catalogue,
        recalibration=recalibration,
        batch=batch,
        files=known.files,
        forecasts=forecasts,
        ledger_rows=len(ledger),
        ledger_differing=ledger_differing,
        differs="forecasts" if first else "ledger" if ledger_first else None,
        first=first or ledger_first,
        other_kind=other_kind,
        notes=(*known.notes, *_code_note(made)),
    )


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


def compare(stored: pd.DataFrame, rebuilt: pd.DataFrame, *, exact: bool) -> Compared:
    """Compare `Forecasts` frames bit for bit, or within the tolerance. A row that only one of them has differs."""
    both = _side_by_side(stored, rebuilt)
    was, now = (
        both[[f"{name}{suffix}" for name in QUANTILE_COLUMNS]].to_numpy(np.float64) for suffix in ("", "_again")
    )
    differing = was.view(np.int64) != now.view(np.int64)
    width = (both["q95"] - both["q05"]).groupby([both[name] for name in _SERIES]).transform("mean").to_numpy()[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.where(differing, np.abs(now - was) / np.maximum(width, np.abs(was) / 1000), 0.0)
    beyond = differing & (exact | ~(apart <= TOLERANCE))
    first = None
    if beyond.any():
        row, column = np.argwhere(beyond)[0]
        first = _in_words(both.iloc[row], QUANTILE_COLUMNS[column])
    largest = float(np.max(apart, initial=0.0, where=np.isfinite(apart)))
    return Compared(differing.size, int(differing.sum()), int(beyond.sum()), largest, first)


def _side_by_side(stored: pd.DataFrame, rebuilt: pd.DataFrame) -> pd.DataFrame:
    """One row per series and step, with the quantiles of both; `_merge` says which of them have it."""
    if all(np.array_equal(stored[name], rebuilt[name]) for name in _STEPS):
        again = rebuilt[list(QUANTILE_COLUMNS)].add_suffix("_again").set_axis(stored.index)
        return pd.concat([stored, again], axis=1).assign(_merge="both")
    return stored.merge(rebuilt, on=_STEPS, how="outer", suffixes=("", "_again"), indicator=True)


_SIDES: Final = {"left_only": "stored, but not rebuilt", "right_only": "rebuilt, but not stored"}


def _in_words(row: pd.Series, column: str) -> str:
    where = (
        f"station {row['station_id']}, parameter {row['parameter_id']}, target {row['target_at']:%Y-%m-%d %H:%M} UTC"
        f" (step {row['step_ahead']})"
    )
    if row["_merge"] != "both":
        return f"{where} is {_SIDES[row['_merge']]}"
    return f"{where}: {column} is stored as {float(row[column])}, rebuilt as {float(row[f'{column}_again'])}"


def _compare_ledgers(stored: pd.DataFrame, rebuilt: pd.DataFrame) -> tuple[int, str | None]:
    """How many rows of the forecast ledger differ, and the first difference in words."""
    both = stored.merge(rebuilt, on=_SERIES, how="outer", suffixes=("", "_again"), indicator=True)
    differing, first = 0, None
    for row in both.to_dict("records"):
        cells = ((name, _plain(row[name]), _plain(row[f"{name}_again"])) for name in _LEDGER)
        words = [f": {name} is stored as {was!r}, rebuilt as {now!r}" for name, was, now in cells if was != now]
        if row["_merge"] != "both":
            words = [f" is {_SIDES[row['_merge']]}"]
        differing += bool(words)
        if words and first is None:
            first = f"the ledger of station {row['station_id']}, parameter {row['parameter_id']}{words[0]}"
    return differing, first


def _plain(cell: Any) -> Any:
    """A cell of the forecast ledger, what is missing as None."""
    return cell if isinstance(cell, dict) else None if pd.isna(cell) else cell


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


def _of(series: tuple[int, int], rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["station_id"] == series[0]) & (rows["parameter_id"] == series[1])]


def _alone(ledger: pd.DataFrame, made: Mapping[str, Any], series: tuple[int, int]) -> Alone | None:
    """One series with the digest that the batch's own is made of; None: its code gave none, or there is no such series.

    Raises:
        ReplayRefused: if the digests of the series are not those that the batch's is made of.
    """
    row = _of(series, ledger)
    if row.empty or row["input_digest"].isna().any():
        return None
    step = timedelta(seconds=made["step_seconds"])
    grid = Grid(step, made["issued_at"] - made["input_start"], made["horizon_steps"] * step)
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
    # Of a batch that does not say by what it was made, its model version does.
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
