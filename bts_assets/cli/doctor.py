"""`bts doctor`: what a set-up needs, each checked for real, with what to do where it is missing."""

import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from rich.markup import escape

from bts_assets.cli.render.terminal import out
from bts_assets.contracts.errors import BtsError, DiskError
from bts_assets.contracts.grid import format_duration
from bts_assets.contracts.schemas import Readings, SchemaChecksDisabled, validate
from bts_assets.services.data_warnings import ahead_warning, lost_warning
from bts_assets.services.engine import described
from bts_assets.services.home import Home, has_database, may_create_schemas, open_home, role_urls, schema_standing
from bts_assets.settings import Settings, load_settings
from bts_assets.storage.embedded import server as embedded
from bts_assets.storage.embedded.roles import WRITER
from bts_assets.storage.failures import explained
from bts_assets.storage.mlflow_registry import CHAMPION
from bts_assets.storage.postgres import check_grid, connect, without_secrets
from bts_assets.storage.schema_state import Standing

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
        ("engine", lambda: described(settings)),
    ]
    results = [_try(name, check) for name, check in checks]
    if not _try("postgres", lambda: _postgres(settings)):
        return False
    if not has_database(settings):
        return all(results)
    found = schema_standing(settings)
    if not _try("schema", lambda: _schema(settings, found)):
        return False
    if found.state == "absent":
        return all(results)
    try:
        home = open_home(settings, to_read=True)
        with home.engine.connect() as connection:
            check_grid(connection, settings.grid)
    except Exception as error:
        return _say("postgres", error)
    later = [
        ("dagster", lambda: f"keeps its tables at {without_secrets(home.dagster_database_url)}, schema dagster"),
        ("mlflow", lambda: _mlflow(home)),
        ("batch", lambda: _batch(home)),
        ("readings", lambda: _readings(home)),
    ]
    results += [_try(name, check) for name, check in later]
    return all(results)


def _try(name: str, check: Callable[[], str]) -> bool:
    try:
        out.print(f"[green]ok[/green]    {name:<9} {escape(check())}")
    except Exception as error:
        return _say(name, error)
    return True


def _say(name: str, error: Exception) -> bool:
    told = explained(error)
    if told is None:
        raise error
    out.print(f"[red]wrong[/red] {name:<9} {escape(str(told))}")
    return False


def _settings(settings: Settings) -> str:
    grid = settings.grid
    spans = ", ".join(f"{n} {format_duration(getattr(grid, n))}" for n in ("step", "context", "horizon"))
    return f"{spans}, effort {settings.training_effort}, home {settings.home}"


def _disk(settings: Settings) -> str:
    there = next(p for p in (settings.home, *settings.home.parents) if p.exists())
    free = shutil.disk_usage(there).free
    if free < _LEAST_FREE:
        raise DiskError(f"{free / 2**30:.1f} GiB free at {there}: make room for at least {_LEAST_FREE >> 30} GiB")
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


def _postgres(settings: Settings) -> str:
    if not has_database(settings):
        return f"{embedded.version()}, embedded; none yet in {settings.home}: bts nightly makes it"
    url = role_urls(settings)[WRITER]
    engine = connect(url, settings.lock_timeout)
    try:
        with engine.connect() as connection:
            version, closed = connection.execute(_CONDITION).one()
    finally:
        engine.dispose()
    kind = "yours" if settings.database_url else "embedded"
    if closed:
        raise BtsError(f"{version}, {kind}, {without_secrets(url)} can only be read: {closed}; nights need a primary")
    return f"{version}, {kind}, {without_secrets(url)}"


_CONDITION: Final = sa.text("""
    SELECT current_setting('server_version'),
           CASE WHEN pg_is_in_recovery() THEN 'it is a hot standby'
                WHEN current_setting('default_transaction_read_only')::boolean
                THEN 'default_transaction_read_only is on'
           END
""")


def _schema(settings: Settings, found: Standing) -> str:
    if found.state == "absent":
        if not may_create_schemas(settings):
            raise BtsError(
                "none yet, and the role may not make it: GRANT CREATE ON DATABASE ... TO the role of the URL"
            )
        return "none yet: bts nightly makes it, or bts migrate"
    refusal = found.refusal()
    if refusal:
        raise refusal
    if found.state == "other views":
        return (
            f"revision {found.revision}; its views or catalogue are of another version of bts: bts migrate renews them"
        )
    return "that of this version of bts"


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
