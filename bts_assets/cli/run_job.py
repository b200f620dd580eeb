"""Runs a Dagster job in this process, recorded in the home's own Dagster instance, which `bts up` shows."""

import os
from pathlib import Path
from typing import Any, Final

from bts_assets import progress
from bts_assets.contracts.errors import BtsError
from bts_assets.services.home import open_home, schema_url
from bts_assets.settings import Settings
from bts_assets.storage.shipped import shipped

Metadata = dict[str, dict[str, Any]]

_CONSOLE: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def environment(settings: Settings, url: str) -> dict[str, str]:
    """What plain `dagster` and `mlflow` commands need in order to see this home."""
    return {
        "BTS_HOME": str(settings.home),
        "BTS_DAGSTER_DATABASE_URL": schema_url(url, "dagster"),
        "DAGSTER_HOME": str(dagster_home(settings)),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri or schema_url(url, "mlflow"),
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


def run_job(name: str, settings: Settings, *, landing: Path | None = None, as_of: str | None = None) -> Metadata:
    """Run a job to its end. Returns the metadata of each asset's materialization, by asset.

    Without a `landing` folder it is that of the home, without `as_of` the clock decides.

    Raises:
        BtsError: what a user can act on, whichever asset met it. Anything else is a defect and escapes as it is.
    """
    progress.report("starting", 0, 1)  # importing Dagster and opening its instance takes seconds
    # Opened here as well as in the run: a fresh database has no schema for Dagster's own tables yet.
    home = open_home(settings)
    home.engine.dispose()
    os.environ.update(environment(settings, home.url))
    import dagster as dg

    from bts_assets.definitions import defs
    from bts_assets.defs.abandoned_runs import fail_abandoned
    from bts_assets.defs.nightly import night_config

    config = night_config(str(landing.absolute()) if landing else None, as_of)
    with dg.DagsterInstance.get() as instance:
        fail_abandoned(instance)
        job = defs.resolve_job_def(name)
        progress.report("starting", 1, 1)
        try:
            result = job.execute_in_process(instance=instance, run_config={**config, **_CONSOLE})
        except dg.DagsterError as error:
            cause = _cause(error)
            raise (cause or error) from None
    events = [e.step_materialization_data.materialization for e in result.get_asset_materialization_events()]
    return {
        event.asset_key.to_user_string(): {key: value.value for key, value in event.metadata.items()}
        for event in events
    }


def report_abandoned(settings: Settings, url: str) -> list[str]:
    """Report runs of this home as failed whose process is gone; their ids."""
    os.environ.update(environment(settings, url))
    import dagster as dg

    from bts_assets.defs.abandoned_runs import fail_abandoned

    with dg.DagsterInstance.get() as instance:
        return fail_abandoned(instance)


def _cause(error: BaseException) -> BtsError | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, BtsError):
            return seen
        seen = seen.__cause__ or getattr(seen, "user_exception", None)
    return None
