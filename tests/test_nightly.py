"""The night as a whole: what stands in Postgres, Dagster and MLflow after it, and after it was run again."""

from conftest import NIGHT, PublishedNight


def test_a_night_publishes_a_forecast_or_a_reason_for_every_series(published: PublishedNight) -> None:
    status = published.rows("SELECT * FROM bts.series_status")
    assert len(status) == 3 * 15
    assert {s["status"] for s in status} == {"forecast", "excluded"}
    assert all(s["reason"] for s in status if s["status"] == "excluded")
    served = {(s["station_id"], s["parameter_id"]) for s in status if s["status"] == "forecast"}
    rows = published.rows("SELECT * FROM bts.latest_forecast")
    assert {(r["station_id"], r["parameter_id"]) for r in rows} == served
    assert len(rows) == len(served) * 12
    assert {r["issued_at"] for r in rows} == {NIGHT}
