"""The examples that a data scientist starts from, run as they stand on a night that was published."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import sqlalchemy as sa
from nights import PublishedNight

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOK = json.loads((EXAMPLES / "first_look.ipynb").read_text(encoding="utf-8"))
STATEMENTS = [s for s in (EXAMPLES / "first_look.sql").read_text(encoding="utf-8").split(";\n") if s.strip()]


@pytest.fixture
def without_a_screen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    mpl.use("agg")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def url(published: PublishedNight) -> str:
    return published.environment["BTS_DATABASE_URL"]


@pytest.mark.usefixtures("without_a_screen")
def test_the_notebook_runs_from_top_to_bottom(
    published: PublishedNight, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BTS_READ_URL", url)
    names: dict[str, Any] = {}
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)  # noqa: S102
    assert len(names["forecasts"]) == published.rows("SELECT count(*) AS n FROM bts.latest_forecast")[0]["n"]
    assert f"of {len(names['forecasts'])} forecasts have been observed" in capsys.readouterr().out
    (axes,) = names["figure"].axes
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {"observed", "90 % interval", "median"}
    assert names["made"]["input_file_names"]


def test_the_notebook_is_of_format_4_5_and_holds_no_output() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in ids)
    for cell in NOTEBOOK["cells"]:
        needed = {"cell_type", "id", "metadata", "source"}
        assert set(cell) == (needed | {"outputs", "execution_count"} if cell["cell_type"] == "code" else needed)
        assert (cell.get("outputs", []), cell.get("execution_count")) == ([], None)


def test_the_script_says_what_it_found_and_writes_its_picture(
    without_a_screen: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["first_look.py", url, "seen.png"])
    runpy.run_path(str(EXAMPLES / "first_look.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert re.search(r"^\d+ forecasts of \d+ series, issued at 2026-03-10 00:00:00\+00:00$", said, flags=re.MULTILINE)
    assert re.search(r"^made by model version 1 from \d+ landing files; see seen.png$", said, flags=re.MULTILINE)
    assert (without_a_screen / "seen.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda s: re.findall(r"-- (.*)", s)[-1][:40])
def test_the_sql_answers(published: PublishedNight, statement: str) -> None:
    with published.engine.connect() as connection:
        assert connection.execute(sa.text(statement)).all()
