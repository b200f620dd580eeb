"""Nights on servers that are not ours: each Postgres by itself, and through PgBouncer in transaction mode.

    python -m benchmarks.servers --bin DIR [DIR ...] [--without-pool]

DIR holds the programs of one Postgres (`initdb`, `postgres`). On each a new server is started, set up by
deploy/postgres/10_roles_and_schemas.sql, and then the work is done by its roles over the URLs of a deployment: the
schema is made as the owner; six nights with late files and corrections are walked through by a version that needs no
training; the commands `bts ingest`, `bts nightly` and `bts sql` run as processes of their own, with Dagster's and
MLflow's tables on that server; two workers make a batch from one shared snapshot; every batch is replayed; the public
views, the example queries and Grafana's are asked as the reader; a backup is restored beside it. One row a server and
way; `forecasts`, of all batches, must be the same everywhere. It ends with 1 if anything failed or differs.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from benchmarks.foreign_server import foreign_server
from bts_assets.contracts.origin import Origin
from bts_assets.services.backup import back_up, find_backup, restore
from bts_assets.services.home import Home, migrate_home, open_home
from bts_assets.services.known_at_origin import what_is_given
from bts_assets.services.nightly import forecast
from bts_assets.services.replay import replay
from bts_assets.services.verify import verify
from bts_assets.settings import Settings, load_settings
from bts_assets.storage.loading import forecast_digests, forecasts_digest
from bts_assets.storage.model_versions import champion_for

CHECKOUT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(CHECKOUT / "tests" / "helpers"))
from grafana import CHOSEN, QUERIES, RULES, filled_in  # noqa: E402 - helpers of the tests
from handmade_night import PASSWORD, SECRETS, run_init_script  # noqa: E402
from pgbouncer import PGBOUNCER, pooled  # noqa: E402
from small_nights import SMALL, rows_of  # noqa: E402
from walked_nights import NIGHTS, origin_of, walk, write_day  # noqa: E402

ROLES: Final = ("bts_owner", "bts_writer", "bts_reader")
#: As a program on its own reads them.
ENVIRONMENT: Final = {"BTS_STEP": "1h", "BTS_CONTEXT": "24h", "BTS_HORIZON": "6h", "BTS_FILE_STABLE_FOR": "0s"}
_ALL_BATCHES: Final = "SELECT batch_id, forecasts_digest AS digest FROM bts.batch ORDER BY batch_id"
#: What a reader must not be able to do, whatever its text.
_FORBIDDEN: Final = (
    "DELETE FROM bts.batch",
    "SELECT set_config('transaction_read_only', 'off', true), lo_create(0)",
    "SELECT nextval('bts.batch_batch_id_seq')",
)


@dataclass(frozen=True)
class Place:
    """A database and a home on a server, and how they are reached."""

    folder: Path
    admin: str
    direct: str
    owner: str
    writer: str
    reader: str

    @property
    def settings(self) -> Settings:
        return self.settings_at(self.writer)

    def settings_at(self, url: str, **more: object) -> Settings:
        urls = {"database_url": url, "reader_database_url": self.reader, "direct_database_url": self.direct}
        return load_settings(home=self.folder / "home", file_stable_for=timedelta(0), **urls, **SMALL, **more)

    def bts(self, *arguments: str) -> str:
        """Run a command as a process of its own; what it printed.

        Raises:
            RuntimeError: what it said, if it failed.
        """
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("BTS_", "DAGSTER_", "MLFLOW_"))}
        place = {"BTS_HOME": str(self.folder / "home"), "BTS_DATABASE_URL": self.writer}
        place |= {"BTS_READER_DATABASE_URL": self.reader, "BTS_DIRECT_DATABASE_URL": self.direct}
        command = [sys.executable, "-m", "bts_assets.cli", *arguments]
        done = subprocess.run(  # noqa: S603 - our own command
            command, env=kept | ENVIRONMENT | place, capture_output=True, text=True, check=False, timeout=600
        )
        if done.returncode:
            raise RuntimeError(f"bts {arguments[0]} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", nargs="+", type=Path, required=True, help="folders of Postgres' programs")
    parser.add_argument("--without-pool", action="store_true", help="not through PgBouncer")
    given = parser.parse_args()
    ways = ["direct"] + (["PgBouncer"] if PGBOUNCER and not given.without_pool else [])
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for programs in given.bin:
        with foreign_server(programs.absolute()) as url:
            for way in ways:
                rows[_version(url), way] = _row(url, way)
    _print(rows)
    failed = any(told.startswith("FAILED") for row in rows.values() for told in row.values())
    if failed or len({row["forecasts"] for row in rows.values()}) != 1:
        sys.exit(1)


def _version(url: str) -> str:
    with closing(psycopg2.connect(url)) as connection:
        number = connection.server_version
    return f"{number // 10_000}.{number % 10_000}"


def _row(url: str, way: str) -> dict[str, str]:
    """Do everything on one server in one way; what came of each step, whose failure does not keep the next from it."""
    started, told = time.monotonic(), {}
    with _place(url, way) as place:
        for name, step in _STEPS.items():
            try:
                told[name] = step(place)
            except Exception as error:
                told[name] = f"FAILED: {' '.join(f'{type(error).__name__}: {error}'.split())[:300]}"
            sys.stderr.write(f"{_version(url)} {way}: {name}: {told[name]}\n")
    return told | {"seconds": f"{time.monotonic() - started:.0f}"}


@contextmanager
def _place(url: str, way: str) -> Iterator[Place]:
    """A new database with the roles of a deployment, and a home; through a pool, what needs a session goes past it."""
    name = f"bts_{way.lower()}"
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
    admin = f"{url.rpartition('/')[0]}/{name}"
    done = run_init_script(admin, **SECRETS)
    if done.returncode:
        raise RuntimeError(done.stderr)
    with closing(psycopg2.connect(admin)) as connection, connection, connection.cursor() as cursor:
        for role in ROLES:  # so that a time zone shows that was not set
            cursor.execute(f"ALTER ROLE {role} IN DATABASE {name} SET timezone = 'Asia/Tokyo'")
    itself = tuple(_as(admin, role) for role in ROLES)
    with tempfile.TemporaryDirectory(prefix="bts-servers-") as folder:
        if way == "direct":
            yield Place(Path(folder), admin, itself[1], *itself)
        else:
            with pooled(*itself) as through:
                yield Place(Path(folder), admin, itself[1], *through)


def _as(url: str, role: str) -> str:
    parts = urlsplit(url)
    login = f"{role}:{PASSWORD.replace(' ', '%20').replace(chr(39), '%27')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}"))


def _migrates(place: Place) -> str:
    migrate_home(place.settings_at(place.owner))
    migrate_home(place.settings_at(place.owner))
    return "ok"


def _walks(place: Place) -> str:
    home = open_home(place.settings)
    walked = walk(home, place.folder / "landing")
    home.engine.dispose()
    return f"{len(walked.batches)} batches"


def _nightly(place: Place) -> str:
    """The job, with Dagster's and MLflow's tables: every asset of it, for the champion is there already."""
    write_day(place.folder / "landing", NIGHTS)
    landing = ["--landing", str(place.folder / "landing")]
    place.bts("ingest", *landing)
    place.bts("nightly", *landing, "--as-of", f"{origin_of(NIGHTS):%Y-%m-%dT%H:%MZ}")
    # Tables of theirs, where they belong and nowhere else.
    with closing(psycopg2.connect(place.admin)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT relnamespace::regnamespace::text, pg_get_userbyid(relowner)::text FROM pg_class"
            " WHERE relname IN ('runs', 'event_logs', 'experiments')"
        )
        found = set(cursor.fetchall())
    if found != {("dagster", "dagster"), ("mlflow", "mlflow")}:
        raise RuntimeError(f"tables of Dagster and MLflow are in {found}")
    return "ok"


def _replays(place: Place) -> str:
    with _opened(place) as home:
        batches = [row["batch_id"] for row in rows_of(home, _ALL_BATCHES)]
        differing = [batch for batch in batches if replay(home, batch).differs is not None]
        wrong = [store for store in verify(home) if store.wrong]
    if differing or wrong or len(batches) != NIGHTS + 1:
        raise RuntimeError(f"of {len(batches)} batches differ {differing}; stores that are wrong: {wrong}")
    return f"{len(batches)} same bits"


def _digest(place: Place) -> str:
    with _opened(place) as home:
        made = "".join(row["digest"] for row in rows_of(home, _ALL_BATCHES))
    return hashlib.sha256(made.encode()).hexdigest()[:8]


def _workers(place: Place) -> str:
    """The newest batch made again station by station, by two processes that look into this one's snapshot."""
    with _opened(place, to_read=False, workers=2) as home:
        newest = rows_of(home, _ALL_BATCHES)[-1]
        champion = champion_for(home.engine, home.settings.grid)
        if champion is None:
            raise RuntimeError("there is no champion")
        origin = Origin(origin_of(NIGHTS), "live", "the benchmark")
        with what_is_given(home, origin, 1) as given, forecast(home, given, champion) as forecasts:
            parts = list(forecasts)
    made = forecasts_digest(origin_of(NIGHTS), [one for part in parts for one in forecast_digests(part.batch)])
    if len(parts) < 2 or made != newest["digest"]:
        raise RuntimeError(f"{len(parts)} parts have another digest than batch {newest['batch_id']}")
    return "ok"


