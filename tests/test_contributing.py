"""What a contributor is given: the hooks before a commit, and the workflow of a public forge."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def hooks() -> dict[str, dict[str, Any]]:
    config = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"], "a hook that would be fetched"
    return {hook["id"]: hook for hook in config["repos"][0]["hooks"]}


def run_hook(hook: dict[str, Any], cwd: Path, *files: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / Path(word).name) if word.startswith(".venv/bin/") else word for word in hook["entry"].split()]
    return subprocess.run([*command, *files], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_hooks_are_the_quick_half_of_make_test(hooks: dict[str, dict[str, Any]]) -> None:
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    for command in ("ruff format", "ruff check", "mypy"):
        assert f"$(BIN)/{command}" in makefile
        assert any(hook["entry"].startswith(f".venv/bin/{command}") for hook in hooks.values()), command


@pytest.mark.parametrize("hook", ["ruff-format", "ruff-check"])
def test_a_hook_objects_to_a_bad_file_and_passes_a_good_one(
    hooks: dict[str, dict[str, Any]], tmp_path: Path, hook: str
) -> None:
    (tmp_path / "good.py").write_text('"""Good."""\n\nVALUE = 1\n', encoding="utf-8")
    (tmp_path / "bad.py").write_text('import os\nVALUE = "unclosed\n', encoding="utf-8")
    assert run_hook(hooks[hook], tmp_path, "good.py").returncode == 0
    assert run_hook(hooks[hook], tmp_path, "bad.py").returncode != 0


def test_the_workflow_keeps_to_its_schema() -> None:
    schema = ["--builtin-schema", "vendor.github-workflows"]
    command = [str(BIN / "check-jsonschema"), *schema, *map(str, (CHECKOUT / ".github/workflows").iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_runs_the_commands_of_the_readme() -> None:
    workflow = yaml.safe_load((CHECKOUT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    told = [step["run"] for step in steps if "name" not in step]
    targets = re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {line.split()[0] for line in told} == {"make"}
    assert {line.split()[1] for line in told} == {"test", "nightly"} <= set(targets)


def test_the_workflow_runs_the_browser_tests() -> None:
    workflow = yaml.safe_load((CHECKOUT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    *_, browser, tests = workflow["jobs"]["tests"]["steps"]
    assert "chromedriver" in browser["run"]
    assert tests["env"] == {"NEED_BROWSER": "1"}  # tests/explorer/conftest.py
