"""What ids turn out to be: names of readings, with corrections; or row numbers, sensor numbers, zeros."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.grid import Grid
from bts_assets.landing.files import parse_landing_file
from bts_assets.landing.series import Observed, digest_observations, observe

CATALOGUE = load_catalogue()
DAY = datetime(2026, 11, 24, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
GRID = Grid(5 * MINUTE, timedelta(hours=6), timedelta(hours=2))
#: Four series of two stations, in the order of an export's rows.
SERIES = [(700, 111), (700, 122), (701, 111), (701, 122)]


def exports(files: int = 12, minutes: int = 10, series: list[tuple[int, int]] = SERIES) -> list[pd.DataFrame]:
    """Files of `minutes` minutes each, a reading per series and minute, without ids."""
    made = []
    for file in range(files):
        rows = [
            (
                pd.NA,
                station,
                parameter,
                DAY + (file * minutes + k) * MINUTE,
                20 + station % 10 + (file * minutes + k) / 7,
            )
            for k in range(minutes)
            for station, parameter in series
        ]
        table = pd.DataFrame(rows, columns=["reading_id", "station_id", "parameter_id", "reading_time", "value"])
        made.append(
            table.astype({"reading_id": "Int64", "parameter_id": "int32"}).astype({"reading_time": "M8[us, UTC]"})
        )
    return made


def with_ids(files: list[pd.DataFrame], ids: str) -> list[pd.DataFrame]:
    """The same readings with ids as a source gives them."""
    numbered, next_id = [], 5_000_000
    for k, file in enumerate(files):
        given = {
            "row number": np.arange(len(file)),
            "row number of the day": np.arange(len(file)) + k * len(file) + 1,
            "sensor": file["parameter_id"],
            "zero": np.zeros(len(file)),
            "true": next_id + np.arange(len(file)),
        }[ids]
        next_id += len(file)
        numbered.append(file.assign(reading_id=pd.array(np.asarray(given, "int64"), "Int64")))
    return numbered


def seen(files: list[pd.DataFrame], ids: str = "auto", entries: list[int] | None = None) -> Observed:
    end = DAY + timedelta(days=1)
    return observe(files, CATALOGUE, GRID, DAY, end, entries=entries or range(len(files)), reading_ids=ids)  # type: ignore[arg-type]


def merged(observed: Observed) -> dict[str, int]:
    return {name: int(count) for name, count in observed.merged.sum().items() if count}


CONTROL = seen(exports())


@pytest.mark.parametrize("ids", ["row number", "sensor", "zero"])
def test_ids_that_name_nothing_lose_no_reading(ids: str) -> None:
    observed = seen(with_ids(exports(), ids))
    assert observed.observations.equals(CONTROL.observations)
    assert (observed.readings, merged(observed)) == (480, {"ids_ignored": 480})
    insisted = seen(with_ids(exports(), ids), ids="key")
    assert merged(insisted)["corrected"] >= 440


@pytest.mark.parametrize("variant", ["A", "B", "C", "D"])
def test_every_export_of_the_field_has_the_observations_of_the_one_without_ids(shared_data: Path, variant: str) -> None:
    def taken(name: str) -> Observed:
        folder = shared_data / "field" / "02-row-number-ids" / f"landing_{name}"
        zone, now = ZoneInfo("UTC"), DAY + timedelta(days=1)
        return seen([
            parse_landing_file(f.read_bytes(), CATALOGUE, landing_timezone=zone, now=now, max_skew=now - DAY).readings
            for f in sorted(folder.glob("*.csv"))
        ])  # fmt: skip

    assert digest_observations(taken(variant).observations) == digest_observations(taken("D").observations)
    assert taken(variant).readings == 5760


@pytest.mark.parametrize("ids", ["true", "row number of the day"])
def test_ids_that_name_readings_merge_copies_and_nothing_else(ids: str) -> None:
    files = with_ids(exports(), ids)
    copied = [*files, pd.concat([files[3], files[4].iloc[:7]], ignore_index=True)]
    observed = seen(copied)
    assert observed.observations.equals(CONTROL.observations)
    assert merged(observed) == {"repeated": 47}


def test_the_newest_file_corrects_whatever_the_value_and_nothing_else_decides() -> None:
    files = with_ids(exports(), "true")
    correction = files[2].iloc[[1, 5]].assign(value=[3.0, 4.0])
    lower, back = seen([*files, correction]), seen([*files, correction], entries=[*range(1, 13), 0])
    assert merged(lower) == merged(back) == {"corrected": 2}
    assert back.observations.equals(CONTROL.observations)
    assert lower.observations["value"].sum() < CONTROL.observations["value"].sum()
    corrected_again = seen([*files, correction, correction.assign(value=[90.0, 91.0])])
    assert merged(corrected_again) == {"corrected": 4}
    assert corrected_again.observations["value"].max() > 50


def test_two_corrected_rows_of_the_field_are_used(shared_data: Path) -> None:
    folder = shared_data / "field" / "11-correction-lower" / "landing"
    files = [
        parse_landing_file(
            (folder / name).read_bytes(), CATALOGUE, landing_timezone=ZoneInfo("UTC"), now=DAY, max_skew=2 * (DAY - DAY)
            + timedelta(days=1)
        ).readings
        for name in ("a-first.csv", "b-correction.csv")
    ]  # fmt: skip
    values = seen(files).observations.set_index("observed_at")["value"]
    assert values[DAY + timedelta(hours=10, minutes=15)] == 21.1
    assert values.index[-1] == DAY + timedelta(hours=10, minutes=40)


def test_one_moved_time_is_a_correction_where_ids_stay_put_and_nothing_lies_between() -> None:
    files = with_ids(exports(), "true")
    row = files[5].iloc[[8]]
    nearby = seen([*files, row.assign(reading_time=row["reading_time"] + 20 * MINUTE / 60)])
    assert merged(nearby) == {"corrected": 1}
    far = seen([*files, row.assign(reading_time=row["reading_time"] + 200 * MINUTE)])
    assert (far.readings, merged(far)) == (481, {"ids_ignored": 1})


def test_each_station_is_judged_by_itself() -> None:
    true, numbers = with_ids(exports(), "true"), with_ids(exports(), "row number")
    mixed = [
        pd.concat([t[t["station_id"] == 700], n[n["station_id"] == 701]], ignore_index=True)
        for t, n in zip(true, numbers, strict=True)
    ]
    correction = true[2].iloc[[1]].assign(value=[3.0])
    observed = seen([*mixed, correction])
    assert merged(observed) == {"ids_ignored": 240, "corrected": 1}
    assert observed.readings == 480


def test_a_source_that_counts_anew_late_in_the_day_loses_nothing_and_the_others_keep_their_ids() -> None:
    files = with_ids(exports(), "row number of the day")
    again = [*files[:-1], files[-1].assign(reading_id=files[0]["reading_id"].to_numpy())]
    correction = files[4].iloc[[1]].assign(value=[3.0])
    observed = seen([*again, correction])
    assert observed.readings == 480
    assert merged(observed)["corrected"] == 1


def test_a_few_collisions_do_not_end_trust_in_ids() -> None:
    files = with_ids(exports(files=2, minutes=400), "true")
    files[0].loc[3, "reading_id"] = files[0]["reading_id"][1583]
    correction = files[1].iloc[[9]].assign(value=[3.0])
    observed = seen([*files, correction])
    assert merged(observed) == {"contradicted": 1, "corrected": 1}
    assert observed.readings == 3199


def test_rolling_exports_with_row_numbers_are_told_apart_by_content() -> None:
    plain = exports()
    rolling = [pd.concat(plain[max(k - 1, 0) : k + 1], ignore_index=True) for k in range(len(plain))]
    observed = seen(with_ids(rolling, "row number"))
    assert observed.observations.equals(CONTROL.observations)
    assert merged(observed) == {"ids_ignored": 920, "repeated": 440}
