"""Runs a Dagster job in this process, recorded in the home's own Dagster instance, which `bts up` shows."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bts_assets import progress
from bts_assets.cli.failed_job import tell_of_failure
from bts_assets.cli.render.terminal import err
from bts_assets.contracts.errors import UsageError
from bts_assets.contracts.nights import night_of
from bts_assets.contracts.origin import Origin, asked_origin, at_grid
from bts_assets.landing.inbox import check_folder
from bts_assets.services.home import Home, open_home
from bts_assets.services.night_origin import origin_at, origin_by_the_clock, refuse_before_data
from bts_assets.settings import Settings
from bts_assets.storage.failures import explained
from bts_assets.storage.first_day import kept_first_day
from bts_assets.storage.shipped import shipped

if TYPE_CHECKING:
    import dagster as dg

Metadata = dict[str, dict[str, Any]]

#: The jobs that may change the schema, and say so.
_MIGRATING: Final = ("nightly", "ingest")

#: As workspace.yaml names the code location, and Dagster the one `Definitions` object in it.
CODE_LOCATION: Final = "bts"
_REPOSITORY: Final = "__repository__"

_CONSOLE: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def environment(home: Home) -> dict[str, str]:
    """What plain `dagster` and `mlflow` commands need in order to see this home."""
    settings = home.settings
    return {
        "BTS_HOME": str(settings.home),
        "BTS_DAGSTER_DATABASE_URL": home.dagster_database_url,
        "DAGSTER_HOME": str(dagster_home(settings)),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "MLFLOW_TRACKING_URI": home.mlflow_tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        # Its own job queue serves traces of language models, which there are none of here.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def dagster_home(settings: Settings) -> Path:
    """The Dagster instance's folder, its dagster.yaml as this version ships it."""
    folder = settings.home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    wanted, standing = shipped("dagster.yaml").read_bytes(), folder / "dagster.yaml"
    if not standing.exists() or standing.read_bytes() != wanted:
        standing.write_bytes(wanted)
    return folder


def _spare_standard_error() -> None:
    """Let Dagster set logging up anew without closing whatever standard error was when TensorFlow was imported.

    It closes every handler there is, and absl's closes its stream with it unless that is the process's own: in a
    notebook or a test it is another.
    """
    if absl_logging := sys.modules.get("absl.logging"):
        absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__


