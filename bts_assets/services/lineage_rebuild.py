"""What was known at an entry of the ingest ledger, computed anew from the readings of then. Nothing is stored.

The table of observations is not read: late files and corrections may have changed it since.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.errors import BtsError
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel, panel_from_observations
from bts_assets.contracts.progress import OnProgress
from bts_assets.contracts.schemas import UTC_TIME
from bts_assets.forecasting.sampling import drawn_series
from bts_assets.forecasting.windows import take_series
from bts_assets.landing.duplicates import ReadingIds
from bts_assets.landing.series import has_digest
from bts_assets.services.home import Home
from bts_assets.services.memory import readings_at_once
from bts_assets.services.observe import observe_files, stretches
from bts_assets.storage.catalogues import stored_catalogue
from bts_assets.storage.observation_blocks import ALL_STATIONS, Stations
from bts_assets.storage.observations import files_of
from bts_assets.storage.readings import ReadingsMissing

_SERIES: Final = ["station_id", "parameter_id"]
_HEARD: Final = [*_SERIES, "last_observed_at"]


class InputGone(BtsError):
    """What was known then cannot be had any more, or is not what it was."""


@dataclass(frozen=True)
class Known:
    """An input as it was known. catalogue: the one of then, if it was stored; files: how many landing files are behind
    it; heard: station_id, parameter_id and last_observed_at of the series that were silent throughout; notes: what is
    not as it was then, or taken on trust.
    """

    panel: Panel
    catalogue: Catalogue
    files: int
    heard: pd.DataFrame
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Span:
    """[start, end) on a grid, as known at entry `ledger_seq`. `what` was made from it, and recorded the digests.

    most_series, seed: how the series were drawn (`forecasting.sampling`), if they were.
    """

    what: str
    grid: Grid
    start: datetime
    end: datetime
    ledger_seq: int
    digest: str
    catalogue_digest: str
    reading_ids: ReadingIds = "auto"
    most_series: int | None = None
    seed: int = 0

    @property
    def days(self) -> list[date]:
        """The UTC days that it touches."""
        first, last = self.start.date(), (self.end - timedelta(microseconds=1)).date()
        return [first + timedelta(days=k) for k in range((last - first).days + 1)]


@dataclass(frozen=True)
class Alone:
    """One series of a span (station, parameter), and the digest that its batch has of it: the others are not needed."""

    station_id: int
    parameter_id: int
    digest: bytes

    def of(self, rows: pd.DataFrame) -> pd.DataFrame:
        return of_series(rows, (self.station_id, self.parameter_id))


def of_series(rows: pd.DataFrame, series: tuple[int, int]) -> pd.DataFrame:
    """The rows of one series (station, parameter)."""
    return rows[(rows["station_id"] == series[0]) & (rows["parameter_id"] == series[1])]


@dataclass(frozen=True)
class _Made:
    """How observations were made then."""

    home: Home
    span: Span
    catalogue: Catalogue

    def observe(
        self, days: list[date], files: list[dict[str, Any]], stations: Stations | Collection[int] = ALL_STATIONS
    ) -> pd.DataFrame:
        """The observations of neighbouring days, of all stations or of some."""
        mine = [file for file in files if not set(days).isdisjoint(file["days"])]
        span = self.span
        return observe_files(self.home, self.catalogue, span.grid, days, mine, span.reading_ids, stations).observations


def rebuild(
    home: Home,
    span: Span,
    on_progress: OnProgress | None,
    claimed: pd.DataFrame | None = None,
    alone: Alone | None = None,
) -> Known:
    """The panel of a span, or one series of it. A series is in it if it was ever observed before the end, as then.

    `claimed` says when series were last heard of (columns of `Known.heard`); it is believed where the readings that
    could prove it are gone.

    Raises:
        InputGone: if readings within the span are gone, or do not give the observations that the digest is of.
        ReadingsMissing: if a Parquet file is damaged.
    """
    with home.engine.connect() as connection:
        files = files_of(connection, span.days, span.ledger_seq)
        series = connection.execute(_SERIES_KNOWN, {"seq": span.ledger_seq}).all()
        catalogue = stored_catalogue(connection, span.catalogue_digest)
    _check_present(home, span, files)
    made = _Made(home, span, catalogue or home.catalogue)
    parts: list[pd.DataFrame] = []
    done = 0
    stations = ALL_STATIONS if alone is None else {alone.station_id}
    for days in stretches(span.days, files, readings_at_once(home.settings)):
        parts.append(made.observe(days, files, stations))
        done += len(days)
        if on_progress:
            on_progress("observing days", done, len(span.days))
    observations = pd.concat(parts, ignore_index=True)
    observations = alone.of(observations) if alone else observations
    at = observations["observed_at"]
    inside = observations[(at >= span.start) & (at < span.end)]
    known = pd.DataFrame(series, columns=_SERIES).astype({"station_id": "int64", "parameter_id": "int32"})
    known = alone.of(known) if alone else known
    heard, trust = _last_heard(made, _without(known, inside), observations[at < span.start], on_progress, claimed)
    panel = panel_from_observations(inside, span.grid, span.start, span.end, heard)
    drawn = drawn_series(panel.station_id, panel.parameter_id, span.most_series, span.seed)
    panel = panel if drawn.all() else take_series(panel, np.flatnonzero(drawn))
    notes = tuple(note for note in (_catalogue_note(made.catalogue, span), trust) if note)
    same = panel.has_digest(span.digest) if alone is None else panel.series_digests == [alone.digest]
    if not same:
        differs = "its observations are not those of then" if alone else _difference(home, span, observations)
        why = "; ".join((differs, *notes))
        raise InputGone(f"{span.what} cannot be made again: its input differs: {why}")
    return Known(panel, made.catalogue, len(files), heard, notes)


_SERIES_KNOWN: Final = sa.text("SELECT station_id, parameter_id FROM bts.series WHERE first_ledger_seq <= :seq")


def _check_present(home: Home, span: Span, files: list[dict[str, Any]]) -> None:
    digests = [file["digest"] for file in files]
    there = home.readings.sizes(digests)
    gone = [digest for digest in digests if digest not in there]
    if gone:
        raise InputGone(
            f"{span.what} cannot be made again: the readings of {len(gone)} of its {len(files)} landing files are gone,"
            f" among them {_name_of(home, gone[0])}; restore {home.readings.place(gone[0])} from a backup"
        )


def _last_heard(
    made: _Made,
    silent: pd.DataFrame,
    before: pd.DataFrame,
    on_progress: OnProgress | None,
    claimed: pd.DataFrame | None,
) -> tuple[pd.DataFrame, str | None]:
    """When silent series were last observed before the span, looking back from it; without those that never were.

    `before` are the observations of its first day that lie before it.
    """
    home, span = made.home, made.span
    found = [_newest(before, silent)]
    silent = _without(silent, found[0])
    with home.engine.connect() as connection:
        days = list(connection.execute(_DAYS_BEFORE, {"day": span.days[0], "seq": span.ledger_seq}).scalars())
        files = files_of(connection, days, span.ledger_seq) if len(silent) else []
    back = list(stretches(days, files, readings_at_once(home.settings))) if len(silent) else []
    note = None
    with home.engine.connect() as connection:
        pruned = len(silent) and connection.scalar(_PRUNED_BEFORE, {"day": span.days[0], "seq": span.ledger_seq})
    try:
        for done, stretch in enumerate(reversed(back), start=1):
            found.append(_newest(made.observe(stretch, files, set(silent["station_id"].tolist())), silent))
            silent = _without(silent, found[-1])
            if on_progress:
                on_progress("looking back", done, len(back))
            if silent.empty:
                break
    except ReadingsMissing as error:
        if claimed is None:
            raise
        trusted = claimed.merge(silent, on=_SERIES)
        found.append(trusted)
        note = f"when {len(trusted)} silent series were last heard of is taken on trust: {error}"
        return pd.concat(found, ignore_index=True), note
    if pruned and len(silent):
        # A training does not record when they were last observed; the digest of the input proves that they were.
        unknown = silent.assign(last_observed_at=pd.Series(pd.NaT, index=silent.index, dtype=UTC_TIME))
        trusted = unknown if claimed is None else claimed.merge(silent, on=_SERIES)
        found.append(trusted)
        note = f"when {len(trusted)} silent series were last heard of is taken on trust: readings of then were pruned"
    return pd.concat(found, ignore_index=True), note


_PRUNED_BEFORE: Final = sa.text("""
    SELECT EXISTS (SELECT FROM bts.landing_file WHERE pruned_at IS NOT NULL AND ledger_seq <= :seq
                   AND days[1] < CAST(:day AS date))
