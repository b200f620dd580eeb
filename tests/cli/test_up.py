"""`bts up`: every page answers, and nothing is left when it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import browser
import psycopg2
import pytest
from nights import HomeMaker, PublishedNight

from bts_assets.cli import up, up_lock
from bts_assets.services.home import Home
from bts_assets.storage.mlflow_pages import run_page, trainings_page
from bts_assets.storage.served_pages import Pages, pages_of

BTS = Path(sys.executable).parent / "bts"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str, process: subprocess.Popen[str], seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        try:
            with urllib.request.urlopen(url, timeout=5) as page:  # noqa: S310 - loopback
                return str(page.read().decode())
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"{url} did not answer within {seconds} s")


def processes_of(home: str) -> list[str]:
    """Command lines of the processes that know this home from their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"BTS_HOME={home}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def shown_in_mlflow(published: PublishedNight, address: str) -> None:
    """The addresses that are printed lead to what they promise: a training among its like, with its figures."""
    if browser.missing():
        return
    (version,) = published.rows("SELECT mlflow_run_id, mlflow_experiment_id FROM bts.version_status")
    with browser.browser() as window:
        window.open(run_page(address, version["mlflow_run_id"], version["mlflow_experiment_id"]))
        window.wait("document.body.innerText.includes('Registered models')")
        menu = window.text("aside")
        assert "Model registry" in menu
        assert "Evaluation" not in menu  # as the view for chat models has it
        window.open(trainings_page(address))
        window.wait("document.body.innerText.includes('served/median_mase')")


