"""Which modules are broken, and the tests that must notice: those that mirror them, and that of what they are for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Room:
    """Modules (below `bts_assets`) that share their tests (below `tests`)."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


ROOMS: Final = {
    "recalibration": Room(("forecasting.recalibration",), ("forecasting/test_recalibration.py",)),
    "parser": Room(
        (
            "landing.cells", "landing.dialect", "landing.files", "landing.header", "landing.judge", "landing.names",
            "landing.reasons", "landing.records", "landing.table", "landing.text", "landing.times",
        ),
        (
            "landing/test_cells.py", "landing/test_dialects.py", "landing/test_landing_files.py",
            "landing/test_landing_oracle.py", "landing/test_table.py", "landing/test_alike.py",
        ),
    ),
    "small files": Room(
        ("landing.alike", "storage.small_readings"),
        (
            "landing/test_alike.py", "services/test_small_readings.py", "services/test_ingest.py",
            "services/test_retention.py",
        ),
    ),
    "readings": Room(
        (
            "landing.duplicates", "landing.reading_arrays", "landing.reading_ids", "landing.series", "landing.sums",
        ),
        (
            "landing/test_duplicates.py", "landing/test_reading_ids.py", "landing/test_sums.py",
            "landing/test_observations.py", "landing/test_reading_arrays.py",
        ),
    ),
    "stored recalibration": Room(
        ("services.recalibration", "storage.recalibrations"), ("services/test_recalibration.py",)
    ),
    "publishing": Room(
        ("storage.batch_identity", "storage.forecasts", "storage.loading", "storage.locks"),
        (
            "services/test_publish.py", "storage/test_forecasts.py", "storage/test_loading.py", "storage/test_locks.py",
        ),
    ),
    "large files": Room(
        ("landing.scratch", "landing.spill", "storage.reading_file"),
        ("landing/test_large_files.py", "services/test_large_files.py", "storage/test_reading_file.py"),
    ),
    "ingest ledger": Room(
        ("landing.corrections", "storage.landing_decisions", "storage.ingest_ledger"),
        (
            "landing/test_corrections.py", "storage/test_ingest_ledger.py", "services/test_ingest.py",
            "services/test_names_again.py", "services/test_reading_identity.py",
        ),
    ),
}  # fmt: skip


def equivalent() -> dict[str, dict[str, str]]:
    """By module the keys of mutants that no test can tell from the code, and why: `equivalent.txt`."""
    found: dict[str, dict[str, str]] = {}
    why = ""
    for line in Path(__file__).with_name("equivalent.txt").read_text(encoding="utf-8").splitlines():
        module, _, key = line.partition("  ")
        if key:
            found.setdefault(module, {})[key] = why
        else:
            why = line
    return found


EQUIVALENT: Final = equivalent()
