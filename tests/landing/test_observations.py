"""Observations: a pure function of the readings and of what the ledger says came later; their values by an oracle."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bts_assets.contracts.catalogue import Catalogue, Parameter
from bts_assets.contracts.grid import EPOCH, Grid
from bts_assets.contracts.schemas import UTC_TIME, Observations, validate
from bts_assets.landing.duplicates import MERGED
from bts_assets.landing.files import parse_landing_file
from bts_assets.landing.series import Observed, digest_observations, has_digest, observe, rule_of, station_digests
from examples import examples

CATALOGUE = Catalogue(
    tuple(Parameter(i, name, aggregation=name) for i, name in enumerate(("mean", "last", "max", "sum"), start=1))  # type: ignore[arg-type]
)
DAY = datetime(2017, 4, 18, tzinfo=UTC)
END = DAY + timedelta(days=2)
STEP = timedelta(minutes=15)
GRID = Grid(STEP, timedelta(days=1), timedelta(days=1))
Row = tuple[int | None, int, int, datetime, float]

ids = st.sampled_from([None, None, 1, 2, 3, 10**12])
seconds = st.sampled_from([-1, 0, 1, 899, 900, 901, 86399, 86400, 86401, 2 * 86400 - 1, 2 * 86400])
values = st.sampled_from([0.1, 0.2, 0.3, -0.7, 1e15, -1e15, 1e-300, 5e-324, 1.7e308, 0.0]) | st.floats(
    allow_nan=False, allow_infinity=False
)
row = st.tuples(
    ids, st.sampled_from([7, 9]), st.integers(1, 5), seconds.map(lambda s: DAY + timedelta(seconds=s)), values
)


def frame(rows: list[Row]) -> pd.DataFrame:
    """As `parse_landing_file` would give it, but for the order."""
    table = pd.DataFrame(rows, columns=["reading_id", "station_id", "parameter_id", "reading_time", "value"])
    return table.astype(
        {
            "reading_id": "Int64",
            "station_id": "int64",
            "parameter_id": "int32",
            "reading_time": UTC_TIME,
            "value": "float64",
        }
    )


def seen(*files: list[Row], end: datetime = END, entries: list[int] | None = None, ids: str = "auto") -> Observed:
    """Files came in the order that they are given in, if no entries of the ledger are."""
    entries = entries or list(range(len(files)))
    frames = [frame(rows) for rows in files]
    return observe(frames, CATALOGUE, GRID, DAY, end, entries=entries, reading_ids=ids)  # type: ignore[arg-type]


def values_of(observed: Observed) -> list[float]:
    return observed.observations["value"].tolist()


@dataclass(frozen=True)
class Kept:
    """A reading as the oracle has it: of which file, and the number of the ledger entry."""

    file: int
    entry: int
    id: int | None
    series: tuple[int, int]
    time: datetime
    value: float

    @property
    def group(self) -> tuple[object, ...]:
        return self.series, self.time.date(), self.id

    @property
    def key(self) -> tuple[int, int, date]:
        return self.file, self.series[0], self.time.date()

    @property
    def row(self) -> Row:
        return self.id, *self.series, self.time, self.value


def slowly(files: list[list[Row]], entries: list[int]) -> tuple[dict[tuple[int, int, int], list[Row]], dict[str, int]]:
    """The readings that stand, by (station, parameter, step), and how many did not for which reason."""
    rows = [
        Kept(file, entries[file], r[0], (r[1], r[2]), r[3], r[4] + 0.0)
        for file, own in enumerate(files)
        for r in own
        if DAY <= r[3] < END
    ]
    unnamed = slowly_unnamed([r for r in rows if r.id is not None])
    counted = dict.fromkeys(MERGED, 0)
    counted["ids_ignored"] = sum(r.key in unnamed and r.id is not None for r in rows)
    newest: dict[Row, Kept] = {}
    for r in sorted((r for r in rows if r.id is not None), key=lambda r: (r.entry, r.file)):
        counted["repeated"] += r.row in newest
        newest[r.row] = r
    named = [r for r in newest.values() if r.key not in unnamed]
    plain = [r for r in newest.values() if r.key in unnamed]
    plain += [r for r in rows if r.id is None]
    stand = []
    for group in {r.group for r in named}:
        best, *others = sorted((r for r in named if r.group == group), key=lambda r: (r.entry, r.time, r.value))[::-1]
        stand.append(best.row)
        for r in others:
            counted["corrected" if r.entry < best.entry else "contradicted"] += 1
    distinct = {(None, *r.series, r.time, r.value) for r in plain}
    counted["repeated"] += len(plain) - len(distinct)
    groups: dict[tuple[int, int, int], list[Row]] = {}
    for row in (*stand, *distinct):
        groups.setdefault((row[1], row[2], (row[3] - EPOCH) // STEP), []).append(row)
    return groups, counted


def slowly_unnamed(rows: list[Kept]) -> set[tuple[int, int, date]]:
    """Files, stations and days whose ids name no readings: those that are wrong by half first, then the others."""
    found: set[tuple[int, int, date]] = set()
    for tolerated in (0.5, 0.01):
        left = [r for r in rows if r.key not in found]
        against, supporting = slowly_judged(left)
        size = Counter(r.key for r in left)
        found |= {key for key, count in against.items() if count > max(supporting[key], tolerated * size[key])}
    return found


def slowly_judged(rows: list[Kept]) -> tuple[Counter[tuple[int, int, date]], Counter[tuple[int, int, date]]]:
    groups = {g: [r for r in rows if r.group == g] for g in {r.group for r in rows}}
    against: Counter[tuple[int, int, date]] = Counter()
    supporting: Counter[tuple[int, int, date]] = Counter()
    for r in rows:
        others = [o for o in groups[r.group] if (o.time, o.value) != (r.time, r.value)]
        within = any(o.file == r.file for o in others)
        times = sorted({o.time for o in groups[r.group]})
        moved = len(times) > 1
        if len(times) == 2 and not within:
            mine = [g for g in groups if g[:2] == r.group[:2]]
            restless = sum(len({o.time for o in groups[g]}) > 1 for g in mine)
            between = [o for o in rows if o.series == r.series and times[0] < o.time < times[1]]
            moved = bool(between) or len(mine) - restless < 3 * restless
        against[r.key] += moved or within
        supporting[r.key] += bool(others) and not (moved or within)
    return against, supporting


def slow_value(parameter: int, rows: list[Row]) -> Fraction:
    """The exact value; parameter 5 is unknown to the catalogue, so its mean is taken."""
    numbers = [Fraction(r[4]) for r in rows]
    if parameter == 2:
        return Fraction(max(rows, key=lambda r: (r[3], -1 if r[0] is None else r[0], r[4]))[4])
    return {3: max(numbers), 4: sum(numbers)}.get(parameter, sum(numbers) / len(numbers))


files = st.lists(st.lists(row, max_size=12), min_size=1, max_size=4)


@given(files, st.randoms(use_true_random=False))
@examples(150)
def test_observations_are_those_of_the_oracle(given_files: list[list[Row]], random) -> None:
    entries = random.sample(range(10), len(given_files))
    observed = seen(*given_files, entries=entries)
    groups, counted = slowly(given_files, entries)
    assert observed.merged.sum().to_dict() == counted
    assert observed.readings == sum(map(len, groups.values()))
    table = observed.observations
    step = [(t - EPOCH) // STEP for t in table["observed_at"].dt.to_pydatetime()]
    keys = list(zip(table["station_id"].tolist(), table["parameter_id"].tolist(), step, strict=True))
    assert keys == sorted(groups)
    assert table["readings"].tolist() == [len(groups[k]) for k in keys]
    for key, value in zip(keys, table["value"].tolist(), strict=True):
        exact = slow_value(key[1], groups[key])
        limit = Fraction(np.finfo("float64").max)
        exact = max(-limit, min(limit, exact))
        largest = max(abs(Fraction(r[4])) for r in groups[key])
        assert abs(Fraction(value) - exact) <= abs(exact) / 2**52 + largest * len(groups[key]) / 2**70 + Fraction(
            1, 2**1074
        )


def same(observed: Observed, expected: Observed) -> bool:
    return (
        digest_observations(observed.observations) == digest_observations(expected.observations)
        and observed.observations.equals(expected.observations)
        and observed.merged.equals(expected.merged)
    )


@given(files, st.randoms(use_true_random=False))
@examples(150)
def test_order_of_rows_and_of_files_reaches_no_bit_of_the_result(given_files: list[list[Row]], random) -> None:
    entries = random.sample(range(10), len(given_files))
    shuffled = [(entry, random.sample(rows, len(rows))) for entry, rows in zip(entries, given_files, strict=True)]
    random.shuffle(shuffled)
    again = seen(*(rows for _, rows in shuffled), entries=[entry for entry, _ in shuffled])
    assert same(again, seen(*given_files, entries=entries))


@given(st.lists(row, max_size=25), st.randoms(use_true_random=False), st.integers(1, 5))
@examples(150)
def test_order_of_arrival_decides_nothing_where_no_id_is_given_other_content(
    rows: list[Row], random, pieces: int
) -> None:
    first = {(r[0], r[1], r[2], r[3].date()): r for r in reversed(rows)}
    rows = [r for r in rows if r[0] is None or first[r[0], r[1], r[2], r[3].date()] == r]
    shuffled = random.sample(rows, len(rows))
    assert same(seen(*(shuffled[i::pieces] for i in range(pieces))), seen(rows))


@given(st.lists(row, max_size=25))
@examples(50)
def test_two_days_at_once_are_the_two_days_one_by_one(rows: list[Row]) -> None:
    middle = DAY + timedelta(days=1)
    parts = [frame(rows[::2]), frame(rows[1::2])]
    days = [
        observe(parts, CATALOGUE, GRID, a, b, entries=[0, 1]).observations for a, b in ((DAY, middle), (middle, END))
    ]
    assert digest_observations(pd.concat(days)) == digest_observations(seen(rows[::2], rows[1::2]).observations)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 60))
@examples(150)
def test_the_mean_of_equal_readings_is_that_reading(value: float, count: int) -> None:
    observed = seen([(i, 7, 1, DAY, value) for i in range(count)])
    assert values_of(observed) == [value]


def test_large_shuffled_input_has_the_same_bits() -> None:
    generator = np.random.default_rng(3)
    size = 50_000
    table = pd.DataFrame(
        {
            "reading_id": pd.array(
                np.where(generator.random(size) < 0.9, generator.integers(0, size, size), -1), "Int64"
            ),
            "station_id": generator.integers(1, 20, size),
            "parameter_id": generator.integers(1, 6, size).astype("int32"),
            "reading_time": pd.to_datetime(generator.integers(0, 2 * 86400, size), unit="s", utc=True).as_unit("us")
            + (DAY - EPOCH),
            "value": generator.normal(0, 1, size) * 10.0 ** generator.integers(-9, 9, size),
        }
    )
    table["reading_id"] = table["reading_id"].mask(table["reading_id"] < 0)
    table = pd.concat([table, table.iloc[: size // 10]], ignore_index=True)
    # Several files, so that what decides is the files and not their order.
    table["file"] = generator.integers(0, 7, len(table))

    def observed(mixed: pd.DataFrame) -> Observed:
        own = [rows.drop(columns="file").reset_index(drop=True) for _, rows in mixed.groupby("file")]
        return observe(own, CATALOGUE, GRID, DAY, END)

    expected = observed(table)
    validate(Observations, expected.observations)
    assert expected.duplicates >= size // 10
    for seed in range(3):
        assert same(observed(table.sample(frac=1, random_state=seed)), expected)


def test_a_reading_on_a_boundary_belongs_to_the_step_that_begins_there() -> None:
    rows: list[Row] = [
        (i, 7, 1, DAY + timedelta(microseconds=us), i) for i, us in enumerate((0, 899_999_999, 900_000_000))
    ]
    table = seen(rows).observations
    assert table["observed_at"].tolist() == [DAY, DAY + STEP]
    assert table["value"].tolist() == [0.5, 2.0]
    assert table["readings"].tolist() == [2, 1]


def test_readings_outside_the_span_are_not_used() -> None:
    rows: list[Row] = [(1, 7, 1, DAY - timedelta(microseconds=1), 1.0), (2, 7, 1, DAY, 2.0), (3, 7, 1, END, 3.0)]
    observed = seen(rows)
    assert (values_of(observed), observed.readings) == ([2.0], 1)


def test_the_same_file_twice_adds_nothing() -> None:
    rows: list[Row] = [(1, 7, 1, DAY, 1.0), (None, 7, 1, DAY, 5.0), (2, 7, 1, DAY, 1.0)]
    once, twice = seen(rows), seen(rows, rows)
    assert twice.observations.equals(once.observations)
    assert (once.readings, once.duplicates) == (3, 0)
    assert (twice.readings, twice.duplicates, twice.conflicts) == (3, 3, 0)


def test_insisted_on_one_id_is_one_reading_the_newest_file_s_then_the_latest_then_the_greatest() -> None:
    late = DAY + timedelta(seconds=5)
    files = [(1, 7, 3, DAY, 9.0), (1, 7, 3, late, 2.0)], [(1, 7, 3, late, 1.0), (1, 7, 3, DAY, 2.0)]
    observed = seen(*files, ids="key")
    assert values_of(observed) == [1.0]
    assert observed.merged.loc[7, DAY.date()].to_dict() == {
        "repeated": 0, "corrected": 2, "contradicted": 1, "ids_ignored": 0,
    }  # fmt: skip
    assert values_of(seen(*files, entries=[2, 1], ids="key")) == [2.0]
    assert seen(*files, ids="ignore").readings == 4


def test_one_id_in_other_series_or_on_another_day_is_another_reading() -> None:
    observed = seen(
        [(1, 7, 1, DAY, 1.0), (1, 7, 2, DAY, 2.0), (1, 9, 1, DAY, 3.0), (1, 7, 1, DAY + timedelta(days=1), 4.0)]
    )
    assert (observed.readings, observed.duplicates, observed.conflicts) == (4, 0, 0)


def test_readings_without_ids_never_contradict_each_other() -> None:
    observed = seen([(None, 7, 4, DAY, 1.0), (None, 7, 4, DAY, 2.0)], [(None, 7, 4, DAY, 2.0), (3, 7, 4, DAY, 2.0)])
    assert values_of(observed) == [5.0]
    assert (observed.readings, observed.duplicates, observed.conflicts) == (3, 1, 0)


def test_a_counter_takes_the_newest_reading_and_breaks_ties_by_id() -> None:
    late = DAY + timedelta(seconds=5)
    assert values_of(
        seen([(9, 7, 2, DAY, 100.0), (4, 7, 2, late, 3.0)], [(3, 7, 2, late, 50.0), (None, 7, 2, late, 70.0)])
    ) == [3.0]


def test_a_counter_without_ids_breaks_ties_by_the_greatest_value() -> None:
    for order in (1, -1):
        assert values_of(seen([(None, 7, 2, DAY, v) for v in (5.0, 7.0, 6.0)][::order])) == [7.0]


def test_a_sum_beyond_float64_is_its_last_finite_number() -> None:
    largest = float(np.finfo("float64").max)
    assert values_of(seen([(i, 7, p, DAY, sign * largest) for i in (1, 2) for p, sign in ((4, 1), (5, -1))])) == [
        largest,
        -largest,
    ]


@pytest.mark.parametrize("parameter", [1, 2, 3, 4])
def test_negative_zero_is_zero_to_the_bit(parameter: int) -> None:
    assert not np.signbit(values_of(seen([(1, 7, parameter, DAY, -0.0)]))).any()


def test_no_readings_make_no_observations() -> None:
    for observed in (seen(), seen([]), seen([(1, 7, 1, END, 1.0)])):
        validate(Observations, observed.observations)
        assert (len(observed.observations), observed.readings) == (0, 0)
    assert digest_observations(seen().observations) == digest_observations(seen([]).observations)


def test_a_span_of_part_of_a_day_is_refused() -> None:
    with pytest.raises(ValueError, match="whole UTC days"):
        seen(end=END - timedelta(hours=1))


def test_the_digest_knows_every_value_and_no_order() -> None:
    table = seen([(1, 7, 1, DAY, 1.0), (2, 9, 1, DAY, 2.0)]).observations
    digest = digest_observations(table)
    assert digest_observations(table.iloc[::-1]) == digest
    changes = {
        "station_id": 8,
        "parameter_id": 2,
        "observed_at": table["observed_at"][0] + STEP,
        "value": 1.0000000000000002,
        "readings": 2,
    }
    for column, value in changes.items():
        changed = table.copy()
        changed.loc[0, column] = value
        assert digest_observations(changed) != digest, column


def test_each_station_has_the_digest_that_it_has_alone_and_zero_has_no_sign_in_it() -> None:
    table = seen([(None, s, p, DAY + k * STEP, 1.0 + k) for s in (7, 8, 9) for p in (1, 2) for k in range(s - 6)])
    stations = [own for _, own in table.observations.groupby("station_id")]
    assert station_digests(table.observations) == [station_digests(own)[0] for own in stations]
    positive, negative = (digest_observations(table.observations.assign(value=zero)) for zero in (0.0, -0.0))
    assert positive == negative


@pytest.mark.parametrize(("night", "hours"), [("2019-03-31", 23), ("2019-10-27", 25)], ids=["spring", "autumn"])
def test_a_local_day_of_daylight_saving_has_its_own_number_of_steps(night: str, hours: int) -> None:
    zone = ZoneInfo("Europe/Vienna")
    first = datetime.fromisoformat(night).replace(tzinfo=zone)
    lines = ["value,station_id,parameter_id,reading_time"]
    instant, end = first.astimezone(UTC), (first + timedelta(days=1)).astimezone(UTC)
    while instant < end:
        lines.append(f"1,7,1,{instant.astimezone(zone).isoformat()}")
        instant += timedelta(minutes=5)
    parsed = parse_landing_file(
        "\n".join(lines).encode(), CATALOGUE, landing_timezone=zone, now=end, max_skew=timedelta(0)
    )
    day = datetime.fromisoformat(night).replace(tzinfo=UTC)
    observed = observe([parsed.readings], CATALOGUE, GRID, day - timedelta(days=1), day + timedelta(days=1))
    assert len(observed.observations) == hours * 4
    assert set(observed.observations["readings"]) == {3}


def test_digests_of_older_code_are_known_again_and_no_others() -> None:
    table = seen([(None, 9, 1, DAY, 1.5), (None, 7, 2, DAY + STEP, -0.0), (None, 7, 1, DAY, 2.5)]).observations
    ordered = table.sort_values(["station_id", "parameter_id", "observed_at"])
    time = (ordered["observed_at"] - EPOCH) // timedelta(microseconds=1)
    columns = (ordered["station_id"], ordered["parameter_id"], time, ordered["value"] + 0.0, ordered["readings"])
    kinds = ("<i8", "<i8", "<i8", "<f8", "<i8")
    content = b"".join(c.to_numpy().astype(kind).tobytes() for c, kind in zip(columns, kinds, strict=True))
    of_format_1 = hashlib.sha256(b"observations 1\n" + content).hexdigest()
    for digest in (of_format_1, digest_observations(table)):
        assert has_digest(table, digest)
        assert not has_digest(table.iloc[1:], digest)


def test_rule_of_observations_is_of_the_use_of_ids_and_of_aggregations_alone() -> None:
    def made(*aggregations: str, ids: str = "auto") -> str:
        parameters = [Parameter(k, f"p{k}", aggregation=a) for k, a in enumerate(aggregations, start=1)]  # type: ignore[arg-type]
        assert rule_of(Catalogue(tuple(parameters[::-1])), ids) == rule_of(Catalogue(tuple(parameters)), ids)  # type: ignore[arg-type]
        return rule_of(Catalogue(tuple(parameters)), ids)  # type: ignore[arg-type]

    rules = [made("last", "max"), made("max", "last"), made("last"), made(), made("last", ids="key")]
    assert len(set(rules)) == len(rules)
    assert made("mean", "mean") == made()
    assert made("last", "mean") == made("last")
    # Of what is stored: it must not change.
    assert made("last", "max") == hashlib.sha256(b"observe 2\nauto\n1 last,2 max").hexdigest()
