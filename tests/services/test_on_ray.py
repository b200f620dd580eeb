"""A real Ray cluster, a head and a node that talk over TCP: the same bits as here, also when workers are killed."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from parts_of_work import NoSuchPart, assert_same, dies_at, fails, linear_forecast, squared, trained_before, who
from small_nights import fitted
from small_panels import CATALOGUE, GRID, bundle, daily_values, make_panel

from bts_assets.contracts.grid import DAY
from bts_assets.forecasting.backtest import past_origins, rolling_backtest
from bts_assets.services import on_ray
from bts_assets.services.engine import described, engine
from bts_assets.services.memory import series_a_part
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
def address() -> Iterator[str]:
    """Two machines of a cluster, as far as Ray can tell, of one CPU each."""
    pytest.importorskip("ray", reason="Ray, which make test installs, is not there")
    port, client = free_port(), free_port()
    # Below a short path: Ray puts sockets there, whose names must not be long.
    with TemporaryDirectory(prefix="ray-") as folder:
        head = [f"--port={port}", "--head", "--include-dashboard=false", f"--ray-client-server-port={client}"]
        ports = ["--min-worker-port=0", "--max-worker-port=0"]
        with member(folder, *head, *ports, f"--temp-dir={folder}"):
            with member(folder, f"--address=127.0.0.1:{port}", *ports):
                yield f"127.0.0.1:{port}"
            import ray

            ray.shutdown()


@contextmanager
def member(folder: str, *options: str) -> Iterator[None]:
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "helpers"), *sys.path])
    command = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
    log = Path(folder) / f"{len(options)}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--node-ip-address=127.0.0.1", "--object-store-memory=100000000", *options],
            env=os.environ | {"PYTHONPATH": path}, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(lambda: b"Ray runtime started" in log.read_bytes(), log)
        yield
    finally:
        process.terminate()
        process.wait(30)


def wait_for(true: Any, log: Path) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def cluster(address: str, tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, engine="ray", ray_address=address)


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
    monkeypatch.setattr(on_ray, "_cores", lambda: {"cores": "3"})
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
