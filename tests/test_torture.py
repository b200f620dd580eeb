"""The fault campaign in short, its crash points where they are passed, and the broken variants that it must catch."""

import ast
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.torture.broken import VARIANTS
from benchmarks.torture.measures import MEASURES
from benchmarks.torture.scenes import POINTS_OF
from bts_assets.contracts.errors import UsageError
from bts_assets.storage.crash_points import POINTS, VARIABLE, arm

CHECKOUT = Path(__file__).parents[1]
#: Broken variants that take longer to catch: `make torture` alone tries them.
SLOW = {"days logged before computed", "rejected rows apart", "files gone before it is said", "scored before scores"}
QUICK = sorted(VARIANTS.keys() - SLOW)


def passed(module: Path) -> list[str]:
    """The names of crash points that a module passes."""
    calls = [node for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return [ast.literal_eval(call.args[0]) for call in calls if ast.unparse(call.func) == "crash_point"]


def test_each_crash_point_is_passed_in_one_place_and_belongs_to_one_scene() -> None:
    found = Counter(name for module in (CHECKOUT / "bts_assets").rglob("*.py") for name in passed(module))
    assert found == dict.fromkeys(POINTS, 1)
    assert sorted(point for points in POINTS_OF.values() for point in points) == sorted(POINTS)


def test_a_process_dies_at_the_point_that_is_named_and_nowhere_else() -> None:
    script = (
        "from bts_assets.storage.crash_points import crash_point as c\n"
        "for k in range(3): print(k, flush=True); c('publish.after_copy'); c('publish.after_batch')"
    )

    def run(where: str) -> tuple[int, str]:
        environment = os.environ | {VARIABLE: where, "PYTHONPATH": str(CHECKOUT)}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    assert run("") == (0, "0\n1\n2\n")
    assert run("publish.after_commit") == (0, "0\n1\n2\n")
    assert run("publish.after_copy") == (-9, "0\ncrash point publish.after_copy\n")
    assert run("publish.after_batch:3") == (-9, "0\n1\n2\ncrash point publish.after_batch\n")


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("publish.after_copi", "did you mean publish.after_copy"),
        ("nonsense", "crash_points.py lists them"),
        ("publish.after_copy:0", "is no number of times"),
        ("publish.after_copy:x", "is no number of times"),
    ],
)
def test_a_point_that_is_not_there_is_refused_for_who_does_not_die_proves_nothing(where: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        arm(where)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What a short campaign said, and its state."""
    state = tmp_path_factory.mktemp("torture") / "state.json"
    command = [sys.executable, "-m", "benchmarks.torture", "--short", "--state", str(state), "--broken", *QUICK]
    done = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, timeout=900, check=False,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    assert state.is_file(), done.stdout + done.stderr
    (measures,) = json.loads(state.read_text()).values()
    return done.stdout, measures


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, measure in MEASURES.items() if measure.short])
def test_faults_that_landed_left_nothing_behind(name: str, campaign: tuple[str, dict[str, Any]]) -> None:
    done = campaign[1][name]
    assert done["failures"] == []
    assert done["landed"] >= MEASURES[name].short


@pytest.mark.slow
def test_processes_died_at_every_crash_point(campaign: tuple[str, dict[str, Any]]) -> None:
    assert set(POINTS) <= set(campaign[1]["kills"]["kinds"])


@pytest.mark.slow
@pytest.mark.parametrize("variant", QUICK)
def test_broken_variant_is_caught(variant: str, campaign: tuple[str, dict[str, Any]]) -> None:
    assert re.search(rf"^{variant}: caught: ", campaign[0], re.MULTILINE), campaign[0]
