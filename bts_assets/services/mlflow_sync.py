"""MLflow's runs told which batches their versions served: Postgres knows it, tags mirror it. It decides nothing."""

import logging
from collections import defaultdict
from typing import Final

import sqlalchemy as sa

from bts_assets.services.home import Home
from bts_assets.storage.mlflow_registry import ModelStoreError

log = logging.getLogger(__name__)

#: Looked at are the versions of so many of the newest publications: what MLflow missed while it was down for longer
#: than that, under a version that serves no more, stays missed there.
_NEWEST: Final = 100

# All that a version served, for a tag that was missed may be of any night; a challenger served what it had a share in.
_SERVED: Final = sa.text("""
    SELECT v.mlflow_run_id, b.batch_id, b.issued_at
    FROM bts.batch AS b JOIN bts.model_version AS v ON v.model_version_id IN (b.model_version_id, b.canary_version_id)
    WHERE v.mlflow_run_id IS NOT NULL AND EXISTS (SELECT FROM bts.publication AS p WHERE p.batch_id = b.batch_id)
      AND v.model_version_id IN (
          SELECT unnest(ARRAY[n.model_version_id, n.canary_version_id])
          FROM bts.publication JOIN bts.batch AS n USING (batch_id)
          WHERE publication_seq > (SELECT max(publication_seq) FROM bts.publication) - :newest)
    ORDER BY b.batch_id DESC
""")


_DECIDED: Final = sa.text("""
    SELECT v.mlflow_run_id, d.decision_id, d.verdict || ' by ' || d.decided_by || ': ' || d.reason
    FROM bts.decision AS d JOIN bts.model_version AS v USING (model_version_id)
    WHERE v.mlflow_run_id IS NOT NULL ORDER BY d.decision_id DESC LIMIT :newest
""")


def tell_served(home: Home) -> int:
    """Give the run of each version one tag per published batch, `batch.<id>`: its origin; and one per decision about
    it, `decision.<id>`. How many were missing.

    MLflow being down stops no night: the next one tells what is missing still.
    """
    with home.engine.connect() as connection:
        served = connection.execute(_SERVED, {"newest": _NEWEST}).all()
        decided = connection.execute(_DECIDED, {"newest": _NEWEST}).all()
    tags: dict[str, dict[str, str]] = defaultdict(dict)
    for run_id, batch_id, issued_at in served:
        tags[run_id][f"batch.{batch_id}"] = issued_at.isoformat()
    for run_id, decision_id, told in decided:
        tags[run_id][f"decision.{decision_id}"] = told
    told = 0
    try:
        for run_id, batches in tags.items():
            told += home.models.add_tags(run_id, batches)
    except ModelStoreError as error:
        log.warning("%s; a later night tells it which batches were published", error)
    return told
