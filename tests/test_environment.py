"""The locked environment: what the lock holds, that pip finds nothing to complain of, and which Pythons it is for."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[1]
LOCK = (CHECKOUT / "requirements.lock").read_text(encoding="utf-8")
RAY_LOCK = (CHECKOUT / "deploy/ray/requirements.lock").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize(("lock", "least"), [(LOCK, 100), (RAY_LOCK, 2)])
def test_lock_has_hashes_for_every_package_and_no_address(lock: str, least: int) -> None:
    entries = re.split(r"\n(?=\S)", lock.replace("\\\n", " ").strip())
    assert len(entries) >= least
    for entry in entries:
        assert re.match(r"[a-zA-Z0-9._-]+(\[[\w,-]+\])?==[\w.!+]+( ;[^#]*?)?\s+--hash=sha256:[0-9a-f]{64}", entry), (
            entry
        )
        assert re.fullmatch(r"[^#]*?(\s+--hash=sha256:[0-9a-f]{64})+\s*", entry), entry
    assert "://" not in lock
    assert "-index" not in lock


def test_lock_covers_what_the_project_asks_for(project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    # What a GPU needs is in no lock (pyproject.toml).
    asked = sum((extras[name] for name in extras.keys() - {"gpu"}), project["dependencies"])
    names = {re.split(r"[\[<>=!~ ]", line)[0].lower() for line in asked}
    locked = {line.split("==")[0].split("[")[0] for line in (LOCK + RAY_LOCK).splitlines()}
    assert names - locked == set()
    cluster = (CHECKOUT / "deploy/ray/requirements.in").read_text(encoding="utf-8").splitlines()
    assert set(extras["ray-launcher"]) <= set(cluster)
    # The job server comes with what launches whole runs.
    assert extras["ray"] == [line.replace("[default]", "") for line in cluster if line.startswith("ray")]


@pytest.mark.slow
def test_pip_finds_no_package_at_odds_with_another() -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_place_that_names_the_pythons_names_the_same(project: dict[str, Any]) -> None:
    import yaml

    least, above = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups())
    pythons = [f"3.{minor}" for minor in range(least, above)]
    classified = [c.rpartition(" ")[2] for c in project["classifiers"] if "Python :: 3." in c]
    assert classified == pythons
    workflow = yaml.safe_load((CHECKOUT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == pythons
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    sought = " ".join(f"python{python}" for python in reversed(pythons))
    assert f"PYTHONS := {sought} python3\n" in makefile
    assert f"(3, {least}) <= sys.version_info[:2] <= (3, {above - 1})" in makefile
    doctor = (CHECKOUT / "bts_assets/cli/doctor.py").read_text(encoding="utf-8")
    assert f"(3, {least}) <= sys.version_info[:2] <= (3, {above - 1})" in doctor
