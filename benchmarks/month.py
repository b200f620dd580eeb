"""A month of nights, with late files and corrections: does every row resolve, and does every night replay?

    python -m benchmarks.month [--nights 30] [--stations 3]

Each night is the nightly job as it is run, in one home. Of its landing files some come two days late, and every night
one of the last days' is sent again in another wording; in mid-month the horizon is halved, for which a second version
is trained. Only when all have been published do the late ones come and the rest of what was cut off. Then every
forecast row is asked in SQL for its runs, files and code, the runs are looked up, and the nights are replayed in
shuffled order.
"""

import argparse
import os
import random
import shutil
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import sqlalchemy as sa

from bts_assets.cli.run_job import run_job
from bts_assets.contracts.grid import DAY
from bts_assets.services.home import Home, open_home
from bts_assets.services.replay import replay
from bts_assets.settings import load_settings
from bts_assets.simulation.simulate import NetworkSpec, simulate_network
from bts_assets.storage.embedded import server as embedded

END: Final = datetime(2026, 4, 12, tzinfo=UTC)
#: Share of the files that come late.
LATE: Final = 0.06
#: Days of files before the first night.
HISTORY: Final = 10

#: Forecast rows that are stored, and those of them that lead to runs, registry, files, model and code.
ROWS_RESOLVED: Final = sa.text("""
    SELECT count(*) AS rows, count(*) FILTER (
        WHERE l.mlflow_run_id IS NOT NULL AND l.mlflow_model_uri IS NOT NULL AND l.registry_version IS NOT NULL
          AND l.dagster_run_id IS NOT NULL AND l.training_dagster_run_id IS NOT NULL
          AND l.bundle_digest IS NOT NULL AND l.code_version IS NOT NULL AND l.training_code_version IS NOT NULL
          AND l.published_at IS NOT NULL
          AND cardinality(l.input_files) > 0 AND cardinality(l.input_files) = cardinality(l.input_file_names)
          AND cardinality(l.training_files) > 0 AND cardinality(l.training_files) = cardinality(l.training_file_names)
    ) AS resolved
    FROM bts.forecast AS f LEFT JOIN bts.forecast_lineage AS l USING (batch_id, station_id, parameter_id)
""")
_LEDGER: Final = sa.text("""
    SELECT count(*) AS entries, count(superseded_by) AS superseded,
           (SELECT count(*) FROM bts.model_version) AS versions
    FROM bts.landing_file
""")


class Inbox:
    """The landing folder as the nights find it: `stage` holds what will have come in the end."""

    def __init__(self, stage: Path, landing: Path) -> None:
        self.files = sorted(stage.glob("*.csv"))
        self.landing, self.chance = landing, random.Random(3)  # noqa: S311 - which files, not which secrets
        self.late = {file for file in self.files if self.chance.random() < LATE}
        landing.mkdir()

    def fill(self, origin: datetime) -> None:
        """What has come by a night's origin, and one file of the last four days without its last third."""
        for file in self.files:
            due = origin - 2 * DAY if file in self.late else origin
            if _hour_of(file) < due and not (self.landing / file.name).exists():
                shutil.copy(file, self.landing)
        recent = [file for file in sorted(self.landing.glob("*.csv")) if _hour_of(file) >= origin - 4 * DAY]
        corrected = self.chance.choice(recent)
        lines = corrected.read_bytes().splitlines(keepends=True)
        corrected.write_bytes(b"".join(lines[: 2 * len(lines) // 3]))

    def fill_up(self) -> None:
        for file in self.files:
            shutil.copy(file, self.landing)


def _hour_of(file: Path) -> datetime:
    return datetime.strptime(file.name[6:19], "%Y-%m-%d-%H").replace(tzinfo=UTC)


def walk(inbox: Inbox, nights: int) -> list[int]:
    """Run the nights; their batches."""
    batches = []
    for night in range(nights):
        origin = END - (nights - night) * DAY + timedelta(hours=2)
        inbox.fill(origin)
        os.environ["BTS_HORIZON"] = "48h" if night < nights // 2 else "24h"
        said = run_job("nightly", load_settings(), landing=inbox.landing, as_of=origin.isoformat())
        batches.append(int(said["station_forecasts"]["batch_id"]))
    inbox.fill_up()
    run_job("ingest", load_settings(), landing=inbox.landing)
    return batches


def runs_found(home: Home) -> tuple[int, int]:
    """Runs of MLflow and of Dagster that lineage names; each is looked up, and one that is missing raises."""
    import dagster as dg
    import mlflow

    with home.engine.connect() as connection:
        models = connection.scalars(sa.text("SELECT DISTINCT mlflow_run_id FROM bts.forecast_lineage")).all()
        query = "SELECT dagster_run_id FROM bts.batch UNION SELECT dagster_run_id FROM bts.model_version"
        nights = connection.scalars(sa.text(query)).all()
    client = mlflow.MlflowClient(home.mlflow_tracking_uri)
    served = {tag for run in models for tag in client.get_run(run).data.tags if tag.startswith("batch.")}
    with home.engine.connect() as connection:
        published = connection.scalars(sa.text("SELECT 'batch.' || batch_id FROM bts.publication")).all()
    if served != set(published):
        raise SystemExit(f"MLflow's runs name {len(served)} batches, {len(published)} were published")
    with dg.DagsterInstance.get() as instance:
        if not all(instance.has_run(run) for run in nights):
            raise SystemExit("a Dagster run that lineage names is not there")
    return len(models), len(nights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--stations", type=int, default=3)
    arguments = parser.parse_args()
    say = sys.stdout.write
    with TemporaryDirectory(prefix="bts-benchmark-") as folder:
        top = Path(folder)
        top.chmod(0o755)
        spec = NetworkSpec(
            stations=arguments.stations, days=arguments.nights + HISTORY, end=END, seed=11, readings_per_hour=6
        )
        inbox = Inbox(simulate_network(spec, top / "stage").landing, top / "landing")
        os.environ |= {"BTS_HOME": str(top / "home"), "BTS_FILE_STABLE_FOR": "0s"}
        home = open_home(load_settings())
        try:
            start = time.perf_counter()
            batches = walk(inbox, arguments.nights)
            took = time.perf_counter() - start
            with home.engine.connect() as connection:
                rows, resolved = connection.execute(ROWS_RESOLVED).one()
                entries, superseded, versions = connection.execute(_LEDGER).one()
            say(f"{len(set(batches))} nights in {took:,.0f} s, by {versions} model versions; the ingest ledger has")
            say(f" {entries:,} entries, {superseded:,} of them superseded since\n")
            say(f"{rows:,} forecast rows, {resolved:,} resolve to runs, files and code: {resolved / rows:.2%}\n")
            say("{} MLflow runs and {} Dagster runs behind them, all found\n".format(*runs_found(home)))
            random.Random(9).shuffle(batches)  # noqa: S311 - an order
            start = time.perf_counter()
            replayed = [replay(home, batch) for batch in batches]
            took = time.perf_counter() - start
            numbers, differing = (
                sum(getattr(r.forecasts, name) for r in replayed) for name in ("numbers", "differing")
            )
            ledger, other = (sum(getattr(r, name) for r in replayed) for name in ("ledger_rows", "ledger_differing"))
            say(f"{len(replayed)} nights replayed in shuffled order in {took:,.0f} s: {numbers:,} numbers,")
            say(f" {differing:,} differ; {ledger:,} rows of the forecast ledger, {other:,} differ\n")
        finally:
            home.engine.dispose()
            with suppress(embedded.EmbeddedPostgresError):
                embedded.stop(top / "home")


if __name__ == "__main__":
    main()
