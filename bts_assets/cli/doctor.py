"""`bts doctor`: what a set-up needs, each checked for real, with what to do where it is missing."""

import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa
from rich.markup import escape

from bts_assets.cli.render.terminal import out
from bts_assets.contracts.errors import BtsError
from bts_assets.contracts.grid import format_duration
from bts_assets.contracts.schemas import Readings, SchemaChecksDisabled, validate
from bts_assets.services.data_warnings import ahead_warning, lost_warning
from bts_assets.services.home import Home, open_home
from bts_assets.settings import Settings, load_settings
from bts_assets.storage.mlflow_registry import CHAMPION

#: Less free space than this does not carry a night's forecasts, their key and the write-ahead log (bytes).
_LEAST_FREE = 2 << 30


def examine() -> bool:
    """Run every check, print a line for each; whether all passed."""
    try:
        settings = load_settings()
    except BtsError as error:
        return _say("settings", error)
    checks: list[tuple[str, Callable[[], str]]] = [
        ("settings", lambda: _settings(settings)),
        ("disk", lambda: _disk(settings)),
        ("python", _python),
        ("pandera", _pandera),
        ("landing", lambda: _landing(settings)),
    ]
    results = [_try(name, check) for name, check in checks]
    try:
        home = open_home(settings)
    except (BtsError, OSError) as error:
        return _say("postgres", error)
    later = [
        ("postgres", lambda: _postgres(home)),
        ("mlflow", lambda: _mlflow(home)),
        ("batch", lambda: _batch(home)),
        ("readings", lambda: _readings(home)),
    ]
    results += [_try(name, check) for name, check in later]
    return all(results)


def _try(name: str, check: Callable[[], str]) -> bool:
    try:
        out.print(f"[green]ok[/green]    {name:<9} {escape(check())}")
    except (BtsError, OSError) as error:
        return _say(name, error)
    return True


def _say(name: str, error: Exception) -> bool:
    out.print(f"[red]wrong[/red] {name:<9} {escape(str(error))}")
    return False


def _settings(settings: Settings) -> str:
    grid = settings.grid
    spans = ", ".join(f"{n} {format_duration(getattr(grid, n))}" for n in ("step", "context", "horizon"))
    return f"{spans}, effort {settings.training_effort}, home {settings.home}"


def _disk(settings: Settings) -> str:
    there = next(p for p in (settings.home, *settings.home.parents) if p.exists())
    free = shutil.disk_usage(there).free
    if free < _LEAST_FREE:
        raise BtsError(f"{free / 2**30:.1f} GiB free at {there}: make room for at least {_LEAST_FREE >> 30} GiB")
    return f"{free / 2**30:.0f} GiB free"


def _python() -> str:
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise BtsError(
            f"Python {sys.version.split()[0]} runs; the locked packages are for 3.11 to 3.13: run make in the checkout"
        )
    return sys.version.split()[0]


def _pandera() -> str:
    import pandas as pd

    try:
        validate(Readings, pd.DataFrame())
    except SchemaChecksDisabled as error:
        raise BtsError(str(error)) from None
    except Exception:  # an empty frame must be refused, in whatever words
        return "refuses a frame without columns"
    raise BtsError("pandera lets a frame without columns pass: reinstall it")


def _landing(settings: Settings) -> str:
    if settings.landing_dir is None:
        return "none is set; bts nightly simulates a network"
    if not settings.landing_dir.is_dir():
        raise BtsError(f"BTS_LANDING_DIR={settings.landing_dir} is no folder: create it or set another")
    return str(settings.landing_dir)


def _postgres(home: Home) -> str:
    with home.engine.connect() as connection:
        version = connection.scalar(sa.text("SELECT current_setting('server_version')"))
    kind = "yours" if home.settings.database_url else "embedded"
    return f"{version}, {kind}, {home.engine.url.render_as_string(hide_password=True)}"


def _mlflow(home: Home) -> str:
    version = home.models.pointed(CHAMPION)
    return "answers; " + (f"champion is registry version {version}" if version else "no champion yet: run bts nightly")


def _readings(home: Home) -> str:
    now = datetime.now(UTC)
    warning = ahead_warning(home, now) or lost_warning(home, now)
    if warning:
        raise BtsError(warning)
    return "none lies ahead of now, none gave way to others of its id beyond a few per cent"


def _batch(home: Home) -> str:
    with home.engine.connect() as connection:
        row = connection.execute(sa.text("SELECT * FROM bts.latest_batch")).mappings().first()
    if row is None:
        return "none yet: run bts nightly"
    if row["state"] == "stale":
        raise BtsError(
            f"the latest batch is of {row['issued_at']}, and stale: run bts nightly, and see why the schedule did not"
        )
    return f"{row['batch_id']}, {row['state']}, origin {row['issued_at']}"