""")
_DAYS_BEFORE: Final = sa.text("""
    SELECT DISTINCT day FROM bts.landing_file, unnest(days) AS day
    WHERE day < :day AND pruned_at IS NULL AND status <> 'refused' AND ledger_seq <= :seq
      AND (superseded_by IS NULL OR superseded_by > :seq)
    ORDER BY day
""")


def _newest(observations: pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """The newest observation of each of some series, where there is any."""
    mine = observations.merge(series, on=_SERIES)
    return mine.groupby(_SERIES, as_index=False)["observed_at"].max().set_axis(_HEARD, axis=1)


def _without(series: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    gone = pd.MultiIndex.from_frame(others[_SERIES].drop_duplicates())
    return series[~pd.MultiIndex.from_frame(series).isin(gone)]


def _catalogue_note(catalogue: Catalogue, span: Span) -> str | None:
    """A note where a batch is older than the table of catalogues, and its catalogue is not today's."""
    then, now = span.catalogue_digest, catalogue.digest
    return f"the catalogue is not that of then: {then[:12]} then, {now[:12]} now" if then != now else None


def _difference(home: Home, span: Span, observations: pd.DataFrame) -> str:
    """In words, the first day whose observations are not those that were computed then."""
    with home.engine.connect() as connection:
        log = connection.execute(_DAYS_THEN, {"days": span.days, "seq": span.ledger_seq}).mappings().all()
        of_day = {day: files for day in span.days for files in [files_of(connection, [day], span.ledger_seq)]}
    for then in log:
        now = observations[observations["observed_at"].dt.date == then["day"]]
        if has_digest(now, then["digest"]):
            continue
        files = of_day[then["day"]]
        names = (
            f"its {len(files)} landing files, among them {_name_of(home, files[0]['digest'])}" if files else "no file"
        )
        count = f"{len(now)} observations of other values than the {then['observations']} of then"
        return f"the readings of {then['day']} ({names}) give {count}; restore their Parquet files from a backup"
    return "every day's observations are those of then, but not the series or the span"


_DAYS_THEN: Final = sa.text("""
    SELECT DISTINCT ON (day) day, digest::text, observations FROM bts.observed_day
    WHERE day = ANY(CAST(:days AS date[])) AND ledger_seq <= :seq ORDER BY day, ledger_seq DESC
""")


def _name_of(home: Home, digest: str) -> str:
    with home.engine.connect() as connection:
        query = sa.text("SELECT min(path) FROM bts.landing_file WHERE digest = :digest")
        return str(connection.scalar(query, {"digest": digest}))
