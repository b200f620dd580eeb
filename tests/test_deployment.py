"""The deployment: docker-compose.yml and what it mounts, as far as can be told without Docker; roles and rights."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from fnmatch import fnmatch
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import psycopg2
import psycopg2.errors
import pytest
import yaml
from handmade_night import CHECKOUT, PASSWORD, SECRETS, HandmadeNight, handmade_night, rows_of, run_init_script

from bts_assets.settings import Settings, load_settings

COMPOSE_TEXT = (CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (CHECKOUT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
#: What docker-compose.yml asks of the environment: name and how the expression goes on, `:-default` or `:?message`.
ASKED = re.findall(r"\$\{(\w+)([^}]*)\}", COMPOSE_TEXT)
#: Settings that docker-compose.yml decides itself, and those of an embedded or another server.
DECIDED = {"BTS_HOME", "BTS_LANDING_DIR", "BTS_DATABASE_URL", "BTS_MLFLOW_TRACKING_URI"}
OF_ANOTHER_SERVER = {"BTS_READER_DATABASE_URL", "BTS_DIRECT_DATABASE_URL", "BTS_IDLE_STOP"}
SETTINGS = {f"BTS_{name.upper()}" for name in Settings.model_fields}
#: May be empty: they have their default then.
OPTIONAL = SETTINGS - {"BTS_EXPLORER_TOKEN"}
SECRET = re.compile("PASSWORD|SECRET|TOKEN|KEY$")
each_service = pytest.mark.parametrize("name", SERVICES)


@pytest.fixture(scope="module")
def night(server_url: str) -> Iterator[HandmadeNight]:
    with handmade_night(server_url) as made:
        yield made


def documented() -> dict[str, str]:
    lines = (CHECKOUT / "deploy" / "env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def mounts(service: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Source, target and mode of every mount; an expression of the environment has no colon left in it."""
    for mount in service.get("volumes", []):
        source, target, *mode = re.sub(r"\$\{(\w+)[^}]*\}", r"$\1", mount).split(":")
        yield source, target, mode[0] if mode else "rw"


def test_compose_file_follows_the_compose_specification() -> None:
    pytest.importorskip(
        "check_jsonschema", reason="check-jsonschema, which carries the specification, is not installed"
    )
    specification = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(specification.read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(COMPOSE)] == []
    assert list(validator.iter_errors({**COMPOSE, "services": {"postgres": {"imgae": "postgres"}}}))


def test_nothing_listens_beyond_loopback() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 5
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not [name for name, service in SERVICES.items() if "network_mode" in service]
    assert COMPOSE["networks"]["inner"]["internal"] is True
    # Whoever reaches the code location's port can run code.
    # Nobody else may reach `code`, and it reaches nothing beyond the services until .env says that alerts may leave.
    assert SERVICES["code"]["networks"] == ["inner", "alerts"]
    assert COMPOSE["networks"]["alerts"] == {"internal": "${BTS_ALERTS_OFFLINE:-true}"}
    assert [name for name, service in SERVICES.items() if "alerts" in service["networks"]] == ["code"]


@each_service
def test_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit", "restart", "logging", "networks"} <= service.keys()
    assert "privileged" not in service
    if service["image"].startswith("bts-assets:"):
        assert service["read_only"] is True
        assert "cap_add" not in service


@each_service
def test_service_waits_for_what_it_needs_and_says_how_it_is(name: str) -> None:
    service = SERVICES[name]
    runs_once = service["restart"] == "no"
    assert ("healthcheck" in service) != runs_once
    for other, wait in service.get("depends_on", {}).items():
        once = SERVICES[other]["restart"] == "no"
        assert wait["condition"] in (
            {"service_completed_successfully"} if once else {"service_healthy", "service_started"}
        )


def test_images_are_pinned() -> None:
    images = {service["image"] for service in SERVICES.values()}
    foreign = {image for image in images if not image.startswith("bts-assets:")} | set(
        re.findall(r"FROM (\S+)", DOCKERFILE)
    )
    assert len(foreign) == 3
    assert all(re.fullmatch(r"[\w./-]+:\d+\.\d+(\.\d+)?(-[\w-]+)?", image) for image in foreign)


def test_every_variable_is_documented_and_asked_for() -> None:
    assert {name for name, _ in ASKED} == set(documented())


def test_missing_secret_stops_compose_and_other_defaults_are_as_documented() -> None:
    example = documented()
    for name, rest in ASKED:
        if example[name] == "" and name not in OPTIONAL:
            assert rest.startswith(f":?set {name} in .env"), name
        else:
            assert rest == f":-{example[name]}"
    assert all(example[name] == "" for name in example if SECRET.search(name))


