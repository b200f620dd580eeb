"""The night as a whole: what stands in Postgres, Dagster and MLflow after it, and after it was run again."""

from collections import Counter
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from socket import socket
from typing import Any

import pytest
from ett import PARAMETERS, write_landing_files
from nights import NIGHT, NightRunner, PublishedNight
from outside import watched

#: Assets of a night that say what they found in words and figures alone.
WITHOUT_PICTURES = {
    *("challenger_forecasts", "forecast_scores", "drift", "retention"),
    *("alerts", "site_power"),
}


#: What a person asks for first of what an asset made.
FIRST = {
    "readings": ["new_rows", "dagster/row_count"],
    "grouped_series": ["series", "dagster/row_count"],
    "lstm_model": ["model_version_id", "served_median_mase", "mlflow_run"],
    "station_forecasts": ["series", "batch_id", "median_mase_backtest", "model_version_id", "mlflow_run"],
    "data_profile": ["series"],
}


@pytest.mark.parametrize("asset", FIRST)
def test_metadata_begins_with_what_a_person_asks_and_ends_with_digests(published: PublishedNight, asset: str) -> None:
    told = list(published.said[asset])
    assert told[: len(FIRST[asset])] == FIRST[asset]
    digests = [name for name in told if name.endswith("digest")]
    assert told[-len(digests) :] == digests
    shares = [value for name, value in published.said[asset].items() if name.endswith("_share")]
    assert shares == [round(share, 4) for share in shares]


def test_every_series_has_a_forecast_or_a_reason(published: PublishedNight) -> None:
    status = published.rows("SELECT * FROM bts.series_status")
    assert len(status) == 3 * 15
    assert {s["status"] for s in status} == {"forecast", "excluded"}
    assert all(s["reason"] for s in status if s["status"] == "excluded")
    served = {(s["station_id"], s["parameter_id"]) for s in status if s["status"] == "forecast"}
    rows = published.rows("SELECT * FROM bts.latest_forecast")
    assert {(r["station_id"], r["parameter_id"]) for r in rows} == served
    assert len(rows) == len(served) * 12
    assert {r["issued_at"] for r in rows} == {NIGHT}
    assert {r["target_at"] - r["issued_at"] for r in rows} == {k * timedelta(hours=1) for k in range(12)}


def test_forecasts_keep_to_what_the_catalogue_allows(published: PublishedNight) -> None:
    broken = published.rows(
        "SELECT * FROM bts.latest_forecast JOIN bts.parameter USING (parameter_id)"
        " WHERE q05 < valid_min OR q95 > valid_max OR NOT (q05 <= q10 AND q10 <= q50 AND q50 <= q90 AND q90 <= q95)"
    )
    assert broken == []


def test_a_training_serves_mixtures_in_which_the_lstm_counts_where_it_is_good(published: PublishedNight) -> None:
    served = published.rows("SELECT source, components FROM bts.series_status WHERE status = 'forecast'")
    served = [s for s in served if s["components"]]  # what never moved is held, by nobody's weights
    assert all(s["source"] == "mixture" or s["components"][s["source"]] == 1 for s in served)
    assert all(sum(w for w in s["components"].values() if w) == pytest.approx(1, abs=1e-4) for s in served)
    assert sum((s["components"].get("lstm") or 0) > 0.1 for s in served) > len(served) / 4
    version = published.rows("SELECT * FROM bts.model_version")[0]
    assert version["lstm_failure"] is None
    assert {"lstm", "served", "last_value", "seasonal_naive_day"} <= set(version["metrics"])


def test_a_row_leads_back_to_its_run_its_files_and_its_code(published: PublishedNight) -> None:
    row = published.rows("SELECT * FROM bts.latest_forecast LIMIT 1")[0]
    key = {k: row[k] for k in ("batch_id", "station_id", "parameter_id")}
    lineage = published.rows(
        "SELECT * FROM bts.forecast_lineage"
        " WHERE batch_id = :batch_id AND station_id = :station_id AND parameter_id = :parameter_id",
        **key,
    )
    assert len(lineage) == 1
    found = lineage[0]
    accepted = {r["digest"] for r in published.rows("SELECT digest FROM bts.ingest_ledger WHERE status = 'accepted'")}
    assert set(found["training_files"]) == accepted
    # Two days of context of hourly files; late rows put a few more files behind them.
    assert 48 <= len(found["input_files"]) < len(accepted)
    assert set(found["input_files"]) < accepted
    assert found["settings"]["BTS_CONTEXT"] == "48h"
    assert found["code_version"].startswith("0.1.0")


def test_the_mlflow_run_says_what_was_trained_on_what(published: PublishedNight) -> None:
    import mlflow

    version = published.rows("SELECT * FROM bts.model_version")[0]
    mlflow.set_tracking_uri(published.home.mlflow_tracking_uri)
    client = mlflow.MlflowClient()
    run = client.get_run(version["mlflow_run_id"])
    assert run.data.tags["bundle_digest"] == version["bundle_digest"]
    assert run.data.tags["dagster_run_id"] == version["dagster_run_id"]
    assert run.data.tags["code_version"] == version["code_version"]
    assert run.data.params["BTS_TRAINING_EFFORT"] == "quick"
    assert run.inputs.dataset_inputs[0].dataset.digest == version["observations_digest"][:36]
    assert len(client.get_metric_history(run.info.run_id, "training/validation_loss")) > 1
    told = Counter(name.split("/")[0] for name in run.data.metrics)
    assert (told["served"], told["lstm"]) == (8, 3), "candidates have few figures, all of which compare"
    artifacts = {a.path for a in client.list_artifacts(run.info.run_id)}
    assert {"forecast_against_truth.png", "training_curve.png", "summary.csv"} <= artifacts
    champion = client.get_model_version_by_alias("bts-forecaster", "champion")
    assert int(champion.version) == version["registry_version"]


