"""Settings: what they are unless said otherwise, what a bad one is answered with, and what is kept of them."""

import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.hyperparameters import Hyperparameters, bounds
from bts_assets.settings import RENAMED, Settings, SettingsError, load_settings

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
UTC = ZoneInfo("UTC")


def test_defaults_are_those_that_the_design_promises() -> None:
    settings = load_settings()
    assert (settings.step, settings.context, settings.horizon) == (15 * MINUTE, 7 * DAY, 48 * HOUR)
    assert settings.grid == Grid(15 * MINUTE, 7 * DAY, 48 * HOUR)
    assert settings.training_effort == "quick"
    assert (settings.timezone, settings.landing_timezone) == (UTC, UTC)
    assert settings.file_stable_for == timedelta(seconds=1)
    assert settings.home == Path.cwd() / ".bts"
    assert (settings.database_url, settings.landing_dir, settings.stations_file) == (None, None, None)
    assert settings.mlflow_tracking_uri is None
    assert settings.hyperparameters == Hyperparameters()
    assert settings.statistical_max_series == 200


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("step", "1h", HOUR),
        ("context", " 3 d ", 3 * DAY),
        ("file_stable_for", "0s", timedelta(0)),
        ("file_stable_for", "1.5s", timedelta(seconds=1.5)),
        ("timezone", "Europe/Berlin", ZoneInfo("Europe/Berlin")),
        ("max_file_bytes", "1000", 1000),
        ("training_effort", "thorough", "thorough"),
        ("landing_dir", "some/where", Path("some/where")),
        ("statistical_max_series", "0", 0),
    ],
)
def test_environment_is_read(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object) -> None:
    monkeypatch.setenv(f"BTS_{name.upper()}", text)
    assert getattr(load_settings(), name) == value


def test_command_line_wins_and_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BTS_LANDING_DIR", "from/the/environment")
    monkeypatch.setenv("BTS_STEP", "")
    assert load_settings(landing_dir=tmp_path).landing_dir == tmp_path
    assert load_settings(landing_dir=None).landing_dir == Path("from/the/environment")
    assert load_settings().step == 15 * MINUTE


def test_home_does_not_move_with_the_working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BTS_HOME", "~/state")
    assert load_settings().home == tmp_path / "state"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("STEP", "quarter", "is not a duration; write a number and a unit, for example 15min, 48h or 7d"),
        ("STEP", "15", "is not a duration"),
        ("STEP", "-15min", "is not a duration"),
        ("STEP", "7min", "does not divide a day"),
        ("STEP", "0s", "does not divide a day"),
        ("STEP", "9999999999999d", "is too long; the longest duration is 36500d"),
        ("TRAINING_SPAN", "36501d", "is too long; the longest duration is 36500d"),
        ("CONTEXT", "100min", "is not a whole number of steps"),
        ("HORIZON", "0s", "is not a whole number of steps"),
        ("HORIZON", "1 week", "is not a duration"),
        ("TIMEZONE", "Berlin", "is not a time zone; write an IANA name"),
        ("TIMEZONE", "Europe", "is not a time zone"),
        ("TIMEZONE", "../../etc/passwd", "is not a time zone"),
        ("READY_BY", "4", "is not a time of day; write for example 04:00"),
        ("READY_BY", "24:00", "is not a time of day"),
        ("READY_BY", "02:30", "is not after the start of the night, 02:30"),
        ("LANDING_TIMEZONE", "UTC+7", "is not a time zone"),
        ("TRAINING_EFFORT", "enormous", "'quick', 'standard' or 'thorough'"),
        ("TRAINING_SPAN", "long", "is not a duration"),
        ("TRAINING_CEILING", "2 hours", "is not a duration"),
        ("FILE_STABLE_FOR", "soon", "is not a duration"),
        ("MAX_SKEW", "1month", "is not a duration"),
        ("IDLE_STOP", "never", "is not a duration"),
        ("LOCK_TIMEOUT", "30", "is not a duration"),
        ("MAX_FILE_BYTES", "1GB", "integer"),
        ("MAX_FILE_BYTES", "0", "greater than 0"),
        ("REJECTED_KEPT", "-1", "greater than or equal to 0"),
        ("SEED", "1.5", "integer"),
        ("STATISTICAL_MAX_SERIES", "-1", "greater than or equal to 0"),
        ("LSTM_WIDTH", "64.5", "integer"),
        ("LSTM_WIDTH", "4096", "less than or equal to 256"),
        ("LSTM_PATCHES", "0", "greater than or equal to 1"),
        ("LSTM_LEARNING_RATE", "nan", "less than or equal to 0.03"),
        ("LSTM_WEIGHT_DECAY", "much", "number"),
    ],
)
def test_bad_value_ends_in_one_line_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, told: str
) -> None:
    monkeypatch.setenv(f"BTS_{name}", text)
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    line = str(refusal.value)
    assert line.startswith(f"BTS_{name}={text.strip()} ")
    assert told in line
    assert "\n" not in line


def test_every_hyperparameter_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    least = Hyperparameters(**{name: type(getattr(Hyperparameters, name))(b.least) for name, b in bounds().items()})
    for name, value in least.to_dict().items():
        monkeypatch.setenv(f"BTS_LSTM_{name.upper()}", str(value))
    assert load_settings().hyperparameters == least != Hyperparameters()


def test_bad_value_ends_a_command_without_a_traceback(tmp_path: Path) -> None:
    environment = os.environ | {"BTS_HOME": str(tmp_path), "BTS_STEP": "7min"}
    command = [sys.executable, "-c", "from bts_assets.cli.app import main; main()", "url"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    said = " ".join(done.stderr.split())
    assert said == "bts: BTS_STEP=7min does not divide a day; use for example 5min, 15min or 1h"
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_with_a_result_leaks_no_secret_and_no_place(tmp_path: Path) -> None:
    canary = "canary-c0ffee"
    settings = load_settings(
        home=tmp_path / canary,
        database_url=f"postgresql://someone:{canary}@db/bts",
        direct_database_url=f"postgresql://someone:{canary}@db/bts",
        mlflow_tracking_uri=f"https://someone:{canary}@mlflow",
        landing_dir=tmp_path / canary,
        stations_file=tmp_path / canary / "stations.csv",
    )
    assert canary not in repr(settings.public())


def test_what_is_kept_with_a_result_makes_the_same_settings_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = load_settings(
        step=timedelta(seconds=1), context=HOUR, horizon=90 * MINUTE, timezone="Asia/Ho_Chi_Minh",
        training_span=timedelta(seconds=1234567), file_stable_for=timedelta(seconds=0.25), seed=7,
        training_effort="standard", ready_by="5:45",
        lstm_width=96, lstm_learning_rate=0.1 / 30, lstm_weight_decay=1e-05, statistical_max_series=7,
    )  # fmt: skip
    kept = made.public()
    assert all(re.fullmatch("BTS_[A-Z_]+", name) for name in kept)
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == made


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_old_name_of_a_setting_ends_in_one_line_with_the_new_one(
    old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(old, "1")
    with pytest.raises(SettingsError, match=f"^{old} is now called {new}: rename it$"):
        load_settings()
