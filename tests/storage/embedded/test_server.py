"""The embedded Postgres, run for real: shared, killed, copied, starved, and asleep when nobody needs it."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from bts_assets.storage.embedded import server as embedded
from bts_assets.storage.embedded.cluster import Cluster
from bts_assets.storage.embedded.host import server_identity
from bts_assets.storage.embedded.idle_watcher import watch
from tests.helpers.waiting import eventually

pytestmark = pytest.mark.slow

LONG = timedelta(minutes=5)
CHECKOUT = Path(__file__).parents[3]
WAKE = (
    "import sys; from datetime import timedelta; from pathlib import Path;"
    "from bts_assets.storage.embedded import server as embedded;"
    "print(embedded.wake(Path(sys.argv[1]), timedelta(seconds=float(sys.argv[2]))))"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that every user can pass through, as pytest's own is not; nothing may run in it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="bts embedded ")).resolve()
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for state in folder.glob("*/postgres"):
            embedded.stop(state.parent)
        left = eventually(lambda: not processes_of(folder)) or processes_of(folder)
        shutil.rmtree(folder)
    assert left is True, left


@pytest.fixture(scope="module")
def made(open_folder: Path) -> Path:
    """A home with a cluster, asleep, and a space in its path."""
    home = open_folder / "made"
    embedded.wake(home, LONG)
    embedded.stop(home)
    return home


@pytest.fixture
def home(made: Path) -> Iterator[Path]:
    """The same home for every test, asleep before and after: to make one costs a second."""
    yield made
    embedded.stop(made)
    assert eventually(lambda: not processes_of(made)), processes_of(made)


def processes_of(folder: Path) -> dict[int, str]:
    """Processes with `folder` in their command line, zombies aside (those have none)."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 1) for line in listed.stdout.splitlines()]
    return {int(row[0]): row[1] for row in rows if len(row) > 1 and f"{folder}" in row[1]}


def watchers_of(home: Path) -> list[int]:
    return [pid for pid, command in processes_of(home).items() if f"embedded.idle_watcher {home} " in command]


def postmaster_of(home: Path) -> int:
    return int((home / "postgres/data/postmaster.pid").read_text().split()[0])


def query(url: str, sql: str) -> Any:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone() if cursor.description else None


def waking(home: Path, seconds: float = 300, python: str = sys.executable, **options: Any) -> subprocess.Popen[str]:
    """Another process that wakes `home` and prints the URL."""
    return subprocess.Popen(
        [python, "-c", WAKE, str(home), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **{"cwd": CHECKOUT, **options},
    )


def become_watcher(home: Path, seconds: float) -> int:
    """The watcher's lock, free at most `seconds` from now."""
    deadline = time.monotonic() + seconds
    while (lock := Cluster.of(home)._take("watch.lock")) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return lock


def test_psql_reaches_the_server_by_password_on_loopback_only(home: Path) -> None:
    url = embedded.wake(home, LONG)
    psql = [str(embedded.binaries() / "psql"), url, "-Atc", "SELECT current_user, current_database()"]
    assert subprocess.run(psql, capture_output=True, text=True, check=True).stdout == "bts|bts\n"
    assert embedded.url(home) == url
    assert embedded.is_awake(home)

    wanted = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "wal_level": "minimal", "fsync": "on"}
    wanted |= {"TimeZone": "UTC", "server_encoding": "UTF8", "password_encryption": "scram-sha-256"}
    assert {name: query(url, f"SHOW {name}")[0] for name in wanted} == wanted
    assert query(url, "SELECT datlocale, datcollate FROM pg_database WHERE datname = 'bts'") == ("C.UTF-8", "C")
    assert (home / "postgres/password").stat().st_mode & 0o777 == 0o600
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(url.replace(url.split(":")[2].split("@")[0], "guessed"))

    assert embedded.stop(home)
    assert not embedded.is_awake(home)
    os.close(become_watcher(home, seconds=0))  # it is gone as well
    assert not embedded.stop(home)


