"""Where model versions rest: MLflow keeps runs and registry; a cache by digest lets nights go on without it."""

import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pandas as pd

from bts_assets.contracts.errors import BtsError
from bts_assets.forecasting.bundle import Bundle, BundleError, OtherFormat, digest_of
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.mlflow_experiments import NOTE, TRAININGS, tags_of
from bts_assets.storage.mlflow_pages import REGISTERED_NAME
from bts_assets.storage.partials import clear_abandoned, partial_folder
from bts_assets.storage.served_pages import CREDENTIALS, pages_of

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"

#: A night waits for MLflow no longer than this many tries of so many seconds.
_HTTP_LIMITS: Final = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
_QUIET: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
#: The tag of a run that says which bundle it is of.
_BUNDLE: Final = "bundle_digest"
_METRICS_PER_CALL: Final = 1000
#: MLflow keeps no more characters of a dataset's digest.
_LONGEST_DIGEST: Final = 36


class ModelStoreError(BtsError):
    """MLflow cannot be reached, or the bytes of a model version are gone or altered."""


class OutdatedModel(ModelStoreError):
    """A model version in a format that this code does not read; a new one has to be trained."""


@dataclass(frozen=True)
class TrainingRecord:
    """What an MLflow run says of a training, beside the bundle itself. seconds: how long it took; None: not known."""

    name: str
    about: str  # what was trained on what, in Markdown
    started_at: datetime
    seconds: float | None
    parameters: Mapping[str, Any]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    curve: pd.DataFrame  # step, then one column per metric
    artifacts: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Registered:
    run_id: str
    experiment_id: str  # of the run: without it no address leads to MLflow's page of it
    model_uri: str
    version: int