def _queries(place: Place) -> str:
    """As the reader: every view that it may read, the examples, and what Grafana asks."""
    now = datetime.now(UTC)
    asked = [filled_in(q, CHOSEN, now - timedelta(days=2), now) for q in QUERIES.values()]
    asked += [rule["data"][0]["model"]["rawSql"] for rule in RULES]
    asked += [file.read_text(encoding="utf-8") for file in sorted((CHECKOUT / "sql" / "examples").glob("*.sql"))]
    with closing(psycopg2.connect(place.reader)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'bts'::regnamespace AND relkind = 'v'"
            " AND has_table_privilege(oid, 'SELECT')"
        )
        asked += [f"SELECT * FROM bts.{name}" for (name,) in cursor.fetchall()]  # noqa: S608 - names of ours
        for query in asked:
            cursor.execute(query)
            cursor.fetchall()
            connection.commit()
    return f"{len(asked)}"


def _only_reads(place: Place) -> str:
    if "6" not in place.bts("sql", "SELECT count(DISTINCT step_ahead) FROM bts.latest_forecast"):
        raise RuntimeError("bts sql does not see the batch")
    for query in _FORBIDDEN:
        try:
            place.bts("sql", query)
        except RuntimeError as error:
            if "ended with 2" not in str(error):
                raise
        else:
            raise RuntimeError(f"bts sql did it: {query}")
    return "ok"


