"""What the forecasts that served were worth lately, in a figure or two; commands that only look import no more."""

from typing import Final

import sqlalchemy as sa

#: The median over parameters: one counter that was reset shall not drown the others.
_WEEK: Final = sa.text("""
    SELECT candidate, percentile_cont(0.5) WITHIN GROUP (ORDER BY mase) AS mase,
           sum(coverage80 * targets) / sum(targets) AS coverage80, max(nights) AS nights
    FROM (SELECT candidate, max(nights) AS nights, sum(targets) AS targets,
                 sum(coverage80 * targets) / sum(targets) AS coverage80,
                 sum(mase * targets) / nullif(sum(targets) FILTER (WHERE mase IS NOT NULL), 0) AS mase
          FROM bts.forecast_accuracy JOIN bts.scored_kind USING (days, kind)
          WHERE days = 7 AND role = 'served' GROUP BY candidate, parameter_id) AS parameters
    GROUP BY candidate
""")


def accuracy_of_week(connection: sa.Connection) -> dict[str, sa.RowMapping]:
    """What the forecasts of the last 7 scored days were worth, and the baselines beside them.

    candidate, or `served` -> mase (median over parameters), coverage80, nights. Empty where nothing was scored.
    """
    return {row["candidate"]: row for row in connection.execute(_WEEK).mappings()}
