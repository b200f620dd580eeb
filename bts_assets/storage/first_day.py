"""The day of a home's oldest observation, kept in a file: Dagster asks for it where no database may be waited for."""

import os
from datetime import date
from pathlib import Path
from threading import get_ident
from typing import Final

_FILE: Final = "first-day"


def kept_first_day(home: Path) -> date | None:
    """The day that is kept in a home's folder; None: nothing was observed yet, or the file is none of ours."""
    try:
        return date.fromisoformat((home / _FILE).read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None


def keep_first_day(home: Path, day: date) -> None:
    """Keep a day, if it is before the one that is kept: whole or not at all."""
    kept = kept_first_day(home)
    if kept is not None and kept <= day:
        return
    partial = home / f".{_FILE}-{os.getpid()}-{get_ident()}"
    partial.write_text(f"{day}\n", encoding="ascii")
    partial.replace(home / _FILE)