class ModelStore:
    """Bundles below `home/bundles`, by digest, and MLflow at `tracking_uri`."""

    def __init__(self, home: Path, tracking_uri: str) -> None:
        self.cache = home / "bundles"
        self.artifacts = home / "mlflow" / "artifacts"
        self.tracking_uri = tracking_uri
        self.pages = pages_of(home, tracking_uri).mlflow

    def keep(self, bundle: Bundle) -> None:
        """Put a bundle into the cache, whole or not at all."""
        target = self.cache / bundle.digest
        if target.is_dir():
            return
        self.cache.mkdir(parents=True, exist_ok=True)
        clear_abandoned(self.cache.glob(".part-*"))
        with partial_folder(self.cache, ".part-") as partial:
            for name, data in bundle.files().items():
                with (partial / name).open("wb") as file:
                    file.write(data)
                    os.fsync(file.fileno())
            partial.chmod(0o755)
            crash_point("training.after_partial")
            try:
                partial.rename(target)
            except OSError:
                if not target.is_dir():  # another process may have kept the same bundle meanwhile
                    raise

    def load(self, digest: str, model_uri: str | None) -> Bundle:
        """The bundle of a digest: from the cache, else from MLflow. Nothing is used before its digest is checked.

        Raises:
            ModelStoreError: if neither has it as it was.
        """
        folder = self.cache / digest
        if not folder.is_dir():
            folder = self._fetch(digest, model_uri)
        files = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
        if digest_of(files) != digest:
            raise ModelStoreError(
                f"model version {digest[:12]} at {folder} is not what was trained: its bytes have changed;"
                " delete the folder to fetch it from MLflow again"
            )
        try:
            return Bundle.from_files(files)
        except OtherFormat as error:
            raise OutdatedModel(f"model version {digest[:12]} at {folder}: {error}; train a new one") from None
        except BundleError as error:
            raise ModelStoreError(f"model version {digest[:12]} at {folder}: {error}") from None

    def register(self, bundle: Bundle, record: TrainingRecord) -> Registered:
        """Log a training as one MLflow run, and register its model; or find it registered. The alias is not touched.

        Raises:
            ModelStoreError: if MLflow does not answer.
        """
        with mlflow_errors(self.tracking_uri):
            client = self.client()
            mlflow = import_mlflow()
            experiment = self.experiment(TRAININGS)
            if (found := _registered_before(client, experiment, bundle.digest)) is not None:
                return found
            began = int(record.started_at.timestamp() * 1000)  # with the training, not with what is told of it
            tags = {_BUNDLE: bundle.digest}  # from the first moment: by it the next try finds what became of this one
            made = client.create_run(experiment, start_time=began, run_name=record.name, tags=tags)
            with hushed(), mlflow.start_run(run_id=made.info.run_id) as run:
                crash_point("registration.after_run")
                self._log(client, run.info.run_id, record)
                crash_point("registration.after_log")
                info = self._log_model(bundle, record)
                crash_point("registration.after_model")
                version = int(info.registered_model_version)
                client.update_run(run.info.run_id, name=f"v{version}, {record.name}")
            if record.seconds is not None:  # the run lasts as long as the training, not as what was told of it
                client.set_terminated(made.info.run_id, "FINISHED", began + round(record.seconds * 1000))
            return Registered(run.info.run_id, experiment, info.model_uri, version)

    def point(self, alias: str, version: int) -> None:
        """Let an alias name a registry version, as Postgres decided."""
        with mlflow_errors(self.tracking_uri):
            self.client().set_registered_model_alias(REGISTERED_NAME, alias, str(version))

    def pointed(self, alias: str) -> int | None:
        """The registry version that carries an alias; None: nothing does."""
        from mlflow.exceptions import MlflowException

        with mlflow_errors(self.tracking_uri), hushed():
            try:
                return int(self.client().get_model_version_by_alias(REGISTERED_NAME, alias).version)
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise

    def describe(self, version: int, tags: Mapping[str, str], description: str) -> None:
        """Let a registry version say what was decided about it.

        Raises:
            ModelStoreError: if MLflow does not answer.
        """
        with mlflow_errors(self.tracking_uri):
            client = self.client()
            client.update_model_version(REGISTERED_NAME, str(version), description)
            for name, value in tags.items():
                client.set_model_version_tag(REGISTERED_NAME, str(version), name, value)

    def unpoint(self, alias: str, version: int) -> None:
        """Take an alias off a registry version, if that carries it."""
        if self.pointed(alias) == version:
            with mlflow_errors(self.tracking_uri):
                self.client().delete_registered_model_alias(REGISTERED_NAME, alias)

    def add_files(self, run_id: str, files: Mapping[str, bytes], folder: str) -> None:
        """Put files into a folder of a run's artifacts.

        Raises:
            ModelStoreError: if MLflow does not answer.
        """
        with mlflow_errors(self.tracking_uri), hushed(), tempfile.TemporaryDirectory() as local:
            for name, data in files.items():
                (Path(local) / name).write_bytes(data)
            self.client().log_artifacts(run_id, local, folder)

    def log_dataset(self, run_id: str, about: Mapping[str, Any], series: pd.DataFrame, source: str) -> None:
        """Tell a training's run what data it had: `about` it as a dataset input, each `series`' figures as a table.

        `about` has name, observations_digest and whatever else describes the data.

        Raises:
            ModelStoreError: if MLflow does not answer.
        """
        with mlflow_errors(self.tracking_uri), hushed():
            client = self.client()
            from mlflow.entities import Dataset, DatasetInput, InputTag

            dataset = Dataset(
                name=about["name"],
                digest=about["observations_digest"][:_LONGEST_DIGEST],
                source_type="local",
                source=json.dumps({"uri": source}),
                profile=json.dumps(dict(about), default=str),
            )
            client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
            client.log_text(run_id, series.to_csv(index=False), "data_profile.csv")

    def add_tags(self, run_id: str, tags: Mapping[str, str]) -> int:
        """Give a run those of the tags that it lacks; how many those were.

        Raises:
            ModelStoreError: if MLflow does not answer, or has no such run.
        """
        with mlflow_errors(self.tracking_uri), hushed():
            client = self.client()
            from mlflow.entities import RunTag

            known = client.get_run(run_id).data.tags
            missing = [RunTag(name, value) for name, value in tags.items() if known.get(name) != value]
            # MLflow takes 100 at once: its client parts them.
            client.log_batch(run_id, tags=missing)
        return len(missing)

    def client(self) -> Any:
        """MLflow's client of this store, to be used within `mlflow_errors`."""
        mlflow = import_mlflow()
        mlflow.set_tracking_uri(self.tracking_uri)
        return mlflow.MlflowClient()

    def experiment(self, name: str) -> str:
        """The id of one of our experiments, made where there is none; to be used within `mlflow_errors`."""
        client = self.client()
        found = client.get_experiment_by_name(name)
        if found:
            for tag, value in tags_of(name).items():
                # Of one that older code made: what somebody wrote about it stays.
                if tag not in found.tags or (tag != NOTE and found.tags[tag] != value):
                    client.set_experiment_tag(found.experiment_id, tag, value)
            return str(found.experiment_id)
        # A server decides for itself where artifacts rest; tables of ours need a folder of ours.
        local = None if self.tracking_uri.startswith("http") else self.artifacts.as_uri()
        return str(client.create_experiment(name, artifact_location=local, tags=tags_of(name)))

    def _log(self, client: Any, run_id: str, record: TrainingRecord) -> None:
        mlflow = import_mlflow()
        from mlflow.entities import Metric

        mlflow.log_params(dict(record.parameters))
        mlflow.set_tags({name: value for name, value in record.tags.items() if value} | {NOTE: record.about})
        mlflow.log_metrics(dict(record.metrics))
        now_ms = int(record.started_at.timestamp() * 1000)
        points = [
            Metric(name, float(value), now_ms, int(step))
            for name in record.curve.columns.drop("step")
            for step, value in record.curve[["step", name]].dropna().itertuples(index=False)
        ]
        for start in range(0, len(points), _METRICS_PER_CALL):
            client.log_batch(run_id, metrics=points[start : start + _METRICS_PER_CALL])
        with tempfile.TemporaryDirectory() as folder:
            for name, data in record.artifacts.items():
                (Path(folder) / name).write_bytes(data)
            mlflow.log_artifacts(folder)

    def _log_model(self, bundle: Bundle, record: TrainingRecord) -> Any:
        mlflow = import_mlflow()
        package = Path(__file__).resolve().parents[1]
        example = pd.DataFrame(
            {
                "station_id": ["1161114002"],
                "parameter_id": ["122"],
                "reading_time": ["2017-04-18T00:07:29Z"],
                "value": ["8.0"],
            }
        )
        self.keep(bundle)
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(package / "serving" / "pyfunc.py"),
            artifacts={"bundle": str(self.cache / bundle.digest)},
            code_paths=[str(package)],
            signature=_signature(),
            input_example=example,
            pip_requirements=[f"{name}=={version}" for name, version in _serving_packages().items()],
            registered_model_name=REGISTERED_NAME,
            metadata={"bundle_digest": bundle.digest, **record.tags},
        )

    def _fetch(self, digest: str, model_uri: str | None) -> Path:
        if not model_uri:
            raise ModelStoreError(
                f"model version {digest[:12]} is neither in {self.cache} nor in MLflow; train a new one"
            )
        with mlflow_errors(self.tracking_uri):
            self.client()
            from mlflow.artifacts import download_artifacts

            with tempfile.TemporaryDirectory() as folder:
                # The whole model: MLflow takes a path behind a model's own URI for the name of a registered one.
                fetched = Path(download_artifacts(model_uri, dst_path=folder)) / "artifacts" / digest
                files = {file.name: file.read_bytes() for file in fetched.iterdir()}
        if digest_of(files) != digest:
            raise ModelStoreError(
                f"model version {digest[:12]} in MLflow is not what was trained: its bytes have changed"
            )
        self.keep(Bundle.from_files(files))
        return self.cache / digest


