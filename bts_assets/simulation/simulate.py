"""Writes landing files of a simulated network, and its truth beside them: readings, dirt and what they must add up to.

The signals behind the readings are `network.py`'s; how dirt is planted is `dirt.py`'s.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from bts_assets.contracts.catalogue import Catalogue, load_catalogue
from bts_assets.contracts.grid import DAY
from bts_assets.landing.reading_arrays import ReadingArrays
from bts_assets.simulation.dirt import Dirt, FileTruth, Soiler
from bts_assets.simulation.faults import FaultySensors
from bts_assets.simulation.network import COUNTERS, REGIONS, STATION_TIMEZONE, TRAITS, Chunk, Events, SimulatedNetwork
from bts_assets.simulation.readings import (
    HOUR,
    MINUTE,
    Gaps,
    NetworkSpec,
    SimulationError,
    clean_readings,
    first_parameters,
)

__all__ = ["Dirt", "NetworkSpec", "NetworkTruth", "SimulationError", "first_parameters", "simulate_network"]

FIRST_READING_ID: Final = 5_651_388_106
READINGS_PER_CHUNK: Final = 2_000_000


@dataclass(frozen=True)
class NetworkTruth:
    """What the simulated files hold. `folder` has truth.json, truth.parquet and stations.csv."""

    spec: NetworkSpec
    landing: Path
    folder: Path
    files: tuple[FileTruth, ...]

    @cached_property
    def totals(self) -> dict[str, Any]:
        """Over files that are neither copies nor refused; `distinct` readings are left once repeats are collapsed."""
        counted = [f for f in self.files if f.copy_of is None and f.missing_column is None]
        rejected: Counter[str] = Counter()
        for file in counted:
            rejected.update(file.rejected)
        return {
            "files": len(self.files),
            "copied_files": sum(f.copy_of is not None for f in self.files),
            "refused_files": sum(f.missing_column is not None for f in self.files),
            "rows": sum(f.rows for f in counted),
            "accepted": sum(f.accepted for f in counted),
            "rejected": dict(sorted(rejected.items())),
            "duplicates": sum(f.duplicates for f in counted),
            "distinct": sum(f.accepted - f.repeated for f in counted),
        }


def simulate_network(
    spec: NetworkSpec,
    out: Path,
    *,
    truth: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> NetworkTruth:
    """Write one landing file per hour into `out`, and the truth into `truth` (default: `out` with `-truth` added).

    The same spec gives the same bytes. Memory is bounded by `READINGS_PER_CHUNK` and one hour, not by the span.
    `on_progress` hears of hours done and hours in all.

    truth.parquet holds, per series and `spec.truth_step`, the noiseless value aggregated as the catalogue says
    (station_id, parameter_id, observed_at, value): outages, weather and switching as they happened, without noise,
    dirt and gaps. Event-driven sensors do not sample time evenly, so the mean of their readings differs from it even
    without noise. truth.json holds the spec, the files' counts, the noise and the times of what happened.

    Raises:
        SimulationError: if either folder has files in it, or the truth would lie among the landing files.
    """
    folder = out.with_name(out.name + "-truth") if truth is None else truth
    _make_folders(out, folder)
    catalogue = load_catalogue()
    network = SimulatedNetwork(
        spec.stations, spec.hours * 60, int(spec.start.timestamp()) // 60, spec.seed, spec.steady, spec.faults
    )
    gaps = Gaps(spec, network)
    sensors = FaultySensors(spec.faults, network.station_id, int(spec.start.timestamp()) * 10**6)
    soiler = Soiler(spec.dirt, spec.hours, spec.seed, catalogue)
    per_hour = spec.stations * len(spec.parameters) * spec.readings_per_hour
    chunk_hours = int(np.clip(READINGS_PER_CHUNK // per_hour, 1, 24))
    files: list[FileTruth] = []
    next_id = FIRST_READING_ID
    with parquet.ParquetWriter(folder / "truth.parquet", _TRUTH_SCHEMA, compression="zstd") as steps:
        for chunk in network.chunks(chunk_hours * 60):
            steps.write_table(_step_truth(chunk, spec, network, catalogue))
            readings = sensors.report(clean_readings(chunk, spec, network, gaps, catalogue, next_id))
            next_id = int(readings.reading_id[-1]) + 1 if len(readings) else next_id
            for hour, rows in _by_hour(readings, chunk, spec):
                files += _write_hour(soiler, hour, rows, spec, out)
                if on_progress:
                    on_progress(hour + 1, spec.hours)
    result = NetworkTruth(spec, out, folder, tuple(files))
    _write_json(result, network, gaps)
    _write_stations(folder / "stations.csv", network, spec.start)
    return result


def _make_folders(out: Path, truth: Path) -> None:
    if truth.absolute().is_relative_to(out.absolute()):
        raise SimulationError(f"the truth {truth} would lie among the landing files of {out}; give another folder")
    for folder in (out, truth):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise SimulationError(f"{folder} is not empty; give an empty folder, or remove its files first")


def _by_hour(readings: ReadingArrays, chunk: Chunk, spec: NetworkSpec) -> Iterator[tuple[int, ReadingArrays]]:
    first = chunk.first // 60
    starts = int(spec.start.timestamp()) * 10**6 + 3600 * 10**6 * np.arange(first, first + chunk.minutes // 60 + 1)
    edges = np.searchsorted(readings.time, starts)
    for i, (begin, end) in enumerate(pairwise(edges)):
        yield first + i, readings.take(slice(begin, end))


def _write_hour(soiler: Soiler, hour: int, rows: ReadingArrays, spec: NetworkSpec, out: Path) -> list[FileTruth]:
    name = f"param-{spec.start + hour * HOUR:%Y-%m-%d-%H}-sim"
    data, truth = soiler.file_of_hour(hour, rows, f"{name}.csv")
    (out / truth.name).write_bytes(data)
    if not soiler.is_copied(hour):
        return [truth]
    copy = FileTruth(**{**asdict(truth), "name": f"{name}-copy.csv", "copy_of": truth.name})
    (out / copy.name).write_bytes(data)
    return [truth, copy]


_TRUTH_SCHEMA: Final = pa.schema(
    {
        "station_id": pa.int64(),
        "parameter_id": pa.int32(),
        "observed_at": pa.timestamp("us", tz="UTC"),
        "value": pa.float64(),
    }
)


def _step_truth(chunk: Chunk, spec: NetworkSpec, network: SimulatedNetwork, catalogue: Catalogue) -> pa.Table:
    width = spec.truth_step // MINUTE
    steps = chunk.minutes // width
    start = (network.first_epoch_minute + chunk.first) * 60 * 10**6
    observed_at = start + np.arange(steps) * width * 60 * 10**6
    values = []
    for parameter in catalogue.all_of(spec.parameters):
        signal = chunk.signals[parameter.parameter_id].reshape(spec.stations, steps, width)
        values.append(
            signal[:, :, -1] if parameter.aggregation == "last" else getattr(signal, parameter.aggregation)(2)
        )
    shape = (len(spec.parameters), spec.stations, steps)
    columns = (
        np.broadcast_to(network.station_id[:, None], shape).ravel(),
        np.broadcast_to(np.array(spec.parameters)[:, None, None], shape).ravel(),
        np.broadcast_to(observed_at, shape).ravel(),
        np.stack(values).ravel(),
    )
    return pa.table(
        [pa.array(c).cast(f.type) for c, f in zip(columns, _TRUTH_SCHEMA, strict=True)], schema=_TRUTH_SCHEMA
    )


def _write_json(truth: NetworkTruth, network: SimulatedNetwork, gaps: Gaps) -> None:
    spec = truth.spec
    stations = [[int(s)] for s in network.station_id]
    series = [[int(s), p] for p in spec.parameters for s in network.station_id]
    counters = [[int(s), p] for p in COUNTERS for s in network.station_id]
    content = {
        "spec": {**asdict(spec), "end": spec.end.isoformat(), "truth_step": spec.truth_step.total_seconds()},
        "totals": truth.totals,
        "noise": {
            str(p): {"standard_deviation": TRAITS[p].noise, "event_driven": TRAITS[p].threshold is not None}
            for p in spec.parameters
        },
        "outages": _event_rows(network.outages, stations, spec),
        "silent_stations": _event_rows(gaps.stations, stations, spec),
        "missing_sensors": _event_rows(gaps.series, series, spec),
        "counter_resets": [r for r in _event_rows(network.resets, counters, spec) if r[1] in spec.parameters],
        "files": [asdict(f) for f in truth.files],
    }
    (truth.folder / "truth.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _event_rows(events: Events, names: list[list[int]], spec: NetworkSpec) -> list[list[Any]]:
    """[station_id, (parameter_id,) start, end] of each event, in order."""
    instants = [
        [*names[row], (spec.start + int(start) * MINUTE).isoformat(), (spec.start + int(end) * MINUTE).isoformat()]
        for row, start, end in zip(events.row, events.start, events.end, strict=True)
    ]
    return sorted(instants)


def _write_stations(path: Path, network: SimulatedNetwork, start: datetime) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("station_id", "name", "region", "latitude", "longitude", "timezone", "in_service_since"))
        for i, station_id in enumerate(network.station_id):
            region = REGIONS[network.region[i]][0]
            since = (start - int(network.in_service_days_before[i]) * DAY).date()
            rows.writerow((station_id, f"{region} {i + 1}", region, *network.coordinates[i], STATION_TIMEZONE, since))
