"""Sums that do not depend on the order of their numbers: the two integers of a number, their sums and means."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bts_assets.landing import sums

finite = st.floats(allow_nan=False, allow_infinity=False)
groups = st.lists(finite, min_size=1, max_size=40)
#: Within 2^19 of each other in size, or zero: two pieces hold each of them whole.
alike = st.lists(
    st.just(0.0) | st.tuples(st.sampled_from([-1, 1]), st.floats(1.0, 2.0**18)).map(math.prod), min_size=1, max_size=40
)


def cut(values: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pieces of one group's numbers, and its exponent."""
    numbers = np.array(values)
    exponent = sums.exponents(np.abs(numbers).max(keepdims=True))
    return *sums.pieces(numbers, np.repeat(exponent, len(numbers))), exponent


def total(values: list[float]) -> float:
    high, low, exponent = cut(values)
    return float(sums.total(high.sum(keepdims=True), low.sum(keepdims=True), exponent)[0])


def mean(values: list[float]) -> float:
    high, low, exponent = cut(values)
    return float(sums.mean(high.sum(keepdims=True), low.sum(keepdims=True), exponent, np.array([len(values)]))[0])


def worth(high: int, low: int, exponent: int) -> Fraction:
    return (Fraction(high, 2**36) + Fraction(low, 2**72)) * Fraction(2) ** exponent


@pytest.mark.parametrize(
    ("largest", "exponent"),
    [(0.0, 0), (1.0, 1), (0.75, 0), (8.0, 4), (5e-324, -1073), (2.2e-308, -1022), (1.7976931348623157e308, 1024)],
)
def test_the_exponent_is_that_of_the_next_power_of_two(largest: float, exponent: int) -> None:
    assert sums.exponents(np.array([largest])).tolist() == [exponent]


@given(groups)
@example([5e-324, 1.7976931348623157e308])
@example([2.0**-1074, -(2.0**-1073)])
def test_pieces_lose_less_than_half_a_quantum_of_their_group(values: list[float]) -> None:
    high, low, exponent = cut(values)
    quantum = Fraction(2) ** (int(exponent[0]) - 72)
    for value, more, less in zip(values, high.tolist(), low.tolist(), strict=True):
        assert abs(Fraction(value) - worth(more, less, int(exponent[0]))) <= quantum / 2


@given(groups)
@example([1.0, 2.0**18])
def test_int64_can_add_two_to_the_27_pieces(values: list[float]) -> None:
    high, low, _ = cut(values)
    assert np.abs(high).max() <= 2**36
    assert np.abs(low).max() <= 2**35


@given(alike)
def test_numbers_of_like_size_are_cut_without_loss(values: list[float]) -> None:
    high, low, exponent = cut(values)
    kept = [worth(more, less, int(exponent[0])) for more, less in zip(high.tolist(), low.tolist(), strict=True)]
    assert kept == [Fraction(value) for value in values]


@given(alike)
def test_the_total_of_numbers_of_like_size_is_their_exact_sum_rounded_once(values: list[float]) -> None:
    assert total(values) == math.fsum(values)


@given(alike)
def test_the_mean_is_within_two_roundings_of_the_exact_one(values: list[float]) -> None:
    exact = sum(map(Fraction, values)) / len(values)
    magnitude = max(map(abs, values))
    assert abs(Fraction(mean(values)) - exact) <= 3 * Fraction(np.spacing(magnitude))


@given(groups, st.randoms(use_true_random=False), st.integers(0, 40))
def test_sums_of_parts_in_any_order_are_the_sums_of_all(values: list[float], random, at: int) -> None:  # type: ignore[no-untyped-def]
    high, low, _ = cut(values)
    order = list(range(len(values)))
    random.shuffle(order)
    split = [sum((int(piece[rows].sum()) for rows in (order[:at], order[at:])), start=0) for piece in (high, low)]
    assert split == [int(high.sum()), int(low.sum())]
    assert total([values[k] for k in order]) == total(values)


def test_a_small_number_survives_between_large_ones_that_cancel() -> None:
    assert 1e16 + 1.0 - 1e16 == 0.0  # what plain addition makes of it
    assert total([1e16, 1.0, -1e16]) == 1.0


def test_a_number_below_the_quantum_of_its_group_is_lost() -> None:
    assert total([1e16, 1e-7, -1e16]) == 0.0


@given(finite, st.integers(1, 1000))
@example(0.1, 2**17)
@example(1.7976931348623157e308, 2**17)
@example(5e-324, 2**17)
@example(-1 / 3, 99_999)
def test_the_mean_of_equal_numbers_is_that_number(value: float, count: int) -> None:
    high, low, exponent = cut([value])
    of_all = sums.mean(high * count, low * count, exponent, np.array([count]))
    assert of_all.tolist() == [value]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_total_beyond_the_range_is_the_last_finite_number(sign: int) -> None:
    largest = sign * np.finfo("float64").max
    assert total([largest, largest]) == largest
    assert mean([largest, largest]) == largest


def test_groups_are_kept_apart() -> None:
    exponent = sums.exponents(np.array([4.0, 1e300]))
    high, low = sums.pieces(np.array([4.0, -1e300]), exponent)
    assert sums.total(high, low, exponent).tolist() == [4.0, -1e300]
    assert sums.mean(high, low, exponent, np.array([1, 1])).tolist() == [4.0, -1e300]


def test_nothing_at_all_is_no_error() -> None:
    none = np.empty(0)
    high, low = sums.pieces(none, sums.exponents(none))
    assert len(sums.total(high, low, sums.exponents(none))) == 0
