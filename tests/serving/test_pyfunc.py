"""The registered model, served by `mlflow models serve` on loopback: the night's own numbers, or one line."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException
from nights import NIGHT, PublishedNight
from small_nights import GRID, simple_bundle

from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.bundle import Bundle
from bts_assets.landing.duplicates import resolve_duplicates
from bts_assets.landing.reading_arrays import concatenated, from_frame
from bts_assets.serving.pyfunc import ServedForecaster

MODEL: Final = "models:/bts-forecaster@champion"
KEY: Final = ["station_id", "parameter_id", "step_ahead"]
#: A cold machine imports a server and statistical models before it answers.
PATIENCE: Final = 240
GOOD: Final = (1, 122, "2026-03-09T00:00:00Z", 5.0)
RAW: Final = ["station_id", "parameter_id", "reading_time", "value"]


@dataclass(frozen=True)
class Served:
    url: str
    log: Path

    def ask(self, body: Any, kind: str = "application/json") -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/invocations", data, {"Content-Type": kind})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def forecasts(self, rows: pd.DataFrame) -> pd.DataFrame:
        status, answer = self.ask({"dataframe_split": rows.to_dict("split")})
        assert status == 200, answer
        return pd.DataFrame(answer["predictions"])

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]


def environment(night: PublishedNight) -> dict[str, str]:
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
    # As in an activated environment: MLflow looks for uvicorn on the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, **quiet, "PATH": path, "MLFLOW_TRACKING_URI": night.home.mlflow_tracking_uri}


@pytest.fixture(scope="module")
def served(published: PublishedNight, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("serving")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = Served(f"http://127.0.0.1:{port}", folder / "requests.jsonl")
    command = [str(Path(sys.executable).with_name("mlflow")), "models", "serve", "-m", MODEL, "--env-manager", "local"]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=environment(published) | {"BTS_REQUEST_LOG": str(served.log)},
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_for(served, process, folder / "output")
            yield served
        finally:
            with suppress(ProcessLookupError):  # the whole group: the server is a child of its command
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def wait_for(served: Served, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, output.read_text(errors="replace")
        try:
            with urllib.request.urlopen(f"{served.url}/ping", timeout=5):  # noqa: S310
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail(output.read_text(errors="replace"))


@pytest.fixture(scope="module")
def batch(published: PublishedNight) -> dict[str, Any]:
    (row,) = published.rows("SELECT b.* FROM bts.batch AS b JOIN bts.latest_batch USING (batch_id)")
    return row


@pytest.fixture(scope="module")
def history(published: PublishedNight, batch: dict[str, Any]) -> pd.DataFrame:
    """The readings behind the batch's input, as they came: with their ids, and with duplicates across files."""
    span = {"start": batch["input_start"], "end": batch["issued_at"], "seq": batch["input_ledger_seq"]}
    (files,) = published.rows("SELECT bts.files_known(:start, :end, :seq) AS digests", **span)
    rows = pd.concat([published.home.readings.read(digest) for digest in files["digests"]], ignore_index=True)
    # Whole days, for duplicates are resolved within UTC days.
    first = batch["input_start"].replace(hour=0, minute=0, second=0)
    rows = rows[(rows["reading_time"] >= first) & (rows["reading_time"] < batch["issued_at"])]
    assert len(rows) > 10_000
    return rows.rename(columns={"reading_id": "id"})


def as_sent(rows: pd.DataFrame) -> pd.DataFrame:
    """Shuffled: the order of rows must not matter."""
    return rows.assign(reading_time=rows["reading_time"].map(pd.Timestamp.isoformat)).sample(frac=1, random_state=1)


def stored(published: PublishedNight) -> pd.DataFrame:
    columns = "station_id, parameter_id, issued_at, target_at, step_ahead, q05, q10, q50, q90, q95"
    rows = pd.DataFrame(published.rows(f"SELECT {columns} FROM bts.latest_forecast"))
    return rows.sort_values(KEY, ignore_index=True)


def comparable(answer: pd.DataFrame) -> pd.DataFrame:
    times = {name: pd.to_datetime(answer[name], utc=True, format="ISO8601") for name in ("issued_at", "target_at")}
    return answer.assign(**times).sort_values(KEY, ignore_index=True)


