"""A real Ray cluster, a head and a node that talk over TCP: the same bits as here, when workers are killed, too."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pytest
from launched_runs import instance_of, launched
from nights import HomeMaker
from observed_days import observed_anew, two_days
from parts_of_work import (
    NoSuchPart,
    assert_same,
    dies_at,
    fails,
    linear_forecast,
    observed_by_one_that_dies,
    squared,
    trained_before,
    who,
)
from ray_cluster import TAKES_JOBS, RayCluster, searched, two_machines
from small_nights import (
    ORIGIN,
    SMALL,
    fitted,
    found_by_settings,
    hourly,
    rows_of,
    serving_version,
    simple_bundle,
    write,
)
from small_panels import CATALOGUE, GRID, bundle, daily_values, make_panel

from bts_assets.cli.run_job import environment
from bts_assets.contracts.grid import DAY
from bts_assets.defs.abandoned_runs import PROCESS, this_process
from bts_assets.defs.partitions import tags_of
from bts_assets.defs.schedules import night_config
from bts_assets.forecasting.backtest import past_origins, rolling_backtest
from bts_assets.services import memory, observe, on_ray
from bts_assets.services.engine import described, engine
from bts_assets.services.memory import series_a_part
from bts_assets.services.replay import replay
from bts_assets.services.work_part import TRIES, EngineError
from bts_assets.settings import Settings, load_settings
from bts_assets.storage.provenance import machine

pytestmark = pytest.mark.slow


def test_ray_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "find_spec", lambda _: None)
    with (
        engine(load_settings(engine="ray")) as run,
        pytest.raises(EngineError, match=r"pip install 'bts-assets\[ray\]'"),
    ):
        run(squared, range(2))


@pytest.fixture(scope="module")
def machines() -> Iterator[RayCluster]:
    ray = pytest.importorskip("ray", reason="Ray, which make test installs, is not there")
    with two_machines() as started:
        yield started
        ray.shutdown()


@pytest.fixture
def cluster(machines: RayCluster, tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, engine="ray", ray_address=machines.address)


def spread(settings: Settings, work: Any, parts: Any) -> list[Any]:
    with engine(settings) as run:
        return list(run(work, parts))


def test_results_are_those_of_one_process_bit_for_bit(cluster: Settings) -> None:
    assert spread(cluster, squared, range(5)) == [n * n for n in range(5)]
    assert spread(cluster, linear_forecast, range(3)) == [linear_forecast(seed) for seed in range(3)]


def test_backtest_is_that_of_one_process(cluster: Settings) -> None:
    panel = make_panel(daily_values(3), [1, 2, 1])
    origins = past_origins(GRID, panel.start, panel.end, 3, DAY)
    fit = partial(trained_before, fitted(bundle()))
    with engine(cluster, trains=True) as run:
        there = rolling_backtest(panel, CATALOGUE, origins, fit, spread=run)
    assert set(there.scores["origin"]) == set(origins)
    assert_same(rolling_backtest(panel, CATALOGUE, origins, fit), there)


def test_training_there_has_the_threads_of_one_here_or_is_refused(
    cluster: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine(cluster, trains=True) as run:
        assert {threads for _, threads in run(who, range(2))} == {str(machine()["cores"])}
    monkeypatch.setattr(on_ray, "_trainer", lambda: {"cores": "3"})
    with engine(cluster, trains=True) as run, pytest.raises(EngineError, match=r"\(cores is \d+ there, 3 here\)"):
        list(run(squared, range(2)))


def test_doctor_says_how_many_work_there(cluster: Settings) -> None:
    assert described(cluster).startswith("Ray, 2 machines, 2 workers; all must be this one")


def test_parts_are_as_many_as_its_cpus_want(cluster: Settings) -> None:
    assert cluster.workers is None
    told = cluster.model_copy(update={"workers": 2})
    assert series_a_part(cluster, 20_000) == series_a_part(told, 20_000) == 20_000 // 8


def test_worker_that_is_killed_midway_is_survived_and_nothing_printed(
    cluster: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    assert spread(cluster, partial(dies_at, marks, TRIES - 1), range(6)) == [n * n for n in range(6)]
    assert len(list(marks.iterdir())) == TRIES - 1
    time.sleep(2)  # Ray tells of a death a little later
    assert "".join(capfd.readouterr()) == ""


def test_observed_days_are_those_of_one_process_though_a_worker_is_killed_midway(
    cluster: Settings, tmp_path: Path, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_LEAST_READINGS", 100)
    home = two_days(tmp_path / "days", new_database())
    alone = observed_anew(home, monkeypatch)
    monkeypatch.setattr(observe, "_part", partial(observed_by_one_that_dies, tmp_path))
    there = observed_anew(home, monkeypatch, engine="ray", ray_address=cluster.ray_address)
    home.engine.dispose()
    assert (tmp_path / "died").exists()
    assert len(there.workers) >= 4
    assert (there.report, there.log, there.blocks) == (alone.report, alone.log, alone.blocks)


#: Forecasts by the cluster, from a process that is none of its machines.
CLIENT: Final = """
import sys
from parts_of_work import linear_forecast
from bts_assets.services.engine import described, engine
from bts_assets.settings import load_settings

