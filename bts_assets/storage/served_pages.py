"""Where the pages of Dagster and MLflow are served for a home: what `bts up` said when it last began."""

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_FILE: Final = "pages.json"
#: User and password within a URL, which must not be told.
CREDENTIALS: Final = re.compile(r"://[^/\s]*@")


@dataclass(frozen=True)
class Pages:
    """Addresses without a slash at their end; where `bts up` serves unless told otherwise."""

    dagster: str = "http://127.0.0.1:3000"
    mlflow: str = "http://127.0.0.1:5000"


def pages_of(home: Path, tracking_uri: str | None = None) -> Pages:
    """The pages of a home; tracking_uri: an MLflow server of the user's own has its pages itself."""
    try:
        kept = json.loads((home / _FILE).read_text(encoding="utf-8"))
        pages = Pages(**{name: str(kept[name]) for name in asdict(Pages())})
    except (OSError, ValueError, LookupError, TypeError):
        pages = Pages()
    if tracking_uri and tracking_uri.startswith("http"):
        return Pages(pages.dagster, CREDENTIALS.sub("://", tracking_uri).rstrip("/"))
    return pages


def keep_pages(home: Path, pages: Pages) -> None:
    """Keep where the pages are from now on: whole or not at all."""
    partial = home / f".{_FILE}-{os.getpid()}"
    partial.write_text(json.dumps(asdict(pages)), encoding="utf-8")
    partial.replace(home / _FILE)
