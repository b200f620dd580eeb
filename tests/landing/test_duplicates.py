"""Which readings stand where several files say the same, or something else under the same id; by an oracle too."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bts_assets.landing.duplicates import MERGED, ReadingIds, Resolved, resolve_duplicates
from bts_assets.landing.reading_arrays import NO_ID, ReadingArrays
from bts_assets.landing.reading_ids import DAY

#: Id, station, parameter, time in microseconds, value.
Row = tuple[int, int, int, int, float]
MINUTE = 60_000_000
NOON = 20_000 * DAY + 720 * MINUTE
TODAY = NOON // DAY


def columns(rows: Sequence[Row]) -> ReadingArrays:
    kinds = ("int64", "int64", "int32", "int64", "float64")
    return ReadingArrays(*(np.array([row[k] for row in rows], kind) for k, kind in enumerate(kinds)))


def rows_of(part: ReadingArrays) -> list[Row]:
    arrays = (part.reading_id, part.station_id, part.parameter_id, part.time, part.value)
    return list(zip(*(a.tolist() for a in arrays), strict=True))


def resolved(*files: Sequence[Row], entries: Sequence[int] | None = None, ids: ReadingIds = "key") -> Resolved:
    return resolve_duplicates([columns(rows) for rows in files], entries, ids)


def standing(result: Resolved) -> list[list[Row]]:
    return [rows_of(part) for part in result.parts]


def all_standing(result: Resolved) -> list[Row]:
    return [row for part in standing(result) for row in part]


def merged(result: Resolved) -> dict[str, int]:
    return {name: int(count) for name, count in result.merged.sum().items() if count}


def reading(
    reading_id: int = NO_ID, value: float = 1.0, *, station: int = 7, parameter: int = 1, at: int = NOON
) -> Row:
    return reading_id, station, parameter, at, value


def test_without_files_nothing_stands_and_nothing_is_counted() -> None:
    nothing = resolve_duplicates([])
    assert nothing.parts == []
    assert nothing.merged.columns.tolist() == list(MERGED)
    assert nothing.merged.empty


@pytest.mark.parametrize("ids", ["auto", "key", "ignore"])
def test_empty_files_stay_empty_beside_others(ids: ReadingIds) -> None:
    result = resolved([], [reading()], [], ids=ids)
    assert standing(result) == [[], [reading()], []]
    assert merged(result) == {}


@pytest.mark.parametrize("ids", ["auto", "key", "ignore"])
def test_equal_readings_without_ids_stand_once(ids: ReadingIds) -> None:
    result = resolved([reading(), reading()], [reading()], ids=ids)
    assert all_standing(result) == [reading()]
    assert merged(result) == {"repeated": 2}


@pytest.mark.parametrize(
    "other",
    [
        reading(value=2.0),
        reading(station=8),
        reading(parameter=2),
        reading(at=NOON + 1),
        reading(at=NOON + DAY),
        reading(value=np.nextafter(1.0, 2.0)),
    ],
    ids=["value", "station", "parameter", "microsecond", "day", "last bit of the value"],
)
def test_readings_that_differ_anywhere_both_stand(other: Row) -> None:
    result = resolved([reading()], [other])
    assert standing(result) == [[reading()], [other]]
    assert merged(result) == {}


@pytest.mark.parametrize(
    "other", [reading(station=8), reading(parameter=2), reading(at=NOON + 1)], ids=["station", "parameter", "time"]
)
def test_readings_that_alternate_with_others_of_the_same_value_still_stand_once(other: Row) -> None:
    result = resolved([reading(), other], [reading(), other])
    assert sorted(all_standing(result)) == sorted([reading(), other])
    assert merged(result) == {"repeated": 2}


def test_a_reading_with_an_id_is_not_a_repetition_of_one_without() -> None:
    result = resolved([reading(5)], [reading()])
    assert standing(result) == [[reading(5)], [reading()]]


@pytest.mark.parametrize("ids", ["auto", "key"])
def test_the_same_content_under_the_same_id_stands_once_in_the_newest_file(ids: ReadingIds) -> None:
    result = resolved([reading(5)], [reading(5)], entries=[1, 2], ids=ids)
    assert standing(result) == [[], [reading(5)]]
    assert merged(result) == {"repeated": 1}


def test_a_newer_file_corrects_whatever_the_order_of_the_files() -> None:
    old, new = [reading(5, 99.0)], [reading(5, 1.0)]
    assert standing(resolved(old, new, entries=[1, 2])) == [[], new]
    assert standing(resolved(new, old, entries=[2, 1])) == [new, []]
    assert merged(resolved(old, new, entries=[1, 2])) == {"corrected": 1}


def test_a_correction_may_move_a_reading_within_its_day() -> None:
    old, new = reading(5, at=NOON + MINUTE), reading(5)
    result = resolved([old], [new], entries=[1, 2])
    assert standing(result) == [[], [new]]
    assert merged(result) == {"corrected": 1}


def test_the_greatest_time_then_value_wins_a_contradiction_within_a_file() -> None:
    rows = [reading(5, 9.0), reading(5, 1.0, at=NOON + MINUTE), reading(5, 2.0, at=NOON + MINUTE)]
    result = resolved(rows)
    assert standing(result) == [[rows[2]]]
    assert merged(result) == {"contradicted": 2}


def test_files_that_came_at_once_contradict_each_other() -> None:
    result = resolved([reading(5, 9.0)], [reading(5, 1.0)])
    assert standing(result) == [[reading(5, 9.0)], []]
    assert merged(result) == {"contradicted": 1}


def test_what_a_newest_file_contradicts_is_told_from_what_it_corrects() -> None:
    result = resolved([reading(5, 50.0)], [reading(5, 1.0), reading(5, 2.0)], entries=[1, 2])
    assert standing(result) == [[], [reading(5, 2.0)]]
    assert merged(result) == {"corrected": 1, "contradicted": 1}


@pytest.mark.parametrize(
    "other", [reading(5, 2.0, station=8), reading(5, 2.0, parameter=2), reading(5, 2.0, at=NOON + DAY)]
)
def test_an_id_names_a_reading_within_its_series_and_day_only(other: Row) -> None:
    result = resolved([reading(5)], [other], entries=[1, 2])
    assert standing(result) == [[reading(5)], [other]]
    assert merged(result) == {}


def test_midnight_utc_ends_the_day_of_an_id() -> None:
    before, after = reading(5, 1.0, at=TODAY * DAY - 1), reading(5, 2.0, at=TODAY * DAY)
    assert standing(resolved([before], [after], entries=[1, 2])) == [[before], [after]]


def test_ignored_ids_are_removed_and_counted_and_equal_content_merges() -> None:
    result = resolved([reading(5), reading(6, 2.0)], [reading(7), reading()], entries=[1, 2], ids="ignore")
    assert Counter(all_standing(result)) == Counter([reading(), reading(value=2.0)])
    assert merged(result) == {"ids_ignored": 3, "repeated": 2}


def test_ids_that_repeat_within_a_file_are_found_to_name_nothing() -> None:
    rows = [reading(0, float(k), at=NOON + k * MINUTE) for k in range(10)]
    result = resolved(rows)
    assert len(standing(result)[0]) == 1  # taken for a key, they would lose nine of ten
    result = resolved(rows, ids="auto")
    assert standing(result) == [[(NO_ID, *row[1:]) for row in rows]]
    assert merged(result) == {"ids_ignored": 10}


def apart(ids: Sequence[int]) -> list[Row]:
    """Readings with these ids, seven minutes after each other, in one series and day."""
    return [reading(own, float(k), at=TODAY * DAY + 7 * MINUTE * k) for k, own in enumerate(ids)]


@pytest.mark.parametrize(("count", "outcome"), [(200, {"contradicted": 1}), (199, {"ids_ignored": 199})])
def test_ids_are_ignored_where_more_than_a_hundredth_speak_against_them(count: int, outcome: dict[str, int]) -> None:
    rows = apart(range(count - 1))
    twice = (*rows[-1][:4], -1.0)  # one id twice at one time: both readings speak against
    assert merged(resolved([*rows, twice], ids="auto")) == outcome


@pytest.mark.parametrize(
    ("corrections", "outcome"), [(2, {"contradicted": 1, "corrected": 2}), (1, {"ids_ignored": 51})]
)
def test_corrections_by_another_file_speak_for_ids(corrections: int, outcome: dict[str, int]) -> None:
    rows = apart(range(50))
    newer = [(*row[:4], 99.0) for row in rows[:corrections]]
    assert merged(resolved([*rows, (*rows[-1][:4], -1.0)], newer, entries=[1, 2], ids="auto")) == outcome


@pytest.mark.parametrize(("count", "outcome"), [(4, {"corrected": 1}), (3, {"ids_ignored": 1})])
def test_a_time_that_moved_is_a_correction_where_three_stay_for_each_that_moves(
    count: int, outcome: dict[str, int]
) -> None:
    rows = apart(range(count))
    moved = (*rows[1][:3], rows[1][3] + MINUTE, 99.0)
    assert merged(resolved(rows, [moved], entries=[1, 2], ids="auto")) == outcome


def test_what_was_merged_is_counted_by_station_and_utc_day() -> None:
    yesterday = [reading(at=NOON - DAY)] * 3
    result = resolved(yesterday, [reading(5), reading(at=NOON + DAY)], [reading(5, 2.0)], entries=[1, 2, 3])
    assert result.merged.to_dict("index") == {
        (7, TODAY - 1): {"repeated": 2, "corrected": 0, "contradicted": 0, "ids_ignored": 0},
        (7, TODAY): {"repeated": 0, "corrected": 1, "contradicted": 0, "ids_ignored": 0},
    }
    others = [(row[0], 9, *row[2:]) for row in yesterday]
    assert resolved(yesterday, others[:2]).merged["repeated"].to_dict() == {(7, TODAY - 1): 2, (9, TODAY - 1): 1}


@pytest.mark.parametrize("spread", [1, 10**12], ids=["ids close together", "ids far apart"])
def test_many_ids_are_resolved_alike_however_far_apart_they_are(spread: int) -> None:
    files = [[reading(k * spread, float(k)) for k in range(50)], [reading(k * spread, -1.0) for k in range(40, 60)]]
    result = resolved(*files, entries=[1, 2])
    assert standing(result) == [files[0][:40], files[1]]
    assert merged(result) == {"corrected": 10}


rows = st.tuples(
    st.sampled_from([NO_ID, NO_ID, 0, 1, 2, 10**15]),
    st.sampled_from([7, 9]),
    st.sampled_from([1, 2]),
    st.sampled_from([NOON, NOON + MINUTE, NOON + DAY]),
    st.sampled_from([0.0, 1.0, -1.5]),
)
files = st.lists(st.lists(rows, max_size=8), min_size=1, max_size=4)


def content(row: Row, ids: ReadingIds) -> Row:
    return (NO_ID, *row[1:]) if ids == "ignore" else row


def expected(given_files: list[list[Row]], entries: list[int], ids: ReadingIds) -> set[Row]:
    """One reading per content; under an id the greatest of (entry, time, value)."""
    stand: dict[tuple[int, ...] | Row, tuple[int, int, float, Row]] = {}
    for entry, file in zip(entries, given_files, strict=True):
        for row in (content(row, ids) for row in file):
            key = row if row[0] == NO_ID else (*row[:3], row[3] // DAY)
            claim = (entry, row[3], row[4], row)
            stand[key] = max(stand.get(key, claim), claim)
    return {claim[3] for claim in stand.values()}


@given(files, st.data(), st.sampled_from(["key", "ignore"]))
def test_the_oracle_agrees(given_files: list[list[Row]], data: st.DataObject, ids: ReadingIds) -> None:
    entries = data.draw(st.permutations(range(len(given_files))))
    result = resolved(*given_files, entries=entries, ids=ids)
    kept = Counter(all_standing(result))
    assert kept == Counter(expected(given_files, list(entries), ids))
    dropped = sum(map(len, given_files)) - kept.total()
    assert sum(count for name, count in merged(result).items() if name != "ids_ignored") == dropped


@given(files, st.sampled_from(["auto", "key", "ignore"]))
def test_what_stands_of_a_file_was_in_it_and_in_its_order(given_files: list[list[Row]], ids: ReadingIds) -> None:
    for kept, file in zip(standing(resolved(*given_files, ids=ids)), given_files, strict=True):
        rest = iter([row[1:] for row in file])
        assert all(row[1:] in rest for row in kept)  # `in` consumes the iterator: a subsequence


@given(files)
def test_resolving_again_changes_nothing(given_files: list[list[Row]]) -> None:
    once = resolved(*given_files)
    again = resolve_duplicates(once.parts, reading_ids="key")
    assert standing(again) == standing(once)
    assert merged(again) == {}
