"""Whose scores the page of a series shows: of live nights, where there are any, and of no two kinds together."""

import pytest
import sqlalchemy as sa
from handmade_night import handmade_night

from bts_assets.explorer.pages.series import _WORTH

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