settings = load_settings(engine="ray", ray_address=sys.argv[1])
with engine(settings) as run:
    print(described(settings), *run(linear_forecast, range(2)), sep="\\n")
"""


def test_a_client_beyond_the_cluster_has_the_same_bits(machines: RayCluster) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, machines.client], capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"PYTHONPATH": searched()},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [linear_forecast(seed) for seed in range(2)]
    assert done.stdout.startswith("Ray, 2 machines, 2 workers")


def test_part_that_kills_every_worker_is_one_line(cluster: Settings, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    with pytest.raises(EngineError, match=rf"^{TRIES} workers died of the same part"):
        spread(cluster, partial(dies_at, marks, 99), range(6))


def test_what_work_fails_with_is_raised_here(cluster: Settings) -> None:
    with pytest.raises(NoSuchPart, match="there is no part 2"):
        spread(cluster, fails, range(6))


def test_worker_of_other_packages_is_refused(cluster: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = on_ray._kind()
    monkeypatch.setattr(on_ray, "_kind", lambda: kind | {"numpy": "1.0"})
    with pytest.raises(EngineError, match=r"would not forecast the same bits \(numpy is .* there, 1.0 here\)"):
        spread(cluster, squared, range(2))


def test_a_whole_night_is_launched_as_a_job_there_and_is_replayed_here(
    machines: RayCluster, make_home: HomeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not TAKES_JOBS:
        pytest.skip("dagster-ray and Ray's job server, which make test installs, are not there")
    home = make_home(**SMALL)
    serving_version(home, simple_bundle())
    write(tmp_path / "landing", "a.csv", *hourly(range(-24, 48)))
    found_by_settings(home, monkeypatch)
    told = environment(home) | {"BTS_LANDING_DIR": str(tmp_path / "landing"), "BTS_FILE_STABLE_FOR": "0s"}
    for name, value in (told | {"RAY_API_SERVER_ADDRESS": machines.jobs}).items():
        monkeypatch.setenv(name, value)
    origin = ORIGIN + timedelta(hours=26)
    passed_on = [*told, "BTS_DATABASE_URL", *(f"BTS_{name.upper()}" for name in SMALL)]
    with instance_of(tmp_path / "launcher", *passed_on) as instance:
        asked = night_config(as_of=origin.isoformat())
        run = launched(instance, "nightly", run_config=asked, tags=tags_of(origin))
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert run.tags[PROCESS] != this_process()
    (batch,) = rows_of(home, "SELECT batch_id, dagster_run_id FROM bts.batch")
    assert batch["dagster_run_id"] == run.run_id
    again = replay(home, batch["batch_id"])
    assert (again.differs, again.ledger_rows) == (None, 1)
