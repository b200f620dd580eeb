"""The alert rules that Grafana is provisioned with: their form, and what fires when a night goes wrong."""

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import jsonschema
import psycopg2
import pytest
import yaml
from grafana import DASHBOARD, DEPLOY, PROVISIONED, RULES
from handmade_night import HandmadeNight, handmade_night

_TEXT: Final = {"type": "string", "minLength": 1}
_DURATION: Final = {"type": "string", "pattern": r"^(\d+[smhdwy])+$"}
_MODEL: Final = {"type": "object", "required": ["refId", "datasource"]}
#: What Grafana's file provisioning reads of a rule (AlertRuleGroupV1 and what it holds), and nothing that it drops.
FORM: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "groups"],
    "properties": {
        "apiVersion": {"const": 1},
        "groups": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["orgId", "name", "folder", "interval", "rules"],
                "properties": {
                    "orgId": {"const": 1},
                    "name": _TEXT,
                    "folder": _TEXT,
                    "interval": _DURATION,
                    "rules": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["uid", "title", "condition", "data", "for", "noDataState", "execErrState"],
                            "properties": {
                                "uid": {"type": "string", "pattern": r"^[\w-]{1,40}$"},
                                "title": {**_TEXT, "maxLength": 190},
                                "condition": _TEXT,
                                "for": _DURATION,
                                "noDataState": {"enum": ["Alerting", "NoData", "OK", "KeepLast"]},
                                "execErrState": {"enum": ["Alerting", "Error", "OK", "KeepLast"]},
                                "dashboardUid": _TEXT,
                                "panelId": {"type": "integer"},
                                "labels": {"type": "object", "additionalProperties": _TEXT},
                                "annotations": {"type": "object", "additionalProperties": _TEXT},
                                "data": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": {
                                        "type": "object",
                                        "additionalProperties": False,
                                        "required": ["refId", "datasourceUid", "relativeTimeRange", "model"],
                                        "properties": {
                                            "refId": _TEXT,
                                            "datasourceUid": _TEXT,
                                            "relativeTimeRange": {
                                                "type": "object",
                                                "additionalProperties": False,
                                                "required": ["from", "to"],
                                                "properties": {"from": {"minimum": 1}, "to": {"minimum": 0}},
                                            },
                                            "model": _MODEL,
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


@pytest.fixture(scope="module")
def night(server_url: str) -> Iterator[HandmadeNight]:
    with handmade_night(server_url) as made:
        yield made


def test_rules_have_the_form_that_grafana_reads() -> None:
    jsonschema.Draft202012Validator.check_schema(FORM)
    jsonschema.validate(PROVISIONED, FORM)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**PROVISIONED, "group": []}, FORM)
    # The scheduler's own beat is ten seconds.
    for group in PROVISIONED["groups"]:
        assert re.fullmatch(r"\d+m|\d*0s", group["interval"])
    for names in ([rule["uid"] for rule in RULES], [rule["title"] for rule in RULES]):
        assert len(set(names)) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["uid"])
def test_rule_leads_to_a_panel_and_its_parts_to_each_other(rule: dict[str, Any]) -> None:
    source = yaml.safe_load((DEPLOY / "provisioning" / "datasources" / "postgres.yaml").read_text(encoding="utf-8"))
    uid = source["datasources"][0]["uid"]
    query, threshold = rule["data"]
    assert (query["refId"], threshold["refId"]) == (query["model"]["refId"], rule["condition"])
    assert (query["datasourceUid"], query["model"]["datasource"]["uid"]) == (uid, uid)
    assert (threshold["datasourceUid"], threshold["model"]["type"]) == ("__expr__", "threshold")
    assert threshold["model"]["expression"] == query["refId"]
    assert rule["dashboardUid"] == DASHBOARD["uid"]
    assert rule["panelId"] in {panel["id"] for panel in DASHBOARD["panels"]}
    assert {"summary", "description"} == rule["annotations"].keys()
    # What says nothing is an alarm, never green.
    assert (rule["noDataState"], rule["execErrState"]) == ("Alerting", "Alerting")


def firing(cursor: Any) -> set[str]:
    """Rules that fire on what the session sees, as Grafana evaluates them: a number a row, other columns its labels."""
    fired = set()
    for rule in RULES:
        query, threshold = rule["data"]
        cursor.execute(query["model"]["rawSql"])
        rows = [dict(zip([c.name for c in cursor.description], row, strict=True)) for row in cursor.fetchall()]
        assert rows, f"{rule['uid']} gives no row, which is an alarm of its own"
        (evaluator,) = [condition["evaluator"] for condition in threshold["model"]["conditions"]]
        assert evaluator["type"] == "gt"
        for row in rows:
            (number,) = [v for v in row.values() if not isinstance(v, str)]
            labels = {name: v for name, v in row.items() if isinstance(v, str)}
            assert not labels.keys() & rule["labels"].keys()
            told = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
            assert set(told) <= labels.keys()
            if number > evaluator["params"][0]:
                fired.add(" ".join([rule["uid"], *labels.values()]))
    return fired


#: What goes wrong, done to a night that went well, and what fires then.
WRONG: Final = {
    "": set(),
    "UPDATE bts.batch SET successor_due_at = now() - interval '1 minute'": {"bts-night-late"},
    "UPDATE bts.batch SET issued_at = issued_at - interval '9 days';"
    "UPDATE bts.forecast_ledger SET last_observed_at = last_observed_at - interval '9 days'": {"bts-batch-stale"},
    "UPDATE bts.forecast_ledger SET last_observed_at = last_observed_at - interval '9 days'": {"bts-batch-stale"},
    "DELETE FROM bts.publication": {"bts-batch-stale"},
    "UPDATE bts.breach_forecast SET probability_24h = 0.9": {"bts-breaches major"},
    "UPDATE bts.breach_forecast SET probability_6h = 0.9": {"bts-breaches critical"},
    "UPDATE bts.batch SET kind = 'retrospective'; UPDATE bts.breach_forecast SET probability_6h = 0.9": set(),
    "UPDATE bts.parameter_score SET targets = 900, inside80 = 600": {"bts-coverage"},
    "UPDATE bts.parameter_score SET targets = 90, inside80 = 60": set(),
    "UPDATE bts.landing_file SET taken_at = now() WHERE status = 'refused'": {"bts-files-refused"},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_goes_wrong_fires_its_rule_and_no_other(night: HandmadeNight, wrong: str) -> None:
    with closing(psycopg2.connect(night.admin_url)) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE bts.landing_file SET taken_at = taken_at - interval '2 days' WHERE status = 'refused'")
        if wrong:
            cursor.execute(wrong)
        assert firing(cursor) == WRONG[wrong]
        connection.rollback()


def test_reader_may_run_every_rule(night: HandmadeNight) -> None:
    with closing(psycopg2.connect(night.reader_url)) as connection, connection.cursor() as cursor:
        assert firing(cursor) == {"bts-files-refused"}
