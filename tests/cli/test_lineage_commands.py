"""bts lineage, impact and replay on a night that was run for real: what they draw, what they exit with."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import typer
from click.testing import Result
from nights import NIGHT, PublishedNight
from typer.testing import CliRunner

from bts_assets.cli.commands.lineage import impact, lineage, replay
from bts_assets.cli.render import terminal
from bts_assets.contracts.errors import BtsError
from bts_assets.services import replay as replaying

SERIES = ("1161114001", "122")
Run = Callable[..., Result]


@pytest.fixture
def bts(published: PublishedNight, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one of the three commands on the published night."""
    for name, value in published.environment.items():
        monkeypatch.setenv(name, value)
    # In a narrow terminal tables fold: what they say is tested at one width, whoever runs the tests and where.
    monkeypatch.setattr(terminal.out, "width", 100)
    app = typer.Typer()
    for command in (lineage, impact, replay):
        app.command()(command)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, arguments)

    return run


@contextmanager
def flipped(published: PublishedNight) -> Iterator[None]:
    """While it lasts, one stored number is another."""
    row = "station_id = 1161114001 AND parameter_id = 122"
    change = sa.text(f"UPDATE bts.forecast_series SET q95[3] = :value WHERE batch_id = :batch AND {row}")
    (kept,) = published.rows(f"SELECT batch_id, q95 FROM bts.latest_forecast WHERE {row} AND step_ahead = 3")
    for_now, afterwards = ({"batch": kept["batch_id"], "value": kept["q95"] + more} for more in (1.0, 0.0))
    with published.engine.begin() as connection:
        connection.execute(change, for_now)
    try:
        yield
    finally:
        with published.engine.begin() as connection:
            connection.execute(change, afterwards)


def test_tree_leads_to_batch_model_files_runs_and_code(bts: Run, published: PublishedNight) -> None:
    row = published.rows("SELECT * FROM bts.forecast_lineage WHERE issued_at = :at LIMIT 1", at=NIGHT)[0]
    forecast = published.rows(
        "SELECT * FROM bts.latest_forecast WHERE station_id = 1161114001 AND parameter_id = 122 AND step_ahead = 4"
    )[0]
    done = bts("lineage", *SERIES, "--target-at", "2026-03-10 03:45")
    assert done.exit_code == 0
    said = done.stdout
    assert f"2026-03-10 03:00 UTC, step 4: q05 {forecast['q05']:.6g}, q10 {forecast['q10']:.6g}" in said
    assert f"http://127.0.0.1:3000/runs/{row['dagster_run_id']}\n" in said
    view = "?workflowType=machine_learning\n"
    assert f"\nhttp://127.0.0.1:5000/#/experiments/1/runs/{row['mlflow_run_id']}{view}" in said
    assert f"\nhttp://127.0.0.1:5000/#/models/bts-forecaster/versions/{row['registry_version']}{view}" in said
    assert f"registry version {row['registry_version']}, {row['mlflow_model_uri']}" in said
    first = min(zip(row["training_file_names"], row["training_files"], strict=True))
    assert f"{first[1][:12]}  {first[0]}" in said
    assert f"and {len(row['training_files']) - 3:,} more" in said
    assert f"and {len(row['input_files']) - 3:,} more" in said
    told = (f"bundle {row['bundle_digest'][:12]}", f"seed {row['seed']}", f"tensorflow {row['packages']['tensorflow']}")
    flat = " ".join(said.replace("│", " ").split())
    assert all(
        text in flat for text in (*told, "code 0.1.0", "machine: cores", "BTS_CONTEXT 48h", "settings: those of")
    )


def test_series_without_a_forecast_has_a_tree_that_says_why(bts: Run) -> None:
    said = bts("lineage", "1161114001", "152").stdout
    assert "excluded: the catalogue does not forecast this switch" in said
    assert "model version 1" in said


def test_pages_that_links_lead_to_are_there() -> None:
    # MLflow's pages live in the browser: its server answers every address alike.
    package = find_spec("mlflow")
    assert package is not None
    assert package.origin is not None
    scripts = (Path(package.origin).parent / "server" / "js" / "build" / "static" / "js").glob("main.*.js")
    routes = "".join(script.read_text(encoding="utf-8") for script in scripts)
    assert '"/experiments/:experimentId/runs/:runUuid"' in routes
    assert '"/models/:modelName/versions/:version"' in routes


def test_impact_of_a_file_counts_batches_and_series(bts: Run, published: PublishedNight) -> None:
    row = published.rows("SELECT input_file_names AS names FROM bts.forecast_lineage WHERE issued_at = :at", at=NIGHT)[
        0
    ]
    done = bts("impact", "--file", row["names"][-1])
    assert done.exit_code == 0
    assert re.search(
        r"touched \d+ batch(es)?: [1-9]\d* by the input window, [1-9]\d* through the training of 1 model", (done.stdout)
    )
    served = published.rows("SELECT batch_id, forecast FROM bts.latest_batch")[0]
    assert re.search(
        rf"(?m)^{served['batch_id']} +2026-03-10 00:00 +1 +serves +[0-9a-f]{{12}} +\d+ +{served['forecast']} *$",
        done.stdout,
    )
    assert re.search(r"and \d+ more", done.stdout)  # series