@contextmanager
def _libraries_in_a_file(folder: Path) -> Iterator[None]:
    """What libraries print on standard error goes into logs/bts.log; Dagster tells there, too, of a lost database."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "bts.log").open("a", encoding="utf-8", errors="replace", buffering=1) as log:
        own = err.file
        err.file = own  # the console's own, whatever standard error is meanwhile
        try:
            with redirect_stderr(log):
                _spare_standard_error()
                yield
        finally:
            err._file = None  # back to whatever standard error is


def _complete_tables(url: str) -> None:
    """Make what is missing of Dagster's tables: it makes them outside a transaction, and where its first start was cut
    off by a full disk or a kill, it takes them for complete."""
    from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
    from dagster._core.storage.runs.schema import RunStorageSqlMetadata
    from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata

    engine = sa.create_engine(url)
    try:
        present = set(sa.inspect(engine).get_table_names())
        for metadata in (RunStorageSqlMetadata, SqlEventLogStorageMetadata, ScheduleStorageSqlMetadata):
            if not present.issuperset(metadata.tables):
                metadata.create_all(engine)
    finally:
        engine.dispose()


def run_job(name: str, settings: Settings, *, landing: Path | None = None, as_of: str | None = None) -> Metadata:
    """Run a job to its end. Returns the metadata of each asset's materialization, by asset.

    Without a `landing` folder it is that of the home, without `as_of` the clock decides.

    People are alerted of a failure, but for what whoever called it has mistaken.

    Raises:
        BtsError: what a user can act on, whichever asset met it. Anything else is a defect and escapes as it is.
    """
    if as_of is not None:  # a mistake is told before there is a run
        asked_origin(as_of, settings.timezone, datetime.now(UTC))
    if landing is not None:
        check_folder(landing)
    try:
        return _run(name, settings, landing, as_of)
    except UsageError:
        raise
    except Exception as error:
        tell_of_failure(settings, name, error)
        raise


def _run(name: str, settings: Settings, landing: Path | None, as_of: str | None) -> Metadata:
    progress.report("starting", 0, 1)  # importing Dagster and opening its instance takes seconds
    # Opened here as well as in the run: a fresh database has no schema for Dagster's own tables yet.
    home = open_home(settings, migrates=name in _MIGRATING, say=lambda told: err.print(told, markup=False))
    asked = None if as_of is None else asked_origin(as_of, settings.timezone, datetime.now(UTC))
    if asked is not None:
        refuse_before_data(home, asked, f"--as-of {as_of}", landing or home.landing)
    home.engine.dispose()
    os.environ.update(environment(home))
    _list_nights_from(settings, asked)
    import dagster as dg

    from bts_assets.defs.abandoned_runs import fail_abandoned
    from bts_assets.defs.schedules import night_config

    folder = str(landing.absolute()) if landing else None
    with dg.DagsterInstance.get() as instance:
        _complete_tables(home.dagster_database_url)
        fail_abandoned(instance)
        progress.report("starting", 1, 1)
        if name != "nightly":
            return _materialized(instance, settings, name, night_config(folder, as_of), {})
        taken: Metadata = {}
        origin = _known_origin(home, asked)
        if origin is None:
            taken = _materialized(instance, settings, "ingest", night_config(folder), {})
            origin = origin_at(home, datetime.now(UTC))
        home.engine.dispose()
        from bts_assets.defs.partitions import tags_of

        config = night_config(folder, as_of or origin.issued_at.isoformat(), origin.why)
        made = _materialized(instance, settings, name, config, tags_of(origin.issued_at))
    return {**made, **taken}


def _list_nights_from(settings: Settings, asked: datetime | None) -> None:
    """Let this process list nights from the one that is asked for on: its readings may come with this very run, and the
    list is made once, before that.
    """
    kept = kept_first_day(settings.home)
    if asked is None or kept is None or settings.first_night is not None:
        return
    night = night_of(asked, settings.timezone)
    if night < kept:
        os.environ["BTS_FIRST_NIGHT"] = night.isoformat()


def _known_origin(home: Home, asked: datetime | None) -> Origin | None:
    """The origin of a night, whose partition its run must name: as asked, or the clock's. None: the end of a recording,
    which its files tell once they are taken in."""
    now = datetime.now(UTC)
    if asked is not None:
        return at_grid(home.settings.grid, asked, now)
    return origin_by_the_clock(home, now)


def _materialized(
    instance: "dg.DagsterInstance",
    settings: Settings,
    name: str,
    config: Mapping[str, Any],
    tags: Mapping[str, str],
) -> Metadata:
    """Run a job here; the metadata of each asset that it materialized."""
    import dagster as dg

    from bts_assets.definitions import defs

    try:
        with _libraries_in_a_file(settings.home / "logs"):
            result = _execute(defs.resolve_job_def(name), instance, {**config, **_CONSOLE}, tags)
    except dg.DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None
    except dg.DagsterError as error:
        # What a user can act on, however deep; else it escapes as it is.
        raise (explained(error) or error) from None
    events = [e.step_materialization_data.materialization for e in result]
    return {
        event.asset_key.to_user_string(): {key: value.value for key, value in event.metadata.items()}
        for event in events
    }


def _execute(
    job: "dg.JobDefinition", instance: "dg.DagsterInstance", config: Mapping[str, Any], tags: Mapping[str, str]
) -> "list[dg.DagsterEvent]":
    """Run the job here; the events of what it materialized.

    `JobDefinition.execute_in_process` does not record which code location a run is of, and Dagster's front page, its
    timeline and the bars of a job show only runs with one.
    """
    from dagster._core.definitions.job_base import InMemoryJob
    from dagster._core.execution.api import execute_run
    from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(CODE_LOCATION), _REPOSITORY)
    run = instance.create_run_for_job(
        job_def=job,
        run_config=config,
        tags={**job.run_tags, **tags},
        remote_job_origin=repository.get_job_origin(job.name),
    )
    result = execute_run(InMemoryJob(job), run, instance, raise_on_error=True)
    return [event for event in result.all_events if event.is_step_materialization]


def report_abandoned(home: Home) -> list[str]:
    """Report runs of this home as failed whose process is gone; their ids."""
    os.environ.update(environment(home))
    import dagster as dg

    from bts_assets.defs.abandoned_runs import fail_abandoned

    with dg.DagsterInstance.get() as instance:
        return fail_abandoned(instance)
