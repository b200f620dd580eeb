"""The `bts` command as a user runs it: a process of its own, without the settings of whoever runs the tests."""

import os
import subprocess
import sys
from pathlib import Path

import forked

BTS = Path(sys.executable).parent / "bts"
COMMANDS = (
    "nightly",
    "ingest",
    "status",
    "breaches",
    "accuracy",
    "alerts",
    "outage",
    "drift",
    "forecast",
    "backtest",
    "catalogue",
    "tune",
    "lineage",
    "impact",
    "replay",
    "prune",
    "retrain",
    "versions",
    "promote",
    "rollback",
    "probation",
    "simulate",
    "rehearse",
    "up",
    "explore",
    "url",
    "sql",
    "env",
    "stop",
    "doctor",
    "verify",
    "backup",
    "restore",
    "migrate",
)


def bts(
    *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that need not import its libraries (`forked`)."""
    return forked.run(list(arguments), _environment(env), cwd, timeout)


def started(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that imports its libraries itself: some read their settings then."""
    return subprocess.run(
        [BTS, *arguments],
        env=_environment(env),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )


def _environment(given: dict[str, str] | None) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("BTS_")}
    return inherited | {"COLUMNS": "100"} | (given or {})
