"""The Grafana dashboard: every query of it runs, as the reader, with macros and variables filled in as Grafana does."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from handmade_night import CHECKOUT, HandmadeNight, handmade_night, rows_of

DEPLOY = CHECKOUT / "deploy" / "grafana"
DASHBOARD = json.loads((DEPLOY / "dashboards" / "forecasts.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
VARIABLES: list[dict[str, Any]] = DASHBOARD["templating"]["list"]
QUERIES = {
    **{f"variable {v['name']}": v["query"] for v in VARIABLES if v["type"] == "query"},
    **{f"{p['title']} {t['refId']}": t["rawSql"] for p in PANELS for t in p["targets"]},
}
CHOSEN = {"station": "1", "parameter": "111", "hours": "48"}
each_query = pytest.mark.parametrize("title", QUERIES)


@pytest.fixture(scope="module")
def night(server_url: str) -> Iterator[HandmadeNight]:
    with handmade_night(server_url) as made:
        yield made


def filled_in(sql: str, chosen: Mapping[str, str], start: datetime, end: datetime) -> str:
    """The SQL as Grafana's Postgres data source sends it; what it would not know is an error."""
    first, last = (f"'{instant.isoformat()}'" for instant in (start, end))
    sql = re.sub(r"\$__timeFilter\(([\w.]+)\)", rf"\1 BETWEEN {first} AND {last}", sql)
    sql = sql.replace("$__timeFrom()", first).replace("$__timeTo()", last)
    sql = re.sub(r"\$\{(\w+):sqlstring\}", lambda match: f"'{chosen[match[1]]}'", sql)
    assert "$" not in sql
    return sql


def shown(night: HandmadeNight, title: str, **chosen: str) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    return rows_of(
        night.reader_url,
        filled_in(QUERIES[title], CHOSEN | chosen, now - timedelta(days=2), now + timedelta(days=2)),
    )


@each_query
def test_query_runs_on_a_published_night(published_night: sa.Engine, title: str) -> None:
    url = published_night.url.set(drivername="postgresql").render_as_string(hide_password=False)
    (series,) = rows_of(
        url, "SELECT station_id, parameter_id FROM bts.series_status WHERE status = 'forecast' ORDER BY 1, 2 LIMIT 1"
    )
    (batch,) = rows_of(url, "SELECT issued_at, forecasts_end_at FROM bts.latest_batch")
    chosen = CHOSEN | {"station": str(series["station_id"]), "parameter": str(series["parameter_id"])}
    span = batch["issued_at"] - timedelta(days=2), batch["forecasts_end_at"]
    rows = rows_of(url, filled_in(QUERIES[title], chosen, *span))
    always = "variable", "Latest batch", "Series by status", "Forecast of", "What made"
    assert rows or not title.startswith(always)


@each_query
def test_query_shows_something_to_the_reader(night: HandmadeNight, title: str) -> None:
    assert shown(night, title)


@each_query
def test_query_survives_variables_without_a_choice(night: HandmadeNight, title: str) -> None:
    shown(night, title, station="", parameter="")


def test_limits_are_compared_with_forecasts_of_the_next_hours(night: HandmadeNight) -> None:
    rows = shown(night, "Beyond a limit in the next ${hours} hours A")
    breaches = {(row["station_id"], row["parameter"]): row["breach"] for row in rows}
    assert breaches == {
        (1, "Room Temperature"): "likely",
        (1, "Voltage of Power Grid"): "possible",
        (2, "Voltage of Power Grid"): "likely",
    }
    soon = shown(night, "Beyond a limit in the next ${hours} hours A", hours="1")
    end = datetime.now(UTC) + timedelta(hours=1)
    assert all(row["possible_from"] < end for row in soon)
    assert {row["steps"] for row in soon} == {4}


def test_limit_lines_are_those_of_the_station(night: HandmadeNight) -> None:
    title = "Forecast of ${parameter:text} at ${station:text} C"
    assert {row["high limit"] for row in shown(night, title, station="2", parameter="121")} == {232}
    assert {row["high limit"] for row in shown(night, title, station="1", parameter="121")} == {240}


def test_no_batch_is_shown_as_an_alarm(night: HandmadeNight) -> None:
    nothing = "(SELECT * FROM bts.latest_batch WHERE false) AS nothing"
    (row,) = rows_of(night.reader_url, QUERIES["Latest batch A"].replace("bts.latest_batch", nothing))
    assert row["state"] == "none"
    (latest,) = [panel for panel in PANELS if panel["title"] == "Latest batch"]
    colours = latest["fieldConfig"]["defaults"]["mappings"][0]["options"]
    assert {state: colour["color"] for state, colour in colours.items()} == {
        "current": "green", "retrospective": "blue", "in_sample": "blue", "stale": "red", "none": "red",
    }  # fmt: skip


def test_every_panel_reads_the_provisioned_data_source() -> None:
    provisioned = yaml.safe_load(
        (DEPLOY / "provisioning" / "datasources" / "postgres.yaml").read_text(encoding="utf-8")
    )
    (source,) = provisioned["datasources"]
    used = [v["datasource"] for v in VARIABLES if "datasource" in v]
    used += [panel["datasource"] for panel in PANELS] + [t["datasource"] for panel in PANELS for t in panel["targets"]]
    assert {(entry["type"], entry["uid"]) for entry in used} == {(source["type"], source["uid"])}


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        apart_across = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_down = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_across or apart_down


def test_overrides_name_fields_that_the_queries_give(night: HandmadeNight) -> None:
    for panel in PANELS:
        given = {
            name for t in panel["targets"] for row in shown(night, f"{panel['title']} {t['refId']}") for name in row
        }
        wanted = {o["matcher"]["options"] for o in panel["fieldConfig"]["overrides"]}
        fills = {
            p["value"]
            for o in panel["fieldConfig"]["overrides"]
            for p in o["properties"]
            if p["id"] == "custom.fillBelowTo"
        }
        assert wanted | fills <= given, panel["title"]