def test_up_serves_every_page_and_leaves_nothing_behind(published: PublishedNight) -> None:
    explorer, dagster, mlflow, metrics = (free_port() for _ in range(4))
    environment = {**os.environ, **published.environment}
    command = [BTS, "up", "--port", str(explorer), "--dagster-port", str(dagster), "--mlflow-port", str(mlflow)]
    command += ["--metrics-port", str(metrics)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert "What needs a visit" in answers(f"http://127.0.0.1:{explorer}/", process, 60)
            assert "server_info" not in answers(f"http://127.0.0.1:{dagster}/", process, 90)
            version = answers(f"http://127.0.0.1:{dagster}/server_info", process, 10)
            assert "dagster_version" in version
            assert "MLflow" in answers(f"http://127.0.0.1:{mlflow}/", process, 60)
            figures = answers(f"http://127.0.0.1:{metrics}/metrics", process, 60)
            assert "bts_database_up 1.0" in figures
            assert 'bts_night_wall_seconds{stage="station_forecasts"}' in figures
            # What is listed is what the night recorded: the same instance, the same registry.
            found = answers(
                f"http://127.0.0.1:{mlflow}/api/2.0/mlflow/registered-models/get?name=bts-forecaster", process, 20
            )
            assert '"champion"' in found
            at = Pages(f"http://127.0.0.1:{dagster}", f"http://127.0.0.1:{mlflow}")
            assert pages_of(Path(published.environment["BTS_HOME"])) == at  # other commands link there
            shown_in_mlflow(published, f"http://127.0.0.1:{mlflow}")
            listed = " ".join(processes_of(published.environment["BTS_HOME"]))
            with psycopg2.connect(published.environment["BTS_DATABASE_URL"]) as connection:
                password = connection.info.password
            assert "mlflow" in listed
            assert password not in listed  # a command line is open to every user of the machine
        finally:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            # The home is shared: others look for the usual ports.
            (Path(published.environment["BTS_HOME"]) / "pages.json").unlink(missing_ok=True)
    addresses = [line.split()[1] for line in out.splitlines() if "  http://" in line]
    assert addresses[:2] == [f"http://127.0.0.1:{explorer}", f"http://127.0.0.1:{dagster}"]
    assert process.returncode == 0, err
    deadline = time.monotonic() + 15
    while processes_of(published.environment["BTS_HOME"]) and time.monotonic() < deadline:
        time.sleep(0.5)  # Dagster's orphan watchers look once a second or so
    assert processes_of(published.environment["BTS_HOME"]) == []


def test_a_taken_port_is_one_line(published: PublishedNight) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [BTS, "up", "--port", str(free_port()), "--dagster-port", port],
            env={**os.environ, **published.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == f"bts: --dagster-port {port}: that port of 127.0.0.1 is taken; choose another\n"


#: `bts up` as it is, but for what it starts: a tree of sleepers, one of them in a session of its own.
SLEEPERS = """
import sys
from bts_assets.cli import app, up
up._commands = lambda *_: {
    "dagster": ["sh", "-c", "sleep 611 & setsid sleep 612 & wait"],
    "mlflow": ["sh", "-c", "sleep 613 & sleep 614; wait"],
}
up.report_abandoned = lambda *_: []
sys.argv = ["bts", "up", *sys.argv[1:]]
app.main()
"""


class Sleepers:
    """A `bts up` of sleepers over a home; its output is read when it has ended."""

    def __init__(self, home: Home) -> None:
        self.home = str(home.settings.home)
        self.environment = {**os.environ, "BTS_HOME": self.home, "BTS_DATABASE_URL": home.url, "COLUMNS": "1000"}
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        names = ("--port", "--dagster-port", "--mlflow-port", "--metrics-port")
        ports = [part for name in names for part in (name, str(free_port()))]
        return subprocess.Popen(
            [sys.executable, "-c", SLEEPERS, *ports],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def asleep(self) -> dict[str, int]:
        """What sleeps, and its process."""
        running = up_lock.leftovers(Path(self.home))
        return {command.split()[1]: pid for pid, command in running.items() if command.startswith("sleep ")}

    def wait_until_asleep(self) -> None:
        until(lambda: set(self.asleep()) == {"611", "612", "613", "614"}, self.process)

    def wait_until_gone(self) -> None:
        until(lambda: not up_lock.leftovers(Path(self.home)))


def until(holds: Callable[[], bool], alive: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert alive is None or alive.poll() is None, alive.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def sleepers(make_home: HomeMaker) -> Iterator[Sleepers]:
    started = Sleepers(make_home())
    yield started
    started.process.kill()
    started.process.communicate()
    for pid in up_lock.leftovers(Path(started.home)):
        os.kill(pid, signal.SIGKILL)


def test_what_up_started_dies_with_it_though_it_was_killed(sleepers: Sleepers) -> None:
    sleepers.wait_until_asleep()
    sleepers.process.kill()
    sleepers.wait_until_gone()


def test_one_up_serves_a_home_and_stop_does_not_pull_its_database_away(sleepers: Sleepers) -> None:
    sleepers.wait_until_asleep()
    named = f"bts up (process {sleepers.process.pid}) serves {sleepers.home}"
    second = sleepers.start()
    assert second.communicate(timeout=60)[1] == f"bts: {named} already: use its pages, or end it first\n"
    assert second.returncode == 1

    def stop(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BTS, "stop", *arguments],
            env=sleepers.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    refused = stop()
    assert refused.returncode == 1
    assert refused.stderr == f"bts: {named}: end that, or stop Postgres under it with bts stop --force\n"
    assert stop("--force").stdout == "it was not running\n"  # a database of the test's own serves
    sleepers.process.terminate()
    assert sleepers.process.wait(60) == 0
    assert up_lock.leftovers(Path(sleepers.home)) == {}


@pytest.mark.parametrize(
    ("script", "told"), [("raise SystemExit(3)", "status 3"), ("import os; os.kill(os.getpid(), 9)", "by SIGKILL")]
)
def test_how_a_part_ended_is_told_in_words(script: str, told: str) -> None:
    keeping = [sys.executable, "-m", "bts_assets.cli.keeper", str(os.getpid()), sys.executable, "-c", script]
    kept = subprocess.run(keeping, start_new_session=True, check=False)
    assert up._ending(kept.returncode) == told


def test_a_part_that_dies_is_said_and_ends_the_others(sleepers: Sleepers) -> None:
    sleepers.wait_until_asleep()
    for seconds in ("614", "613"):
        os.kill(sleepers.asleep()[seconds], signal.SIGKILL)
    _, said = sleepers.process.communicate(timeout=60)
    assert sleepers.process.returncode == 1
    assert said.startswith("bts: mlflow ended, ")
    assert up_lock.leftovers(Path(sleepers.home)) == {}


def test_what_outlived_even_its_keeper_is_named_by_the_next_up(sleepers: Sleepers) -> None:
    sleepers.wait_until_asleep()
    # Stopped, it does not see its keepers die one by one, upon which it would end what they kept.
    sleepers.process.send_signal(signal.SIGSTOP)
    running = up_lock.leftovers(Path(sleepers.home))
    for pid in [pid for pid, command in running.items() if "bts_assets.cli.keeper" in command]:
        os.kill(pid, signal.SIGKILL)
    sleepers.process.kill()
    sleepers.process.wait()
    left = sleepers.asleep()
    assert left
    following = sleepers.start()
    _, said = following.communicate(timeout=60)
    assert following.returncode == 1
    assert f"an earlier bts up of {sleepers.home} left processes behind: " in said
    assert all(f"{pid} (sleep {seconds})" in said for seconds, pid in left.items())


def test_one_port_cannot_serve_two_pages(make_home: HomeMaker) -> None:
    port, home = str(free_port()), make_home()
    done = subprocess.run(
        [BTS, "up", "--port", str(free_port()), "--dagster-port", port, "--mlflow-port", port],
        env={**os.environ, "BTS_HOME": str(home.settings.home), "BTS_DATABASE_URL": home.url},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"bts: --dagster-port {port} cannot serve both Dagster and MLflow: give one of them another\n"
