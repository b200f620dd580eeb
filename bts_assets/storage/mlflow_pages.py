"""Where MLflow shows what was told to it: addresses of its pages, for whoever prints them."""

import re
from typing import Final

from bts_assets.storage.mlflow_experiments import COLUMNS

REGISTERED_NAME: Final = "bts-forecaster"
#: User and password within a URL, which must not be told.
CREDENTIALS: Final = re.compile(r"://[^/\s]*@")
#: Where `bts up` serves its pages unless told otherwise.
_PAGES: Final = "http://127.0.0.1:5000"
#: What opens the view for machine learning: without it, MLflow may show the one for chat models.
_VIEW: Final = "?workflowType=machine_learning"


def run_page(tracking_uri: str | None, run_id: str, experiment_id: str | None) -> str:
    """Where MLflow shows a run: an MLflow server of the user's own has its pages itself.

    By its number alone MLflow finds a run too, but on the way there it forgets which view was asked for.
    """
    where = f"/experiments/{experiment_id}" if experiment_id else ""
    return f"{_pages(tracking_uri)}/#{where}/runs/{run_id}{_VIEW}"


def version_page(tracking_uri: str | None, registry_version: int) -> str:
    """Where MLflow shows a registered version."""
    return f"{_pages(tracking_uri)}/#/models/{REGISTERED_NAME}/versions/{registry_version}{_VIEW}"


def trainings_page(tracking_uri: str | None, experiment_id: str = "1") -> str:
    """Where MLflow lists the trainings; theirs is the first experiment that a home makes in tables of ours."""
    return f"{_pages(tracking_uri)}/#/experiments/{experiment_id}/runs{_VIEW}&viewStateShareKey={COLUMNS}"


def _pages(tracking_uri: str | None) -> str:
    own = tracking_uri if tracking_uri and tracking_uri.startswith("http") else _PAGES
    return CREDENTIALS.sub("://", own).rstrip("/")
