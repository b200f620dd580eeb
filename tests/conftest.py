"""What tests share: one real Postgres, databases of their own on it, homes, and one published night."""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import settings as hypothesis_settings
from nights import NIGHT, SHARED, HomeMaker, NightRunner, PublishedNight
from outside import watched

from bts_assets.services.home import Home, migrate_home, open_home
from bts_assets.settings import load_settings
from bts_assets.simulation.simulate import NetworkSpec, simulate_network
from bts_assets.storage.embedded import server as embedded
from bts_assets.storage.postgres import sqlalchemy_url

#: Before all that tests observe; set as tests are collected, for some of them import the definitions.
FIRST_NIGHT = os.environ["BTS_FIRST_NIGHT"] = "2010-01-01"

#: Fixtures that train (a night that is run for real, the fitted bundle of the forecasting room) or start a server.
SLOW_FIXTURES = {"run_night", "published", "published_night", "fitted", "server_url", "own_home", "small_disk"}


#: No example has a deadline, for a machine may do much else; `make test-quick` tries a fifth of the examples.
hypothesis_settings.register_profile("whole", deadline=None, max_examples=100)
hypothesis_settings.register_profile("quick", deadline=None, max_examples=20)
hypothesis_settings.load_profile("whole")


#: Where memory serves as a disk, and how much of it must be free: a whole run takes up to 2 GB.
MEMORY_DISK, FREE = Path("/dev/shm"), 8 << 30  # noqa: S108 - a folder of the run's own is made there


def pytest_configure(config: pytest.Config) -> None:
    """Homes and databases are made in memory where there is much of it: they are a million files, which some disks take
    minutes to delete. Who sets TMPDIR decides, and finds there what a failed test left.
    """
    if hasattr(config, "workerinput") or "TMPDIR" in os.environ or not os.access(MEMORY_DISK, os.W_OK):
        return
    if shutil.disk_usage(MEMORY_DISK).free > FREE:
        folder = tempfile.mkdtemp(prefix="bts-", dir=MEMORY_DISK)
        Path(folder).chmod(0o755)  # a root's server runs as another user
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        config.add_cleanup(partial(shutil.rmtree, folder, ignore_errors=True))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from sharing import BySharedFixtures

    return BySharedFixtures(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what trains or needs a server as slow, and puts those files first: one that comes last is waited for.

    First of all those that share the published night, which one worker runs.
    """
    needed = {item: SLOW_FIXTURES & set(getattr(item, "fixturenames", ())) for item in items}
    for item, nights in needed.items():
        if nights:
            item.add_marker(pytest.mark.slow)
    sharing = {item.path for item, nights in needed.items() if "published" in nights}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in sharing, item.path not in slow))


@pytest.fixture(scope="session", autouse=True)
def plain_environment() -> Iterator[None]:
    """No setting of whoever runs the tests reaches them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith(("BTS_", "DAGSTER_", "MLFLOW_"))]:
            patch.delenv(name)
        # Nights are listed when the definitions are imported, once for all homes of the tests.
        patch.setenv("BTS_FIRST_NIGHT", FIRST_NIGHT)
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled_networks(pytestconfig: pytest.Config, plain_environment: None) -> Iterator[None]:
    """What XLA compiled is kept between tests, processes and runs: to compile one network takes ten seconds.

    By version of TensorFlow and kind of processor, for neither is part of XLA's own key.
    """
    cpu = Path("/proc/cpuinfo")
    flags = (
        next((line for line in cpu.read_text().splitlines() if line.startswith("flags")), "") if cpu.exists() else ""
    )
    key = sha256(f"{version('tensorflow')} {platform.machine()} {os.cpu_count()} {flags}".encode()).hexdigest()[:12]
    folder = pytestconfig.cache.mkdir(f"compiled-{key}")  # type: ignore[union-attr]
    with pytest.MonkeyPatch.context() as patch:
        kept = f"--tf_xla_persistent_cache_directory={folder} --tf_xla_persistent_cache_device_types=CPU"
        patch.setenv("TF_XLA_FLAGS", kept)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A real server, the embedded one; the URL is its superuser's."""
    # Not in pytest's own folders: they are closed to the unprivileged user that a root's server runs as.
    with tempfile.TemporaryDirectory(prefix="bts-tests-") as folder:
        Path(folder).chmod(0o755)
        yield embedded.wake(Path(folder), timedelta(minutes=10))
        embedded.stop(Path(folder))


