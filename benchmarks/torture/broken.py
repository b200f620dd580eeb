"""Variants of the code that are broken on purpose, each in one way: a campaign that misses one proves nothing."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import sqlalchemy as sa

from benchmarks.torture import flips, kills, mutations, races
from benchmarks.torture.campaign import run_trial
from benchmarks.torture.measures import MEASURES
from benchmarks.torture.scenes import POINTS_OF, scene
from benchmarks.torture.stage import Stage
from bts_assets.forecasting import batch as batches
from bts_assets.forecasting import bundle
from bts_assets.services import champions, ingest, nightly, observe, retention
from bts_assets.storage import (
    forecasts,
    ingest_ledger,
    loading,
    locks,
    mlflow_registry,
    observations,
    reading_file,
    readings,
    scores,
)
from bts_assets.storage.crash_points import crash_point


@dataclass(frozen=True)
class Variant:
    """What is broken, which measure must catch it, and in which trials. parts: (module or class, name, instead)."""

    says: str
    measure: str
    numbers: tuple[int, ...]
    parts: Callable[[], list[tuple[Any, str, Any]]]


def caught(stage: Stage, name: str, seed: int) -> str | None:
    """The first failure that the campaign finds in a broken variant; None: it finds none."""
    variant = VARIANTS[name]
    for played in POINTS_OF:  # prepared by sound code
        if variant.measure in ("kills", "races", "flips"):
            scene(stage, played)
    with _broken(variant):
        for number in variant.numbers:
            trial = run_trial(MEASURES[variant.measure], stage, seed, number)
            if trial.failures:
                return trial.failures[0]
    return None


@contextmanager
def _broken(variant: Variant) -> Iterator[None]:
    with ExitStack() as stack:
        for owner, name, instead in variant.parts():
            stack.enter_context(patch.object(owner, name, instead))
        yield


def _at(*points: str) -> tuple[int, ...]:
    """The trials of `kills` whose turn it is to die at these points."""
    return tuple(k for k, (_, turn) in enumerate(kills.turns(0)) if {*turn} & {*points})


def _of(kind: str) -> tuple[int, ...]:
    turns = list(flips.FLIPS) if kind in flips.FLIPS else list(races.RACES)
    return tuple(turns.index(kind) + len(turns) * k for k in range(4))


# Rows, pointers and logs in commits of their own


def _pointer_before_rows() -> list[tuple[Any, str, Any]]:
    load, publish = loading._load_forecasts, forecasts.publish

    def pointing_first(engine: sa.Engine, *given: Any, **named: Any) -> Any:
        late: list[Any] = []
        with patch.object(loading, "_load_forecasts", lambda _, *rows: late.append(rows)):
            done = publish(engine, *given, **named)
        with engine.begin() as connection:
            for rows in late:
                load(connection, *rows)
        return done

    return [(nightly, "publish", pointing_first)]


def _days_logged_before_computed() -> list[tuple[Any, str, Any]]:
    compute, blocks = observe._compute, observations.replace_blocks

    def logging_first(home: Any, *given: Any) -> Any:
        late: list[Any] = []
        with patch.object(observations, "replace_blocks", lambda _, *rows: late.append(rows)):
            done = compute(home, *given)
        with home.engine.begin() as connection:
            for rows in late:
                blocks(connection, *rows)
        return done

    return [(observe, "_compute", logging_first)]


def _rejections_apart() -> list[tuple[Any, str, Any]]:
    enter_files, enter = ingest_ledger.enter_files, ingest_ledger._enter_rejections

    def apart(engine: sa.Engine, *given: Any) -> Any:
        late: list[Any] = []
        with patch.object(ingest_ledger, "_enter_rejections", lambda _, *rows: late.append(rows)):
            done = enter_files(engine, *given)
        with engine.begin() as connection:
            for rows in late:
                enter(connection, *rows)
        return done

    return [(ingest, "enter_files", apart)]


def _scored_before_scores() -> list[tuple[Any, str, Any]]:
    def in_two(connection: sa.Connection, table: str, rows: pd.DataFrame) -> Any:
        connection.connection.commit()  # the driver's: what follows is another transaction
        crash_point("scoring.before_commit")
        return copy_rows(connection, table, rows)

    copy_rows = scores.copy_rows
    return [(scores, "copy_rows", in_two)]


def _champion_before_pointer() -> list[tuple[Any, str, Any]]:
    record = champions.record

    def apart(connection: sa.Connection, *given: Any) -> Any:
        with connection.engine.begin() as own:
            return record(own, *given)

    return [(champions, "record", apart)]


def _file_gone_before_it_is_said() -> list[tuple[Any, str, Any]]:
    def removing_first(home: Any, digests: Any) -> None:
        for digest in digests:
            home.readings.remove_file(digest)
            crash_point("retention.after_file")
        with locks.transaction(home.engine, locks.LOCK_INGEST) as connection:
            retention.stored.mark_readings_pruned(connection, digests)

    return [(retention, "_prune_files", removing_first)]


# What an earlier try left is not looked for


def _publishes_without_looking() -> list[tuple[Any, str, Any]]:
    def pointing_again(connection: sa.Connection, batch_id: int, *_: Any) -> Any:
        forecasts.point(connection, batch_id, "newest origin")
        return forecasts.Published(batch_id, new=True, serves_latest=True)

    return [(nightly, "find_batch", lambda *_, **__: None), (forecasts, "_point", pointing_again)]


def _partials_stay() -> list[tuple[Any, str, Any]]:
    return [(readings.ReadingStore, "clear_abandoned", lambda _: 0)]


def _registers_again() -> list[tuple[Any, str, Any]]:
    return [(mlflow_registry, "_registered_before", lambda *_: None)]


# Nobody waits, nobody checks


def _no_locks() -> list[tuple[Any, str, Any]]:
    return [(locks, "_HOLD", sa.text("SELECT name FROM bts.lock WHERE lock_id = :lock"))]


def _readings_unchecked() -> list[tuple[Any, str, Any]]:
    class Unchecked(pq.ParquetFile):
        def __init__(self, source: Any, **_: Any) -> None:
            super().__init__(source)

    # As a file of older code: without a digest of its readings.
    sound = reading_file.pq
    stand_in = type("stand_in", (), {**vars(sound), "ParquetFile": Unchecked})
    return [(reading_file, "pq", stand_in), *((reading_file, key, b"none") for key in ("_DIGEST", "_GROUPS"))]


def _bundles_unchecked() -> list[tuple[Any, str, Any]]:
    load = mlflow_registry.ModelStore.load

    def believing(store: Any, digest: str, uri: str | None) -> Any:
        with patch.object(mlflow_registry, "digest_of", lambda _: digest):
            return load(store, digest, uri)

    return [(mlflow_registry.ModelStore, "load", believing), (bundle, "_check_sums", lambda _: None)]


# One thing spoils another


def _scaled_by_all() -> list[tuple[Any, str, Any]]:
    make = batches.make_batch

    def together(version: Any, panel: Any, *given: Any, **named: Any) -> Any:
        level = np.nanmax(np.abs(panel.values[np.isfinite(panel.values)]), initial=1.0)
        scaled = type(panel)(panel.grid, panel.station_id, panel.parameter_id, panel.end, panel.values / level)
        return make(version, scaled, *given, **named)

    return [(batches, "make_batch", together)]


def _rejection_forgotten() -> list[tuple[Any, str, Any]]:
    parse = mutations.parse_landing_file

    def forgetting(data: bytes, *given: Any, **named: Any) -> Any:
        parsed = parse(data, *given, **named)
        if parsed.rejected_rows > 1:
            (reason, _), *_ = parsed.reasons.items()
            parsed.reasons[reason] -= 1
        return parsed

    return [(mutations, "parse_landing_file", forgetting)]


VARIANTS: Final = {
    "pointer before rows": Variant(
        "a batch is published in one commit and its forecasts come in the next", "kills", _at("publish.after_commit"),
        _pointer_before_rows,
    ),
    "days logged before computed": Variant(
        "the log says that days are observed before they are", "kills", _at("observe.after_commit"),
        _days_logged_before_computed,
    ),
    "rejected rows apart": Variant(
        "rejected rows are entered in a commit after their file's", "kills", _at("ingest.after_commit"),
        _rejections_apart,
    ),
    "champion before pointer": Variant(
        "a rollback changes the champion in one commit and the pointer in another", "kills",
        _at("rollback.after_champion", "rollback.before_commit"), _champion_before_pointer,
    ),
    "files gone before it is said": Variant(
        "retention deletes files before the ledger says so", "kills", _at("retention.after_file"),
        _file_gone_before_it_is_said,
    ),
    "scored before scores": Variant(
        "a batch counts as scored in one commit, its scores come in the next", "kills", _at("scoring.before_commit"),
        _scored_before_scores,
    ),
    "publishes without looking": Variant(
        "a rerun does not look for the batch that is there", "kills", _at("publish.after_commit"),
        _publishes_without_looking,
    ),
    "partial files stay": Variant(
        "what was half written is never cleared away", "kills", _at("ingest.after_partial"), _partials_stay,
    ),
    "registers again": Variant(
        "a rerun registers the model that is registered", "kills", _at("registration.after_model"), _registers_again,
    ),
    "no locks": Variant("nobody waits for anybody", "races", _of("two nights"), _no_locks),
    "readings unchecked": Variant(
        "Parquet files are read without checksum and digest", "flips", _of("readings"), _readings_unchecked,
    ),
    "bundles unchecked": Variant("bundles are used unchecked", "flips", _of("bundles"), _bundles_unchecked),
    "scaled by all": Variant("series are scaled by the largest of all", "poison", (0,), _scaled_by_all),
    "rejections forgotten": Variant("a rejected row is not counted", "mutations", (0,), _rejection_forgotten),
}  # fmt: skip
