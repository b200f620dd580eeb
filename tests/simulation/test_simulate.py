"""The simulated network behaves as its truth says, and its files hold exactly the dirt that was counted."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.files import ParsedFile, parse_landing_file
from bts_assets.landing.reasons import Reason
from bts_assets.simulation.dirt import NO_DIRT, REASONS
from bts_assets.simulation.network import COUNTERS, TRAITS, SimulatedNetwork
from bts_assets.simulation.simulate import (
    Dirt,
    NetworkSpec,
    NetworkTruth,
    SimulationError,
    first_parameters,
    simulate_network,
)

END = datetime(2026, 3, 2, 5, tzinfo=UTC)
NOW = END + timedelta(hours=1)
CATALOGUE = load_catalogue()
MANY_KINDS = Dirt(
    sentinel=0.01,
    out_of_range=0.01,
    **dict.fromkeys(
        (
            "broken_value",
            "broken_time",
            "future_time",
            "ancient_time",
            "broken_id",
            "broken_station",
            "broken_parameter",
            "ragged",
        ),
        0.01,
    ),
    duplicate=0.02,
    repeated=0.02,
    late=0.03,
    out_of_order=0.03,
    copied_files=0.2,
    refused_files=0.2,
    silent_stations=1.0,
    missing_sensors=0.2,
)
CLEAN = NetworkSpec(stations=3, days=2, end=END, seed=3, dirt=NO_DIRT)
DIRTY = NetworkSpec(stations=3, days=1, end=END, seed=5, parameters=(111, 122, 152, 162, 142), dirt=MANY_KINDS)


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> NetworkTruth:
    return simulate_network(DIRTY, tmp_path_factory.mktemp("dirty") / "landing")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> NetworkTruth:
    return simulate_network(CLEAN, tmp_path_factory.mktemp("clean") / "landing")


def clean_readings(truth: NetworkTruth) -> pd.DataFrame:
    names = sorted(truth.landing.glob("*.csv"))
    frame = pd.concat([pd.read_csv(name, parse_dates=["reading_time"]) for name in names], ignore_index=True)
    return frame.assign(reading_time=frame["reading_time"].dt.tz_localize("UTC"))


def digests(folder: Path) -> dict[str, str]:
    return {p.name: sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def oracle_reason(line: list[str]) -> str | None:
    """Why a row must be rejected, told by other means than the parser's."""
    if len(line) != 5:
        return Reason.COLUMNS
    for column, largest, reason in (
        (2, 2**63, Reason.STATION),
        (3, 2**31, Reason.PARAMETER),
    ):
        if not line[column].isdigit() or int(line[column]) >= largest:
            return reason
    try:
        value = float(line[1])
    except ValueError:
        return Reason.VALUE
    parameter = CATALOGUE.of(int(line[3]))
    if not np.isfinite(value):
        return Reason.VALUE
    if value in parameter.sentinels:
        return Reason.SENTINEL
    if not parameter.valid_min <= value <= parameter.valid_max:
        return Reason.RANGE
    try:
        time = datetime.strptime(line[4], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return Reason.TIME
    if time.year < 2000:
        return Reason.ANCIENT
    return Reason.FUTURE if time > NOW else None


def parse(data: bytes) -> ParsedFile:
    return parse_landing_file(data, CATALOGUE, landing_timezone=ZoneInfo("UTC"), now=NOW, max_skew=timedelta(days=1))


@cache
def accepted_lines(path: Path) -> list[tuple[str, ...]]:
    with path.open(newline="") as file:
        return [tuple(line) for line in list(csv.reader(file))[1:] if oracle_reason(line) is None]


def test_truth_counts_equal_an_independent_count_of_the_lines(dirty: NetworkTruth) -> None:
    assert {p.name for p in dirty.landing.iterdir()} == {f.name for f in dirty.files}
    for truth in dirty.files:
        with (dirty.landing / truth.name).open(newline="") as file:
            header, *lines = csv.reader(file)
        assert len(lines) == truth.rows
        if truth.missing_column:
            assert truth.missing_column not in header
            continue
        reasons = Counter(map(oracle_reason, lines))
        kept = reasons.pop(None)
        duplicates = kept - len(set(accepted_lines(dirty.landing / truth.name)))
        assert (dict(reasons), duplicates) == (truth.rejected, truth.duplicates), truth.name
        assert truth.accepted + sum(truth.rejected.values()) + truth.duplicates == truth.rows


def test_every_kind_of_dirt_is_planted(dirty: NetworkTruth) -> None:
    totals = dirty.totals
    assert set(totals["rejected"]) == set(REASONS.values())
    assert min(totals["duplicates"], totals["copied_files"], totals["refused_files"]) > 0
    assert totals["distinct"] < totals["accepted"]


def test_planted_shares_are_those_asked_for(dirty: NetworkTruth) -> None:
    rows, rejected = dirty.totals["rows"], dirty.totals["rejected"]
    for kind, reason in REASONS.items():
        assert rejected[reason] / rows == pytest.approx(getattr(MANY_KINDS, kind), rel=0.25), kind


def test_distinct_readings_are_what_is_left_of_all_files(dirty: NetworkTruth) -> None:
    whole = [f for f in dirty.files if not f.missing_column]
    lines = [line for f in whole for line in accepted_lines(dirty.landing / f.name)]
    assert len(set(lines)) == dirty.totals["distinct"] == len({line[0] for line in lines})


def test_no_reading_is_lost_but_by_planted_dirt(dirty: NetworkTruth, tmp_path: Path) -> None:
    gaps = replace(NO_DIRT, silent_stations=MANY_KINDS.silent_stations, missing_sensors=MANY_KINDS.missing_sensors)
    before = simulate_network(replace(DIRTY, dirt=gaps), tmp_path / "landing")
    refused = {f.name for f in dirty.files if f.missing_column}
    taken = sum(f.rows for f in before.files if f.name not in refused)
    assert taken == dirty.totals["distinct"] + sum(dirty.totals["rejected"].values())


def test_late_rows_lie_in_a_later_file_only(dirty: NetworkTruth) -> None:
    late = 0
    for truth in [f for f in dirty.files if not f.missing_column and not f.copy_of]:
        hour = truth.name.removeprefix("param-").removesuffix("-sim.csv")
        hours = [line[4][:13].replace(" ", "-") for line in accepted_lines(dirty.landing / truth.name)]
        assert max(hours) <= hour
        late += sum(h < hour for h in hours) - truth.repeated
    # Rows of the last hours have no later file to be late in, and a fifth of the files is refused.
    assert 0.4 * MANY_KINDS.late < late / dirty.totals["rows"] < MANY_KINDS.late


def test_rows_out_of_order_stay_in_their_file(tmp_path: Path) -> None:
    share = 0.02
    spec = replace(CLEAN, days=1, dirt=replace(NO_DIRT, out_of_order=share))
    truth = simulate_network(spec, tmp_path / "landing")
    readings = clean_readings(truth)
    back = (readings["id"].diff() < 0).mean()
    assert truth.totals["rows"] == truth.totals["distinct"] == len(readings)
    assert 0.5 * share < back < 2 * share
    hours = readings["reading_time"].dt.floor("h")
    assert hours.is_monotonic_increasing


def test_gaps_are_where_the_truth_says(dirty: NetworkTruth) -> None:
    truth = json.loads((dirty.folder / "truth.json").read_text())
    whole = [f for f in dirty.files if not f.missing_column]
    lines = [line for f in whole for line in accepted_lines(dirty.landing / f.name)]
    gaps = [([str(s)], a, b) for s, a, b in truth["silent_stations"]]
    gaps += [([str(s), str(p)], a, b) for s, p, a, b in truth["missing_sensors"]]
    assert truth["silent_stations"]
    assert truth["missing_sensors"]
    for series, start, end in gaps:
        first, last = (text[:19].replace("T", " ") for text in (start, end))
        assert not [x for x in lines if list(x[2:4])[: len(series)] == series and first <= x[4] < last]


@pytest.mark.parametrize("spec", [DIRTY, replace(DIRTY, days=2, readings_per_hour=7.5)], ids=["a-day", "two-days"])
def test_same_spec_gives_the_same_bytes(spec: NetworkSpec, tmp_path: Path) -> None:
    first, again = (simulate_network(spec, tmp_path / name / "landing") for name in ("first", "again"))
    other = simulate_network(replace(spec, seed=6), tmp_path / "other" / "landing")
    assert digests(first.landing) == digests(again.landing)
    assert digests(first.folder) == digests(again.folder)
    assert digests(first.landing) != digests(other.landing)


def test_clean_network_has_no_dirt_and_ascending_ids(clean: NetworkTruth) -> None:
    readings = clean_readings(clean)
    assert clean.totals["rows"] == clean.totals["distinct"] == len(readings)
    assert readings["id"].is_monotonic_increasing
    assert readings["id"].is_unique
    assert readings["reading_time"].is_monotonic_increasing
    assert readings["reading_time"].min() >= CLEAN.start
    assert readings["reading_time"].max() < CLEAN.end


def test_readings_scatter_around_the_truth_as_the_noise_says(clean: NetworkTruth) -> None:
    readings = clean_readings(clean)
    minutes = replace(CLEAN, truth_step=timedelta(minutes=1))
    truth = pd.read_parquet(simulate_network(minutes, clean.landing.with_name("minutes")).folder / "truth.parquet")
    readings["observed_at"] = readings["reading_time"].dt.floor("min").astype(truth["observed_at"].dtype)
    both = readings.merge(truth, on=["station_id", "parameter_id", "observed_at"], validate="many_to_one")
    assert len(both) == len(readings)
    both = both[both["value_y"] != 0]
    for parameter_id, rows in both.groupby("parameter_id"):
        traits = TRAITS[int(parameter_id)]
        error = rows["value_x"] - rows["value_y"]
        if parameter_id in COUNTERS:
            assert error.between(-(10**-traits.decimals), 1e-9).all()
        elif traits.threshold is None:
            assert error.std() == pytest.approx(traits.noise, rel=0.05), parameter_id
            assert abs(error.mean()) < 0.05 * traits.noise


def test_step_truth_aggregates_as_the_catalogue_says(clean: NetworkTruth) -> None:
    truth = pd.read_parquet(clean.folder / "truth.parquet").set_index(["station_id", "parameter_id", "observed_at"])
    network = SimulatedNetwork(CLEAN.stations, CLEAN.hours * 60, int(CLEAN.start.timestamp()) // 60, CLEAN.seed)
    minutes = next(network.chunks(CLEAN.hours * 60)).signals
    assert len(truth) == CLEAN.stations * len(CLEAN.parameters) * CLEAN.hours * 4
    expected: dict[int, Callable[[np.ndarray], float]] = {111: np.mean, 152: np.max, 162: lambda x: x[-1]}
    for parameter_id, aggregate in expected.items():
        for step in (0, 70, 191):
            value = truth.loc[
                (network.station_id[1], parameter_id, CLEAN.start + step * timedelta(minutes=15)), "value"
            ]
            assert value == pytest.approx(aggregate(minutes[parameter_id][1, step * 15 : step * 15 + 15]))


def test_chunks_join_without_a_seam() -> None:
    whole, pieces = (SimulatedNetwork(30, 2880, 29_000_000, 9) for _ in range(2))
    at_once = next(whole.chunks(2880)).signals
    joined = list(pieces.chunks(180))
    for parameter_id, signal in at_once.items():
        np.testing.assert_allclose(np.hstack([c.signals[parameter_id] for c in joined]), signal, atol=1e-6)


def test_signals_stay_within_the_valid_range_with_room_for_noise() -> None:
    for seed in range(3):
        signals = next(SimulatedNetwork(20, 14 * 1440, 29_000_000, seed).chunks(14 * 1440)).signals
        for parameter in CATALOGUE:
            signal, margin = signals[parameter.parameter_id], 4 * TRAITS[parameter.parameter_id].noise
            running = signal[signal != 0]
            assert running.min(initial=parameter.valid_max) - margin >= parameter.valid_min, parameter
            assert running.max(initial=parameter.valid_min) + margin <= parameter.valid_max, parameter


def test_day_and_week_repeat() -> None:
    signals = next(SimulatedNetwork(12, 28 * 1440, 29_000_000, 2).chunks(28 * 1440)).signals
    hourly = {p: signals[p].reshape(12, -1, 60).mean(axis=2) for p in (111, 114, 115, 121, 122)}
    rng = np.random.default_rng(0)
    for parameter_id, hours in hourly.items():
        shuffled = hours[:, rng.permutation(hours.shape[1])]
        # The median: an outage is no rhythm.
        naive, chance = (np.median(np.abs(x[:, 24:] - x[:, :-24])) for x in (hours, shuffled))
        assert naive < 0.75 * chance, parameter_id
    load = hourly[122]
    day, week = (np.median(np.abs(load[:, 168:] - load[:, 168 - lag : -lag])) for lag in (24, 168))
    assert week < day
    days = np.median(load.reshape(12, 4, 7, 24), axis=(1, 3))
    weekend = np.argsort(days, axis=1)[:, :2]
    assert (np.sort(weekend, axis=1) == np.sort(weekend[0])).all()


def test_neighbours_share_their_weather_and_distant_stations_do_not() -> None:
    near, far = [], []
    for seed in range(3):
        network = SimulatedNetwork(12, 28 * 1440, 29_000_000, seed)
        outdoor = next(network.chunks(28 * 1440)).signals[114][:, ::60].reshape(12, 28, 24)
        weather = (outdoor - outdoor.mean(axis=1, keepdims=True)).reshape(12, -1)
        correlation = np.corrcoef(weather)
        same = network.region[:, None] == network.region
        near.append(correlation[same & ~np.eye(12, dtype=bool)].mean())
        far.append(correlation[~same].mean())
    assert np.mean(near) > 0.8
    assert np.mean(far) < 0.3


def test_counters_fall_at_resets_only(tmp_path: Path) -> None:
    spec = NetworkSpec(6, 20, END, 1, parameters=COUNTERS, readings_per_hour=6, dirt=NO_DIRT)
    truth = simulate_network(spec, tmp_path / "landing")
    resets = json.loads((truth.folder / "truth.json").read_text())["counter_resets"]
    readings = clean_readings(truth).sort_values(["station_id", "parameter_id", "reading_time"])
    previous = readings.groupby(["station_id", "parameter_id"]).shift()
    fallen = readings.assign(before=previous["reading_time"])[readings["value"] < previous["value"]]
    shown = set()
    for row in fallen.itertuples():
        here = [pd.Timestamp(at) for s, p, at, _ in resets if (s, p) == (row.station_id, row.parameter_id)]
        assert any(row.before < at + timedelta(minutes=1) and at <= row.reading_time for at in here), row
        shown.add((row.station_id, row.parameter_id))
    # A generator that has not run since its counter's last reset has nothing to lose; air conditioners always have.
    assert shown >= {(s, p) for s, p, *_ in resets if p != 165} != set()
    assert readings.groupby("parameter_id")["value"].agg(np.ptp).min() > 0


def test_outage_stops_the_grid_drains_the_battery_and_starts_the_generator() -> None:
    network = SimulatedNetwork(40, 7 * 1440, 29_000_000, 4)
    signals = next(network.chunks(7 * 1440)).signals
    outage = network.outages.mask(40, 0, 7 * 1440)
    running = signals[126] > 0
    assert outage.any()
    assert ((signals[121] == 0) == outage).all()
    assert ((signals[122] == 0) == outage).all()
    assert running.any()
    assert (outage | ~running).all()
    dark = outage & ~running
    assert signals[141][dark].max() < signals[141][~dark].min() + 1.5
    assert signals[142][dark].max() < 0
    assert signals[161][dark].mean() < signals[161][~dark].mean()


def test_event_driven_sensor_reports_changes_bursts_and_heartbeats(clean: NetworkTruth) -> None:
    readings = clean_readings(clean)
    load = readings[(readings["parameter_id"] == 122) & (readings["station_id"] == 1161114001)]
    same_second = load[load.duplicated("reading_time", keep=False)]
    assert len(same_second) > 50
    assert same_second["id"].is_unique
    assert (load["value"].diff().abs().dropna() <= 6).all()
    assert (load["value"].diff() != 0).mean() > 0.8
    assert load["reading_time"].diff().max() < timedelta(minutes=15)
    room = readings[(readings["parameter_id"] == 111) & (readings["station_id"] == 1161114001)]
    assert len(room) == CLEAN.hours * 30
    assert room["reading_time"].diff().dropna().dt.total_seconds().between(60, 180).all()


def test_landing_parser_finds_exactly_the_planted_dirt(dirty: NetworkTruth) -> None:
    for truth in dirty.files:
        data = (dirty.landing / truth.name).read_bytes()
        if truth.missing_column:
            with pytest.raises(LandingFileRefused, match=f"'{truth.missing_column}' is missing"):
                parse(data)
            continue
        parsed = parse(data)
        assert (parsed.accepted, parsed.reasons, parsed.duplicates) == (
            truth.accepted,
            truth.rejected,
            truth.duplicates,
        )


def test_stations_are_listed_beside_the_truth(clean: NetworkTruth) -> None:
    stations = pd.read_csv(clean.folder / "stations.csv")
    assert list(stations) == ["station_id", "name", "region", "latitude", "longitude", "timezone", "in_service_since"]
    assert set(stations["station_id"]) == set(clean_readings(clean)["station_id"])
    assert (pd.to_datetime(stations["in_service_since"]).dt.tz_localize("UTC") < CLEAN.start).all()


def test_progress_is_told_hour_by_hour(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    spec = replace(CLEAN, days=1, readings_per_hour=4.0)
    simulate_network(spec, tmp_path / "landing", on_progress=lambda done, of: told.append((done, of)))
    assert told == [(i, 24) for i in range(1, 25)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stations": 0}, "at least 1"),
        ({"end": datetime(2026, 3, 1, 5, 30, tzinfo=UTC)}, "whole hour"),
        ({"parameters": (111, 7)}, "parameters must be"),
        ({"truth_step": timedelta(minutes=7)}, "divide an hour"),
    ],
    ids=["no-stations", "half-an-hour", "unknown-parameter", "odd-step"],
)
def test_impossible_network_is_refused_in_one_line(change: dict, said: str) -> None:
    with pytest.raises(SimulationError, match=said) as refusal:
        replace(CLEAN, **change)
    assert "\n" not in str(refusal.value)


def test_station_has_as_many_parameters_as_asked() -> None:
    assert first_parameters(15) == NetworkSpec(1, 1, END, 1).parameters
    assert sorted(first_parameters(len(TRAITS))) == sorted(TRAITS)
    for count in (0, len(TRAITS) + 1):
        with pytest.raises(SimulationError, match=f"1 to {len(TRAITS)} parameters, not {count}"):
            first_parameters(count)


def test_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / "mine.csv").write_text("mine")
    with pytest.raises(SimulationError, match="not empty"):
        simulate_network(CLEAN, tmp_path / "landing")
    with pytest.raises(SimulationError, match="among the landing files"):
        simulate_network(CLEAN, tmp_path / "other", truth=tmp_path / "other" / "truth")