def assert_same_numbers(answer: pd.DataFrame, published: PublishedNight) -> None:
    numbers = comparable(answer).drop(columns="rejected")
    pd.testing.assert_frame_equal(numbers, stored(published), check_exact=True, check_dtype=False)


# What is asked


def test_raw_rows_give_the_forecasts_that_the_night_stored(
    served: Served, published: PublishedNight, history: pd.DataFrame, batch: dict[str, Any]
) -> None:
    assert batch["issued_at"] == NIGHT
    (kept,) = [concatenated(resolve_duplicates([from_frame(history.rename(columns={"id": "reading_id"}))]).parts)]
    assert_same_numbers(served.forecasts(as_sent(kept.frame()[RAW])), published)


def test_rows_with_ids_may_hold_duplicates_and_what_a_night_rejects(
    served: Served, published: PublishedNight, history: pd.DataFrame
) -> None:
    sentinel = history.head(40).assign(value=999999.0, id=range(40))
    answer = served.forecasts(as_sent(pd.concat([history, history.tail(50), sentinel])))
    assert_same_numbers(answer, published)
    assert set(answer["rejected"]) == {"sentinel value 40"}
    last = served.logged()[-1]
    assert last["rejected"] == {"sentinel value": 40}
    assert last["duplicate"] >= 50


#: What one cell of a column may hold -> why its row, and no other, is left out.
DIRTY: Final = [
    ("value", "12V", "broken value 1"),
    ("value", "", "broken value 1"),
    ("value", None, "broken value 1"),
    ("value", "1,5", "broken value 1"),
    ("station_id", "north", "broken station_id 1"),
    ("parameter_id", " ", "broken parameter_id 1"),
    ("reading_time", "2026-03-09 25:00:00", "broken reading_time 1"),
    ("reading_time", "2026-03-09T00:00:00Z\n9,9", "broken reading_time 1"),
]


@pytest.mark.parametrize("kind", ["json", "csv"])
@pytest.mark.parametrize(("column", "cell", "told"), DIRTY, ids=[f"{c}-{v!r}" for c, v, _ in DIRTY])
def test_one_dirty_cell_costs_its_row_and_is_counted_in_the_answer(
    served: Served, history: pd.DataFrame, column: str, cell: Any, told: str, kind: str
) -> None:
    rows = as_sent(history[history["parameter_id"] == 122][RAW]).head(50).astype(object)
    spoilt = pd.concat([rows, rows.head(1).assign(**{column: [cell]})])
    if kind == "json":
        body = {"columns": RAW, "data": [[None if pd.isna(c) else c for c in r] for r in spoilt.to_numpy().tolist()]}
        status, answer = served.ask({"dataframe_split": body})
    else:
        status, answer = served.ask(spoilt.to_csv(index=False).encode(), "text/csv")
    assert status == 200, answer
    given = comparable(pd.DataFrame(answer["predictions"]))
    assert set(given["rejected"]) == {told}
    clean = comparable(served.forecasts(rows))
    assert set(clean["rejected"]) == {""}
    pd.testing.assert_frame_equal(given.drop(columns="rejected"), clean.drop(columns="rejected"), check_exact=True)


def test_an_id_that_is_missing_beside_others_leaves_them_whole(served: Served) -> None:
    rows = [(7, 1, 122, GOOD[2], 5.0), (None, 1, 122, "2026-03-09T00:30:00Z", 5.0)]
    status, answer = served.ask(split(*rows, columns=["id", *RAW]))
    assert status == 200, answer
    assert {row["rejected"] for row in answer["predictions"]} == {""}


def test_rows_may_come_as_csv(served: Served, history: pd.DataFrame) -> None:
    one = as_sent(history[history["parameter_id"] == 122])
    status, answer = served.ask(one.to_csv(index=False).encode(), "text/csv")
    assert status == 200, answer
    given = comparable(pd.DataFrame(answer["predictions"]))
    pd.testing.assert_frame_equal(given, comparable(served.forecasts(one)), check_exact=True)
    assert set(given["parameter_id"]) == {122}


def test_the_example_of_the_model_is_answered(served: Served, published: PublishedNight) -> None:
    import mlflow

    mlflow.set_tracking_uri(published.home.mlflow_tracking_uri)
    status, answer = served.ask(mlflow.artifacts.load_dict(f"{MODEL}/serving_input_example.json"))
    assert status == 200, answer
    assert {row["station_id"] for row in answer["predictions"]} == {1161114002}
    assert len(answer["predictions"]) == 12


