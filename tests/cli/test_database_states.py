"""Databases in the states that people have, met by the real command: one line on standard error, and an exit code."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from command_line import BTS, bts
from small_nights import hourly, write

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.settings import load_settings
from bts_assets.storage.embedded import server as embedded
from bts_assets.storage.postgres import connect, migrate

USAGE, INPUT, DATABASE, DISK, DEFECT = 2, 3, 4, 5, 70
Statements = Callable[..., None]


def ask(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Each in a transaction of its own; the rows of the last."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


def made(url: str) -> str:
    engine = connect(url, timedelta(seconds=20))
    migrate(engine, load_catalogue())
    engine.dispose()
    return url


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    write(tmp_path / "landing", "a.csv", *hourly([0, 1, 2]))
    return tmp_path / "landing"


def ended(done: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    lines = done.stderr.splitlines()
    assert done.returncode == code, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("bts: ")
    for words in said:
        assert words in lines[0]
    assert "c4nary" not in done.stdout + done.stderr


def called(url: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return bts(*arguments, env={"BTS_DATABASE_URL": url, "BTS_HOME": str(home), "BTS_FILE_STABLE_FOR": "0s"})


STAMP = "COMMENT ON SCHEMA bts IS 'BTS forecasts: of another version'"


@pytest.mark.parametrize(
    ("revision", "said"),
    [
        ("0001", "is of revision 0001, and this version of bts reads"),
        ("9999", "use the newer version that migrated it"),
        ("f00ba2", "not one of ours: it holds revision f00ba2"),
    ],
)
def test_a_read_of_another_revision_says_what_to_do_and_changes_nothing(
    database_url: str, tmp_path: Path, revision: str, said: str
) -> None:
    made(database_url)
    ask(database_url, f"UPDATE bts.alembic_version SET version_num = '{revision}'", STAMP, "DROP VIEW bts.interface")
    for command in (["sql", "SELECT 1"], ["versions"]):
        ended(called(database_url, tmp_path, *command), DATABASE, said)
    doctor = called(database_url, tmp_path, "doctor")
    assert said in doctor.stdout.splitlines()[-1]
    assert doctor.returncode == 1
    assert ask(database_url, "SELECT version_num, to_regclass('bts.interface') FROM bts.alembic_version") == [
        (revision, None)
    ]
    if revision != "0001":
        ended(called(database_url, tmp_path, "migrate"), DATABASE, said)
        assert ask(database_url, "SELECT version_num FROM bts.alembic_version") == [(revision,)]


def test_views_of_another_version_are_read_and_are_renewed_by_migrate_and_ingest_alone(
    database_url: str, tmp_path: Path, landing: Path
) -> None:
    made(database_url)
    older = "CREATE OR REPLACE VIEW bts.interface AS SELECT 'older'::text AS version"
    (stamp,) = ask(database_url, "SELECT obj_description('bts'::regnamespace)")[0]
    another = f"COMMENT ON SCHEMA bts IS '{stamp.replace('forecasts: ', 'forecasts: other')}'"
    ask(database_url, older, another)
    version = "SELECT version FROM bts.interface"
    assert "older" in called(database_url, tmp_path, "sql", version).stdout
    assert "bts migrate renews them" in called(database_url, tmp_path, "doctor").stdout
    assert ask(database_url, version) == [("older",)]
    done = called(database_url, tmp_path, "ingest", "--landing", str(landing))
    assert "views and the catalogue in schema bts are now those of this version" in done.stderr
    assert ask(database_url, version) == [("1.0",)]
    ask(database_url, older, another)
    assert "are now those" in called(database_url, tmp_path, "migrate").stdout
    assert ask(database_url, version) == [("1.0",)]


def test_a_schema_of_others_is_left_alone(database_url: str, tmp_path: Path, landing: Path) -> None:
    ask(database_url, "CREATE SCHEMA bts", "CREATE TABLE bts.cells (a integer)")
    for command in (["migrate"], ["ingest", "--landing", str(landing)], ["sql", "SELECT 1"]):
        ended(called(database_url, tmp_path, *command), DATABASE, "not one of ours: it holds cells")
    assert ask(database_url, "SELECT relname::text FROM pg_class WHERE relnamespace = 'bts'::regnamespace") == [
        ("cells",)
    ]


def test_a_fresh_database_is_not_filled_by_a_look(database_url: str, tmp_path: Path) -> None:
    ended(called(database_url, tmp_path, "sql", "SELECT 1"), DATABASE, "run bts nightly, or bts migrate")
    doctor = called(database_url, tmp_path, "doctor")
    assert (doctor.returncode, "none yet: bts nightly makes it" in doctor.stdout) == (0, True)
    assert ask(database_url, "SELECT to_regnamespace('bts')") == [(None,)]


@pytest.fixture
def poor_url(database_url: str) -> Iterator[str]:
    """The database for a role without any right beyond connecting to it."""
    ask(database_url, "CREATE ROLE poor LOGIN PASSWORD 'c4nary'")
    try:
        yield f"postgresql://poor:c4nary@{database_url.rpartition('@')[2]}"
    finally:
        ask(database_url, "DROP OWNED BY poor", "DROP ROLE poor")


def test_a_role_that_may_not_is_told_what_it_may_not(
    poor_url: str, database_url: str, tmp_path: Path, landing: Path
) -> None:
    for command in (["migrate"], ["ingest", "--landing", str(landing)]):
        ended(
            called(poor_url, tmp_path, *command), DATABASE, "the role may not do this: permission denied for database"
        )
    assert "the role may not make it" in called(poor_url, tmp_path, "doctor").stdout
    made(database_url)
    ended(called(poor_url, tmp_path, "versions"), DATABASE, "permission denied for")


def test_no_connection_left_is_one_line(poor_url: str, database_url: str, tmp_path: Path) -> None:
    ask(database_url, "ALTER ROLE poor CONNECTION LIMIT 1")
    with closing(psycopg2.connect(poor_url)):
        ended(called(poor_url, tmp_path, "sql", "SELECT 1"), DATABASE, "too many connections for role")


def test_a_read_only_database_is_read_and_not_written(database_url: str, tmp_path: Path, landing: Path) -> None:
    name = made(database_url).rpartition("/")[2]
    ask(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    ended(called(database_url, tmp_path, "ingest", "--landing", str(landing)), DATABASE, "can only be read")
    assert called(database_url, tmp_path, "sql", "SELECT 1").returncode == 0
    assert "default_transaction_read_only is on" in called(database_url, tmp_path, "doctor").stdout


def test_an_encoding_that_cannot_hold_every_text_is_refused_at_the_start(server_url: str, tmp_path: Path) -> None:
    for encoding in ("LATIN1", "SQL_ASCII"):
        name = f"in_{encoding.lower()}"
        locale = "LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0"
        ask(server_url, f"CREATE DATABASE {name} ENCODING '{encoding}' {locale}")
        url = f"{server_url.rpartition('/')[0]}/{name}"
        ended(called(url, tmp_path, "ingest"), DATABASE, f"is encoded in {encoding}", "ENCODING 'UTF8'")
        assert f"is encoded in {encoding}" in called(url, tmp_path, "doctor").stdout


def test_options_of_the_url_are_kept_beside_ours(database_url: str, tmp_path: Path, landing: Path) -> None:
    url = f"{made(database_url)}?options=-c%20statement_timeout%3D77s"
    done = called(url, tmp_path, "ingest", "--landing", str(landing))
    assert (done.returncode, done.stderr) == (0, "")
    settings = "SELECT current_setting('statement_timeout') || ' ' || current_setting('TimeZone') AS settings"
    assert "77s UTC" in called(url, tmp_path, "sql", settings).stdout
    assert "77s" in called(url, tmp_path, "env").stdout
    too_short = url.replace("77s", "1ms")
    ended(called(too_short, tmp_path, "sql", "SELECT pg_sleep(1)"), DATABASE, "statement timeout")


@pytest.fixture
def own_home() -> Iterator[Path]:
    """A home with a server of its own, with a percent sign and a blank in its path."""
    with tempfile.TemporaryDirectory(prefix="bts tests %41-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "home"
        embedded.stop(Path(folder) / "home")


def waits(url: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while ask(url, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def disturbed_ingest(home: Path, landing: Path, disturb: Callable[[str], object]) -> subprocess.CompletedProcess[str]:
    """`bts ingest`, disturbed while it waits for a lock that this process holds to its end."""
    short = {"BTS_LOCK_TIMEOUT": "5s"}  # what is tried again meets the lock that is still held
    env = {**os.environ, "BTS_HOME": str(home), "BTS_FILE_STABLE_FOR": "0s"} | short
    assert bts("migrate", env=env).stdout.startswith("schema bts was made")
    admin = embedded.url(home)
    command = [BTS, "ingest", "--landing", str(landing)]
    with closing(psycopg2.connect(admin)) as holder:
        holder.cursor().execute("SELECT * FROM bts.lock FOR UPDATE")
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            waits(admin)
            disturb(admin)
            out, err = process.communicate(timeout=240)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_connections_cut_twice_are_one_line_and_a_rerun_takes_the_file(own_home: Path, landing: Path) -> None:
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bts_writer'"
    done = disturbed_ingest(own_home, landing, lambda admin: ask(admin, cut))
    ended(done, DATABASE, "another process is taking in files")  # by whom the lock is held at the second try
    env = {"BTS_HOME": str(own_home), "BTS_FILE_STABLE_FOR": "0s"}
    again = bts("ingest", "--landing", str(landing), env=env)
    assert (again.returncode, again.stderr) == (0, "")
    assert "1 taken" in again.stdout


def test_an_embedded_server_that_is_killed_in_mid_run_is_started_again_and_the_file_is_taken(
    own_home: Path, landing: Path
) -> None:
    postmaster = own_home / "postgres/data/postmaster.pid"
    done = disturbed_ingest(own_home, landing, lambda _: os.kill(int(postmaster.read_text().split()[0]), 9))
    assert done.returncode == 0, done.stderr
    assert "1 taken" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder on a disk of its own, of 120 MB; nothing may hold it once its home's server was stopped."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts a disk of its own size")
    with tempfile.TemporaryDirectory(prefix="bts-tests-") as folder:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", folder], check=False).returncode:
            pytest.skip("this container may not mount")
        Path(folder).chmod(0o755)
        try:
            yield Path(folder)
        finally:
            embedded.stop(Path(folder) / "home")
            deadline = time.monotonic() + 10
            while subprocess.run(["umount", folder], check=False, capture_output=True).returncode:
                assert time.monotonic() < deadline, "something still holds the stopped home"
                time.sleep(0.1)


def fill(disk: Path, leave: int) -> Path:
    filler, free = disk / "filler", os.statvfs(disk)
    filler.write_bytes(bytes(free.f_bavail * free.f_frsize - leave))
    return filler


def test_a_full_disk_is_one_line_wherever_it_fills_and_what_was_half_made_is_mended(
    small_disk: Path, landing: Path
) -> None:
    env = {"BTS_HOME": str(small_disk / "home"), "BTS_FILE_STABLE_FOR": "0s"}
    assert bts("migrate", env=env).returncode == 0
    filler = fill(small_disk, leave=900_000)  # Dagster's tables are made at the first run: they need more than this
    ended(bts("ingest", "--landing", str(landing), env=env), DISK, "No space left on device")
    filler.unlink()
    again = bts("ingest", "--landing", str(landing), env=env)
    assert (again.returncode, again.stderr) == (0, "")
    # Parquet and the ledger find room for this file, the copy of its observations does not: Postgres itself may end.
    quarters = [f"2026-03-09 {q // 4:02}:{q % 4 * 15:02}" for q in range(96)]
    rows = [f"{s},{s},{p},{t}" for s in range(60) for p in range(900, 920) for t in quarters]
    write(landing, "b.csv", *rows, header="value,station_id,parameter_id,reading_time")
    filler = fill(small_disk, leave=1_000_000)
    ended(bts("ingest", "--landing", str(landing), env=env), DISK, "No space left on device")
    assert len(list((small_disk / "home" / "readings").rglob("*.parquet"))) == 1  # of the other the database has them
    filler.unlink()
    assert bts("ingest", "--landing", str(landing), env=env).returncode == 0
    counts = "SELECT (SELECT count(*) FROM bts.landing_file), (SELECT count(*) FROM bts.observation)"
    assert ask(embedded.url(small_disk / "home"), counts) == [(2, 3 + len(rows))]


def test_two_steps_on_a_fresh_home_do_not_mix(database_url: str, tmp_path: Path, landing: Path) -> None:
    """Both processes open the home while it is free, then one waits for the other's first day."""
    made(database_url)
    processes = []
    with closing(psycopg2.connect(database_url)) as holder:
        holder.cursor().execute("SELECT * FROM bts.lock WHERE name = 'taking in files' FOR UPDATE")
        for step in ("15min", "1h"):
            env = {**os.environ, "BTS_DATABASE_URL": database_url, "BTS_HOME": str(tmp_path / step), "BTS_STEP": step}
            command = [BTS, "ingest", "--landing", str(landing)]
            processes.append(
                subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
        deadline = time.monotonic() + 240
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        while ask(database_url, waiting) != [(2,)]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    ends = [(*process.communicate(timeout=240), process.returncode) for process in processes]
    assert sorted(code for *_, code in ends) == [0, DATABASE], [err for _, err, _ in ends]
    (refused,) = [err for _, err, code in ends if code]
    assert "but the observations here stand on a grid of" in refused
    (step,) = ask(database_url, "SELECT step_seconds FROM bts.installation")[0]
    apart = f"SELECT bool_and(extract(epoch FROM observed_at)::bigint % {step} = 0) FROM bts.observation"
    assert ask(database_url, apart) == [(True,)]
    assert {900: 0, 3600: 1}[step] == [code for *_, code in ends].index(0)


def test_a_defect_says_where_its_traceback_is(tmp_path: Path) -> None:
    broken = "import bts_assets.cli.app as a\n@a.app.command()\ndef broken() -> None:\n    {}['c4nary_key']\na.main()"
    env = {**os.environ, "BTS_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", broken, "broken"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == DEFECT
    assert len(done.stderr.splitlines()) == 1
    (file,) = (tmp_path / "home" / "logs").glob("defect-*.txt")
    assert str(file) in done.stderr
    assert "Traceback" in file.read_text()


def test_settings_and_arguments_that_mean_nothing_are_usage(tmp_path: Path) -> None:
    ended(bts("ingest", env={"BTS_STEP": "7min", "BTS_HOME": str(tmp_path)}), USAGE, "does not divide a day")
    assert bts("nonsense").returncode == USAGE
    # A home of its own: that of the checkout may hold the simulated network, which refuses other files before.
    elsewhere = {"BTS_DATABASE_URL": "mysql://x", "BTS_HOME": str(tmp_path / "home")}
    assert bts("ingest", "--landing", "nowhere", env=elsewhere).returncode == INPUT
    assert bts("ingest", "--landing", str(tmp_path), env=elsewhere).returncode == DATABASE
    assert load_settings().home
