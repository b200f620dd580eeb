"""Everything that rests in a home, as text that does not tell when it was written nor which numbers it was given."""

from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import psycopg2

from benchmarks.torture.stage import Place

#: Columns that say which landing file. Their order may differ: a file that was read when a run died comes last.
_FILE: Final = {("landing_file", "ledger_seq"), ("landing_file", "superseded_by"), ("landing_rejection", "ledger_seq")}
#: Columns that tell files of the same bytes apart. Which of them is taken, and which is its copy, the order decides.
_OF_A_COPY: Final = ("path", "reason", "modified_ns")
#: Columns that count up in a sequence, which a rollback leaves a gap in -> whose number it is.
_NUMBERS: Final = {
    **dict.fromkeys(("ledger_seq", "input_ledger_seq", "training_ledger_seq", "first_ledger_seq"),
                    ("landing_file", "ledger_seq")),
    **dict.fromkeys(("model_version_id", "champion_version_id", "canary_version_id"),
                    ("model_version", "model_version_id")),
    **dict.fromkeys(("batch_id", "shadow_batch_id"), ("batch", "batch_id")),
    **{name: (table, name) for table, name in (
        ("decision", "decision_id"), ("champion", "champion_seq"), ("publication", "publication_seq"),
        ("pruning", "pruning_seq"), ("probation", "probation_id"), ("dataset", "dataset_id"))},
}  # fmt: skip
#: What says when or by which process a row was written; of some of it, whether it is said at all.
_PASSING: Final = ("code_version", "taken_at", "mlflow_run_id", "mlflow_model_uri", "machine", "packages", "metrics",
                   "training_seconds")  # fmt: skip
_SAID_OR_NOT: Final = ("pruned_at", "mlflow_run_id", "ended_at")
#: What a training measures of itself.
_OF_NO_NIGHT: Final = ("night_stage", "lock")

_COPIED: Final = "(SELECT count(*) > 1 FROM bts.landing_file AS n WHERE n.digest = t.digest)"
_ANY_COPY: Final = """
    SELECT (SELECT min(path) FROM bts.landing_file AS m WHERE m.digest = n.digest) || digest || status
    FROM bts.landing_file AS n
"""

_COLUMNS: Final = """
    SELECT table_name, column_name, data_type = 'timestamp with time zone' AND column_default IS NOT NULL
    FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
    WHERE table_schema = 'bts' AND table_type = 'BASE TABLE' ORDER BY table_name, ordinal_position
"""


def what_rests(place: Place) -> dict[str, Any]:
    """By table its rows, every column as text, in order; by folder its files and their digests; what readers see."""
    with closing(psycopg2.connect(place.url)) as connection, connection.cursor() as cursor:
        cursor.execute("SET timezone = 'UTC'")
        cursor.execute(_COLUMNS)
        columns: dict[str, dict[str, str]] = {}
        for table, column, written_at in cursor.fetchall():
            told = columns.setdefault(table, {})
            if column in _SAID_OR_NOT:
                told[column] = f"({column} IS NULL)::text"
            elif (table, column) in _FILE:
                told[column] = f"({_ANY_COPY} WHERE n.ledger_seq = t.{column})"
            elif column in _NUMBERS:
                told[column] = _rank(column)
            elif table == "landing_file" and column in _OF_A_COPY:
                told[column] = f"CASE WHEN {_COPIED} THEN 'of a copy' ELSE {column}::text END"
            elif not written_at and column not in _PASSING:
                told[column] = f"{column}::text"
        rests = {}
        for table, told in columns.items():
            if table not in _OF_NO_NIGHT:
                cursor.execute(f"SELECT {', '.join(told.values())} FROM bts.{table} AS t")
                rests[table] = sorted((dict(zip(told, row, strict=True)) for row in cursor.fetchall()), key=repr)
        rests["registry"] = _registry(cursor)
    return rests | {"files": _files(place.folder), "latest": latest(place)}


_REGISTRY: Final = """
    SELECT v.version, t.value, r.status, (SELECT string_agg(alias, ',') FROM mlflow.registered_model_aliases AS a
                                          WHERE a.name = v.name AND a.version = v.version)
    FROM mlflow.model_versions AS v LEFT JOIN mlflow.runs AS r ON r.run_uuid = v.run_id
    LEFT JOIN mlflow.tags AS t ON t.run_uuid = v.run_id AND t.key = 'bundle_digest' ORDER BY 1
"""
_RUNNING: Final = "SELECT count(*) FROM mlflow.runs WHERE status = 'RUNNING'"


def _registry(cursor: Any) -> list[Any]:
    """Versions in MLflow's registry, their bundles, their runs' status and aliases; and runs that never ended."""
    cursor.execute("SELECT to_regclass('mlflow.model_versions') IS NULL")
    if cursor.fetchone()[0]:
        return []
    cursor.execute(_REGISTRY)
    versions = cursor.fetchall()
    cursor.execute(_RUNNING)
    return [*versions, *cursor.fetchall()]


def _rank(column: str) -> str:
    """The number of a row among its like, which has no gaps."""
    table, key = _NUMBERS[column]
    return f"(SELECT count(*) FROM bts.{table} AS n WHERE n.{key} <= t.{column})::text"


def _files(home: Path) -> dict[str, str]:
    kept = [file for folder in ("readings", "bundles", "reading") for file in sorted((home / folder).rglob("*"))]
    return {str(f.relative_to(home)): sha256(f.read_bytes()).hexdigest() for f in kept if f.is_file()}


def latest(place: Place) -> list[tuple[str, ...]]:
    """What readers see, but for the batch's number."""
    with closing(psycopg2.connect(place.url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT station_id::text, parameter_id::text, issued_at::text, step_ahead::text,"
            " q05::text, q10::text, q50::text, q90::text, q95::text, source"
            " FROM bts.latest_forecast ORDER BY 1, 2, 3, 4"
        )
        return cursor.fetchall()


def difference(found: dict[str, Any], expected: dict[str, Any]) -> str | None:
    """In which of what rests two homes differ, and the first row of it; None: in nothing."""
    for name in sorted(found.keys() | expected.keys()):
        ours, theirs = found.get(name), expected.get(name)
        if ours != theirs:
            return f"{name}: {_first(ours, theirs)}"
    return None


def _first(ours: Any, theirs: Any) -> str:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        ours, theirs = list(ours.items()), list(theirs.items())
    surplus = [row for row in ours or [] if row not in (theirs or [])]
    missing = [row for row in theirs or [] if row not in (ours or [])]
    if surplus and missing and isinstance(surplus[0], dict):  # what differs, not the whole of two long rows
        both = [(name, value, missing[0][name]) for name, value in surplus[0].items()]
        told = ", ".join(f"{name} {one} for {other}" for name, one, other in both if one != other)
    else:
        told = f"{surplus[:1]} for {missing[:1]}"
    return f"{len(surplus)} too much, {len(missing)} missing of {len(ours or [])} rows: {told}"[:400]