def _registered_before(client: Any, experiment: str, bundle_digest: str) -> Registered | None:
    """What a process registered that died before it could say so; a run that it left without a model is ended."""
    for run in client.search_runs([experiment], f"tags.{_BUNDLE} = '{bundle_digest}'"):
        run_id, versions = run.info.run_id, client.search_model_versions(f"run_id = '{run.info.run_id}'")
        if run.info.status == "RUNNING":
            client.set_terminated(run_id, "FINISHED" if versions else "KILLED")
        if versions:
            return Registered(run_id, experiment, f"models:/{versions[0].model_id}", int(versions[0].version))
    return None


def _signature() -> Any:
    """Rows as in a landing file in, rows as the `Forecasts` schema says out, with what was rejected.

    What comes in is text, as a landing file is: a type would let one broken cell refuse all rows.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    keys = [("station_id", "long"), ("parameter_id", "long")]
    rows = [ColSpec("string", name) for name in ("station_id", "parameter_id", "reading_time", "value")]
    times = [(name, "datetime") for name in ("issued_at", "target_at")]
    quantiles = [(name, "double") for name in ("q05", "q10", "q50", "q90", "q95")]
    said = (*keys, *times, ("step_ahead", "long"), *quantiles, ("rejected", "string"))
    forecasts = [ColSpec(kind, name) for name, kind in said]
    return ModelSignature(Schema([*rows, ColSpec("string", "id", required=False)]), Schema([*forecasts]))


def _serving_packages() -> dict[str, str]:
    """What forecasts: TensorFlow only trains."""
    from bts_assets.storage.provenance import PRETRAINED, packages

    unused = ("dagster", "sqlalchemy", "keras", "tensorflow", PRETRAINED)
    return {k: v for k, v in packages().items() if k not in unused}


def import_mlflow() -> Any:
    """MLflow takes seconds to import: only who logs or fetches a model pays for it."""
    os.environ.update({k: v for k, v in (_QUIET | _HTTP_LIMITS).items() if k not in os.environ})
    import mlflow

    return mlflow


@contextmanager
def hushed() -> Iterator[None]:
    """Without MLflow's announcements and hints: a night says what it did itself."""
    # MLflow's own switch is turned on again by what it calls in between.
    with redirect_stderr(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class mlflow_errors:  # noqa: N801 - reads as a statement
    """Turn whatever MLflow or its network throws into one line."""

    def __init__(self, tracking_uri: str) -> None:
        self.at = tracking_uri if tracking_uri.startswith("http") else "the database"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, BtsError):
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelStoreError(CREDENTIALS.sub("://", f"MLflow at {self.at} failed: {first}")) from error