def test_every_setting_of_the_readme_reaches_the_container() -> None:
    given = SERVICES["code"]["environment"]
    assert SETTINGS - given.keys() == OF_ANOTHER_SERVER | {"BTS_EXPLORER_TOKEN"}
    passed_on = SETTINGS & given.keys() - DECIDED
    assert {name for name in passed_on if not given[name].startswith(f"${{{name}:-")} == set()
    # The migration writes the catalogue that nights use; both find its file.
    assert SERVICES["migrate"]["environment"]["BTS_CATALOGUE"] == given["BTS_CATALOGUE"]
    config = ("./deploy/config", "/etc/bts/config", "ro")
    assert all(config in set(mounts(SERVICES[name])) for name in ("migrate", "code"))


def test_an_empty_setting_has_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OPTIONAL:
        monkeypatch.delenv(name, raising=False)
    default = load_settings()
    for name in OPTIONAL:
        monkeypatch.setenv(name, "")
    assert load_settings() == default


def test_no_secret_is_written_down() -> None:
    held = [(key, value) for service in SERVICES.values() for key, value in service.get("environment", {}).items()]
    secrets = [value for key, value in held if SECRET.search(key)]
    assert len(secrets) > 5
    assert all(re.fullmatch(r"\$\{\w+:\?[^}]+\}", value) for value in secrets)
    deployed = [path for path in (CHECKOUT / "deploy").rglob("*") if path.is_file()] + [CHECKOUT / "docker-compose.yml"]
    for path in deployed:
        # A URL with a password in it.
        assert not re.search(r"://[^/\s:@]+:[^/\s@]+@", path.read_text(encoding="utf-8")), path


def test_every_mounted_file_is_there_and_read_only() -> None:
    for service in SERVICES.values():
        for source, _, mode in mounts(service):
            if source.startswith("."):
                assert (CHECKOUT / source).exists()
                assert mode == "ro"
            elif source.startswith("$"):
                assert (source, mode) == ("$BTS_LANDING_HOST_DIR", "ro")
            else:
                assert source in COMPOSE["volumes"]


def test_image_is_built_from_files_that_are_there_and_locked() -> None:
    ignored = (CHECKOUT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == let_in
    assert [source for source in copied if not (CHECKOUT / source).exists()] == []
    installs = re.findall(r"pip install (.+)", DOCKERFILE)
    assert installs == ["--require-hashes --no-deps -r requirements.lock", "--no-deps --no-build-isolation ."]
    assert re.findall(r"^USER (\w+)", DOCKERFILE, re.MULTILINE) == ["bts"]


def test_dagster_finds_its_code_location_and_storage() -> None:
    (entry,) = yaml.safe_load((CHECKOUT / "deploy" / "workspace.yaml").read_text(encoding="utf-8"))["load_from"]
    command = SERVICES["code"]["command"]
    assert command[command.index("--port") + 1] == str(entry["grpc_server"]["port"])
    assert entry["grpc_server"]["host"] == "code"
    assert find_spec(command[command.index("-m") + 1])
    for name in ("webserver", "daemon"):
        targets = {target for _, target, _ in mounts(SERVICES[name])}
        assert SERVICES[name]["command"][-1] in targets
    instance = (CHECKOUT / "dagster.yaml").read_text(encoding="utf-8")
    wanted = set(re.findall(r"env:\s*(\w+)", instance))
    assert "BTS_DAGSTER_DATABASE_URL" in wanted
    homes = set()
    for name in ("code", "webserver", "daemon"):
        assert wanted <= SERVICES[name]["environment"].keys()
        homes |= {
            (SERVICES[name]["environment"]["DAGSTER_HOME"], source)
            for source, target, _ in mounts(SERVICES[name])
            if target == SERVICES[name]["environment"]["DAGSTER_HOME"]
        }
    # Theirs is one folder, and the one that the migration fills.
    assert homes == {("/var/lib/bts/dagster", "dagster-home")}
    assert ("dagster-home", "/var/lib/bts/dagster", "rw") in set(mounts(SERVICES["migrate"]))
    assert SERVICES["migrate"]["environment"]["BTS_HOME"] == "/var/lib/bts"


def run_migration(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), "BTS_HOME": str(tmp_path)} | environment
    command = [sys.executable, str(CHECKOUT / "deploy" / "migrate.py")]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)


def test_migration_takes_its_password_from_the_environment_and_lays_down_dagster_yaml(
    night: HandmadeNight, tmp_path: Path
) -> None:
    without_password = re.sub(":[^:@]+@", "@", night.owner_url)
    done = run_migration(tmp_path, BTS_DATABASE_URL=without_password, PGPASSWORD=PASSWORD)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "dagster" / "dagster.yaml").read_bytes() == (CHECKOUT / "dagster.yaml").read_bytes()


@pytest.mark.parametrize(("url", "code"), [("", 1), ("postgresql://nobody@127.0.0.1:1/bts", 4)])
def test_migration_that_cannot_be_says_so_in_one_line(tmp_path: Path, url: str, code: int) -> None:
    done = run_migration(tmp_path, BTS_DATABASE_URL=url)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 1


def test_migration_reads_the_catalogue_that_is_set(night: HandmadeNight, tmp_path: Path) -> None:
    done = run_migration(tmp_path, BTS_DATABASE_URL=night.owner_url, BTS_CATALOGUE=str(tmp_path / "missing.csv"))
    assert (done.returncode, "missing.csv" in done.stderr) == (3, True)


