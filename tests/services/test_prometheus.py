"""/metrics: every figure of a night, what is there without one, and the example rules in Prometheus' own grammar."""

import re
import urllib.request
from datetime import UTC, datetime, timedelta

import promql_parser
import pytest
import yaml
from handmade_night import CHECKOUT
from nights import HomeMaker
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from small_nights import rows_of

from bts_assets.cli.prometheus import HomeCollector
from bts_assets.services.home import Home
from bts_assets.services.night_cost import Meter, keep_cost
from bts_assets.services.prometheus import NAMES, UP
from bts_assets.settings import Settings, load_settings

ONE_NIGHT = (CHECKOUT / "tests" / "data" / "one_night.sql").read_text(encoding="utf-8")
RULES = yaml.safe_load((CHECKOUT / "deploy" / "prometheus" / "bts_alerts.yml").read_text(encoding="utf-8"))
rules = [rule for group in RULES["groups"] for rule in group["rules"]]


def scraped(settings: Settings) -> dict[tuple[str, ...], float]:
    """(name, label values...) -> figure, read from a real server by Prometheus' own parser."""
    registry = CollectorRegistry()
    registry.register(HomeCollector(settings))
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    return {(s.name, *s.labels.values()): s.value for f in text_string_to_metric_families(text) for s in f.samples}


def published(make_home: HomeMaker) -> Home:
    home = make_home()
    with home.engine.begin() as connection:
        connection.exec_driver_sql(ONE_NIGHT.replace("%", "%%"))
    return home


def test_a_night_has_every_figure(make_home: HomeMaker) -> None:
    home = published(make_home)
    with home.engine.begin() as connection:
        connection.exec_driver_sql(
            """UPDATE bts.batch SET settings = '{"BTS_TIMEZONE": "UTC", "BTS_READY_BY": "23:59"}'"""
        )
    found = scraped(home.settings)
    assert {name for name, *_ in found} == set(NAMES)
    assert found[UP,] == 1
    assert found["bts_batch_state", "current"] + found["bts_batch_state", "stale"] == 1
    assert found["bts_batch_series", "fallback"] == 1
    assert found["bts_night_wall_seconds", "night"] == 30
    assert found["bts_night_peak_bytes", "night"] == 900000000
    assert found["bts_alerts", "breach", "minor", "open"] == 1
    (cost,) = rows_of(
        home, "SELECT * FROM bts.night_cost WHERE stage = 'readings' ORDER BY issued_at DESC LIMIT 1"
    )  # fmt: skip
    assert cost["wall_seconds_per_1000_series"] == 5000
    assert found["bts_night_ready_in_time",] == float(cost["published_at"] <= cost["due_at"])


def test_without_data_nothing_is_green(make_home: HomeMaker) -> None:
    found = scraped(make_home().settings)
    assert found[UP,] == 1
    assert not [key for key in found if key[0].endswith("timestamp_seconds")]
    assert found["bts_batch_state", "current"] == 0


def test_without_a_database_it_says_so(make_home: HomeMaker) -> None:
    settings = load_settings(home=make_home().settings.home, database_url="postgresql://u@127.0.0.1:1/nothing")
    assert scraped(settings) == {(UP,): 0}


@pytest.mark.parametrize(
    ("issued", "published", "in_time"),
    [
        ("2026-03-29T02:00+02:00", "2026-03-29T01:59+00:00", True),  # the clock skipped that night: 04:00 is 02:00 UTC
        ("2026-03-28T02:00+01:00", "2026-03-28T03:01+00:00", False),
        ("2026-03-28T15:00+01:00", "2026-03-28T15:00+00:00", True),  # made by hand: due by the next morning
    ],
)
def test_ready_in_time_is_by_the_clock_of_the_nights_zone(
    make_home: HomeMaker, issued: str, published: str, in_time: bool
) -> None:
    home = make_home()
    with home.engine.begin() as connection:
        connection.exec_driver_sql(ONE_NIGHT.replace("%", "%%"))
        connection.exec_driver_sql(
            """UPDATE bts.batch SET settings = '{"BTS_TIMEZONE": "Europe/Vienna", "BTS_READY_BY": "04:00"}'"""
        )
        connection.exec_driver_sql(f"UPDATE bts.batch SET issued_at = '{issued}' WHERE batch_id = 2")
        connection.exec_driver_sql(f"UPDATE bts.night_part SET issued_at = '{issued}'")
        connection.exec_driver_sql(f"UPDATE bts.publication SET published_at = '{published}' WHERE batch_id = 2")
    told = rows_of(home, "SELECT DISTINCT ready_in_time FROM bts.night_cost WHERE batch_id = 2")
    assert told == [{"ready_in_time": in_time}]


def test_a_stage_is_kept_once_with_what_it_took(make_home: HomeMaker) -> None:
    home, meter = make_home(), Meter(datetime.now(UTC) - timedelta(seconds=1))
    held = bytearray(64 << 20)
    keep_cost(home, "run", "readings", meter, {"dagster/row_count": 9, "rows": 5, "bytes": 70}, failed=True)
    del held
    keep_cost(home, "run", "readings", meter, {"rows": 6}, failed=False)
    (stage,) = rows_of(home, "SELECT * FROM bts.night_stage")
    assert (stage["rows"], stage["bytes"], stage["failed"]) == (6, None, False)
    assert stage["peak_bytes"] > 64 << 20
    assert stage["wall_seconds"] > 0 <= stage["cpu_seconds"]


@pytest.mark.parametrize("rule", rules, ids=lambda rule: rule["alert"])
def test_example_rules_parse_and_ask_for_figures_that_there_are(rule: dict) -> None:
    assert set(rule) <= {"alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
    assert re.fullmatch(r"Bts[A-Za-z]+", rule["alert"])
    assert "for" not in rule or re.fullmatch(r"\d+[smhd]", rule["for"])
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert {"summary", "description"} == rule["annotations"].keys()  # what it means, and what to do
    promql_parser.parse(rule["expr"])
    named = set(re.findall(r"\bbts_\w+", rule["expr"]))
    assert named
    assert named <= set(NAMES)


def test_what_is_not_there_is_an_alarm() -> None:
    asked = " ".join(rule["expr"] for rule in rules)
    # Where no limit is likely passed there is no such figure: that one alone is good news.
    assert set(re.findall(r"\bbts_\w+", asked)) - set(re.findall(r"absent\((\w+)", asked)) == {"bts_breaches_expected"}
    with pytest.raises(ValueError, match="invalid promql"):
        promql_parser.parse("bts_database_up ==")