# What is said of it


def test_every_answer_is_logged_with_its_input_model_and_time(
    served: Served, published: PublishedNight, history: pd.DataFrame, batch: dict[str, Any]
) -> None:
    before, rows = len(served.logged()), as_sent(history)
    served.forecasts(rows)
    served.forecasts(rows)
    first, second = served.logged()[before:]
    (version,) = published.rows("SELECT bundle_digest, registry_version FROM bts.model_version")
    assert (first["model"], first["registry_version"]) == ("bts-forecaster", version["registry_version"])
    assert first["bundle_digest"] == version["bundle_digest"]
    assert abs(datetime.fromisoformat(first["time"]) - datetime.now(UTC)) < timedelta(minutes=10)
    assert (first["issued_at"], first["rows"]) == (NIGHT.isoformat(), len(rows))
    # The same digest as the batch's: bts.batch is found by it.
    assert first["observations_digest"] == batch["observations_digest"]
    assert first["input_digest"] == second["input_digest"]
    served.forecasts(rows.iloc[1:])
    assert served.logged()[-1]["input_digest"] != first["input_digest"]


def test_a_series_whose_rows_are_all_too_old_is_known_and_silent_as_in_a_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BTS_REQUEST_LOG", str(tmp_path / "log"))
    model = ServedForecaster()
    model.load_context(SimpleNamespace(artifacts={"bundle": str(at_rest(simple_bundle(), tmp_path))}))
    rows = pd.DataFrame([GOOD, (2, 122, "2026-02-09T00:00:00Z", 5.0)], columns=RAW)
    assert set(model.predict(None, rows)["station_id"]) == {1}
    said = json.loads((tmp_path / "log").read_text())
    assert (said["series"], said["forecast"]) == (2, 1)
    values = np.full((2, GRID.context_steps), np.nan)
    values[0, -1] = 5
    night = Panel(GRID, np.array([1, 2]), np.array([122, 122]), datetime(2026, 3, 9, 1, tzinfo=UTC), values)
    assert said["observations_digest"] == night.digest


def test_the_registered_model_says_what_it_takes_and_gives(published: PublishedNight) -> None:
    import mlflow

    mlflow.set_tracking_uri(published.home.mlflow_tracking_uri)
    info = mlflow.models.get_model_info(MODEL)
    taken = {column.name: (str(column.type), column.required) for column in info.signature.inputs.inputs}
    assert taken == {
        "station_id": ("DataType.string", True),
        "parameter_id": ("DataType.string", True),
        "reading_time": ("DataType.string", True),
        "value": ("DataType.string", True),
        "id": ("DataType.string", False),
    }
    said = info.signature.outputs.input_names()
    assert said[:5] == [*KEY[:2], "issued_at", "target_at", "step_ahead"]
    assert said[-1] == "rejected"


# Models rest safely

#: Loads the registered model both ways, as a server does and as a night does, and forecasts; says what it ran.
LOADS = """
import json, sys
from pathlib import Path
import mlflow, numpy, pandas
unpickled = []
sys.addaudithook(lambda event, args: unpickled.append(str(args)) if event == "pickle.find_class" else None)
uri, digest, empty = sys.argv[1:]
model = mlflow.pyfunc.load_model(uri)
rows = {"station_id": [1], "parameter_id": [122], "reading_time": ["2026-03-09T00:00:00Z"], "value": [5.0]}
forecasts = model.predict(pandas.DataFrame(rows).astype(object))
code = sys.modules["bts_assets"].__file__
from bts_assets.storage.mlflow_registry import ModelStore
ModelStore(Path(empty), mlflow.get_tracking_uri()).load(digest, uri)
print(json.dumps({"unpickled": unpickled, "code": code, "forecasts": len(forecasts), "modules": [*sys.modules]}))
"""