def test_mlflow_answers_by_known_names_only_and_unpickles_nothing() -> None:
    (hosts,) = [part for part in SERVICES["mlflow"]["command"] if part.startswith("--allowed-hosts=")]
    tracking = SERVICES["code"]["environment"]["BTS_MLFLOW_TRACKING_URI"]
    assert tracking.removeprefix("http://") in hosts.removeprefix("--allowed-hosts=").split(",")
    assert "*" not in hosts
    assert "--serve-artifacts" in SERVICES["mlflow"]["command"]
    for name in ("mlflow", "code"):
        assert SERVICES[name]["environment"]["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


def test_each_service_has_the_password_of_its_own_role_and_no_other() -> None:
    wanted = {
        "migrate": "bts_owner",
        "code": "bts_writer",
        "webserver": "dagster",
        "daemon": "dagster",
        "mlflow": "mlflow",
        "explorer": "bts_reader",
    }
    passwords = {}
    for service, role in wanted.items():
        environment = SERVICES[service]["environment"]
        urls = [value for value in environment.values() if "@postgres:5432" in value]
        assert {re.findall(r"//(\w+)@", url)[0] for url in urls} == {role}, service
        assert [name for name, value in environment.items() if "PASSWORD" in value] == ["PGPASSWORD"]
        passwords[role] = environment["PGPASSWORD"]
    assert len(set(passwords.values())) == len(passwords) == 5


def test_explorer_asks_for_its_token() -> None:
    assert "--host=0.0.0.0" in SERVICES["explorer"]["command"]  # within its container; it refuses that without a token
    assert "BTS_EXPLORER_TOKEN" in SERVICES["explorer"]["environment"]


def test_grafana_reads_as_the_reader() -> None:
    provisioning = CHECKOUT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "postgres.yaml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    assert (source["user"], source["secureJsonData"]["password"]) == ("bts_reader", "$BTS_READER_PASSWORD")
    assert "BTS_READER_PASSWORD" in SERVICES["grafana"]["environment"]
    assert "BTS_POSTGRES_PASSWORD" not in SERVICES["grafana"]["environment"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "dashboards.yaml").read_text(encoding="utf-8"))[
        "providers"
    ]
    assert provider["options"]["path"] in {target for _, target, _ in mounts(SERVICES["grafana"])}


@pytest.mark.parametrize("missing", SECRETS)
def test_init_script_refuses_a_missing_secret(night: HandmadeNight, missing: str) -> None:
    done = run_init_script(night.admin_url, **{name: value for name, value in SECRETS.items() if name != missing})
    assert done.returncode != 0


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO bts.station (station_id, listed) VALUES (9, false)",
        "UPDATE bts.forecast_series SET q50 = '{}'",
        "DELETE FROM bts.publication",
        "TRUNCATE bts.observation_block",
        "UPDATE bts.ingest_ledger SET reason = NULL",
        "CREATE TABLE bts.mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "CREATE TEMPORARY TABLE mine (a int)",
        "CREATE SCHEMA mine",
        "DROP VIEW bts.latest_forecast",
        "SELECT * FROM bts.forecast_series",
        "DELETE FROM bts.forecast_series",
        "SET ROLE bts_writer",
        "SET SESSION AUTHORIZATION bts_writer",
        "ALTER ROLE bts_reader CONNECTION LIMIT -1",
        "CREATE ROLE mine",
        "SET temp_file_limit = -1",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY (SELECT 1) TO '/dev/null'",
        "SELECT pg_read_file('/etc/hostname')",
        "SELECT rolpassword FROM pg_authid",
        "SELECT * FROM dagster.anything",
        "SELECT * FROM mlflow.anything",
        "SELECT * FROM bts.champion",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bts_writer'",
    ],
)
def test_reader_is_denied_by_grants_and_not_by_settings(night: HandmadeNight, statement: str) -> None:
    with closing(psycopg2.connect(night.writer_url)), closing(psycopg2.connect(night.reader_url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(statement)


@pytest.mark.parametrize(
    "statement", ["COPY (SELECT 1) TO PROGRAM 'true'", "CREATE ROLE mine", "SELECT 1 FROM pg_authid"]
)
def test_services_are_no_superuser(night: HandmadeNight, statement: str) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        rows_of(night.writer_url, statement)


def test_reader_cannot_flood_or_linger(night: HandmadeNight) -> None:
    (role,) = rows_of(night.reader_url, "SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user")
    assert 0 < role["rolconnlimit"] <= 50
    wanted = {
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": "1min",
        "default_transaction_read_only": "on",
        "temp_file_limit": "2GB",
    }
    for setting, value in wanted.items():
        assert rows_of(night.reader_url, f"SELECT current_setting('{setting}') AS value") == [{"value": value}]


def test_dockerignore_keeps_secrets_out() -> None:
    ignored = (CHECKOUT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*"
    assert not [line for line in ignored if line.startswith("!") and fnmatch(".env", line[1:])]
