"""bts alerts and bts outage as an operator meets them, on the handmade night; and what they refuse, in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from handmade_night import CHECKOUT
from nights import HomeMaker
from receivers import http_receiver
from typer.testing import CliRunner, Result

from bts_assets.cli.commands.alerts import alerts, outage
from bts_assets.cli.commands.watch import status
from bts_assets.cli.render import terminal

ONE_NIGHT = (CHECKOUT / "tests" / "data" / "one_night.sql").read_text(encoding="utf-8")


@pytest.fixture
def bts(make_home: HomeMaker, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    home = make_home()
    with home.engine.begin() as connection:
        connection.exec_driver_sql(ONE_NIGHT.replace("%", "%%"))
    monkeypatch.setenv("BTS_HOME", str(home.settings.home))
    monkeypatch.setenv("BTS_DATABASE_URL", str(home.settings.database_url))
    monkeypatch.setattr(terminal.out, "width", 200)
    app = typer.Typer()
    app.command()(status)
    app.add_typer(alerts, name="alerts")
    app.add_typer(outage, name="outage")
    return lambda *arguments: CliRunner().invoke(app, arguments)


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.exception
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_alerts_are_listed_acknowledged_and_silenced(bts: Callable[..., Result]) -> None:
    listed = "\n".join(lines(bts("alerts")))
    assert "2 major open" in listed
    assert "1 minor open, told" in listed
    assert "silence 1: parameter 121 until " in listed
    assert lines(bts("alerts", "ack", "1", "--reason", "crew is on its way")) == ["acknowledged: 1"]
    lines(bts("alerts", "silence", "--station", "3", "--for", "2d", "--reason", "it is being moved"))
    listed = "\n".join(lines(bts("alerts")))
    assert "1 minor acknowledged (crew is on its way)" in listed
    assert "2 major suppressed (silence 2: it is being moved)" in listed
    assert "alerts none open, 2 acknowledged or suppressed" in lines(bts("status"))
    lines(bts("alerts", "unsilence", "2"))
    assert "2 major open" in "\n".join(lines(bts("alerts")))


def test_a_station_is_named_as_alerts_name_it(bts: Callable[..., Result]) -> None:
    lines(bts("alerts", "silence", "--station", "north hill", "--parameter", "Room Temperature", "--for", "2d"))
    assert "silence 2: station 1 parameter 111 until " in "\n".join(lines(bts("alerts")))
    assert lines(bts("outage", "add", "North Hill", "2099-01-01", "2099-01-02")) == ["1 entered"]
    for command in (
        ["alerts", "silence", "--station", "Nowhere"],
        ["outage", "add", "Nowhere", "2099-01-01", "2099-01-02"],
    ):
        refused = bts(*command)
        assert "no station is called Nowhere" in str(refused.exception)


def test_a_check_tells_what_is_new(bts: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    with http_receiver() as hook:
        monkeypatch.setenv("BTS_ALERT_WEBHOOK", hook.url)
        assert lines(bts("alerts", "test")) == [f"http-{bts_digest(hook.url)}: took it"]
        assert lines(bts("alerts", "check")) == ["1 raised, 0 cleared; 3 messages sent, 0 failed, 0 waiting"]
        assert lines(bts("alerts", "check")) == ["0 raised, 0 cleared; 0 messages sent, 0 failed, 0 waiting"]
        hook.status = 503
        assert bts("alerts", "test").exit_code == 1


def bts_digest(url: str) -> str:
    import hashlib

    return hashlib.sha256(url.encode()).hexdigest()[:8]


def test_outages_are_entered_listed_and_removed(bts: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "outages.csv"
    file.write_text(
        "station_id,starts_at,ends_at,reason\n1,2099-01-01T08:00,2099-01-01T16:00,mast\n2,2099-01-02,2099-01-03,\n"
    )
    assert lines(bts("outage", "add", "--file", str(file))) == ["2 entered"]
    assert lines(bts("outage", "add", "--file", str(file))) == ["0 entered, 2 known before"]
    assert lines(bts("outage", "add", "3", "2099-01-01T08:00+07:00", "2099-01-01T09:00+07:00")) == ["1 entered"]
    listed = "\n".join(lines(bts("outage", "list")))
    assert "2099-01-01 08:00 2099-01-01 16:00 mast" in listed
    assert "2099-01-01 01:00 2099-01-01 02:00 planned" in listed
    lines(bts("outage", "remove", "1"))
    assert str(bts("outage", "remove", "1").exception).startswith("there is no outage 1: bts outage list")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["alerts", "ack", "1", "77"], "alert 77 is not open: bts alerts lists those that are; none was acknowledged"),
        (["alerts", "silence"], "say what to silence: --station, --parameter or both"),
        (["alerts", "silence", "--station", "1", "--for", "soon"], "--for soon is not a duration; write a number and"),
        (["alerts", "unsilence", "9"], "no silence 9 runs: bts alerts lists those that do"),
        (["alerts", "test"], "no channel is set: BTS_ALERT_URLS and BTS_ALERT_WEBHOOK say where alerts go"),
        (["outage", "add"], "give a station with start and end, or --file"),
        (["outage", "add", "77", "2099-01-01", "2099-01-02"], "station 77 is not known: neither a landing file nor"),
        (
            ["outage", "add", "1", "2099-01-02", "2099-01-01"],
            "it ends at 2099-01-01T00:00:00+00:00, which is not after",
        ),
        (["outage", "add", "1", "2099-01-02", "tomorrow"], "ends_at is 'tomorrow'; write for example 2026-11-20T08:00"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_told_in_one_line(bts: Callable[..., Result], arguments: list[str], told: str) -> None:
    said = str(bts(*arguments).exception)
    assert said.startswith(told)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("station_id,starts_at\n", "line 1: column ends_at is missing"),
        ("station_id,starts_at,ends_at\n1,2099-01-01,2099-01-02\n1,2099-01-02,\n", "line 3: ends_at is ''"),
        (
            "station_id,starts_at,ends_at\n1,2099-01-01,2099-01-02\n77,2099-01-02,2099-01-03\n",
            "station 77 is not known",
        ),
    ],
    ids=["column", "time", "station"],
)
def test_a_file_of_outages_with_a_mistake_is_refused_whole(
    bts: Callable[..., Result], tmp_path: Path, text: str, told: str
) -> None:
    file = tmp_path / "outages.csv"
    file.write_text(text)
    before = bts("outage", "list").stdout
    assert told in str(bts("outage", "add", "--file", str(file)).exception)
    assert bts("outage", "list").stdout == before
