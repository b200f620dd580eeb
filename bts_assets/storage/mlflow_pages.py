"""Where MLflow shows what was told to it: addresses of its pages, for whoever prints them.

`server` is where its pages are, as `served_pages.pages_of` says.
"""

from typing import Final

from bts_assets.storage.mlflow_experiments import COLUMNS

REGISTERED_NAME: Final = "bts-forecaster"
#: What opens the view for machine learning: without it, MLflow may show the one for chat models.
_VIEW: Final = "?workflowType=machine_learning"


def run_page(server: str, run_id: str, experiment_id: str | None) -> str:
    """Where MLflow shows a run.

    By its number alone MLflow finds a run too, but on the way there it forgets which view was asked for.
    """
    where = f"/experiments/{experiment_id}" if experiment_id else ""
    return f"{server}/#{where}/runs/{run_id}{_VIEW}"


def version_page(server: str, registry_version: int) -> str:
    """Where MLflow shows a registered version."""
    return f"{server}/#/models/{REGISTERED_NAME}/versions/{registry_version}{_VIEW}"


def trainings_page(server: str, experiment_id: str = "1") -> str:
    """Where MLflow lists the trainings; theirs is the first experiment that a home makes in tables of ours."""
    return f"{server}/#/experiments/{experiment_id}/runs{_VIEW}&viewStateShareKey={COLUMNS}"
