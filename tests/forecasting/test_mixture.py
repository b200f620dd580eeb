import numpy as np
import pandas as pd

from bts_assets.forecasting.mixture import choose


def scores(errors: dict[tuple[int, int], dict[str, list[float]]]) -> pd.DataFrame:
    rows = [
        (station, parameter, origin, candidate, mae)
        for (station, parameter), by_candidate in errors.items()
        for candidate, values in by_candidate.items()
        for origin, mae in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["station_id", "parameter_id", "origin", "candidate", "mae"])


def test_a_series_is_served_by_the_candidate_that_wins_there() -> None:
    even = {"lstm": [1.0] * 6, "last_value": [2.0] * 6}
    odd = {"lstm": [3.0] * 6, "last_value": [1.0] * 6}
    choice = choose(scores({(1, 9): even, (2, 9): even, (3, 9): odd}), "lstm", "last_value")
    names = choice.of(np.array([1, 2, 3]), np.array([9, 9, 9]))
    assert names.tolist() == ["lstm", "lstm", "last_value"]


def test_one_bad_night_does_not_dethrone_the_better_candidate() -> None:
    night = {"lstm": [1.0, 1.0, 1.0, 1.0, 1.0, 50.0], "last_value": [2.0] * 6}
    assert choose(scores({(1, 9): night}), "lstm", "last_value").by_series[(1, 9)] == "lstm"


def test_a_single_origin_counts_less_than_what_its_parameter_shows() -> None:
    crowd = {(s, 9): {"lstm": [1.0] * 6, "last_value": [1.6] * 6} for s in range(2, 20)}
    lone = {(1, 9): {"lstm": [1.1], "last_value": [1.0]}}
    assert choose(scores(lone | crowd), "lstm", "last_value").by_series[(1, 9)] == "lstm"


def test_a_tie_goes_to_the_incumbent() -> None:
    tie = {"lstm": [1.0] * 4, "last_value": [1.0] * 4, "another": [1.0] * 4}
    assert choose(scores({(1, 9): tie}), "lstm", "last_value").by_series[(1, 9)] == "lstm"


def test_a_series_not_seen_is_served_as_its_parameter_is_else_as_all_are() -> None:
    by_parameter = {(s, 1): {"lstm": [1.0] * 4, "last_value": [3.0] * 4} for s in range(20)}
    by_parameter |= {(s, 2): {"lstm": [2.0] * 4, "last_value": [1.0] * 4} for s in range(5)}
    choice = choose(scores(by_parameter), "lstm", "last_value")
    assert choice.of(np.array([99, 99, 99]), np.array([1, 2, 3])).tolist() == ["lstm", "last_value", "lstm"]


def test_a_candidate_that_missed_an_origin_of_a_series_does_not_serve_it() -> None:
    partial = {(1, 9): {"lstm": [1.0, 1.0], "last_value": [0.1]}}
    assert choose(scores(partial), "lstm", "last_value").by_series[(1, 9)] == "lstm"


def test_perfect_forecasts_of_a_constant_are_no_division_by_zero() -> None:
    constant = {(1, 9): {"lstm": [0.0] * 3, "last_value": [0.0] * 3}}
    assert choose(scores(constant), "lstm", "last_value").by_series[(1, 9)] == "lstm"


def test_without_scores_the_default_serves() -> None:
    choice = choose(scores({}), "lstm", "last_value")
    assert choice.of(np.array([1]), np.array([1])).tolist() == ["last_value"]