def test_dagster_holds_its_materializations_with_pictures_and_checks(published: PublishedNight) -> None:
    made = ["readings", "grouped_series", "lstm_model", "station_forecasts", "data_profile"]
    assert set(published.said) == {*made, *WITHOUT_PICTURES}
    assert published.said["challenger_forecasts"]["probation"] == "no challenger is on probation"
    for asset in made:
        said = published.said[asset]
        assert said["picture"].startswith("![picture](data:image/png;base64,"), asset
        assert len(said["digest"]) == 64
        assert said["dagster/row_count"] > 0


def test_the_same_night_twice_publishes_once(
    published: PublishedNight, run_night: NightRunner, small_network: Any
) -> None:
    before = published.rows("SELECT * FROM bts.batch ORDER BY batch_id")
    again = run_night(small_network.landing, NIGHT, again=published)
    assert published.rows("SELECT * FROM bts.batch ORDER BY batch_id") == before
    assert again.said["station_forecasts"]["new"] is False
    assert again.said["lstm_model"]["trained"] is False
    assert again.said["readings"]["files_taken"] == 0
    # Every night has its pictures, also one that found nothing to do.
    drawn = {asset for asset, said in again.said.items() if "picture" in said}
    assert drawn == set(published.said) - WITHOUT_PICTURES


def test_a_forecast_of_what_its_model_was_trained_on_is_in_sample(
    published: PublishedNight, run_night: NightRunner, small_network: Any
) -> None:
    earlier = NIGHT - timedelta(hours=6)
    night = run_night(small_network.landing, earlier, again=published)
    assert night.said["station_forecasts"]["kind"] == "in_sample"
    assert night.said["station_forecasts"]["serves_latest"] is False
    past = published.rows(
        "SELECT DISTINCT trained_past_origin FROM bts.forecast_lineage WHERE issued_at = :at", at=earlier
    )
    assert past == [{"trained_past_origin": True}]
    assert published.rows("SELECT DISTINCT issued_at FROM bts.latest_forecast") == [{"issued_at": NIGHT}]


def test_a_recording_on_the_real_path_is_forecast_from_its_end(shared_data: Path, run_night: NightRunner) -> None:
    night = run_night(shared_data / "bts" / "landing", None, step="5min", context="6h", horizon="2h")
    assert night.said["readings"]["new_rows"] == 5772
    batch = night.rows("SELECT * FROM bts.latest_batch")[0]
    assert batch["state"] == "retrospective"
    assert batch["issued_at"].isoformat() == "2017-04-19T00:00:00+00:00"
    rows = night.rows("SELECT * FROM bts.latest_forecast")
    assert {(r["station_id"], r["parameter_id"]) for r in rows} == {(1161114002, 122), (1161114004, 122)}
    assert len(rows) == 2 * 24
    assert all(r["q05"] >= 0 for r in rows)


def test_two_years_of_a_transformer_are_forecast_a_day_ahead(
    shared_data: Path, run_night: NightRunner, tmp_path: Path
) -> None:
    count = write_landing_files(shared_data / "ett" / "ETTh1.csv", tmp_path / "landing")
    grid = {"step": "1h", "context": "7d", "horizon": "24h"}
    # Statistical candidates have their part in the published night; here they would take most of the time.
    night = run_night(tmp_path / "landing", None, **grid, training_span="800d", statistical_max_series="0")
    assert night.said["readings"]["new_rows"] == count
    assert night.said["grouped_series"]["series"] == len(PARAMETERS)
    # The catalogue does not know them: taken in, forecast, and listed.
    unknown = night.rows("SELECT parameter_id FROM bts.parameter WHERE NOT known")
    assert {r["parameter_id"] for r in unknown} == set(PARAMETERS.values())
    assert len(night.rows("SELECT * FROM bts.latest_forecast")) == len(PARAMETERS) * 24
    figures = night.rows("SELECT metrics FROM bts.model_version")[0]["metrics"]
    # Two years of a daily rhythm: a sound LSTM is better than yesterday's value, on days that it had not seen.
    assert figures["lstm"]["mase"] < figures["seasonal_naive_day"]["mase"]


def test_a_night_reaches_for_nothing_beyond_loopback(published: PublishedNight) -> None:
    """Nor does any library of it: Dagster's and MLflow's telemetry are off."""
    with watched() as seen, socket() as outward:
        outward.setblocking(False)
        with suppress(OSError):
            outward.connect(("192.0.2.1", 9))  # of no network: it shows that the watch sees what it should
    assert seen == ["socket.connect '192.0.2.1'"]
    assert published.reached == []


def test_a_folder_without_a_valid_reading_ends_in_one_line(run_night: NightRunner, tmp_path: Path) -> None:
    from bts_assets.contracts.origin import OriginError

    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / "empty.csv").write_text("id,value,station_id,parameter_id,reading_time\n")
    with pytest.raises(OriginError, match="nothing has been observed yet"):
        run_night(tmp_path / "landing", None)
