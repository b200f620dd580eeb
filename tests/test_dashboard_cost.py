"""What Grafana's queries cost with 10,000 stations x 15 parameters: pages that they touch, and what they never scan.

Counted, not timed: a count is the same on a busy machine.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg2
import pytest
from grafana import CHOSEN, QUERIES, RULES, filled_in
from handmade_night import HandmadeNight, handmade_night

#: 10,000 stations beside the night's own. Arrays are short: how many rows and pages a plan visits is looked at.
_FILL: Final = """
    INSERT INTO bts.station (station_id, name, region, listed)
    SELECT n, 'Station ' || n, 'Region ' || n % 20, true FROM generate_series(1001, 11000) AS n;
    CREATE TEMP TABLE filler AS SELECT n AS station_id, parameter_id
    FROM generate_series(1001, 11000) AS n,
         unnest(ARRAY[111, 112, 114, 115, 116, 121, 122, 123, 125, 141, 142, 152, 161, 162, 164]) AS parameter_id;
    INSERT INTO bts.forecast_ledger (batch_id, station_id, parameter_id, status, source, reason, last_observed_at,
        history_steps, context_steps)
    SELECT batch_id, station_id, parameter_id,
           CASE WHEN parameter_id = 152 THEN 'excluded' WHEN station_id % 100 = 0 THEN 'fallback' ELSE 'forecast' END,
           CASE WHEN parameter_id <> 152 THEN 'mixture' END,
           CASE WHEN parameter_id = 152 THEN 'the catalogue does not forecast this switch'
                WHEN station_id % 100 = 0 THEN 'too little in the context' END,
           issued_at - interval '15 minutes', 96, 96
    FROM bts.batch, filler WHERE batch_id = 2;
    INSERT INTO bts.forecast_series (batch_id, station_id, parameter_id, q05, q10, q50, q90, q95)
    SELECT 2, station_id, parameter_id, '{1}', '{1}', '{1}', '{1}', '{1}' FROM filler;
    INSERT INTO bts.observation_block (station_id, parameter_id, starts_at, values, readings)
    SELECT station_id, parameter_id, date_trunc('day', now(), 'UTC') - interval '1 day', '{1}', '{1}' FROM filler;
    INSERT INTO bts.forecast_score (batch_id, station_id, parameter_id, candidate, stretch, targets, absolute_error,
        error, pinball, crps, inside80, inside90, scale)
    SELECT 1, station_id, parameter_id, 'served', 1, 48, 48, 4, 12, 24, 40, 44, 2 FROM filler;
    INSERT INTO bts.breach_forecast (batch_id, station_id, parameter_id, side, limit_value, probability_6h,
        probability_24h, probability_48h, first_likely_at, expected_worst, expected_steps)
    SELECT 2, station_id, parameter_id, 'high', 25, 0.1, 0.3, 0.6, issued_at + interval '30 hours', 27, 9
    FROM filler, bts.batch WHERE batch_id = 2 AND station_id % 4 = 0 AND parameter_id IN (111, 115, 121, 122);
    INSERT INTO bts.alert (kind, key, perceived_severity, station_id, summary, details, raised_at, seen_at)
    SELECT 'silent', n::text, 'major', n, 'silent', '{}', now(), now() FROM generate_series(1001, 1500) AS n;
    INSERT INTO bts.landing_file (path, digest, status, bytes, modified_ns, rows, accepted, rejected, duplicate,
        rejected_by_reason, days, taken_at, code_version)
    SELECT 'hour' || n || '.csv', lpad(n::text, 64, '0'), 'accepted', 1, 0, 10, 5, 5, 0, '{"sentinel": 5}',
           ARRAY[current_date], now() - n * interval '1 hour', 'test'
    FROM generate_series(1, 720) AS n;
    INSERT INTO bts.landing_rejection SELECT ledger_seq, line, 'x', 'sentinel'
    FROM bts.landing_file, generate_series(101, 200) AS line WHERE path LIKE 'hour%';
"""
#: Tables with a row per series, which are only ever entered by a key.
BY_KEY: Final = {"forecast_series", "observation_block", "forecast_score"}
#: Pages of 8 kB that one query may touch: twice the ledger of one batch.
PAGES: Final = 4_000
#: Rows that may come out of one node of a plan: a batch has 150,000 series.
ROWS: Final = 160_000

ASKED: Final = QUERIES | {rule["uid"]: rule["data"][0]["model"]["rawSql"] for rule in RULES}


@pytest.fixture(scope="module")
def large_night(server_url: str) -> Iterator[HandmadeNight]:
    with handmade_night(server_url) as made:
        with closing(psycopg2.connect(made.owner_url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(_FILL)
                cursor.execute("VACUUM ANALYZE")
        yield made


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


@pytest.mark.parametrize("title", ASKED)
def test_plan_stays_within_its_bound_at_ten_thousand_stations(large_night: HandmadeNight, title: str) -> None:
    now = datetime.now(UTC)
    chosen = CHOSEN | {"station": "2004"}
    sql = filled_in(ASKED[title], chosen, now - timedelta(days=2), now + timedelta(days=2))
    with closing(psycopg2.connect(large_night.reader_url)) as connection, connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {sql}")
        (row,) = cursor.fetchall()
    (explained,) = row[0] if isinstance(row[0], list) else json.loads(row[0])
    plan = explained["Plan"]
    scanned = {n.get("Relation Name") for n in nodes(plan) if n["Node Type"] == "Seq Scan"}
    assert not scanned & BY_KEY
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= PAGES
    assert max(n["Actual Rows"] * n["Actual Loops"] for n in nodes(plan)) <= ROWS