def test_loading_and_forecasting_unpickles_nothing_and_runs_the_models_own_code(
    published: PublishedNight, tmp_path: Path
) -> None:
    (version,) = published.rows("SELECT bundle_digest, mlflow_model_uri FROM bts.model_version")
    done = subprocess.run(
        [sys.executable, "-c", LOADS, version["mlflow_model_uri"], version["bundle_digest"], str(tmp_path)],
        env=environment(published),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["unpickled"] == []
    assert said["forecasts"] == 12
    assert not {"tensorflow", "keras"} & {*said["modules"]}, "which the model's own requirements do not have"
    # Not this checkout: what was registered can be served where nothing of ours is installed.
    assert Path(said["code"]).parts[-3:-1] == ("code", "bts_assets")
    assert (tmp_path / "bundles" / version["bundle_digest"]).is_dir()


def test_nothing_in_the_registry_is_a_pickle(published: PublishedNight) -> None:
    (folder,) = {file.parent for file in published.home.models.artifacts.rglob("MLmodel")}
    (flavour,) = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))["flavors"].values()
    assert flavour["model_code_path"].endswith("pyfunc.py")
    assert "python_model" not in flavour  # where MLflow would name a pickled one
    files = [file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert len(files) > 50
    assert {file.suffix for file in files} & {".pkl", ".pickle", ".joblib", ".h5", ".keras", ".pt", ".npy"} == set()
    assert [
        file for file in files if file.read_bytes()[:1] == b"\x80"
    ] == []  # how every pickle since protocol 2 begins


def at_rest(bundle: Bundle, within: Path) -> Path:
    folder = within / bundle.digest
    folder.mkdir()
    for name, data in bundle.files().items():
        (folder / name).write_bytes(data)
    return folder


def flip_a_byte(folder: Path, _: Bundle) -> None:
    file = folder / "weights.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


def put_a_pickle_beside(folder: Path, _: Bundle) -> None:
    (folder / "python_model.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")


def swap_for_another_sound_version(folder: Path, bundle: Bundle) -> None:
    for name, data in replace(bundle, seed=bundle.seed + 1).files().items():
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("tamper", [flip_a_byte, put_a_pickle_beside, swap_for_another_sound_version])
def test_a_tampered_model_does_not_come_up(tmp_path: Path, tamper: Callable[[Path, Bundle], None]) -> None:
    bundle = simple_bundle()
    folder = at_rest(bundle, tmp_path)
    ServedForecaster().load_context(SimpleNamespace(artifacts={"bundle": str(folder)}))
    tamper(folder, bundle)
    with pytest.raises(MlflowException, match="is not what was trained: its bytes have changed"):
        ServedForecaster().load_context(SimpleNamespace(artifacts={"bundle": str(folder)}))


# Wrong input


def split(*rows: tuple[Any, ...], columns: list[str] = RAW) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": rows}}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (split((1, 122, "2026-03-09T00:00:00Z", 999999.0)), "none of 1 rows can be used: sentinel value 1"),
        (split((1, 122, "yesterday", 5.0)), "none of 1 rows can be used: broken reading_time 1"),
        (split((1, 122, "2199-01-01T00:00:00Z", 5.0)), "none of 1 rows can be used: reading_time in the future 1"),
        (split((-1, 122, "2026-03-09T00:00:00Z", 5.0)), "none of 1 rows can be used: broken station_id 1"),
        (split((1, 122, 'x,"y\nz', 5.0)), "none of 1 rows can be used: broken reading_time 1"),
        (split((1, 122, "2026-03-09T00:00:00Z", "warm")), "none of 1 rows can be used: broken value 1"),
        (split((1.5, None, "2026-03-09T00:00:00Z", 5.0)), "none of 1 rows can be used: broken station_id 1"),
        (split(), "none of 0 rows can be used"),
    ],
    ids=["sentinel", "no_time", "future", "negative_station", "injected_row", "no_number", "half_id", "no_rows"],
)
def test_unusable_rows_are_refused_in_one_line(served: Served, body: dict[str, Any], told: str) -> None:
    status, answer = served.ask(body)
    assert (status, answer["message"]) == (400, told)
    assert served.logged()[-1]["error"] == told


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (split(GOOD[:3], columns=RAW[:3]), "Model is missing inputs ['value']"),
        (b"{nonsense", "valid JSON"),
        ({"rows": []}, "dataframe_split"),
    ],
    ids=["missing_column", "no_json", "other_key"],
)
def test_malformed_requests_are_the_servers_own_to_refuse(served: Served, body: Any, told: str) -> None:
    status, answer = served.ask(body)
    assert status == 400
    assert told in answer["message"]


def test_the_server_goes_on_after_what_it_refused(served: Served) -> None:
    assert served.ask(split(GOOD))[0] == 200
