"""Figures of benchmarks by commit, as JSON in docs: what `--record` enters, and pictures are drawn from."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

CHECKOUT: Final = Path(__file__).parent.parent
Entry = dict[str, Any]


def entry(**figures: Any) -> Entry:
    """Figures with the commit, the time and the machine that they were measured on, and how busy it was besides."""
    return {
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_after": round(os.getloadavg()[0], 1),
        **figures,
    }


def read(record: Path) -> list[Entry]:
    """What was entered, the oldest first."""
    entries: list[Entry] = json.loads(record.read_text()) if record.exists() else []
    return entries


def write(record: Path, entries: list[Entry]) -> None:
    record.write_text(json.dumps(entries, indent=1) + "\n")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True, cwd=CHECKOUT)  # noqa: S603, S607
    return done.stdout.strip()
