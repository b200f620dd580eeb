"""bts retrain, versions, promote, rollback and probation on a home that was published for real."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import StringIO
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import typer
from nights import NIGHT, NightRunner, PublishedNight
from typer import BadParameter

from bts_assets.cli.commands.models import probation, promote, retrain, rollback, versions
from bts_assets.cli.render import terminal
from bts_assets.cli.render.models import show_probation
from bts_assets.contracts.errors import BtsError
from bts_assets.forecasting import efforts
from bts_assets.forecasting.canary import canary_stations
from bts_assets.services import probation as probations
from bts_assets.services.home import migrate_home
from bts_assets.settings import load_settings


@dataclass(frozen=True)
class Done:
    """What a command printed, and the error that it ended with."""

    stdout: str
    error: BtsError | None


Run = Callable[..., Done]
BUNDLES = "SELECT bundle_digest FROM bts.model_version WHERE model_version_id = :version"


@pytest.fixture(scope="module")
def little_training() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(efforts.EFFORTS, "quick", efforts.Work(20, 20, 1, 1000))
        yield


@pytest.fixture(scope="module")
def lived_in(run_night: NightRunner, small_network: Any, little_training: None) -> PublishedNight:
    """A night of version 1, and version 2, which differs by its seed and is asked to be twice as good: refused."""
    grid = {"step": "1h", "context": "2d", "horizon": "12h"}
    return run_night(small_network.landing, NIGHT, **grid, statistical_max_series="0", promotion_margin="0.5")


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What commands print: taken from the console itself, for a job minds what stands in for standard output."""
    text = StringIO()
    monkeypatch.setattr(terminal.out, "width", 100)
    monkeypatch.setattr(terminal.out, "_file", text)
    return text


@pytest.fixture
def bts(lived_in: PublishedNight, printed: StringIO) -> Iterator[Run]:
    """Runs one of the commands there."""
    app = typer.Typer()
    for command in (retrain, versions, promote, rollback, probation):
        app.command()(command)

    def run(*arguments: str) -> Done:
        before, error = len(printed.getvalue()), None
        try:
            app(arguments, standalone_mode=False)
        except BtsError as caught:
            error = caught
        return Done(printed.getvalue()[before:], error)

    # A job leaves in the environment where Dagster and MLflow find its home.
    with patch.dict(os.environ, lived_in.environment):
        yield run


@pytest.fixture
def two_versions(lived_in: PublishedNight, bts: Run) -> str:
    """What training another one said, or nothing where that was done before."""
    if len(lived_in.rows("SELECT FROM bts.model_version")) > 1:
        return ""
    with patch.dict(os.environ, {"BTS_SEED": "2"}):
        done = bts("retrain", "--as-of", NIGHT.isoformat(), "--effort", "quick")
    assert done.error is None, done.error
    return done.stdout


def serving(home: PublishedNight) -> tuple[int, int]:
    (champion,) = home.rows("SELECT model_version_id AS n FROM bts.champion ORDER BY champion_seq DESC LIMIT 1")
    (batch,) = home.rows("SELECT DISTINCT batch_id AS n FROM bts.latest_forecast")
    return champion["n"], batch["n"]


def everything(home: PublishedNight) -> list[Any]:
    tables = ("champion", "decision", "probation", "publication", "batch")
    return [home.rows(f"SELECT * FROM bts.{table} ORDER BY 1") for table in tables]


# In the order in which a user would


def test_training_again_on_the_same_gives_the_champion(bts: Run, lived_in: PublishedNight) -> None:
    done = bts("retrain", "--as-of", NIGHT.isoformat())
    assert done.error is None, done.error
    assert "Model version 1: refused, beside champion 1\n  it is the champion: same data, settings and seed" in (
        done.stdout
    )
    assert len(lived_in.rows("SELECT FROM bts.decision")) == 1


def test_challenger_is_judged_and_each_rule_is_told(lived_in: PublishedNight, two_versions: str) -> None:
    (decision,) = lived_in.rows("SELECT * FROM bts.model_decision WHERE model_version_id = 2")
    assert f"Model version 2: {decision['verdict']}, beside champion 1\n" in two_versions
    assert decision["verdict"] == "refused"
    for rule in decision["evidence"]:
        mark = "yes" if rule["passed"] else "no "
        assert f"  {mark}  {rule['rule']:<20} {rule['words']}\n" in two_versions
    better = {rule["rule"]: rule for rule in decision["evidence"]}["lower_error"]
    assert not better["passed"]
    assert better["figures"]["margin"] == 0.5
    assert better["figures"]["series"] >= 20
    # The champion was trained until the very origin.
    assert "some of which the champion was trained on" in better["words"]
    assert 0.8 < better["figures"]["ratio"] < 1.25


