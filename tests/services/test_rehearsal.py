"""A rehearsal of three nights: they run on what has landed, and what they tell of planted faults is judged."""

from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from nights import HomeMaker
from small_nights import ORIGIN, rows_of, serving_version, simple_bundle

from bts_assets.contracts.grid import DAY, Grid
from bts_assets.monitoring.rehearsal import Planted
from bts_assets.services.rehearsal import rehearse
from bts_assets.simulation.network import SimulatedNetwork
from bts_assets.simulation.rehearsal import HISTORY, plan
from bts_assets.simulation.simulate import simulate_network

NIGHTS: Final = 3
GRID: Final = Grid(timedelta(hours=1), DAY, timedelta(hours=12))


def test_nights_see_what_has_landed_and_tell_of_planted_faults(make_home: HomeMaker, tmp_path: Path) -> None:
    planned = plan(7, NIGHTS, ORIGIN + (NIGHTS + 1) * DAY, seed=1, history=2)
    assert planned.origins == tuple(ORIGIN + night * DAY for night in range(NIGHTS))
    simulate_network(planned.spec, tmp_path / "stage")
    home = make_home(landing_dir=tmp_path / "landing", step=GRID.step, context=GRID.context, horizon=GRID.horizon)
    serving_version(home, simple_bundle(grid=GRID))
    faults = [
        Planted(fault.kind, planned.station_id(fault), fault.parameter, planned.began_at(fault), None)
        for fault in planned.spec.faults
    ]
    report = rehearse(home, tmp_path / "stage", planned.origins, planned.spec.end, faults)
    assert report.series_nights == NIGHTS * 7 * len(planned.spec.parameters)
    assert len(report.faults) == 7
    (silent,) = (row for row in report.faults if row.fault.kind == "silent_station")
    assert silent.first is not None
    assert silent.first.at - silent.fault.began_at == timedelta(hours=12)
    assert silent.first.station_id == silent.fault.station_id
    assert not [j for j in report.false_alarms if j.notice.station_id == silent.fault.station_id]
    # No night saw a file of an hour after its origin.
    ahead = (
        "SELECT count(*) AS n FROM bts.forecast_ledger JOIN bts.batch USING (batch_id)"
        " WHERE last_observed_at >= issued_at"
    )
    assert rows_of(home, ahead) == [{"n": 0}]
    batches = rows_of(home, "SELECT kind, issued_at FROM bts.batch ORDER BY issued_at")
    assert [(row["kind"], row["issued_at"]) for row in batches] == [("live", at) for at in planned.origins]


@pytest.mark.parametrize("seed", range(4))
def test_each_fault_has_a_station_of_its_own_and_the_battery_that_ages_no_generator(seed: int) -> None:
    faults = plan(8, 30, ORIGIN, seed).spec.faults
    of_stations = [fault.station for fault in faults if fault.kind != "change_of_season"]
    assert len(set(of_stations)) == len(of_stations) == 6
    has_generator = SimulatedNetwork(8, (HISTORY + 31) * 1440, 0, seed).has_generator
    rows = {fault.kind: fault.station for fault in faults}
    assert has_generator[rows["fuel_runs_out"]]
    assert not has_generator[rows["ageing_battery"]]
