"""What Grafana is provisioned with, and its queries as its Postgres data source sends them; no tests are here."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import yaml
from handmade_night import CHECKOUT

DEPLOY = CHECKOUT / "deploy" / "grafana"
DASHBOARD = json.loads((DEPLOY / "dashboards" / "forecasts.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
VARIABLES: list[dict[str, Any]] = DASHBOARD["templating"]["list"]
QUERIES = {
    **{f"variable {v['name']}": v["query"] for v in VARIABLES if v["type"] == "query"},
    **{f"{p['title']} {t['refId']}": t["rawSql"] for p in PANELS for t in p["targets"]},
}
CHOSEN = {"station": "1", "parameter": "111", "hours": "48"}
PROVISIONED = yaml.safe_load((DEPLOY / "provisioning" / "alerting" / "rules.yaml").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [rule for group in PROVISIONED["groups"] for rule in group["rules"]]


def filled_in(sql: str, chosen: Mapping[str, str], start: datetime, end: datetime) -> str:
    """The SQL as Grafana's Postgres data source sends it; what it would not know is an error."""
    first, last = (f"'{instant.isoformat()}'" for instant in (start, end))
    sql = re.sub(r"\$__timeFilter\(([\w.]+)\)", rf"\1 BETWEEN {first} AND {last}", sql)
    sql = sql.replace("$__timeFrom()", first).replace("$__timeTo()", last)
    sql = re.sub(r"\$\{(\w+):sqlstring\}", lambda match: f"'{chosen[match[1]]}'", sql)
    assert "$" not in sql
    return sql
