-- What did we believe yesterday, and what do we believe now? Forecasts of the same hours, side by side, of the series
-- that changed most. forecast_as_of(instant) gives what bts.latest_forecast showed at that instant: the batch that a
-- decision was taken on, even if it was replaced since. No rows: nothing had been published by then.
WITH both_beliefs AS (
    SELECT station_id, parameter_id, target_at,
           then_.issued_at AS issued_then, then_.q50 AS q50_then, then_.q10 AS q10_then, then_.q90 AS q90_then,
           now_.issued_at AS issued_now, now_.q50 AS q50_now
    FROM bts.forecast_as_of(now() - interval '24 hours') AS then_
    JOIN bts.latest_forecast AS now_ USING (station_id, parameter_id, target_at)
), most_changed AS (
    -- In units of the interval that was given then, so that volts and degrees compare.
    SELECT station_id, parameter_id
    FROM both_beliefs GROUP BY station_id, parameter_id
    ORDER BY avg(abs(q50_now - q50_then) / nullif(q90_then - q10_then, 0)) DESC NULLS LAST, station_id, parameter_id
    LIMIT 1
)
SELECT station_id, parameter_id, target_at, issued_then, issued_now,
       round(q50_then::numeric, 2) AS q50_then, round(q50_now::numeric, 2) AS q50_now,
       round((q50_now - q50_then)::numeric, 2) AS change
FROM both_beliefs
JOIN most_changed USING (station_id, parameter_id)
ORDER BY target_at;