def test_versions_are_listed_with_their_roles_and_reasons(bts: Run, two_versions: str) -> None:
    said = bts("versions").stdout
    assert re.search(r"(?m)^version 2, refused: trained until 2026-03-10 00:00 UTC, quick, .*0 batches", said)
    assert re.search(r"(?m)^version 1, champion: .* median MASE \d\.\d{3}, 1 batch published$", said)
    assert said.index("version 2") < said.index("version 1")
    flat = " ".join(said.split())
    assert re.search(r"refused by gate on \d{4}-\d\d-\d\d: its errors are", flat)
    assert re.search(r"promoted by gate on \d{4}-\d\d-\d\d: the first version for this grid", flat)


def test_promoted_by_hand_it_serves_the_next_night_and_rolled_back_no_more(
    bts: Run, run_night: NightRunner, small_network: Any, lived_in: PublishedNight, two_versions: str
) -> None:
    first = serving(lived_in)
    done = bts("promote", "2", "--reason", "the operator asks, see [ticket 5]")
    assert done.error is None, done.error
    assert done.stdout == "model version 2 is champion, and forecasts the next night\n"
    assert "promoted by hand on" in (said := bts("versions").stdout)
    assert "the operator asks, see [ticket 5]" in " ".join(said.split())
    assert "version 1, former champion" in said
    run_night(small_network.landing, NIGHT, again=lived_in)
    champion, batch = serving(lived_in)
    assert (champion, batch != first[1]) == (2, True)
    (seen,) = lived_in.rows("SELECT DISTINCT model_version_id FROM bts.latest_forecast")
    assert seen["model_version_id"] == 2

    done = bts("rollback", "--reason", "worse")
    assert done.error is None, done.error
    assert done.stdout == (
        "model version 1 is champion again, instead of 2\n"
        f"batch {first[1]} serves, its forecasts of origin 2026-03-10 00:00 UTC\n"
    )
    assert serving(lived_in) == first
    told = bts("rollback")
    assert str(told.error) == "there is no champion to go back to: model version 1 is the first"


def test_probation_is_shown_runs_with_the_night_and_is_ended(
    bts: Run, run_night: NightRunner, small_network: Any, lived_in: PublishedNight, two_versions: str
) -> None:
    assert bts("probation").stdout == "no model version is on probation\n"
    done = bts("probation", "2", "--nights", "3", "--share", "0.4", "--reason", "a trial")
    assert done.error is None, done.error
    told = "model version 2, serves 40 % of the stations: {} of 3 nights, since "
    assert done.stdout.startswith(told.format(0))
    assert "version 2, canary" in bts("versions").stdout
    again = run_night(small_network.landing, NIGHT, again=lived_in)
    assert again.said["challenger_forecasts"]["share"] == 0.4
    lines = bts("probation").stdout.splitlines()
    assert lines[0].startswith(told.format(1))
    assert lines[1:] == ["  2026-03-10 00:00  nothing of it has come true yet"]
    seen = lived_in.rows("SELECT DISTINCT station_id, model_version_id FROM bts.latest_forecast")
    # Which of three stations a version is given, its digest decides: with some digests all of them.
    (version,) = lived_in.rows("SELECT bundle_digest FROM bts.model_version WHERE model_version_id = 2")
    stations = np.array([row["station_id"] for row in seen])
    given = canary_stations(stations, version["bundle_digest"], 0.4)
    assert {row["station_id"] for row in seen if row["model_version_id"] == 2} == set(given.tolist())
    assert len(seen) == 3
    done = bts("probation", "--end", "--reason", "enough")
    assert done.stdout == "the probation of model version 2 ended; the champion serves on\n"
    assert bts("probation", "--end").stdout == "no model version is on probation\n"
    assert lived_in.rows("SELECT outcome FROM bts.probation") == [{"outcome": "ended: enough"}]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("promote", "99"), "there is no model version 99; `bts versions` lists them all"),
        (("promote", "1"), "model version 1 is champion already"),
        (("rollback",), "there is no champion to go back to: model version 1 is the first"),
        (("probation", "99"), "there is no model version 99; `bts versions` lists them all"),
        (("probation", "1"), "model version 1 cannot run on probation: it is champion"),
        (("probation", "2", "--end"), "name a version to begin a probation, or --end to end the one that runs"),
        (("retrain", "--as-of", "soon"), "--as-of soon is not a time; write for example"),
        (("retrain", "--as-of", "2001-01-01"), "--as-of 2001-01-01 lies before the first observation"),
        (("retrain", "--effort", "much"), "BTS_TRAINING_EFFORT=much should be 'quick', 'standard' or 'thorough'"),
    ],
)
def test_mistake_ends_in_one_clear_line_and_changes_nothing(
    bts: Run, lived_in: PublishedNight, two_versions: str, arguments: tuple[str, ...], told: str
) -> None:
    before = everything(lived_in)
    done = bts(*arguments)
    assert told in str(done.error)
    assert "\n" not in str(done.error)
    assert everything(lived_in) == before


