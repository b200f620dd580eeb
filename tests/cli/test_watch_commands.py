"""bts status, breaches, accuracy and drift on nights that were walked through: what an operator reads there."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
import typer
from small_nights import LOAD, SMALL
from typer.testing import CliRunner, Result
from walked_nights import NIGHTS, Walk, origin_of, walk

from bts_assets.cli.commands.watch import accuracy, breaches, drift, status
from bts_assets.cli.query import series_forecast
from bts_assets.cli.render import terminal
from bts_assets.cli.render.watch import _files_line
from bts_assets.services.drift import watch_drift
from bts_assets.services.home import open_home
from bts_assets.services.retraining import Verdict
from bts_assets.services.scoring import score_matured
from bts_assets.settings import load_settings


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Walk]:
    """Six nights walked through and scored; station 1 has a limit of its own that its load passes."""
    folder = tmp_path_factory.mktemp("watched")
    settings = load_settings(home=folder / "home", database_url=new_database(), file_stable_for=timedelta(0), **SMALL)
    home = open_home(settings)
    with home.engine.begin() as connection:
        limit = "INSERT INTO bts.station_limit (station_id, parameter_id, high_limit) VALUES (1, :load, 44)"
        connection.execute(sa.text(limit), {"load": LOAD})
    walked = walk(home, folder / "landing")
    score_matured(home)
    newest = origin_of(NIGHTS - 1)
    watch_drift(home, newest, newest + timedelta(hours=1))
    yield walked
    home.engine.dispose()


@pytest.fixture
def bts(watched: Walk, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    settings = watched.home.settings
    monkeypatch.setenv("BTS_HOME", str(settings.home))
    monkeypatch.setenv("BTS_DATABASE_URL", str(settings.database_url))
    # In a narrow terminal tables fold: what they say is tested at one width, whoever runs the tests and where.
    monkeypatch.setattr(terminal.out, "width", 140)
    app = typer.Typer()
    for command in (status, breaches, accuracy, drift):
        app.command()(command)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_status_says_what_serves_and_how_it_has_been(bts: Callable[..., Result]) -> None:
    said = bts("status").stdout
    assert re.search(r"forecasts +\w+: batch 6 of origin 2026-03-15 02:00 UTC", said)
    assert re.search(
        r"accuracy +median MASE \d\.\d{3} \(last value \d\.\d{3}\), the 80 % interval covers \d+\.\d %", said
    )
    assert re.search(r"breaches +likely within 48 h: .+; possible: .+; \d+ series beyond a limit now", said)
    assert re.search(r"equipment +nothing found that wears out", said)


def test_status_tells_of_files_without_a_reading_and_of_rejected_rows() -> None:
    sound = {"files": 24, "refused": 0, "unusable": 0, "rejected": 3, "share": 0.001, "reason": "sentinel"}
    assert _files_line(sound) == "24 in the last day, 0 refused; 3 rows rejected (0.1 %), most of them: sentinel"
    bad = sound | {"unusable": 2, "rejected": 300, "share": 0.18, "reason": "broken value"}
    assert _files_line(bad) == (
        "[yellow]24 in the last day, 0 refused, 2 without a reading; 300 rows rejected (18.0 %), most of them:"
        " broken value[/yellow]: bts.ingest_ledger"
    )


@pytest.mark.parametrize(("due", "told"), [(True, "a challenger is due (age: 9.0 days): bts retrain"), (False, "")])
def test_a_night_tells_that_a_challenger_is_due(due: bool, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.tell_if_challenger_is_due(Verdict(due, "age: 9.0 days"))
    assert " ".join(capsys.readouterr().out.split()).startswith(told)


def test_status_counts_what_wears_out(bts: Callable[..., Result], watched: Walk) -> None:
    put = sa.text("""
        INSERT INTO bts.station_finding (batch_id, station_id, kind, perceived_severity, since, what, what_to_check)
        SELECT batch_id, station, 'cooling', 'minor', issued_at, 'the room is warmer', 'air conditioners'
        FROM bts.latest_batch, unnest(ARRAY[1, 2]) AS station
    """)
    with watched.home.engine.begin() as connection:
        connection.execute(put)
    try:
        said = bts("status").stdout
    finally:
        with watched.home.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM bts.station_finding"))
    assert re.search(r"equipment +2 findings of what wears out, at 2 stations: bts.maintenance_list", said)


def test_a_forecast_is_drawn_with_its_stations_own_limits(watched: Walk) -> None:
    usual = watched.home.catalogue.of(LOAD)
    shown = [series_forecast(watched.home.settings, station, LOAD)[0] for station in (1, 2)]
    assert [one.high_limit for one in shown] == [44, usual.high_limit]
    assert [one.low_limit for one in shown] == [usual.low_limit] * 2
    assert usual.high_limit != 44


def test_breaches_name_station_limit_and_how_sure(bts: Callable[..., Result], watched: Walk) -> None:
    said = bts("breaches", "--all").stdout
    assert "Load of Power Grid above 44 A" in said
    assert bts("breaches", "--region", "nowhere").stdout.count("above") == 0
    (row,) = (
        watched.home.engine.connect()
        .execute(sa.text("SELECT * FROM bts.predicted_breach WHERE station_id = 1 AND limit_value = 44"))
        .mappings()
    )
    assert 0.01 <= row["probability_6h"] <= row["probability_48h"] <= 1


def test_accuracy_shows_served_beside_the_baselines_and_names_the_worst(bts: Callable[..., Result]) -> None:
    said = bts("accuracy", "--days", "28", "--worst", "2").stdout
    # Nights, series, the scaled error and the best baseline's, an error in its unit, two shares: a line a parameter.
    assert re.search(r"parameter +nights +series +MASE +best baseline +error +80 % coverage +90 % coverage", said)
    assert re.search(
        r"Load of Power Grid +\d +3 +\d\.\d{3} +(last value|day median|yesterday) \d\.\d{3} +\S+ A( +\d+\.\d %){2}",
        said,
    ), said
    assert said.count("Load of Power Grid  ") == 1
    worst = re.findall(r"worst: .*: (\d+\.\d\d) times the error of its best baseline \([a-z ]+\), error \S+ A", said)
    assert len(worst) == 2
    assert float(worst[0]) >= float(worst[1])


def test_accuracy_over_other_days_is_refused(bts: Callable[..., Result]) -> None:
    assert str(bts("accuracy", "--days", "3").exception) == "--days 3: it can be 1, 7 or 28"


def test_drift_names_what_has_changed_and_who_reports_wrongly(bts: Callable[..., Result], watched: Walk) -> None:
    said = bts("drift").stdout
    assert "Night of 2026-03-15 02:00 UTC, model version 1: 1 night of inputs beside 1 of its training" in said
    assert "nothing has changed as far as these nights tell" in said
    assert "no sensor or station is seen to report wrongly" in said
    with watched.home.engine.begin() as connection:
        connection.execute(sa.text(PLANTED), {"load": LOAD, "night": origin_of(NIGHTS - 1)})
    said = bts("drift").stdout
    assert re.search(r"concept +station 1 +error +\+40 % +2 +4\.5 +4\.3", said)
    assert re.search(r"covariate +the whole network +level of Load of Power Grid +\+1\.5 sigma +1", said)
    assert "half" not in said
    assert "clock shifted: station 3: its days run -7 h off" in said
    assert "mis scaled: station 2, Load of Power Grid: about 10 times what it was" in said
    assert re.search(r"not yet +station 2 +spread of Load of Power Grid", bts("drift", "--all").stdout)
    assert "station" not in bts("drift", "--region", "nowhere").stdout.split("\n", 1)[1].replace(
        "sensor or station", ""
    )


PLANTED = """
    WITH planted AS (
        INSERT INTO bts.drift_evidence (issued_at, scope, figure, station_id, parameter_id, evidence, bound, change,
            alarm, nights, kind)
        VALUES (:night, 'station', 'error', 1, -1, 4.5, 4.3, 0.4, true, 2, 'concept'),
               (:night, 'parameter', 'level', -1, :load, 5, 4.3, 1.5, true, 1, 'covariate'),
               (:night, 'series', 'spread', 2, :load, 3, 5.4, 0.2, false, 0, NULL)
    )
    INSERT INTO bts.found_fault (issued_at, fault, station_id, parameter_id, figure)
    VALUES (:night, 'clock_shifted', 3, -1, -7), (:night, 'mis_scaled', 2, :load, 10)
"""
