"""Digests from before series and stations had their own: what was stored under them is still known by them."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, timedelta
from pathlib import Path

import numpy as np
import pytest
from small_nights import GRID, SMALL, rows_of, write
from walked_nights import Walk, land, origin_of, pooling_bundle, readings, walk, write_day

from bts_assets.contracts.grid import DAY
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import QUANTILE_COLUMNS
from bts_assets.services import memory
from bts_assets.services.home import Home, open_home
from bts_assets.services.observe import compute_due_days
from bts_assets.services.replay import replay
from bts_assets.services.verify import verify
from bts_assets.settings import load_settings
from bts_assets.storage.forecasts import read_batch
from bts_assets.storage.observations import midnight_of, read_observations


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Walk]:
    folder = tmp_path_factory.mktemp("old")
    settings = load_settings(home=folder / "home", database_url=new_database(), file_stable_for=timedelta(0), **SMALL)
    home = open_home(settings)
    yield walk(home, folder / "landing", pooling_bundle())
    home.engine.dispose()


def of_panel(panel: Panel) -> str:
    """As `panel 1` had it: all ids, then all values."""
    digest = hashlib.sha256(f"panel 1 {GRID.step} {panel.end.isoformat()} {panel.steps}".encode())
    for numbers, dtype in ((panel.station_id, "<i8"), (panel.parameter_id, "<i4"), (panel.values, "<f8")):
        digest.update(np.ascontiguousarray(numbers, dtype=dtype).data)
    return digest.hexdigest()


def of_forecasts(home: Home, batch_id: int, night: int) -> str:
    with home.engine.connect() as connection:
        rows = read_batch(connection, batch_id).sort_values(["station_id", "parameter_id", "step_ahead"])
    digest = hashlib.sha256(origin_of(night).astimezone(UTC).isoformat().encode())
    for name in ("station_id", "parameter_id"):
        digest.update(np.ascontiguousarray(rows[name].to_numpy()[:: GRID.horizon_steps]).data)
    digest.update(np.ascontiguousarray(rows[list(QUANTILE_COLUMNS)].to_numpy()).data)
    return digest.hexdigest()


def of_day(home: Home, night: int) -> str:
    start = midnight_of(origin_of(night).date())
    with home.engine.connect() as connection:
        rows = read_observations(connection, start, start + DAY)
    rows = rows.sort_values(["station_id", "parameter_id", "observed_at"])
    time = rows["observed_at"].dt.tz_localize(None).to_numpy("M8[us]").view("int64")
    digest = hashlib.sha256(b"observations 1\n")
    for numbers in (rows["station_id"], rows["parameter_id"].astype("int64"), time, rows["value"] + 0.0):
        digest.update(np.ascontiguousarray(numbers).data)
    digest.update(np.ascontiguousarray(rows["readings"].astype("int64")).data)
    return digest.hexdigest()


def test_what_older_code_stored_is_verified_and_replayed(walked: Walk) -> None:
    # The walk's last corrections came after its last night: that one's input is as it stands.
    home, night, batch_id = walked.home, 5, walked.batches[5]
    old = {"b": batch_id, "forecasts": of_forecasts(home, batch_id, night), "day": origin_of(4).date()}
    with home.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE bts.batch SET forecasts_digest = %(forecasts)s WHERE batch_id = %(b)s", old)
        connection.exec_driver_sql(
            "UPDATE bts.observed_day SET digest = %(d)s WHERE day = %(day)s",
            {
                "d": of_day(home, 4),
                "day": origin_of(4).date(),
            },
        )
    assert not [wrong for found in verify(home) for wrong in found.wrong]
    assert replay(home, batch_id).differs is None


def test_input_of_older_code_is_replayed(walked: Walk) -> None:
    home, batch_id = walked.home, walked.batches[0]
    digest = of_panel(replay(home, batch_id).panel)
    with home.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE bts.batch SET observations_digest = %(d)s WHERE batch_id = %(b)s", {"d": digest, "b": batch_id}
        )
    assert replay(home, batch_id).differs is None


def test_days_are_the_same_however_many_readings_are_held_at_once(
    walked: Walk, new_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = []
    for number, at_once in enumerate((4_000_000, 100)):
        settings = load_settings(
            home=tmp_path / str(number), database_url=new_database(), file_stable_for=timedelta(0), **SMALL
        )
        home = open_home(settings)
        for night in (0, 1):
            write_day(tmp_path / "landing", night)
        write(tmp_path / "landing", "noon.csv", *readings(origin_of(0), 9, range(9, 12)))
        land(home, tmp_path / "landing", origin_of(1))
        with monkeypatch.context() as patch:
            patch.setattr(memory, "_READINGS", (at_once, at_once))
            report = compute_due_days(home)
        assert report.days == 3
        homes.append((home, report))
    names = "day, digest, observations, readings, first_observed_at, last_observed_at, repeated, ids_ignored"
    logs = [rows_of(home, f"SELECT {names} FROM bts.observed_day ORDER BY day") for home, _ in homes]
    rows = [
        rows_of(h, "SELECT * FROM bts.observation_block ORDER BY starts_at, station_id, parameter_id") for h, _ in homes
    ]
    assert logs[0] == logs[1]
    assert rows[0] == rows[1]
    assert homes[0][1] == homes[1][1]
    for home, _ in homes:
        home.engine.dispose()
