"""The Grafana dashboard: every query of it runs, as the reader, with macros and variables filled in as Grafana does.

What its queries cost at the size of a large operator is in test_dashboard_cost.py, its alert rules in
test_grafana_alerts.py.
"""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
import yaml
from grafana import CHOSEN, DASHBOARD, DEPLOY, PANELS, QUERIES, VARIABLES, filled_in
from handmade_night import CHECKOUT, HandmadeNight, handmade_night, rows_of

from bts_assets.explorer.app import PAGES as EXPLORER_PAGES

#: Units as Grafana calls them; what is none of them is shown behind the number as it is written.
each_query = pytest.mark.parametrize("title", QUERIES)
UNITS = {"bytes", "none", "percentunit", "s", "short", "string"}
BREACHES = "May pass a limit within ${hours} hours A"
each_query = pytest.mark.parametrize("title", QUERIES)


@pytest.fixture(scope="module")
def night(server_url: str) -> Iterator[HandmadeNight]:
    """Its switch (1, 152) is not forecast, on purpose; its version was promoted."""
    with handmade_night(server_url) as made:
        with closing(psycopg2.connect(made.writer_url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute("""
                INSERT INTO bts.forecast_ledger
                SELECT 2, 1, 152, 'excluded', NULL, 'the catalogue does not forecast this switch', now(), 96, 96;
                UPDATE bts.batch SET excluded = 2, series = 5 WHERE batch_id = 2;
                INSERT INTO bts.decision (model_version_id, verdict, decided_by, reason, evidence, code_version)
                VALUES (1, 'promoted', 'hand', 'there was no champion', '{}', 'test')
            """)
        yield made


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


def test_breaches_are_those_of_the_next_hours_and_lead_to_their_series(night: HandmadeNight) -> None:
    (row,) = shown(night, BREACHES)
    assert (row["station_id"], row["parameter"], row["how_sure"]) == (1, "Room Temperature", "likely")
    assert row["probability"] == pytest.approx(0.98)
    assert not shown(night, BREACHES, hours="6")  # a chance of 0
    assert not shown(night, BREACHES, hours="24")  # and of one in twenty
    links = [
        link["url"]
        for panel in PANELS
        for override in panel["fieldConfig"]["overrides"]
        for prop in override["properties"]
        if prop["id"] == "links"
        for link in prop["value"]
        if "/series/" in link["url"]
    ]
    assert len(links) == 2
    for url in links:
        path = re.sub(r"\$\{__data\.fields\.(\w+)\.numeric\}", lambda m: str(row[m[1]]), url)
        assert path == "${explorer:raw}/series/1/111"


def test_explorer_is_where_compose_publishes_it() -> None:
    (explorer,) = [v for v in VARIABLES if v["name"] == "explorer"]
    compose = (CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8")
    (port,) = re.findall(r"BTS_EXPLORER_PORT:-(\d+)\}:8080", compose)
    assert explorer["current"]["value"] == explorer["query"] == f"http://127.0.0.1:{port}"
    paths = {re.sub(r"[:{].*|\$.*", "", path) for path in EXPLORER_PAGES}
    text = json.dumps(DASHBOARD)
    assert {f"/{m}" for m in re.findall(r"\{explorer:raw\}/(\w+)", text)} <= {path.rstrip("/") for path in paths}


def test_what_is_excluded_on_purpose_is_neither_red_nor_missing(night: HandmadeNight) -> None:
    (row,) = shown(night, "Series by status A")
    assert (row["on purpose"], row["missing"]) == (1, 1)
    reasons = shown(night, "Why not served by the chosen forecaster A")
    assert {r["status"] for r in reasons} == {"fallback", "excluded", "on purpose"}
    assert reasons[-1]["reason"] == "the catalogue does not forecast this switch"
    assert {(r["station_id"], r["parameter_id"]) for r in shown(night, "Which series A")} == {(1, 121), (3, 111)}
    for panel in PANELS:
        for override in panel["fieldConfig"]["overrides"]:
            for prop in override["properties"]:
                if prop["id"] == "mappings" and "on purpose" in prop["value"][0]["options"]:
                    assert prop["value"][0]["options"]["on purpose"]["color"] == "blue"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_number_has_a_unit(night: HandmadeNight, panel: dict[str, Any]) -> None:
    field = panel["fieldConfig"]
    units = {
        o["matcher"]["options"]: p["value"] for o in field["overrides"] for p in o["properties"] if p["id"] == "unit"
    }
    from_data = {m["handlerKey"] for t in panel.get("transformations", []) for m in t["options"]["mappings"]}
    assert set(units.values()) <= UNITS
    assert field["defaults"].get("unit") in UNITS or "unit" in from_data
    for target in panel["targets"]:
        for row in shown(night, f"{panel['title']} {target['refId']}"):
            for name, value in row.items():
                if name.startswith(("coverage", "probability", "in ")):
                    assert units.get(name, field["defaults"]["unit"]) == "percentunit", name
                if isinstance(value, timedelta):
                    raise AssertionError(f"{name} is an interval, which Grafana shows as text: give seconds")


def test_unit_of_a_series_is_that_of_its_parameter(night: HandmadeNight) -> None:
    (panel,) = [p for p in PANELS if p["title"].startswith("Forecast of")]
    (options,) = [t["options"] for t in panel["transformations"] if t["id"] == "configFromData"]
    (row,) = shown(night, f"{panel['title']} {options['configRefId']}", parameter="121")
    assert row == {"unit": "V"}
    assert {m["fieldName"]: m["handlerKey"] for m in options["mappings"]} == {"unit": "unit"}
    (row,) = shown(night, f"{panel['title']} {options['configRefId']}", parameter="152")
    assert row == {"unit": None}


def test_accuracy_stands_beside_the_baselines_and_decisions_are_told(night: HandmadeNight) -> None:
    (by_night,) = shown(night, "Error by night A")
    assert (by_night["served"], by_night["last value"]) == (0.5, 1.0)
    (covered,) = shown(night, "Coverage by night A")
    assert (covered["coverage of the 80 % interval"], covered["80 %"]) == (pytest.approx(40 / 48), 0.8)
    rows = shown(night, "Accuracy over 7 scored days A")
    assert [row["parameter"] for row in rows] == ["Room Temperature", "Voltage of Power Grid"]
    (alert, *_) = shown(night, "Open alerts A")
    assert alert["severity"] == "major"
    (decision,) = shown(night, "Decisions about model versions A")
    assert (decision["verdict"], decision["decided_by"]) == ("promoted", "hand")


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


def test_tables_have_words_for_columns(night: HandmadeNight) -> None:
    for panel in (p for p in PANELS if p["type"] == "table"):
        named = {
            o["matcher"]["options"]
            for o in panel["fieldConfig"]["overrides"]
            if any(p["id"] in ("displayName", "custom.hidden") for p in o["properties"])
        }
        given = {
            name for t in panel["targets"] for row in shown(night, f"{panel['title']} {t['refId']}") for name in row
        }
        assert not {name for name in given - named if "_" in name}, panel["title"]
