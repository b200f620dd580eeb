"""bts backtest as a user meets it: what it prints and writes, what it leaves behind, how a mistake ends."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import command_line
import numpy as np
import pandas as pd
import psycopg2
import pytest

from bts_assets import forecasting
from bts_assets.cli.app import app
from bts_assets.contracts.errors import BtsError
from bts_assets.services.backtest import place_for

pytestmark = pytest.mark.slow

GRID = ["--step", "1h", "--context", "1d", "--horizon", "6h"]
DAYS = 6


def bts(*arguments: str, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return command_line.bts(*arguments, env={"BTS_FILE_STABLE_FOR": "0s"} | env, cwd=cwd, timeout=240)


def write_landing(folder: Path) -> Path:
    """Two stations, a reading an hour: few windows, so that training is as short as it can be."""
    hours = pd.date_range("2026-03-01", periods=24 * DAYS, freq="h")
    rng = np.random.default_rng(1)
    frames = [
        pd.DataFrame(
            {
                "id": np.arange(len(hours)) + 1000 * station,
                "value": 20 + 5 * np.sin(2 * np.pi * hours.hour / 24 + station) + rng.normal(size=len(hours)),
                "station_id": station,
                "parameter_id": 111,
                "reading_time": hours.strftime("%Y-%m-%d %H:%M:%S"),
            }
        )
        for station in (1, 2)
    ]
    folder.mkdir()
    pd.concat(frames).to_csv(folder / "readings.csv", index=False)
    return folder


@dataclass(frozen=True)
class Told:
    folder: Path
    env: dict[str, str]
    done: subprocess.CompletedProcess[str]

    @property
    def scores(self) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "scores.parquet")


@pytest.fixture(scope="module")
def told(new_database: Callable[[], str]) -> Iterator[Told]:
    """A backtest of a landing folder, run for real."""
    with tempfile.TemporaryDirectory(prefix="bts-tests-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        passing = folder / "passing"
        passing.mkdir()
        passing.chmod(0o755)
        landing = write_landing(folder / "landing")
        env = {"BTS_HOME": str(folder / "home"), "BTS_DATABASE_URL": new_database(), "TMPDIR": str(passing)}
        arguments = ["--landing", str(landing), *GRID, "--origins", "2", "--refit-every", "2"]
        yield Told(folder, env, bts("backtest", *arguments, "--output", "scores.parquet", env=env, cwd=folder))


def test_it_prints_what_each_candidate_was_worth_and_where_the_scores_are(told: Told) -> None:
    assert told.done.returncode == 0, told.done.stderr
    said = told.done.stdout
    assert "2 origins, 6h apart, from 2026-03-06 12:00 to 2026-03-06 18:00 UTC; 2 series; 6h ahead" in said
    assert "wrote scores.parquet\n" in said
    assert re.search(
        r"\nhttp://127.0.0.1:5000/#/experiments/\d+/runs/[0-9a-f]{32}\?workflowType=machine_learning\n", said
    )
    mase = told.scores.query("metric == 'mase'").groupby("candidate")["value"]
    for candidate in ("served", "lstm", "last_value", "seasonal_naive_day"):
        line = next(line for line in said.splitlines() if line.split()[:1] == [candidate])
        assert line.split()[1:3] == [f"{mase.mean()[candidate]:.3f}", f"{mase.median()[candidate]:.3f}"]
    assert next(line for line in said.splitlines() if line.startswith("111 "))
    assert told.done.stderr == ""


def test_the_file_has_a_row_per_series_origin_candidate_and_metric(told: Told) -> None:
    rows = told.scores
    key = ["station_id", "parameter_id", "origin", "candidate", "metric"]
    assert list(rows.columns) == [*key, "value"]
    assert not rows.duplicated(key).any()
    assert rows.groupby(["candidate", "metric"]).size()["served", "msis"] == 2 * 2
    assert (told.folder / "scores.parquet").stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_only_the_file_and_the_record_are_left(told: Told) -> None:
    assert {file.name for file in told.folder.iterdir()} == {"landing", "passing", "home", "scores.parquet"}
    assert list((told.folder / "passing").glob("bts-backtest-*")) == []
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert [line for line in running.splitlines() if str(told.folder / "passing") in line] == []
    with psycopg2.connect(told.env["BTS_DATABASE_URL"]) as connection, connection.cursor() as cursor:
        for table in ("landing_file", "observation", "model_version", "champion", "batch", "publication"):
            cursor.execute(f"SELECT count(*) FROM bts.{table}")
            assert cursor.fetchone() == (0,), table
        cursor.execute("SELECT count(*) FROM mlflow.experiments WHERE name = 'bts-backtests'")
        assert cursor.fetchone() == (1,)
        # The home's own grid is undecided: the backtest was on another one.
        cursor.execute("SELECT count(*) FROM bts.installation")
        assert cursor.fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        pytest.param(
            ["--origins", "30", "--landing", "landing", *GRID],
            "30 origins 6h apart do not fit: 21 of them do in the 6d from 2026-03-01 00:00 to 2026-03-07 00:00 UTC",
            id="too_many_origins",
        ),
        pytest.param(["--origins", "1", "--landing", "empty", *GRID], "none of 1 files gave a valid", id="no_reading"),
        pytest.param(["--origins", "1", "--landing", "nowhere"], "no such file or directory", id="no_landing_folder"),
        pytest.param(["--origins", "1"], "nothing has been observed yet: run `bts ingest`", id="nothing_observed"),
        pytest.param(["--origins", "1", "--apart", "soon"], "--apart soon is not a duration", id="broken_apart"),
        pytest.param(["--origins", "1", "--step", "7min"], "bts: --step 7min does not divide a day", id="broken_step"),
        pytest.param(["--origins", "1", "--effort=quik"], "bts: --effort quik should be 'quick'", id="broken_effort"),
        pytest.param(
            ["--origins", "1", "--context", "91min"],
            "bts: --context 91min is not a whole number of steps of BTS_STEP=",
            id="broken_context",
        ),
        pytest.param(
            ["--origins", "1", "--output", "nowhere/x.parquet"],
            "nowhere/x.parquet cannot be written: No such file or directory",
            id="no_output_folder",
        ),
    ],
)
def test_a_mistake_ends_in_one_clear_line(told: Told, arguments: list[str], line: str) -> None:
    empty = told.folder / "empty"
    empty.mkdir(exist_ok=True)
    (empty / "none.csv").write_text("id,value,station_id,parameter_id,reading_time\n", encoding="utf-8")
    done = bts("backtest", *arguments, env=told.env, cwd=told.folder)
    assert done.returncode in (1, 2, 3)
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert {file.name for file in told.folder.glob("*.parquet")} <= {"scores.parquet", "down.parquet"}


def test_an_output_stands_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "scores.parquet"
    target.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), place_for(target):
        raise KeyboardInterrupt
    assert target.read_bytes() == b"before"
    with place_for(target) as put:
        assert target.read_bytes() == b"before"
        put(b"after")
    assert target.read_bytes() == b"after"
    assert [file.name for file in tmp_path.iterdir()] == ["scores.parquet"]
    with pytest.raises(BtsError, match="it is a folder; name a file in it"), place_for(tmp_path):
        pass


def test_neither_mlflow_nor_a_candidate_being_down_loses_the_scores(
    told: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (
        told.env | {"BTS_FILE_STABLE_FOR": "0s", "BTS_MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    ).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(told.folder)
    # As if TensorFlow were not installed.
    monkeypatch.delattr(forecasting, "lstm", raising=False)
    monkeypatch.setitem(sys.modules, "bts_assets.forecasting.lstm", None)
    arguments = ["--landing", "landing", *GRID, "--origins", "1", "--output", "down.parquet"]
    app(["backtest", *arguments], standalone_mode=False)
    said = capsys.readouterr()
    (failure,) = (line for line in said.out.splitlines() if line.startswith("lstm failed"))
    assert failure.startswith("lstm failed at 2026-03-06 18:00 for 2 series, the first station 1, parameter 111: ")
    assert said.err.startswith("not in MLflow: MLflow at http://127.0.0.1:9 failed")
    assert len(said.err.splitlines()) == 1
    candidates = set(pd.read_parquet("down.parquet")["candidate"])
    assert {"served", "last_value"} <= candidates
    assert "lstm" not in candidates
