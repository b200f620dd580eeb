-- Can the latest forecasts be relied on today? `state` is current, stale (a night was missed) or made of the past
-- (retrospective, in_sample). No row: nothing was ever published, which is an alarm too.
SELECT batch_id, state, issued_at, published_at, date_trunc('minute', age) AS age, forecasts_end_at,
       forecasts_end_at > now() AS reaches_past_now,
       series, forecast, fallback, excluded, model_version_id
FROM bts.latest_batch;