def _restores(place: Place) -> str:
    """Backed up as the superuser, past the pool, and restored into a database beside it."""
    into, name = place.folder / "backups", urlsplit(place.admin).path.strip("/")
    settings = place.settings_at(place.admin).model_copy(update={"direct_database_url": place.admin})
    back_up(settings, into, datetime.now(UTC))
    with closing(psycopg2.connect(place.admin)) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}_restored")
    url = f"{place.admin}_restored"
    urls = {"database_url": url, "direct_database_url": url, "reader_database_url": None}
    again = settings.model_copy(update={**urls, "home": place.folder / "restored"})
    restore(again, find_backup(into))
    home = open_home(again, to_read=True)
    wrong = [store for store in verify(home) if store.wrong]
    home.engine.dispose()
    if wrong:
        raise RuntimeError(f"stores that are wrong: {wrong}")
    return "ok"


@contextmanager
def _opened(place: Place, *, to_read: bool = True, **more: object) -> Iterator[Home]:
    home = open_home(place.settings_at(place.writer, **more), to_read=to_read)
    try:
        yield home
    finally:
        home.engine.dispose()


_STEPS: Final[dict[str, Callable[[Place], str]]] = {
    "migrate": _migrates,
    "six nights": _walks,
    "bts nightly": _nightly,
    "replay": _replays,
    "forecasts": _digest,
    "two workers": _workers,
    "queries": _queries,
    "bts sql": _only_reads,
    "backup": _restores,
}


def _print(rows: dict[tuple[str, str], dict[str, str]]) -> None:
    names: Sequence[str] = [*_STEPS, "seconds"]
    lines = [["Postgres", "way", *names], ["---"] * (len(names) + 2)]
    lines += [[version, way, *(row.get(name, "") for name in names)] for (version, way), row in rows.items()]
    sys.stdout.write("".join(f"| {' | '.join(line)} |\n" for line in lines))


if __name__ == "__main__":
    main()
