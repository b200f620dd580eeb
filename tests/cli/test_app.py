"""bts as a user meets it: real processes, what they print, how they end."""

import json
import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from command_line import BTS, COMMANDS, bts, started
from nights import NIGHT, PublishedNight
from typer.testing import CliRunner

from bts_assets.cli import up_lock
from bts_assets.cli.app import app
from bts_assets.cli.run_job import environment, run_job
from bts_assets.contracts.errors import BtsError
from bts_assets.settings import load_settings, unknown_settings


@contextmanager
def dagster_of(night: PublishedNight) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of a night's home."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(night.home).items():
            patch.setenv(name, value)
        with dg.DagsterInstance.get() as instance:
            yield instance


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the embedded server's user may pass through."""
    with tempfile.TemporaryDirectory(prefix="bts-tests-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    # In this process: twenty starts of Python would tell no more.
    done = CliRunner(env={"COLUMNS": "100"}).invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert "Example: " in done.stdout
    assert command in done.stdout.split("Example: ")[1]


LOOKS = (
    ["status"],
    ["breaches"],
    ["accuracy"],
    ["alerts"],
    ["drift"],
    ["forecast", "1", "2"],
    ["catalogue"],
    ["lineage", "1", "2"],
    ["replay"],
    ["prune"],
    ["retrain"],
    ["versions"],
    ["promote", "1"],
    ["rollback"],
    ["tune"],
    ["url"],
    ["sql", "SELECT 1"],
    ["env"],
    ["explore"],
    ["verify"],
    ["backup", "copy"],
)


@pytest.mark.parametrize("arguments", LOOKS, ids=lambda a: a[0])
def test_a_command_in_a_folder_without_a_home_leaves_nothing_there(arguments: list[str], tmp_path: Path) -> None:
    done = bts(*arguments, cwd=tmp_path)
    assert f"nothing is in {tmp_path}/.bts yet: run bts nightly" in done.stderr
    assert (done.returncode, len(done.stderr.splitlines()), list(tmp_path.iterdir())) == (4, 1, [])


def test_doctor_makes_no_home(tmp_path: Path) -> None:
    done = bts("doctor", cwd=tmp_path)
    assert f"embedded; none yet in {tmp_path}/.bts: bts nightly makes it" in " ".join(done.stdout.split())
    assert (done.returncode, list(tmp_path.iterdir())) == (0, [])


def test_every_command_is_tried_here() -> None:
    listed = re.findall(r"^│ (\w+) ", bts("--help").stdout.split("─ Nights ─")[1], flags=re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


def test_sql_prints_json_as_json_and_says_where_a_query_is_wrong(published: PublishedNight) -> None:
    rows = "SELECT 1.5::float8 AS a, NULL AS b, 'NaN'::float8 AS c, '{\"k\": [1]}'::jsonb AS d, now() AS e"
    (row,) = json.loads(bts("sql", "--json", rows, env=published.environment).stdout)
    assert (row["a"], row["b"], row["c"], row["d"]) == (1.5, None, None, {"k": [1]})
    assert datetime.fromisoformat(row["e"]).tzinfo
    assert '{"k": [1]}' in bts("sql", rows, env=published.environment).stdout
    near = bts("sql", "SELECT 1\nFROM bts.lates_forecast", env=published.environment).stderr
    assert "at line 2, character 6" in near
    assert near.rstrip().endswith("did you mean bts.latest_forecast?")
    column = bts("sql", "SELECT stations_id FROM bts.latest_forecast", env=published.environment).stderr
    assert "at character 8" in column
    assert "station_id" in column.partition("does not exist")[2]
    two = bts("sql", "SELECT 1; SELECT 2", env=published.environment)
    assert two.returncode == 2
    assert "one query" in two.stderr


def test_a_setting_that_nothing_reads_is_named_with_the_nearest(tmp_path: Path) -> None:
    mistaken = {"BTS_HORIZN": "24h", "BTS_HOME": str(tmp_path / "home"), "BTS_READER_PASSWORD": "canary"}
    assert "BTS_HORIZN is not a setting; did you mean BTS_HORIZON?" in bts("doctor", env=mistaken).stderr
    assert unknown_settings([up_lock.MARK, "BTS_EXPLORER_TOKEN", "BTS_MLFLOW_PORT", "PATH", "BTS_STEP"]) == []


def test_a_plot_that_is_no_png_is_refused(tmp_path: Path) -> None:
    done = bts("forecast", "1", "2", "--plot", "x.txt", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["bts: --plot x.txt writes a PNG file: give a name that ends in .png"]


def test_sql_prints_rows_as_a_table_and_as_csv(published: PublishedNight) -> None:
    query = "SELECT 1 AS one, NULL AS none, 'a%b' AS text"
    assert bts("sql", query, env=published.environment).stdout.splitlines() == [
        "one | none | text",
        "----+------+-----",
        "1   |      | a%b",
        "(1 row)",
    ]
    commented = f"-- what the explorer gives begins like this\n{query}"
    for said in (query, commented):
        assert bts("sql", said, "--csv", env=published.environment).stdout.splitlines() == ["one,none,text", "1,,a%b"]
    mistaken = bts("sql", "--cvs", query, env=published.environment)
    assert (mistaken.returncode, "No such option: --cvs" in mistaken.stderr) == (2, True)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("DELETE FROM bts.batch", "cannot open DELETE query as cursor"),
        ("COMMIT; DELETE FROM bts.publication", "leave out what follows the first semicolon"),
        ("SET TRANSACTION READ WRITE", "cannot open SET query as cursor"),
        ("RESET ROLE", "cannot open RESET query as cursor"),
        ("COPY (SELECT 1) TO PROGRAM 'true'", "cannot open COPY query as cursor"),
        ("WITH x AS (DELETE FROM bts.batch RETURNING 1) SELECT * FROM x", ""),
        ("SELECT pg_read_file('PG_VERSION')", "permission denied for function pg_read_file"),
        ("SELECT * FROM bts.lock", "permission denied for table lock"),
    ],
)
def test_sql_reads_and_does_nothing_else(published: PublishedNight, query: str, why: str) -> None:
    """Though the URL is that of a superuser."""
    done = bts("sql", query, env=published.environment)
    assert done.returncode == 2
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert len(published.rows("SELECT * FROM bts.publication")) == 1


def test_control_characters_of_data_are_written_out(published: PublishedNight) -> None:
    query = r"SELECT E'a\x1b[31mb\nc\u202e' AS x"
    assert bts("sql", query, env=published.environment).stdout.splitlines()[2] == r"a\x1b[31mb\nc\u202e"
    done = bts("sql", 'SELECT "\x1b[31m"', env=published.environment)
    assert r'column "\x1b[31m" does not exist' in done.stderr


def test_no_password_is_left_behind_by_a_night(published: PublishedNight) -> None:
    url, home = published.environment["BTS_DATABASE_URL"], Path(published.environment["BTS_HOME"])
    secret = url.split("://")[1].partition(":")[2].partition("@")[0]
    wrong = published.environment | {"BTS_DATABASE_URL": url.replace(secret, "c4nary"), "BTS_STEP": "1h"}
    done = bts("ingest", "--landing", str(published.said["readings"]["landing"]), env=wrong)
    assert (done.returncode, "password authentication failed" in done.stderr) == (4, True)
    for told in (secret, "c4nary"):
        assert told not in done.stdout + done.stderr
        assert [file for file in home.rglob("*") if file.is_file() and told.encode() in file.read_bytes()] == []
        kept = published.rows(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('bts', 'dagster', 'mlflow')"
        )
        assert {"dagster", "mlflow"} <= {table["schemaname"] for table in kept}
        for table in kept:
            name = f'"{table["schemaname"]}"."{table["tablename"]}"'
            found = published.rows(
                f"SELECT count(*) AS n FROM {name} AS t WHERE t::text LIKE '%' || :told || '%'", told=told
            )
            assert found == [{"n": 0}], name


def test_no_secret_is_among_the_commands_to_try(published: PublishedNight, tmp_path: Path) -> None:
    secrets = {"BTS_POSTGRES_PASSWORD": "canary-1", "BTS_READER_PASSWORD": "canary-2"}
    arguments = ["nightly", "--landing", str(published.said["readings"]["landing"]), "--as-of", "2026-03-10T00:00Z"]
    done = bts(*arguments, env=published.environment | secrets, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Nothing changed." in done.stdout
    assert "Try next" in done.stdout
    assert "canary" not in done.stdout
    assert "BTS_STEP=1h" in done.stdout


def test_own_files_are_kept_apart_from_the_simulated_ones(tmp_path: Path) -> None:
    (tmp_path / ".bts" / "simulated" / "landing").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    done = bts("nightly", "--landing", "mine", cwd=tmp_path)
    assert done.returncode == 2
    assert "give your own files a home of their own, for example BTS_HOME=.bts-mine" in done.stderr


def test_forecast_draws_the_series_and_writes_its_picture(published: PublishedNight, tmp_path: Path) -> None:
    picture = tmp_path / "forecast.png"
    done = bts("forecast", "1161114001", "load of power grid", "--plot", str(picture), env=published.environment)
    assert done.returncode == 0, done.stderr
    assert "Load of Power Grid" in done.stdout
    assert "origin 2026-03-10 00:00 UTC" in done.stdout
    assert "\x1b" not in done.stdout  # no escape codes where nobody can see colours
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_env_gives_what_plain_commands_need(published: PublishedNight) -> None:
    exports = bts("env", env=published.environment).stdout
    for name in ("DAGSTER_HOME", "BTS_DAGSTER_DATABASE_URL", "MLFLOW_TRACKING_URI", "BTS_HOME"):
        assert f"export {name}=" in exports
    shell = f"{exports}\n{Path(sys.executable).parent}/dagster instance info"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False, timeout=60)
    assert "PostgresRunStorage" in done.stdout, done.stderr


def test_env_masks_passwords_on_a_terminal(published: PublishedNight) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BTS_")}
    ours, its = pty.openpty()
    os.set_inheritable(its, True)
    ran = subprocess.run([BTS, "env"], env=environment | published.environment, stdout=its, check=True, timeout=60)
    os.close(its)
    said = ""
    with suppress(OSError):  # the end of what a terminal says
        while part := os.read(ours, 4096):
            said += part.decode()
    os.close(ours)
    assert ran.returncode == 0
    assert ":***@127.0.0.1" in said
    assert "passwords are masked" in said
    secrets = set(re.findall(r"://[^:/]+:([^@]+)@", bts("env", env=published.environment).stdout))
    assert secrets
    assert not [secret for secret in secrets if secret in said]


def test_doctor_finds_a_published_night_in_order(published: PublishedNight) -> None:
    done = bts("doctor", env=published.environment)
    assert "retrospective" in done.stdout
    assert "champion is registry version 1" in done.stdout
    assert "wrong" not in done.stdout
    assert done.returncode == 0


def test_doctor_says_what_is_wrong(published: PublishedNight, tmp_path: Path) -> None:
    broken = {"BTS_LANDING_DIR": str(tmp_path / "nowhere"), "PANDERA_VALIDATION_ENABLED": "False"}
    done = started("doctor", env=published.environment | broken)
    assert done.returncode == 1
    assert "is no folder: create it or set another" in done.stdout
    assert "unset PANDERA_VALIDATION_ENABLED" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "settings", "line"),
    [
        pytest.param(["forecast", "1", "2"], {}, "the latest batch has no series of station 1", id="unknown_series"),
        pytest.param(["forecast", "hanoi", "122"], {}, "no station is called hanoi: bts.station has", id="no_station"),
        pytest.param(
            ["forecast", "1", "load of the grid"],
            {},
            "no parameter is called load of the grid: did you mean Load of",
            id="near_parameter",
        ),
        pytest.param(["forecast", "1161114001", "152"], {}, "is excluded from the latest batch", id="excluded_series"),
        pytest.param(["sql"], {}, "give a query or a file of one", id="no_query"),
        pytest.param(["sql", "selec"], {}, 'syntax error at or near "selec"', id="broken_query"),
        pytest.param(["sql", "-f", "nowhere.sql"], {}, "--file nowhere.sql cannot be read", id="no_file"),
        pytest.param(["ingest", "--landing", "nowhere"], {}, "no such file or directory; name", id="no_landing_folder"),
        pytest.param(["nightly"], {"BTS_STEP": "7min"}, "BTS_STEP=7min does not divide a day", id="broken_step"),
        pytest.param(["url"], {"BTS_STEP": "[/x]"}, "BTS_STEP=[/x] is not a duration", id="brackets"),
        pytest.param(["url"], {"BTS_HORIZON": "soon"}, "BTS_HORIZON=soon is not a duration", id="broken_duration"),
        pytest.param(["doctor"], {"BTS_STEP": "2h"}, "stand on a grid of 1h", id="another_grid"),
        pytest.param(
            ["env"], {"BTS_DATABASE_URL": "postgresql://bts:canary@127.0.0.1:9/x"}, "no Postgres at", id="down"
        ),
        pytest.param(["env"], {"BTS_DATABASE_URL": "mysql://x"}, "must be a postgresql:// URL", id="another_database"),
        pytest.param(["simulate", "--out", "/dev/null"], {}, "cannot be written", id="out_is_no_folder"),
        pytest.param(
            ["simulate", "--out", "x", "--stations", "0"], {}, "bts: --stations 0: 1 is the least", id="no_stations"
        ),
        pytest.param(["simulate", "--out", "x", "--end", "noon"], {}, "--end noon is not a time", id="broken_end"),
    ],
)
def test_a_mistake_ends_in_one_clear_line(
    published: PublishedNight, tmp_path: Path, arguments: list[str], settings: dict[str, str], line: str
) -> None:
    done = bts(*arguments, env=published.environment | settings, cwd=tmp_path)
    said = (done.stderr if arguments[0] != "doctor" else done.stdout).strip().splitlines()
    assert line in said[-1]
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "canary" not in done.stdout + done.stderr
    if arguments[0] != "doctor":
        assert len(said) == 1


