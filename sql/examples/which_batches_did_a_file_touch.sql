-- Which batches did a landing file touch? By readings of it in their input window, and by the training of their model,
-- which hands on what it learned to every series; here it is the file that was taken in first. A file that was
-- corrected since counts where it was known. bts impact --file NAME says which series, too.
WITH bad AS (
    SELECT path, digest FROM bts.ingest_ledger WHERE status = 'accepted' ORDER BY ledger_seq LIMIT 1
)
SELECT bad.path, l.batch_id, l.issued_at, l.model_version_id,
       bad.digest = ANY (l.input_files) AS by_input,
       bad.digest = ANY (l.training_files) AS by_training
FROM bad
CROSS JOIN bts.batch AS b
-- Of one series of each batch: they share these columns.
CROSS JOIN LATERAL (SELECT * FROM bts.forecast_lineage WHERE batch_id = b.batch_id LIMIT 1) AS l
WHERE bad.digest = ANY (l.input_files || l.training_files)
ORDER BY l.issued_at DESC, l.batch_id DESC;