def test_a_home_without_a_server_is_not_awake_and_nothing_is_made_in_it(tmp_path: Path) -> None:
    assert not embedded.is_awake(tmp_path)
    assert not embedded.stop(tmp_path)
    with pytest.raises(embedded.EmbeddedPostgresError, match="never woken"):
        embedded.url(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_processes_that_wake_a_fresh_home_at_once_share_one_server(open_folder: Path) -> None:
    home = open_folder / "crowded"
    results = [process.communicate() for process in [waking(home) for _ in range(5)]]
    assert {out.strip() for out, _ in results} == {embedded.url(home)}, results
    postmasters = [command for command in processes_of(home).values() if " -D " in command]
    assert len(postmasters) == 1
    assert len(watchers_of(home)) == 1


def test_the_server_outlives_its_waker_and_ctrl_c(home: Path) -> None:
    process = waking(home, start_new_session=True)
    url = process.communicate()[0].strip()
    with pytest.raises(ProcessLookupError):  # nothing of it is left in the terminal's reach
        os.killpg(process.pid, signal.SIGINT)
    assert query(url, "SELECT 1") == (1,)
    # Not our child, so that nobody has to wait for it.
    with pytest.raises(ChildProcessError):
        os.waitpid(postmaster_of(home), os.WNOHANG)


def test_committed_rows_survive_killing_the_server_with_a_backend_at_work(home: Path) -> None:
    url = embedded.wake(home, LONG)
    query(url, "CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
    with closing(psycopg2.connect(url)) as busy:
        spin = "DO $$ BEGIN FOR i IN 1..30000000 LOOP NULL; END LOOP; END $$"

        def work_on() -> None:
            with suppress(psycopg2.Error):
                busy.cursor().execute(spin)

        work = threading.Thread(target=work_on)
        work.start()
        assert eventually(lambda: query(url, "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^DO'") == (1,))
        os.kill(postmaster_of(home), signal.SIGKILL)
        # Proof that the fault landed: the server is gone, its backend is not.
        assert eventually(lambda: not embedded.is_awake(home))
        assert Cluster.of(home).has_processes()
        assert query(embedded.wake(home, LONG), "SELECT count(*) FROM t") == (1000,)
        work.join()
    assert len(watchers_of(home)) == 1


def test_a_process_id_file_that_names_a_stranger_does_not_keep_the_server_down(home: Path) -> None:
    embedded.wake(home, LONG)
    os.kill(postmaster_of(home), signal.SIGKILL)
    stranger = subprocess.Popen(["sleep", "60"], **server_identity(home / "postgres/data"))
    pid_file = home / "postgres/data/postmaster.pid"
    pid_file.write_text(pid_file.read_text().replace(str(postmaster_of(home)), str(stranger.pid), 1))
    assert query(embedded.wake(home, LONG), "SELECT 1") == (1,)
    assert embedded.stop(home)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_cluster_half_made_by_a_killed_waker_is_made_anew(open_folder: Path) -> None:
    home = open_folder / "half"
    process = waking(home)
    assert eventually(lambda: (home / "postgres/making/data/base").is_dir())
    process.kill()
    process.communicate()
    assert not (home / "postgres/data").exists()
    assert query(embedded.wake(home, LONG), "SELECT 1") == (1,)
    assert not (home / "postgres/making").exists()


def test_a_port_taken_by_another_program_is_replaced(home: Path) -> None:
    taken = int(embedded.url(home).rsplit(":", 1)[1].split("/")[0])
    with socket.create_server(("127.0.0.1", taken)):
        url = embedded.wake(home, LONG)
    assert f":{taken}/" not in url
    assert query(url, "SELECT 1") == (1,)
    embedded.stop(home)
    assert embedded.wake(home, LONG) == url


def test_a_copy_of_a_running_home_gets_a_server_of_its_own(home: Path) -> None:
    url = embedded.wake(home, LONG)
    copy = home.with_name("copy")
    subprocess.run(["cp", "-a", str(home), str(copy)], check=True)
    copied_url = embedded.wake(copy, LONG)
    assert copied_url != url
    assert query(copied_url, "SHOW data_directory") == (str(copy / "postgres/data"),)
    assert query(url, "SHOW data_directory") == (str(home / "postgres/data"),)


def test_the_server_sleeps_when_nobody_is_connected_and_not_before(home: Path) -> None:
    url = embedded.wake(home, timedelta(seconds=0.6))
    with closing(psycopg2.connect(url)):
        time.sleep(1.5)
        assert embedded.is_awake(home)
    assert eventually(lambda: not processes_of(home), 5), processes_of(home)
    assert not embedded.is_awake(home)
    assert not (home / "postgres/data/postmaster.pid").exists()  # shut down, not killed


def test_clients_that_come_and_go_keep_the_server_awake(home: Path) -> None:
    url = embedded.wake(home, timedelta(seconds=1))
    for _ in range(5):  # too brief and too rare for a look at the connections alone to meet them
        assert query(url, "SELECT 1") == (1,)
        time.sleep(0.5)


def test_the_last_wake_decides_how_long_the_server_may_idle(home: Path) -> None:
    embedded.wake(home, timedelta(seconds=1))
    time.sleep(0.5)  # the watcher has looked
    embedded.wake(home, LONG)
    time.sleep(1.3)
    assert embedded.is_awake(home)


def test_a_killed_watcher_is_replaced_by_the_next_wake(home: Path) -> None:
    embedded.wake(home, timedelta(seconds=1))
    (watcher,) = watchers_of(home)
    os.kill(watcher, signal.SIGKILL)
    assert eventually(lambda: not watchers_of(home))
    embedded.wake(home, timedelta(seconds=0.5))
    assert eventually(lambda: not processes_of(home), 5)


def test_a_wake_between_the_decision_to_stop_and_the_stop_keeps_the_server(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = embedded.wake(home, timedelta(seconds=0.5))
    exclusively = Cluster.exclusively
    overtaking, overtaken = threading.Event(), threading.Event()

    @contextmanager
    def late(cluster: Cluster) -> Iterator[None]:
        if threading.current_thread() is watcher and not overtaking.is_set():
            overtaking.set()
            embedded.wake(home, LONG)
            overtaken.set()
        with exclusively(cluster):
            yield

    for pid in watchers_of(home):
        os.kill(pid, signal.SIGKILL)
    lock = become_watcher(home, seconds=5)
    monkeypatch.setattr(Cluster, "exclusively", late)
    watcher = threading.Thread(target=watch, args=(Cluster.of(home), lock))
    watcher.start()
    assert overtaken.wait(5)
    watcher.join(0.5)
    assert watcher.is_alive()
    assert query(url, "SELECT 1") == (1,)
    embedded.stop(home)
    watcher.join(10)
    assert not watcher.is_alive()


def test_every_wake_that_races_the_idle_stop_returns_a_server_that_answers(home: Path) -> None:
    stops = 0
    for attempt in range(6):
        stops += not embedded.is_awake(home)
        assert query(embedded.wake(home, timedelta(seconds=0.5)), "SELECT 1") == (1,)
        time.sleep(0.5 + 0.05 * attempt)
    assert stops > 1  # else nothing raced
    # A wake on the heels of the stop must not mistake the watcher that is leaving for one that stays.
    assert eventually(lambda: not embedded.is_awake(home))
    embedded.wake(home, timedelta(seconds=0.5))
    assert eventually(lambda: not processes_of(home), 5)


@needs_root
def test_an_unprivileged_user_runs_everything_as_itself(open_folder: Path) -> None:
    user = server_identity()
    search_path = os.pathsep.join([str(CHECKOUT), str(Path(psycopg2.__file__).parents[1])])
    here = {"cwd": "/", "env": {"PYTHONPATH": search_path}} | user
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    pythons = [sys.executable, shutil.which(name, path=os.defpath)]
    python = next((p for p in pythons if p and _runs(p, here)), None)
    if python is None:
        pytest.skip("no Python here that another user may run")
    owned = open_folder / "owned"
    owned.mkdir()
    os.chown(owned, user["user"], user["group"])
    out, error = waking(owned, python=python, **here).communicate()
    assert query(out.strip(), "SELECT 1") == (1,), error
    assert {path.stat().st_uid for path in owned.rglob("*")} == {user["user"]}
    # And root may join: nothing that it writes there shuts the user out.
    assert embedded.stop(owned)
    (owned / "postgres/watch.log").unlink()
    assert embedded.wake(owned, LONG) == out.strip()
    assert {path.stat().st_uid for path in owned.rglob("*")} == {user["user"]}
    assert waking(owned, python=python, **here).communicate()[0] == out


def _runs(python: str, options: dict[str, Any]) -> bool:
    try:
        return subprocess.run([python, "-c", "import psycopg2"], capture_output=True, **options).returncode == 0
    except PermissionError:
        return False


@needs_root
def test_a_folder_closed_to_the_servers_user_is_named_and_left_alone(open_folder: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(embedded.EmbeddedPostgresError) as error:
        embedded.wake(closed / "deep" / "home", LONG)
    assert f"cannot enter {closed} on" in str(error.value)
    assert "BTS_HOME" in str(error.value)
    assert "\n" not in str(error.value)
    assert closed.stat().st_mode & 0o777 == 0o700


def test_a_home_that_is_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(embedded.EmbeddedPostgresError, match=r"cannot use .*file.*: Not a directory$"):
        embedded.wake(tmp_path / "file", LONG)


def test_a_platform_without_the_wheel_is_told_what_to_set(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(embedded.EmbeddedPostgresError, match="set BTS_DATABASE_URL"):
        embedded.wake(open_folder / "nowheel", LONG)


def test_a_creation_that_fails_ends_in_one_line(open_folder: Path) -> None:
    home = open_folder / "starved"
    limit = 1 << 20  # bytes a file may have: as on a disk that is full
    starved = waking(home, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    message = starved.communicate()[1].splitlines()[-1]
    assert message.startswith(
        "bts_assets.storage.embedded.host.EmbeddedPostgresError: the embedded Postgres could not be"
    )
    assert str(home / "postgres/log") in message
    assert not (home / "postgres/data").exists()


def test_a_server_that_cannot_start_tells_its_own_reason(home: Path) -> None:
    control = home / "postgres/data/global/pg_control"
    control.rename(control.with_suffix(".away"))
    with pytest.raises(embedded.EmbeddedPostgresError, match=r"did not start: .*pg_control.*\(log: .*\)$"):
        embedded.wake(home, LONG)
    control.with_suffix(".away").rename(control)
    assert query(embedded.wake(home, LONG), "SELECT 1") == (1,)
