"""What the page of a series asks about its past: scores of one kind of nights, and days of the same shape."""

import pytest
import sqlalchemy as sa
from handmade_night import handmade_night

from bts_assets.explorer.pages.series import _SIMILAR, _WORTH

_OF_KINDS = sa.text("""
    SELECT kind, sum(targets) AS targets FROM bts.scored_forecast
    WHERE station_id = 1 AND parameter_id = 111 AND role = 'served' AND candidate = 'served' GROUP BY kind
""")


@pytest.mark.parametrize(
    ("kinds", "shown"),
    [
        (("live", "retrospective"), "live"),
        (("in_sample", "live"), "live"),
        (("retrospective", "in_sample"), "retrospective"),
    ],
)
def test_scores_of_a_series_are_of_the_most_telling_kind_alone(
    kinds: tuple[str, str], shown: str, server_url: str
) -> None:
    with handmade_night(server_url) as made:
        engine = sa.create_engine(made.owner_url.replace("postgresql://", "postgresql+psycopg2://"))
        with engine.begin() as connection:
            for table in ("scored_batch", "forecast_score"):  # the second night was worth what the first was
                again = f"jsonb_populate_record(NULL::bts.{table}, to_jsonb(t) || CAST(:of AS jsonb))"
                copied = sa.text(f"INSERT INTO bts.{table} SELECT ({again}).* FROM bts.{table} AS t WHERE batch_id = 1")
                connection.execute(copied, {"of": '{"batch_id": 2}'})
            for batch, kind in enumerate(kinds, start=1):
                change = sa.text("UPDATE bts.batch SET kind = :kind WHERE batch_id = :batch")
                connection.execute(change, {"kind": kind, "batch": batch})
            targets = {row.kind: row.targets for row in connection.execute(_OF_KINDS)}
            assert set(targets) == set(kinds)
            rows = connection.execute(sa.text(_WORTH), {"station": 1, "parameter": 111}).mappings().all()
        engine.dispose()
    assert {row["kind"] for row in rows} == {shown}
    assert rows[0]["targets"] == targets[shown]
    assert rows[0]["nights_left_out"] == 1  # of two nights of two kinds


#: Before the newest day, which has an outage: one of the same shape and no outage, and one of three times the swing.
_DAYS = sa.text("""
    INSERT INTO bts.observed_step (observed_at, starts_at, step)
    SELECT observed_at - n * interval '1 day', starts_at - n * interval '1 day', step
    FROM bts.observed_step, generate_series(1, 2) AS n WHERE starts_at < date_trunc('day', now(), 'UTC');
    INSERT INTO bts.observation_block (station_id, parameter_id, starts_at, values, readings)
    SELECT station_id, parameter_id, starts_at - n * interval '1 day',
           (SELECT array_agg(CASE n WHEN 2 THEN v ELSE 3 * v END ORDER BY i)
            FROM unnest(values) WITH ORDINALITY AS u (v, i)), readings
    FROM bts.observation_block, generate_series(1, 2) AS n
    WHERE station_id = 1 AND parameter_id = 111 AND starts_at < date_trunc('day', now(), 'UTC');
    UPDATE bts.observation_block SET values[41:56] = array_fill(0, ARRAY[16])
    WHERE station_id = 1 AND parameter_id = 111
      AND starts_at = date_trunc('day', now(), 'UTC') - interval '1 day';
""")


def test_an_outage_does_not_decide_which_past_days_are_similar(server_url: str) -> None:
    with handmade_night(server_url) as made:
        engine = sa.create_engine(made.owner_url.replace("postgresql://", "postgresql+psycopg2://"))
        with engine.begin() as connection:
            connection.execute(_DAYS)
            origin = connection.scalar(sa.text("SELECT issued_at FROM bts.batch WHERE batch_id = 2"))
            asked = {"station": 1, "parameter": 111, "origin": origin, "days": 56}
            rows = connection.execute(sa.text(_SIMILAR), asked).mappings().all()
        engine.dispose()
    assert [(row["days_ago"], float(row["difference"]) == 0) for row in rows] == [(2, True), (1, False)]
