"""What is drawn in characters: a line through what was observed, and none across what was not."""

import numpy as np
import pytest

from bts_assets.cli.render.terminal import _without_gaps

NONE = np.nan


@pytest.mark.parametrize(
    ("history", "pieces"),
    [
        ([1, 2, 3], [[0, 1, 2]]),
        ([1, 2, NONE, 3, 4], [[0, 1, 3, 4]]),
        ([1, 2, NONE, NONE, 3, 4], [[0, 1], [4, 5]]),
        ([NONE, NONE, NONE, 3, 4], [[3, 4]]),
        ([1, NONE, NONE, NONE, 2, NONE, NONE, NONE, 3], [[0, 4, 8]]),
        ([1, *[NONE] * 3, 2, *[NONE] * 3, 3, *[NONE] * 11, 4], [[0, 4, 8], [20]]),
        ([NONE, 7, NONE], [[1]]),
        ([NONE, NONE], []),
        ([], []),
    ],
)
def test_a_line_is_drawn_through_readings_as_often_as_they_usually_come(
    history: list[float], pieces: list[list[int]]
) -> None:
    assert [steps.tolist() for steps in _without_gaps(np.array(history, float))] == pieces