@pytest.fixture(scope="session")
def administrator(server_url: str) -> Iterator[sa.Engine]:
    """The server's superuser, outside transactions."""
    engine = sa.create_engine(sqlalchemy_url(server_url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:  # nothing of it has to outlive the machine
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.exec_driver_sql(f"ALTER SYSTEM SET {setting} = off")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def new_database(server_url: str, administrator: sa.Engine) -> Callable[..., str]:
    """Makes an empty database on the server, or a copy of `template`; gives its libpq URL."""
    numbers = iter(range(1000))

    def make(template: str = "template1") -> str:
        name = f"test_{next(numbers)}"
        with administrator.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return f"{server_url.rsplit('/', 1)[0]}/{name}"

    return make


@pytest.fixture(scope="session")
def drop_database(administrator: sa.Engine) -> Callable[[str], None]:
    """Drops the database of a libpq URL, whoever is connected."""

    def drop(url: str) -> None:
        with administrator.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    return drop


@pytest.fixture(scope="session")
def home_database(
    new_database: Callable[..., str],
    administrator: sa.Engine,
    tmp_path_factory: pytest.TempPathFactory,
    plain_environment: None,
) -> Callable[[], str]:
    """Makes a database with the tables of a home, and MLflow's: a copy, for to make them takes seconds each time.

    Outside xdist without MLflow's, so that who runs one test does not wait for them.
    """
    url = new_database()
    settings = load_settings(home=tmp_path_factory.mktemp("template"), database_url=url)
    migrate_home(settings)
    home = open_home(settings, to_read=True)  # so that no grid is claimed in it
    if "PYTEST_XDIST_WORKER" in os.environ:
        home.models.client().search_experiments()
    home.engine.dispose()
    name = url.rpartition("/")[2]
    with administrator.connect() as connection:  # MLflow keeps connections, and who is connected is in a copy's way
        connection.exec_driver_sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    return partial(new_database, name)


@pytest.fixture
def database_url(new_database: Callable[[], str], drop_database: Callable[[str], None]) -> Iterator[str]:
    """An empty database of the test's own."""
    url = new_database()
    yield url
    drop_database(url)


@pytest.fixture
def make_home(
    tmp_path: Path, home_database: Callable[[], str], drop_database: Callable[[str], None]
) -> Iterator[HomeMaker]:
    """Opens a home in a database of its own; keywords are settings. A settle time of none spares the wait."""
    opened: list[Home] = []
    databases: list[str] = []

    def make(**settings: Any) -> Home:
        databases.append(home_database())
        given = {
            "home": tmp_path / f"home{len(opened)}",
            "database_url": databases[-1],
            "file_stable_for": timedelta(0),
        }
        home = open_home(load_settings(**(given | settings)))
        opened.append(home)
        return home

    yield make
    for home in opened:
        home.engine.dispose()
    for url in databases:
        drop_database(url)


@pytest.fixture(scope="session")
def small_network(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three stations, six days until `NIGHT`, with dirt; the truth of it."""
    out = tmp_path_factory.mktemp("network") / "landing"
    return simulate_network(NetworkSpec(stations=3, days=6, end=NIGHT, seed=7, readings_per_hour=6), out)


@pytest.fixture(scope="session")
def run_night(
    tmp_path_factory: pytest.TempPathFactory, home_database: Callable[[], str], plain_environment: None
) -> Iterator[NightRunner]:
    """Runs the nightly job for real, in this process; keywords are settings. `again` runs it in the same home."""
    from bts_assets.cli.run_job import run_job

    opened: list[Home] = []

    def run(
        landing: Path, as_of: datetime | None, *, again: PublishedNight | None = None, **given: str
    ) -> PublishedNight:
        environment = again.environment if again else {
            "BTS_HOME": str(tmp_path_factory.mktemp("home")),
            "BTS_DATABASE_URL": home_database(),
            "BTS_FILE_STABLE_FOR": "0s",
            **{f"BTS_{name.upper()}": value for name, value in given.items()},
        }  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            settings = load_settings(landing_dir=landing)
            with watched() as reached:
                said = run_job("nightly", settings, landing=landing, as_of=as_of.isoformat() if as_of else None)
            opened.append(open_home(settings))
            return PublishedNight(environment, opened[-1], said, reached)

    yield run
    for home in opened:
        home.engine.dispose()


@pytest.fixture(scope="session")
def published(run_night: NightRunner, small_network: Any) -> PublishedNight:
    """The nightly job over the small network: hourly steps, two days of context, half a day of horizon."""
    return run_night(small_network.landing, NIGHT, step="1h", context="2d", horizon="12h")


@pytest.fixture(scope="session")
def published_night(published: PublishedNight) -> sa.Engine:
    """The database of the published night."""
    return published.engine
