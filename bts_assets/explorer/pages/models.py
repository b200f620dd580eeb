"""Model versions: which serves, which ask to, what two of them differ in, what was decided and by which rules."""

from typing import Any, Final

from bts_assets.explorer.page import Page, Table
from bts_assets.explorer.pages.versions_apart import apart
from bts_assets.explorer.question import Question, Row
from bts_assets.explorer.request import PageRequest

#: Versions and decisions shown, the newest.
_MOST: Final = 50

_VERSIONS: Final = Question(
    "every model version and what it is now",
    f"""
    SELECT model_version_id, registry_version, role, trained_at, training_end, effort, median_mase, lstm_failure,
           truncated, verdict, decided_by, decided_at, reason, batches, mlflow_run_id, mlflow_experiment_id
    FROM bts.version_status ORDER BY model_version_id DESC LIMIT {_MOST}
    """,
)
_DECISIONS: Final = Question(
    "every decision about one, with the rules asked",
    f"""
    SELECT decision_id, decided_at, model_version_id, champion_version_id, verdict, decided_by, reason, evidence,
           mlflow_run_id, mlflow_experiment_id, dagster_run_id, code_version
    FROM bts.model_decision ORDER BY decision_id DESC LIMIT {_MOST}
    """,
)
_PROBATION: Final = Question(
    "nights of probations, challenger beside champion",
    """
    SELECT probation_id, model_version_id, champion_version_id, issued_at, count(*) AS series, sum(targets) AS targets,
           exp(avg(ln(mae / champion_mae)) FILTER (WHERE mae > 0 AND champion_mae > 0)) AS error_ratio,
           sum(coverage80 * targets) / sum(targets) AS coverage80,
           sum(champion_coverage80 * targets) / sum(targets) AS champion_coverage80
    FROM bts.probation_score
    WHERE probation_id >= (SELECT max(probation_id) FROM bts.probation_score)
    GROUP BY 1, 2, 3, 4 ORDER BY issued_at DESC
    """,
)


def show(request: PageRequest) -> Page:
    versions, decisions = _VERSIONS.ask(request.connection), _DECISIONS.ask(request.connection)
    running = any(row["role"] in ("shadow", "canary") for row in versions)
    nights = _PROBATION.ask(request.connection) if running else []
    two = apart(request, versions)
    given: dict[str, Any] = {
        "versions": versions,
        "champion": next((row for row in versions if row["role"] == "champion"), None),
        "decisions": [{**row, "rules": rules(row)} for row in decisions],
        "probation": nights,
        "running": running,
        "apart": two,
    }
    tables = {"versions": Table(_VERSIONS, versions), "decisions": Table(_DECISIONS, decisions)}
    tables |= {"differences": Table(two.question, two.facts)} if two else {}
    tables |= {"probation": Table(_PROBATION, nights)} if running else {}
    questions = [table.question for table in tables.values()]
    return Page("models.html", "Models", given, questions, versions, name="models", tables=tables)


def rules(decision: Row) -> list[dict[str, Any]]:
    """The rules that were asked: name, passed, words. Evidence of another shape has none."""
    evidence = decision["evidence"]
    listed = evidence.get("rules", []) if isinstance(evidence, dict) else evidence
    found = [rule for rule in listed or [] if isinstance(rule, dict)]
    return [{"name": str(rule.get("rule") or rule.get("name") or ""), "passed": rule.get("passed"),
             "words": str(rule.get("words") or "")} for rule in found]  # fmt: skip
