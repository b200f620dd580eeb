"""What the README and the docs say is so: commands, settings, the first query, links."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import COMMANDS, bts
from nights import PublishedNight

from bts_assets.settings import Settings, _text

CHECKOUT = Path(__file__).parents[1]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
PAGES = [
    *(CHECKOUT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((CHECKOUT / "docs").rglob("*.md")),
]


def test_every_command_is_in_the_readme() -> None:
    named = set(re.findall(r"bts (\w+)", README))
    assert set(COMMANDS) <= named


def test_the_settings_table_is_that_of_the_code() -> None:
    told = dict(re.findall(r"^\| `(BTS_\w+)` \| ([^|]*) \|", README, flags=re.MULTILINE))
    fields = {
        f"BTS_{name.upper()}": None if field.default_factory else field.default
        for name, field in Settings.model_fields.items()
    }
    assert told.keys() == fields.keys()
    for name, default in fields.items():
        text = "unset" if default is None else _text(default)
        assert told[name].strip() == text, name


def test_the_first_query_gives_what_the_readme_shows(published: PublishedNight) -> None:
    block = README.split("## A first query")[1].split("```console\n")[1].split("```")[0].splitlines()
    command, shown = shlex.split(block[0].removeprefix("$ ")), block[1:]
    done = bts(*command[1:], env=published.environment)
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()

    def names(lines: list[str]) -> list[str]:
        return [name.strip() for name in lines[0].split("|")]

    assert names(rows) == names(shown)
    assert rows[-1] == shown[-1] == "(8 rows)"
    # The series that the README asks for is one that every simulated network has.
    assert len(rows) == len(shown)


def test_dagster_lists_the_assets_as_the_readme_shows_it(published: PublishedNight) -> None:
    (line,) = re.findall(r'`(eval "\$\(\.venv/bin/bts env\)" && [^`]+)`', README)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BTS_", "DAGSTER_"))}
    done = subprocess.run(
        ["/bin/sh", "-c", line.replace(".venv/bin", str(Path(sys.executable).parent))],
        env=environment | published.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {"readings", "lstm_model", "station_forecasts"} <= set(done.stdout.split())


def test_what_a_night_prints_is_what_the_readme_shows(
    published: PublishedNight, capsys: pytest.CaptureFixture[str]
) -> None:
    from bts_assets.cli.render.terminal import night_summary

    night_summary(published.said)
    labels = re.findall(r"^  ([a-zA-Z ]+?)  +\S", capsys.readouterr().out, flags=re.MULTILINE)
    shown = README.split("```text\n")[1].split("```")[0]
    assert labels[0] == "landing files"
    assert [label for label in labels if f"\n  {label}  " not in shown] == []


each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@each_page
def test_files_that_are_named_exist(page: Path) -> None:
    tops = ("sql/", "docs/", "deploy/", "bts_assets/", "tests/", "migrations/")
    for name in re.findall(r"`([\w./-]+\.(?:py|sql|md|yml|yaml|csv))`", page.read_text(encoding="utf-8")):
        places = [page.parent / name, CHECKOUT / name, CHECKOUT / "bts_assets" / name, CHECKOUT / "tests" / name]
        assert any(place.exists() for place in places), name
    for name in re.findall(rf"`((?:{'|'.join(tops)})[\w./-]*)`", page.read_text(encoding="utf-8")):
        assert (CHECKOUT / name).exists(), name


def test_the_benchmarks_that_the_docs_name_can_be_run() -> None:
    named = set(re.findall(r"python -m benchmarks\.(\w+)", "".join(p.read_text(encoding="utf-8") for p in PAGES)))
    folder = CHECKOUT / "benchmarks"
    files = {p.stem: p for p in folder.glob("[a-z]*.py")} | {p.parent.name: p for p in folder.glob("*/__main__.py")}
    runnable = {name for name, p in files.items() if f"python -m benchmarks.{name}" in p.read_text(encoding="utf-8")}
    assert named == runnable


def test_the_tests_and_targets_that_contributors_are_told_of_exist() -> None:
    page = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for file, name in re.findall(r"(tests/[\w/]+\.py)::(\w+)", page):
        assert f"def {name}(" in (CHECKOUT / file).read_text(encoding="utf-8"), name
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", page, flags=re.MULTILINE):
        assert f"\n{target}:" in makefile, target