def test_impact_of_a_model_counts_batches_and_series(bts: Run, published: PublishedNight) -> None:
    done = bts("impact", "--model", "1")
    served = published.rows("SELECT * FROM bts.latest_batch")[0]
    assert "series in all\n" in done.stdout
    assert re.search(
        rf"(?m)^{served['batch_id']} +2026-03-10 00:00 +serves +{served['forecast']} +0 +{served['excluded']} *$",
        done.stdout,
    )


def test_replay_agrees_bit_for_bit_with_a_trained_model(bts: Run, published: PublishedNight) -> None:
    served = published.rows("SELECT * FROM bts.latest_batch")[0]
    numbers = 5 * 12 * served["forecast"]
    for arguments in ((), (str(served["batch_id"]),), ("--as-of", f"{served['published_at'].isoformat()}")):
        done = bts("replay", *arguments)
        assert done.exit_code == 0, done.stdout
        assert f"{numbers:,} numbers, all identical bit for bit" in done.stdout
        assert f"{served['series']} rows, all identical" in done.stdout
        assert done.stdout.endswith("They agree.\n")


def test_flipped_number_is_named_and_the_exit_says_so(bts: Run, published: PublishedNight) -> None:
    with flipped(published):
        done = bts("replay")
        assert done.exit_code == 1
        words = "station 1161114001, parameter 122, target 2026-03-10 02:00 UTC (step 3): q95 is stored as "
        assert f"They differ, first in the forecasts: {words}" in done.stdout
        series = ("--station", "1161114001", "--parameter")
        assert bts("replay", *series, "122").exit_code == 1
        assert bts("replay", *series, "111").exit_code == 0


@pytest.mark.parametrize(
    ("same", "agrees", "status", "told"),
    [
        (True, True, 0, "Model version 1, trained again: the same bundle, bit for bit"),
        (
            False,
            False,
            1,
            "trained again: another bundle, abcdefabcdef; of the batch's 500 numbers 20 differ, by 0.05 of",
        ),
    ],
)
def test_training_again_is_told_and_counts(
    bts: Run, monkeypatch: pytest.MonkeyPatch, same: bool, agrees: bool, status: int, told: str
) -> None:
    compared = replaying.Compared(500, 0 if same else 20, 0 if same else 20, 0.0 if same else 0.05, None)
    again = replaying.Retrained(1, "abcdef" * 11, same, agrees, compared)
    monkeypatch.setattr(replaying, "retrain", lambda home, replayed, on_progress: again)
    done = bts("replay", "--retrain")
    assert done.exit_code == status
    assert told in done.stdout


def test_another_kind_of_machine_is_told_with_its_tolerance(bts: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    replayed = replaying.replay

    def elsewhere(*given: Any) -> replaying.Replayed:
        compared = replaying.Compared(500, 20, 0, 1e-7, None)
        return replace(
            replayed(*given), other_kind="numpy 2.3.0 then, 2.4.6 now", forecasts=compared, notes=("a note",)
        )

    monkeypatch.setattr(replaying, "replay", elsewhere)
    done = bts("replay")
    assert done.exit_code == 0
    assert "20 of 500 numbers differ, by 1e-07 of their scale at most" in done.stdout
    assert "another kind of machine: numpy 2.3.0 then, 2.4.6 now; 0.001 of the scale is allowed" in done.stdout
    assert "note: a note" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("lineage", *SERIES, "--target-at", "soon"), "--target-at soon is not a time; write for example"),
        (("lineage", *SERIES, "--issued-at", "2026-13-01"), "--issued-at 2026-13-01 is not a time"),
        (("lineage", "7", "122"), "has no series of station 7"),
        (("impact",), "name a landing file or a model version"),
        (("impact", "--file", "a.csv", "--model", "1"), "name a landing file or a model version"),
        (("impact", "--file", "nothing.csv"), "no landing file is called nothing.csv"),
        (("impact", "--model", "99"), "there is no model version 99"),
        (("replay", "99"), "there is no batch 99"),
        (("replay", "1", "--as-of", "2026-03-10"), "give a batch, or the time"),
        (("replay", "--station", "1"), "give both --station and --parameter"),
        (("replay", "--as-of", "2001-01-01"), "nothing had been published by 2001-01-01"),
    ],
)
def test_mistake_ends_in_one_clear_line(bts: Run, arguments: tuple[str, ...], told: str) -> None:
    done = bts(*arguments)
    assert isinstance(done.exception, BtsError)
    assert done.exception.exit_code == (1 if "had been published" in told else 2)
    assert told in str(done.exception)
    assert "\n" not in str(done.exception)