@pytest.mark.parametrize("arguments", [("probation", "2", "--share", "0.95"), ("probation", "2", "--nights", "0")])
def test_plan_that_cannot_be_is_refused(bts: Run, two_versions: str, arguments: tuple[str, ...]) -> None:
    with pytest.raises(BadParameter, match=r"Input should be (?:less|greater) than or equal to"):
        bts(*arguments)


def test_version_whose_bundle_is_gone_is_promoted_by_nobody(
    bts: Run, lived_in: PublishedNight, two_versions: str
) -> None:
    (row,) = lived_in.rows(BUNDLES, version=2)
    cached = lived_in.home.models.cache / row["bundle_digest"]
    with patch.object(type(lived_in.home.models), "_fetch", side_effect=BtsError("MLflow has it not")):
        moved = cached.rename(cached.with_name("away"))
        try:
            done = bts("promote", "2")
        finally:
            shutil.rmtree(cached, ignore_errors=True)
            moved.rename(cached)
    assert str(done.error) == "MLflow has it not"
    assert serving(lived_in)[0] == 1


def test_home_without_versions_or_readings_says_what_to_do(
    bts: Run, tmp_path: Any, new_database: Callable[[], str]
) -> None:
    with patch.dict(os.environ, {"BTS_HOME": str(tmp_path / "home"), "BTS_DATABASE_URL": new_database()}):
        assert "nothing is in this database yet: run bts nightly" in str(bts("versions").error)
        migrate_home(load_settings())
        assert bts("versions").stdout == "no model version yet: run bts nightly\n"
        assert "there is no champion to go back to: there is none yet" in str(bts("rollback").error)
        done = bts("retrain")
        assert isinstance(done.error, BtsError)
        assert "nothing has been observed yet" in str(done.error)


# Words for people, of nights that take weeks to come about


def test_nights_that_failed_and_nights_that_came_true_are_told_apart(
    lived_in: PublishedNight, two_versions: str, printed: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bts_assets.storage.model_versions import find_version

    version = find_version(lived_in.engine, 2)
    assert version is not None
    nights = pd.DataFrame(
        [
            {"issued_at": NIGHT, "ends_at": NIGHT, "batch_id": 1, "shadow_batch_id": 2, "failure": None},
            {"issued_at": NIGHT, "ends_at": NIGHT, "batch_id": 3, "shadow_batch_id": None, "failure": "KeyError: 'x'"},
        ],
        dtype=object,
    )
    scores = pd.DataFrame({"challenger": [1.0, 2.0, 0.0], "champion": [2.0, 2.0, 0.0]})
    monkeypatch.setattr(probations, "nights_of", lambda *_: nights)
    monkeypatch.setattr(probations, "errors_of", lambda *_: scores)
    running = probations.Probation(1, version, 7, 0.0, NIGHT)
    before = len(printed.getvalue())
    show_probation(lived_in.home, running)
    assert printed.getvalue()[before:].splitlines() == [
        "model version 2, in shadow: 2 of 7 nights, since 2026-03-10 00:00 UTC",
        "  2026-03-10 00:00  its errors are 0.75 times the champion's (median over 3 series)",
        "  2026-03-10 00:00  it failed: KeyError: 'x'",
    ]