def test_a_broken_as_of_ends_in_one_line(published: PublishedNight, tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    arguments = ["nightly", "--landing", "landing", "--as-of", "tomorrow"]
    done = bts(*arguments, env=published.environment, cwd=tmp_path)
    assert done.stderr.splitlines() == ["bts: --as-of tomorrow is not a time; write for example 2026-11-20T02:00+00:00"]
    assert done.returncode == 2


@pytest.mark.parametrize(
    "given",
    [{"as_of": "tomorrow"}, {"as_of": "2999-01-01"}, {"as_of": "2001-01-01"}, {"landing": Path("nowhere")}],
)
def test_a_mistake_is_found_before_there_is_a_run(published: PublishedNight, given: dict[str, Any]) -> None:
    with dagster_of(published) as instance:
        before = instance.get_runs_count()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in published.environment.items():
            patch.setenv(name, value)
        with pytest.raises(BtsError, match=r"tomorrow|2999|2001|nowhere"):
            run_job("nightly", load_settings(), **given)
    with dagster_of(published) as instance:
        assert instance.get_runs_count() == before


def test_a_night_run_by_the_command_counts_among_the_runs_of_its_job(published: PublishedNight) -> None:
    """As Dagster's page asks for them: by code location, which its timeline reads off the run's origin."""
    with dagster_of(published) as instance:
        runs = instance.get_runs(dg.RunsFilter(job_name="nightly", tags={".dagster/repository": "__repository__@bts"}))
    assert runs
    for run in runs:
        assert run.remote_job_origin.repository_origin.get_label() == "__repository__@bts"
    batch = published.said["station_forecasts"]
    first = runs[-1].tags
    assert first["bts/batch"] == str(batch["batch_id"])
    assert first["bts/model_version"] == str(batch["model_version_id"])
    assert first["bts/origin"] == f"{NIGHT:%Y-%m-%dT%H:%MZ}"


def test_a_night_run_by_the_command_fills_the_partition_of_its_origin(published: PublishedNight) -> None:
    by_night = ("station_forecasts", "data_profile", "forecast_scores", "drift", "site_power")
    with dagster_of(published) as instance:
        filled = [instance.get_materialized_partitions(dg.AssetKey(name)) for name in by_night]
    assert filled == [{f"{NIGHT:%Y-%m-%d}"}] * len(by_night)


@pytest.mark.slow
def test_url_wakes_the_embedded_server_and_stop_ends_it(open_folder: Path) -> None:
    env = {"BTS_HOME": str(open_folder / "home")}
    assert bts("migrate", env=env).stdout.startswith("schema bts was made")
    assert bts("stop", env=env).stdout == "stopped\n"
    url = bts("url", env=env).stdout
    assert re.fullmatch(r"postgresql://bts_reader:\w+@127\.0\.0\.1:\d+/bts\n", url)
    for role in ("writer", "owner"):
        assert bts("url", "--role", role, env=env).stdout.startswith(f"postgresql://bts_{role}:")
    assert bts("sql", "SELECT current_user AS me", env=env).stdout.splitlines()[2] == "bts_reader"
    assert bts("stop", env=env).stdout == "stopped\n"
    assert bts("stop", env=env).stdout == "it was not running\n"


def test_simulate_says_what_it_planted(tmp_path: Path) -> None:
    done = bts("simulate", "--stations", "1", "--days", "1", "--out", "landing", "--end", "2026-03-10", cwd=tmp_path)
    assert re.match(r"\d+ landing files in landing: [\d,]+ rows, of which [\d,]+ must be rejected", done.stdout)
    assert len(list((tmp_path / "landing").glob("*.csv"))) >= 24
    again = bts("simulate", "--stations", "1", "--days", "1", "--out", "landing", cwd=tmp_path)
    assert again.returncode != 0
    assert "Traceback" not in again.stderr
