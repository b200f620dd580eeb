"""The asset `readings`: landing files taken in, each accepted one at rest as Parquet and vouched for by the ledger."""

from itertools import islice
from typing import Final

import dagster as dg

from bts_assets import progress
from bts_assets.contracts.schemas import Readings
from bts_assets.defs.measured import measured
from bts_assets.defs.night import Night
from bts_assets.defs.retry import retried_once
from bts_assets.defs.translate import check_spec, column_schema, counts, picture
from bts_assets.plots import evaluation
from bts_assets.services.ingest import IngestReport, ingest
from bts_assets.services.landing_work import BREAKS_SCHEMA
from bts_assets.storage.ingest_ledger import accepted_by_day, accepted_now, bytes_taken

#: Files of other names are told of up to this many; all are counted.
NAMED: Final = 20


@dg.asset(
    group_name="nightly",
    kinds={"parquet", "pandera"},
    metadata={"dagster/column_schema": column_schema(Readings)},
    check_specs=[
        check_spec(
            "readings_schema",
            "readings",
            "every accepted row passed the pandera schema",
            "report it with the metadata: a reader let through what it must not",
        ),
        check_spec(
            "rows_add_up",
            "readings",
            "accepted + rejected + duplicate = rows read",
            "report it with the metadata: rows were lost in reading",
        ),
        check_spec(
            "files_usable",
            "readings",
            "every landing file gave readings: none refused, unusable or left",
            "bts.ingest_ledger has the reason of each; mend the files, then bts ingest --retry",
        ),
        check_spec(
            "corrections_whole",
            "readings",
            "no file that replaced one of its name ends earlier, or has less than half as many readings",
            "if the replaced readings were right, deliver them again; give every export a name of its own",
        ),
    ],
)
@retried_once
@measured
def readings(context: dg.AssetExecutionContext, night: Night) -> dg.MaterializeResult:
    """Accepted rows of the landing files, irregular in time; one immutable Parquet file per file, by SHA-256."""
    home = night.home
    report = ingest(
        home,
        home.landing,
        now=night.now,
        run_id=context.run.run_id,
        on_progress=progress.report,
    )
    with home.engine.connect() as connection:
        accepted = accepted_now(connection)
        taken = bytes_taken(connection, context.run.run_id)
        per_day = accepted_by_day(connection)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(accepted.digest),
        metadata={
            # First this run's rows, then all stored ones: a run that finds nothing new has none of its own.
            "new_rows": report.accepted,
            "dagster/row_count": accepted.rows,
            "files_taken": report.taken,
            "files_found": report.found,
            "files_unusable": report.unusable,
            "files_refused": report.refused,
            "files_copies": report.copies,
            "files_corrected": report.corrected,
            "files_continued": report.continued,
            "files_unchanged": report.unchanged,
            "files_left": len(report.left),
            "files_not_looked_at": len(report.others),
            "rows": report.rows,
            "rejected": report.rejected,
            "duplicate": report.duplicate,
            "bytes": taken,
            "landing": str(home.landing),
            "rejected_by_reason": counts(report.rejected_by_reason),
            **_told(
                not_taken={**report.refusals, **report.left},
                unusable=report.unusables,
                narrowed=report.narrowed,
                not_looked_at=dict(islice(report.others.items(), NAMED)),
            ),
            **picture(evaluation.bars, per_day, "Readings by day", "accepted rows", f"landing files of {home.landing}"),
            "digest": accepted.digest,
        },
        check_results=_checks(report),
    )


def _told(**files: dict[str, str]) -> dict[str, dict[str, str]]:
    """Files and why, where there are any."""
    return {name: why for name, why in files.items() if why}


def _checks(report: IngestReport) -> list[dg.AssetCheckResult]:
    return [
        dg.AssetCheckResult(
            check_name="readings_schema",
            passed=not any(why.startswith(BREAKS_SCHEMA) for why in report.left.values()),
            metadata={"rows_validated": report.accepted},
        ),
        dg.AssetCheckResult(
            check_name="rows_add_up",
            passed=report.accepted + report.rejected + report.duplicate == report.rows,
            metadata={"rows": report.rows},
        ),
        dg.AssetCheckResult(
            check_name="files_usable",
            passed=not report.refusals and not report.unusables and not report.left,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"refused": report.refusals, "unusable": report.unusables, "left": report.left},
        ),
        dg.AssetCheckResult(
            check_name="corrections_whole",
            passed=not report.narrowed,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"narrowed": report.narrowed},
        ),
    ]
