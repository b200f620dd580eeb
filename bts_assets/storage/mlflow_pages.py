"""Where MLflow shows what was told to it: addresses of its pages, for whoever prints them."""

from typing import Final

from bts_assets.storage.mlflow_registry import CREDENTIALS, REGISTERED_NAME

#: Where `bts up` serves its pages unless told otherwise.
_PAGES: Final = "http://127.0.0.1:5000"
#: What opens the view for machine learning: without it, MLflow may show the one for chat models.
_VIEW: Final = "?workflowType=machine_learning"


def run_page(tracking_uri: str | None, run_id: str) -> str:
    """Where MLflow shows a run: an MLflow server of the user's own has its pages itself."""
    return f"{_pages(tracking_uri)}/#/runs/{run_id}{_VIEW}"


def version_page(tracking_uri: str | None, registry_version: int) -> str:
    """Where MLflow shows a registered version."""
    return f"{_pages(tracking_uri)}/#/models/{REGISTERED_NAME}/versions/{registry_version}{_VIEW}"


def trainings_page(address: str) -> str:
    """Where an MLflow server at `address` lists the trainings."""
    return f"{address}/#/experiments/1/runs{_VIEW}"


def _pages(tracking_uri: str | None) -> str:
    own = tracking_uri if tracking_uri and tracking_uri.startswith("http") else _PAGES
    return CREDENTIALS.sub("://", own).rstrip("/")
