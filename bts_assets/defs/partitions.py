"""Nights as Dagster's partitions: one a local day in BTS_TIMEZONE, and what a run over several nights tells of each."""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

import dagster as dg
from dagster import BetaWarning

from bts_assets.contracts.nights import night_of
from bts_assets.contracts.origin import OriginError
from bts_assets.settings import Settings, load_settings
from bts_assets.storage.first_day import kept_first_day

#: The tags by which Dagster names the nights of a run.
_ONE: Final = "dagster/partition"
_FIRST: Final = "dagster/asset_partition_range_start"
_LAST: Final = "dagster/asset_partition_range_end"

#: Figures that of several nights are added up.
_ADDED: Final = ("dagster/row_count", "bytes")


def nights_from(first: date, zone: ZoneInfo) -> dg.DailyPartitionsDefinition:
    """A partition for each local day of `zone`; today's is there from midnight on, two hours before its origin."""
    return dg.DailyPartitionsDefinition(first.isoformat(), timezone=str(zone), end_offset=1)


def first_night(settings: Settings) -> date:
    """BTS_FIRST_NIGHT, else the day of the home's oldest observation. Where nothing was observed yet a day before all.

    Dagster asks for it whenever it loads the definitions: it is read from a file, no database is waited for.
    """
    return settings.first_night or kept_first_day(settings.home) or _BEFORE_ALL


#: No recording of the field is older.
_BEFORE_ALL: Final = date(2010, 1, 1)
_SETTINGS: Final = load_settings()
NIGHTS: Final = nights_from(first_night(_SETTINGS), _SETTINGS.timezone)


def asset_by_night(**given: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dagster.asset` of an asset that has a partition for each night; a backfill makes all its nights in one run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BetaWarning)  # Dagster calls backfill policies beta since 2023
        return dg.asset(partitions_def=NIGHTS, backfill_policy=dg.BackfillPolicy.single_run(), **given)


def zone_of_nights() -> ZoneInfo:
    return ZoneInfo(NIGHTS.timezone)


def partition_of(issued_at: datetime) -> str:
    """The key of the night that an origin belongs to.

    Raises:
        OriginError: if the night lies before the first.
    """
    key = night_of(issued_at, zone_of_nights()).isoformat()
    first = NIGHTS.get_first_partition_key()
    if first is None or key < first:
        raise OriginError(
            f"the night of {key} lies before {first}, the first that can be made: BTS_FIRST_NIGHT names another"
        )
    return key


def tags_of(issued_at: datetime) -> dict[str, str]:
    """The tags of a run of the job `nightly` that makes the night of an origin."""
    return {_ONE: partition_of(issued_at), "dagster/partition_set": "nightly_partition_set"}


def nights_of(tags: Mapping[str, str]) -> list[date]:
    """The nights that the tags of a run name, ascending; none where its assets have none."""
    if _ONE in tags:
        return [date.fromisoformat(tags[_ONE])]
    if _FIRST in tags:
        range_ = dg.PartitionKeyRange(tags[_FIRST], tags[_LAST])
        return [date.fromisoformat(key) for key in NIGHTS.get_partition_keys_in_range(range_)]
    return []


def told(context: dg.AssetExecutionContext, results: Sequence[dg.MaterializeResult]) -> dg.MaterializeResult:
    """The result of a run over several nights: each night has its own metadata; a check passes if it does in all."""
    if len(results) == 1:
        return results[0]
    for key, result in zip(context.partition_keys, results, strict=True):
        context.add_asset_metadata(dict(result.metadata or {}), partition_key=key)
    added = {name: _figures(results, name) for name in _ADDED}
    versions = [r.data_version.value for r in results if r.data_version]
    digest = hashlib.sha256("\n".join(versions).encode()).hexdigest()
    return dg.MaterializeResult(
        metadata={name: sum(values) for name, values in added.items() if values},
        data_version=dg.DataVersion(digest) if versions else None,
        check_results=_checks(context.partition_keys, results),
    )


def _figures(results: Sequence[dg.MaterializeResult], name: str) -> list[int]:
    told = [r.metadata[name] for r in results if r.metadata and name in r.metadata]
    return [cast(int, value.value if isinstance(value, dg.MetadataValue) else value) for value in told]


def _checks(keys: Sequence[str], results: Sequence[dg.MaterializeResult]) -> list[dg.AssetCheckResult]:
    """Each check's result of the newest night; failed, with the nights' keys, where it failed in any night."""
    failed: dict[str, list[str]] = {}
    for key, result in zip(keys, results, strict=True):
        for check in result.check_results or ():
            failed.setdefault(str(check.check_name), []).extend([] if check.passed else [key])
    return [
        dg.AssetCheckResult(
            check_name=check.check_name,
            passed=not (nights := failed[str(check.check_name)]),
            severity=check.severity,
            metadata={**(check.metadata or {}), **({"failed_nights": ", ".join(nights)} if nights else {})},
        )
        for check in results[-1].check_results or ()
    ]
