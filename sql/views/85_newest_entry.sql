-- What a page that was made then depends on: as long as this row stays the same, so does all that the views show, but
-- for what depends on the clock.
CREATE VIEW bts.newest_entry AS
SELECT (SELECT max(publication_seq) FROM bts.publication) AS publication_seq,
       (SELECT max(ledger_seq) FROM bts.landing_file) AS ledger_seq,
       (SELECT max(decision_id) FROM bts.decision) AS decision_id,
       (SELECT max(computed_at) FROM bts.observed_day) AS observed_at,
       (SELECT max(scored_at) FROM bts.scored_batch) AS scored_at,
       (SELECT max(dataset_id) FROM bts.dataset) AS dataset_id,
       (SELECT last_observed_at FROM bts.observed_day WHERE last_observed_at <= now()
        ORDER BY day DESC, ledger_seq DESC LIMIT 1) AS last_observed_at;
COMMENT ON VIEW bts.newest_entry IS
    'one row: the newest entry of every log, and the newest observation; what is shown changes when it does';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bts_reader') THEN
        GRANT SELECT ON bts.newest_entry TO bts_reader;
    END IF;
END
$$;
