"""Alerts from their cause to those who are told: once, grouped, not too often, whatever their servers do."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_string
from typing import Any

import jsonschema
import pytest
import sqlalchemy as sa
from handmade_night import CHECKOUT
from nights import HomeMaker
from receivers import Receiver, hanging_receiver, http_receiver, smtp_receiver
from small_nights import rows_of

from bts_assets.contracts.alerts import Event
from bts_assets.contracts.errors import UsageError
from bts_assets.notify.channels import schema
from bts_assets.services.alerts import check, run_failed, run_succeeded, tell_of
from bts_assets.services.delivery import deliver, send_plain
from bts_assets.services.home import Home

NOW = datetime.now(UTC)
ONE_NIGHT = (CHECKOUT / "tests" / "data" / "one_night.sql").read_text(encoding="utf-8")
#: Lets every observation of (1, 111) be a value.
OBSERVED = """
    UPDATE bts.observation_block SET values =
        (SELECT array_agg(CASE WHEN v IS NOT NULL THEN CAST(:value AS float8) END ORDER BY i)
         FROM unnest(values) WITH ORDINALITY AS u (v, i))
    WHERE (station_id, parameter_id) = (1, 111)
"""
#: What the handmade night has of alerts goes, so that each test begins with none.
NONE = "DELETE FROM bts.alert; DELETE FROM bts.silence; DELETE FROM bts.planned_outage; DELETE FROM bts.drift_evidence"


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with http_receiver() as receiver:
        yield receiver


def drifting(count: int, station: int = 100) -> list[Event]:
    return [
        Event(
            "drift", f"{station + n}", "major" if n else "critical", f"station {station + n} drifts", station + n, 111
        )
        for n in range(count)
    ]


def execute(home: Home, sql: str, **values: Any) -> None:
    with home.engine.begin() as connection:
        if values:
            connection.execute(sa.text(sql), values)
        else:
            connection.exec_driver_sql(sql.replace("%", "%%"))


def states(home: Home) -> dict[str, str]:
    return {
        row["key"]: row["state"] for row in rows_of(home, "SELECT key, state FROM bts.alert_status ORDER BY alert_id")
    }


def list_stations(home: Home, count: int, region: str | None, first: int = 100) -> None:
    execute(
        home,
        "INSERT INTO bts.station (station_id, name, region, listed)"
        " SELECT n, 'Site ' || n, CAST(:region AS text), true FROM generate_series(:first, :last) AS n",
        region=region, first=first, last=first + count - 1,
    )  # fmt: skip


def test_four_hundred_stations_of_a_region_are_one_message_and_told_once(make_home: HomeMaker, hook: Receiver) -> None:
    home = make_home(alert_webhook=hook.url)
    list_stations(home, 400, "north")
    list_stations(home, 2, "south", first=600)
    tell_of(home, "drift", [*drifting(400), *drifting(2, 600)], NOW)
    assert deliver(home, NOW).sent == 2
    for _ in range(2):  # looked at again, it is the same event
        tell_of(home, "drift", [*drifting(400), *drifting(2, 600)], NOW + timedelta(minutes=1))
        assert deliver(home, NOW + timedelta(minutes=1)).sent == 0
    north, south = sorted(hook.received, key=lambda m: m["region"])
    assert (north["region"], north["alerts_total"], south["alerts_total"]) == ("north", 400, 2)
    assert north["perceived_severity"] == "critical"
    assert north["text"].splitlines()[-1] == "and 385 more: bts alerts"
    assert north["title"] == "BTS critical: 400 series or parameters that drift in north, 400 stations"


def test_a_webhook_gets_what_its_schema_says(make_home: HomeMaker, hook: Receiver) -> None:
    home = make_home(alert_webhook=hook.url)
    execute(home, ONE_NIGHT)
    execute(home, NONE)
    check(home, NOW)
    run_failed(home, "nightly", "the disk is full", NOW, "2026-11-20T02:00+00:00")
    deliver(home, NOW)
    run_succeeded(home, "nightly", NOW)
    deliver(home, NOW)
    assert {m["kind"] for m in hook.received} == {"breach", "silent", "failure"}
    for message in hook.received:
        jsonschema.validate(message, json.loads(schema()), format_checker=jsonschema.FormatChecker())
    assert [m["transition"] for m in hook.received if m["kind"] == "failure"] == ["raised", "cleared"]


def test_drift_is_told_of_from_what_the_night_found_until_it_is_over(make_home: HomeMaker) -> None:
    home = make_home()
    execute(home, ONE_NIGHT)
    execute(home, NONE.replace("; DELETE FROM bts.drift_evidence", ""))
    check(home, NOW)
    (told,) = rows_of(home, "SELECT * FROM bts.alert_status WHERE kind = 'drift'")
    assert (told["station_id"], told["parameter_id"], told["state"]) == (1, 111, "open")
    assert "level has changed since training (covariate drift, 2 nights)" in told["summary"]
    execute(home, "UPDATE bts.drift_evidence SET alarm = false, evidence = 3")
    check(home, NOW)
    assert states(home)[told["key"]] == "cleared"


def test_a_breach_that_was_expected_and_comes_true_is_one_event_until_it_is_over(
    make_home: HomeMaker, hook: Receiver
) -> None:
    home = make_home(alert_webhook=hook.url)
    execute(home, ONE_NIGHT)
    execute(home, NONE)
    assert check(home, NOW).raised == 2  # the breach that is expected, and station 3 is silent
    execute(home, "UPDATE bts.breach_forecast SET probability_48h = 0.4")  # less likely, and not over
    assert check(home, NOW).cleared == 0
    execute(home, OBSERVED, value=36)
    assert check(home, NOW).raised == 0
    deliver(home, NOW)
    (breach,) = (a for m in hook.received if m["kind"] == "breach" for a in m["alerts"] if a["key"] == "1:111:high")
    assert breach["perceived_severity"] == "critical"
    assert "above 35 °C now: 36" in breach["summary"]
    execute(home, OBSERVED, value=30)
    execute(home, "DELETE FROM bts.breach_forecast")
    assert check(home, NOW).cleared == 1
    deliver(home, NOW)
    assert [m["transition"] for m in hook.received if m["kind"] == "breach"] == ["raised", "cleared"]


def test_a_silent_series_neither_gets_nor_ends_an_expected_breach(
    make_home: HomeMaker,
) -> None:
    silent = "UPDATE bts.forecast_ledger SET last_observed_at = last_observed_at - interval '2 days'"
    home, told_before = make_home(), make_home()
    for each in (home, told_before):
        execute(each, ONE_NIGHT)
        execute(each, NONE)
    execute(home, silent)
    check(home, NOW)
    assert rows_of(home, "SELECT * FROM bts.alert WHERE kind = 'breach'") == []
    check(told_before, NOW)
    execute(told_before, silent)
    assert check(told_before, NOW).cleared == 0
    assert [row["state"] for row in rows_of(told_before, "SELECT * FROM bts.alert_status WHERE kind = 'breach'")] == [
        "open"
    ]


def test_a_late_night_is_told_and_so_is_its_end(make_home: HomeMaker, hook: Receiver) -> None:
    home = make_home(alert_webhook=hook.url)
    assert check(home, NOW).raised == 0  # nobody uses it yet
    execute(home, ONE_NIGHT)
    execute(home, NONE)
    execute(home, "UPDATE bts.batch SET successor_due_at = now() - interval '1 minute'")
    check(home, NOW)
    assert states(home)["night"] == "open"
    deliver(home, NOW)
    execute(home, "UPDATE bts.batch SET successor_due_at = now() + interval '1 day'")
    check(home, NOW)
    deliver(home, NOW)
    late = [m for m in hook.received if m["kind"] == "late"]
    assert [m["transition"] for m in late] == ["raised", "cleared"]
    assert late[0]["text"].startswith("critical: the night is late: the newest batch is of origin ")


def test_batches_of_the_past_warn_nobody(make_home: HomeMaker) -> None:
    home = make_home()
    execute(home, ONE_NIGHT)
    execute(home, NONE)
    execute(home, "UPDATE bts.batch SET kind = 'retrospective'")
    assert check(home, NOW).raised == 0


def test_mail_reaches_an_smtp_server(make_home: HomeMaker) -> None:
    with smtp_receiver() as server:
        home = make_home(alert_urls=server.mailto)
        tell_of(home, "drift", drifting(1), NOW)
        assert deliver(home, NOW).sent == 1
        (mail,) = (message_from_string(text) for text in server.received)
    assert mail["To"] == "crew@example.com"
    assert "drift" in mail["Subject"]
    body = next(part for part in mail.walk() if part.get_content_type() == "text/plain").get_payload(decode=True)
    assert b"station 100 drifts" in body


@pytest.mark.parametrize("kind", ["http", "smtp"])
def test_a_server_that_hangs_costs_the_time_allowed_and_keeps_nobody_else_from_being_told(
    make_home: HomeMaker, hook: Receiver, kind: str
) -> None:
    with hanging_receiver() as hanging:
        urls = {"alert_urls": f"{hook.url.replace('http', 'json')} {hanging.mailto}"}
        if kind == "http":
            urls = {"alert_webhook": hanging.url, "alert_urls": hook.url.replace("http", "json")}
        home = make_home(alert_timeout=timedelta(seconds=0.5), **urls)
        list_stations(home, 1, "north")
        tell_of(home, "drift", drifting(2), NOW)  # of two regions: two messages
        before = time.monotonic()
        told = deliver(home, NOW)
        assert time.monotonic() - before < 5
    assert told.sent == 2
    assert len(hook.received) == 2
    (failed,) = told.failed
    assert "did not" in failed
    assert told.waiting == 1
    errors = rows_of(home, "SELECT DISTINCT delivery_error FROM bts.alert_status WHERE delivery_error IS NOT NULL")
    assert failed in {row["delivery_error"] for row in errors}


def test_what_failed_is_told_again_later_each_time_after_a_longer_while(make_home: HomeMaker, hook: Receiver) -> None:
    home = make_home(alert_webhook=hook.url)
    tell_of(home, "drift", drifting(1), NOW)
    hook.status = 500
    assert deliver(home, NOW).failed == (f"{channel_name(home)} answered with status 500",)
    waits = []
    now = NOW
    for _ in range(3):
        since = now
        while not deliver(home, now).failed:
            now += timedelta(minutes=1)
        waits.append((now - since) // timedelta(minutes=1))
    assert waits == [1, 2, 4]
    hook.status = 200
    assert deliver(home, now + timedelta(hours=1)).sent == 1
    assert deliver(home, now + timedelta(hours=2)).sent == 0
    assert len({m["message_id"] for m in hook.received}) == 1


def channel_name(home: Home) -> str:
    (row,) = rows_of(home, "SELECT DISTINCT channel FROM bts.alert_delivery")
    assert "127.0.0.1" not in row["channel"]
    return str(row["channel"])


def test_two_that_deliver_at_once_tell_once(make_home: HomeMaker, hook: Receiver) -> None:
    from concurrent.futures import ThreadPoolExecutor

    home = make_home(alert_webhook=hook.url)
    tell_of(home, "drift", drifting(5), NOW)
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda _: deliver(home, NOW).sent, range(4)))
    assert sum(told) == len(hook.received) == 1


def test_no_more_messages_an_hour_than_allowed_the_gravest_first(make_home: HomeMaker, hook: Receiver) -> None:
    home = make_home(alert_webhook=hook.url, alert_messages_per_hour=2)
    for n, region in enumerate("abcd"):
        list_stations(home, 1, region, first=100 + n)
    tell_of(home, "drift", drifting(4), NOW)
    assert deliver(home, NOW).waiting == 2
    assert [m["region"] for m in hook.received] == ["a", "b"]
    assert hook.received[0]["perceived_severity"] == "critical"
    assert deliver(home, NOW + timedelta(minutes=30)).sent == 0
    assert deliver(home, NOW + timedelta(minutes=61)).sent == 2
    assert [m["region"] for m in hook.received] == ["a", "b", "c", "d"]


def test_silenced_planned_and_acknowledged_alerts_are_kept_and_not_told(make_home: HomeMaker, hook: Receiver) -> None:
    home = make_home(alert_webhook=hook.url)
    list_stations(home, 4, None)
    tomorrow = NOW + timedelta(days=1)
    execute(
        home,
        "INSERT INTO bts.silence (station_id, parameter_id, until, reason) VALUES (100, 111, :t, 'test')",
        t=tomorrow,
    )
    execute(
        home,
        "INSERT INTO bts.planned_outage (station_id, starts_at, ends_at, reason)"
        " SELECT n, :t, CAST(:t AS timestamptz) + interval '4 hours', 'rectifier' FROM generate_series(101, 102) AS n",
        t=tomorrow,
    )
    # 101 is expected within the outage of its station, 102 before it.
    at = [None, tomorrow + timedelta(hours=1), tomorrow - timedelta(hours=1), None]
    events = [Event(**{**vars(e), "expected_at": t}) for e, t in zip(drifting(4), at, strict=True)]
    tell_of(home, "drift", events, NOW)
    execute(home, "UPDATE bts.alert SET acknowledged_at = now(), acknowledgement = 'mine' WHERE key = '103'")
    assert states(home) == {"100": "suppressed", "101": "suppressed", "102": "open", "103": "acknowledged"}
    deliver(home, NOW)
    assert [a["key"] for m in hook.received for a in m["alerts"]] == ["102"]
    execute(home, "UPDATE bts.silence SET until = now()")  # it ends while the alert is open
    deliver(home, NOW)
    tell_of(home, "drift", [], NOW)  # over: those are told who were told that it began
    deliver(home, NOW)
    assert [a["key"] for m in hook.received[1:] for a in m["alerts"]] == ["100", "100", "102"]


def test_a_station_that_is_silent_in_a_planned_outage_is_told_of_when_that_is_over(
    make_home: HomeMaker, hook: Receiver
) -> None:
    home = make_home(alert_webhook=hook.url)
    execute(home, ONE_NIGHT)
    execute(home, NONE)
    execute(
        home,
        "INSERT INTO bts.planned_outage (station_id, starts_at, ends_at, reason)"
        " VALUES (3, now() - interval '1 hour', now() + interval '1 hour', 'mast')",
    )
    check(home, NOW)
    assert states(home)["3"] == "suppressed"
    execute(home, "UPDATE bts.planned_outage SET ends_at = now() - interval '1 minute'")
    deliver(home, NOW)
    assert "silent" in {message["kind"] for message in hook.received}


def test_without_a_database_a_failure_is_sent_all_the_same(make_home: HomeMaker, hook: Receiver) -> None:
    settings = make_home(alert_webhook=hook.url).settings
    event = Event("failure", "nightly", "critical", "no Postgres answers")
    assert list(send_plain(settings, event, NOW).values()) == [None]
    assert hook.received[0]["text"] == "critical: no Postgres answers"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"alert_urls": "nonsense://x:secret@y"}, "BTS_ALERT_URLS: nonsense://... is no URL that apprise knows"),
        ({"alert_webhook": "ftp://secret"}, "BTS_ALERT_WEBHOOK must begin with http:// or https://"),
    ],
)
def test_an_address_that_cannot_be_used_is_told_without_its_secret(
    make_home: HomeMaker, given: dict[str, str], told: str
) -> None:
    with pytest.raises(UsageError) as refused:
        deliver(make_home(**given), NOW)
    assert str(refused.value).startswith(told)
    assert "secret" not in str(refused.value)
