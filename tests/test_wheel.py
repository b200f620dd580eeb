"""The wheel: it carries what the package needs at run time, and works where there is no checkout."""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[1]
RUN = "from bts_assets.cli.app import main; main()"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by its own build backend, which asks no registry for anything."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Iterator[Path]:
    """The wheel unpacked, as pip does with a pure one; open to the user that a root's Postgres runs as."""
    with tempfile.TemporaryDirectory(prefix="bts-wheel-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "site")
        (folder / "empty").mkdir()
        yield folder


def run(installed: Path, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Python in an empty folder, where the only `bts_assets` is that of the wheel."""
    environment = os.environ | {"PYTHONPATH": str(installed / "site"), "BTS_HOME": str(installed / "home")} | settings
    return subprocess.run(
        [sys.executable, *command],
        cwd=installed / "empty",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_wheel_carries_every_file_that_the_code_looks_for(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        carried = {name: archive.read(name) for name in archive.namelist()}
    wanted = {
        **{f"bts_assets/_shipped/{p.relative_to(CHECKOUT)}": p for p in files("migrations", "sql")},
        **{f"bts_assets/_shipped/{name}": CHECKOUT / name for name in ("dagster.yaml", "workspace.yaml")},
        **{str(p.relative_to(CHECKOUT)): p for p in files("bts_assets")},
    }
    assert {
        "bts_assets/_shipped/migrations/env.py",
        "bts_assets/contracts/catalogue.csv",
        "bts_assets/py.typed",
    } <= set(wanted)
    assert {name for name, path in wanted.items() if carried.get(name) != path.read_bytes()} == set()
    tops = {name.split("/")[0].split("-")[0] for name in carried}
    assert tops == {"bts_assets"}
    assert not [name for name in carried if name.endswith(".pyc")]


def files(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (CHECKOUT / folder).rglob("*") if path.is_file()]
    return [path for path in found if "__pycache__" not in path.parts]


def test_installed_command_is_bts(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "bts = bts_assets.cli.app:main" in archive.read(entry_points).decode()


def test_wheel_simulates_and_ingests_from_an_empty_folder(installed: Path) -> None:
    imports = "from bts_assets.cli import app; from bts_assets.storage.shipped import shipped"
    where = f"{imports}; print(app.__file__, shipped('sql'))"
    for place in run(installed, "-c", where).stdout.split():
        assert place.startswith(str(installed / "site"))
    try:
        simulated = run(installed, "-c", RUN, "simulate", "--stations", "1", "--days", "1", "--out", "landing")
        assert simulated.returncode == 0, simulated.stderr
        assert len(list((installed / "empty" / "landing").glob("**/*.csv"))) >= 24
        taken = run(installed, "-c", RUN, "ingest", "--landing", "landing")
        assert taken.returncode == 0, taken.stderr
        query = "SELECT count(*) AS files, sum(accepted) > 0 AS some FROM bts.ingest_ledger WHERE status = 'accepted'"
        asked = run(installed, "-c", RUN, "sql", "--csv", query)
        assert asked.returncode == 0, asked.stderr
        count, some = asked.stdout.split()[-1].split(",")
        assert int(count) >= 20
        assert some.lower().startswith("t")
        assert {path.name for path in (installed / "empty").iterdir()} == {"landing", "landing-truth"}
    finally:
        stopped = run(installed, "-c", RUN, "stop")
    assert stopped.stdout.strip() == "stopped", stopped.stderr
