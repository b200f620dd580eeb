"""Which series a training reads, where there are more than it has room for."""

import numpy as np

from bts_assets.forecasting.sampling import drawn_series

STATION, PARAMETER = np.repeat(np.arange(100), 3), np.tile(np.array([111, 121, 162], np.int32), 100)


def test_all_are_read_where_there_is_room() -> None:
    for most in (None, 300, 400):
        assert drawn_series(STATION, PARAMETER, most, 1).all()


def test_every_parameter_has_its_share() -> None:
    drawn = drawn_series(STATION, PARAMETER, 30, 1)
    assert np.unique(PARAMETER[drawn], return_counts=True)[1].tolist() == [10, 10, 10]
    rare = np.where(STATION < 2, PARAMETER, 121)
    assert ((rare == 162) & drawn_series(STATION, rare, 30, 1)).sum() == 2


def test_the_seed_decides_and_a_new_series_moves_at_most_one() -> None:
    drawn = drawn_series(STATION, PARAMETER, 30, 1)
    assert (drawn == drawn_series(STATION, PARAMETER, 30, 1)).all()
    assert (drawn != drawn_series(STATION, PARAMETER, 30, 2)).any()
    more = drawn_series(np.append(STATION, 7), np.append(PARAMETER, 165), 30, 1)
    assert (more[:-1] != drawn).sum() <= 1
