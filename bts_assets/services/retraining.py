"""Whether a challenger is due at an origin, and why: the evidence is read here, and judged in `monitoring`."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from bts_assets.contracts.grid import DAY, format_duration
from bts_assets.monitoring.retraining import RetrainingBounds, VersionEvidence, reasons_to_retrain
from bts_assets.services.home import Home
from bts_assets.storage.model_versions import ModelVersion, champion_for, newest_for

_TRAINED: Final = sa.text("SELECT training_start FROM bts.model_version WHERE model_version_id = :newest")
_DRIFT: Final = sa.text("""
    WITH night AS (
        SELECT issued_at FROM bts.drift_night WHERE model_version_id = :champion AND issued_at <= :issued_at
        ORDER BY issued_at DESC LIMIT 1
    ), faulty AS (SELECT DISTINCT station_id FROM bts.found_fault JOIN night USING (issued_at))
    SELECT coalesce(array_agg(DISTINCT coalesce(p.name, e.parameter_id::text))
                    FILTER (WHERE e.scope = 'parameter'), '{}') AS drifting_parameters,
           count(DISTINCT e.station_id)
                    FILTER (WHERE e.station_id >= 0 AND e.station_id NOT IN (SELECT station_id FROM faulty))
                    AS drifting_stations,
           (SELECT count(DISTINCT station_id) FROM bts.drift_figure JOIN night USING (issued_at)) AS stations
    FROM night JOIN bts.drift_evidence AS e USING (issued_at) LEFT JOIN bts.parameter AS p USING (parameter_id)
    WHERE e.alarm
""")
#: What is in-sample says nothing of a version. Baselines are those of the same batches.
_ACCURACY: Final = sa.text("""
    SELECT f.candidate, sum(f.targets)::bigint AS targets,
           sum(f.absolute_error / f.scale) FILTER (WHERE f.scale > 0)
               / nullif(sum(f.targets) FILTER (WHERE f.scale > 0), 0) AS mase
    FROM bts.scored_forecast AS f JOIN bts.batch AS b USING (batch_id)
    WHERE f.role = 'served' AND f.kind <> 'in_sample' AND b.model_version_id = :champion
      AND f.issued_at > :issued_at - interval '7 days' AND f.issued_at <= :issued_at
    GROUP BY f.candidate
""")
_SERIES: Final = sa.text("""
    SELECT count(*) FILTER (WHERE s.first_ledger_seq > m.training_ledger_seq) AS new_series, count(*) AS series
    FROM bts.series AS s CROSS JOIN bts.model_version AS m WHERE m.model_version_id = :newest
""")


@dataclass(frozen=True)
class Verdict:
    """Whether a challenger is due; words: why, or why not."""

    due: bool
    words: str


def whether_to_retrain(home: Home, issued_at: datetime) -> Verdict:
    """Whether a challenger that knows what was known at an origin is due.

    The newest version's age counts, also of one that the gate refused: data that differ by a day give no other verdict.
    """
    settings = home.settings
    if not settings.retrain_after:
        return Verdict(False, "BTS_RETRAIN_AFTER is 0: versions are trained by hand")
    newest, champion = newest_for(home.engine, settings.grid), champion_for(home.engine, settings.grid)
    if newest is None or champion is None:
        return Verdict(False, "no model version fits the grid yet: the night trains the first")
    bounds = RetrainingBounds(settings.retrain_after, settings.retrain_cooldown, settings.retrain_skill)
    reasons = reasons_to_retrain(read_evidence(home, newest, champion, issued_at), bounds)
    if reasons:
        return Verdict(True, "; ".join(reasons))
    return Verdict(
        False,
        f"model version {newest.model_version_id} knows the data until {newest.training_end:%Y-%m-%d %H:%M} UTC;"
        f" the next is due after {format_duration(bounds.after)}, or on evidence after"
        f" {format_duration(bounds.cooldown)}",
    )


def due_by_age(home: Home, issued_at: datetime) -> Verdict:
    """Whether the newest version's age alone asks for a challenger. Other evidence, which `whether_to_retrain` weighs,
    takes reading a week of every series' scores.
    """
    newest, after = newest_for(home.engine, home.settings.grid), home.settings.retrain_after
    age = issued_at - newest.training_end if newest else timedelta(0)
    return Verdict(bool(after) and age >= after, f"age: {age / DAY:.1f} days")


def read_evidence(home: Home, newest: ModelVersion, champion: ModelVersion, issued_at: datetime) -> VersionEvidence:
    """What speaks for a challenger at an origin."""
    of = {"newest": newest.model_version_id, "champion": champion.model_version_id, "issued_at": issued_at}
    with home.engine.connect() as connection:

        def read(query: sa.TextClause) -> list[dict[str, Any]]:
            named = {name: of[name] for name in query.compile().params}
            return [dict(row) for row in connection.execute(query, named).mappings()]

        (trained,), (drift,), (series,) = read(_TRAINED), read(_DRIFT), read(_SERIES)
        scores = {row["candidate"]: row for row in read(_ACCURACY)}
    baselines = [row["mase"] for name, row in scores.items() if name != "served" and row["mase"] is not None]
    served = scores.get("served", {})
    return VersionEvidence(
        age=issued_at - newest.training_end,
        trained=newest.training_end - trained["training_start"],
        drifting_parameters=tuple(drift.pop("drifting_parameters")),
        **drift,
        **series,
        targets=served.get("targets", 0),
        mase=served.get("mase"),
        baseline_mase=min(baselines, default=None),
    )
