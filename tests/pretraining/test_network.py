from collections.abc import Iterator
from importlib.resources import files

import numpy as np
import pytest

from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.pretraining import network, weights
from bts_assets.pretraining.reading import HORIZON, read
from bts_assets.pretraining.telemetry import synthesise


def waves(count: int, steps: int = 7 * 96, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hour = np.arange(steps) / 96
    day = np.sin(2 * np.pi * (hour + rng.random((count, 1))))
    return 50 + 10 * day + rng.standard_normal((count, steps))


@pytest.mark.slow
def test_numpy_and_tensorflow_agree() -> None:
    from bts_assets.pretraining import training

    reading = read(waves(4), np.full(4, 96), np.full(4, 2.5))
    first = network.first_weights(3)
    ours = network.forward(network.NUMPY, first, *reading.inputs)
    theirs = network.forward(training.TENSORFLOW, first, *map(training.tf.constant, reading.inputs)).numpy()
    assert ours.shape == (4, HORIZON, len(QUANTILES))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_altered_weights_are_refused() -> None:
    content = files(weights.__package__).joinpath(weights.FILE).read_bytes()
    assert weights.checked(content).keys() == network.shapes().keys()
    altered = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(weights.PretrainedWeightsError, match="was altered"):
        weights.checked(altered)


def test_calendar_may_be_unknown() -> None:
    reading = read(waves(2), np.full(2, 96), np.array([np.nan, 1.0]))
    assert np.isfinite(reading.places).all()
    assert not reading.places[0, :, :5].any()


@pytest.fixture
def eager() -> Iterator[None]:
    """Without a graph, which takes far longer to build than a few steps to run."""
    from bts_assets.pretraining.training import tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.slow
def test_daily_change_is_that_of_what_is_known_on_both_days() -> None:
    from bts_assets.pretraining.training import daily_change

    values = np.array([[0.0, 1, 2, 4, np.nan, 1], [0, 1, 2, 4, 8, 1], [np.nan, np.nan, np.nan, 1, 2, 3]])
    np.testing.assert_array_equal(daily_change(values, np.array([2, 3, 3]), 7.0), [(2 + 3 + 3) / 3, (4 + 7 + 1) / 3, 7])


@pytest.mark.slow
def test_windows_that_never_moved_are_not_judged_in_their_unit() -> None:
    from bts_assets.pretraining.training import LENGTH, draw

    telemetry = synthesise(3, 16, LENGTH)
    telemetry.values[:8] = 5.0
    examples = draw(telemetry, np.random.default_rng(1), 64, patches=1)
    still = examples.reading.scale[:, 0] < 1e-6
    assert still.any()
    assert not examples.size[still].any()
    assert (examples.size[~still] > 0).all()
    assert examples.size.max() <= 10


@pytest.mark.slow
def test_a_share_of_the_windows_is_mirrored_at_zero() -> None:
    from bts_assets.pretraining.training import LENGTH, MIRRORED, draw

    telemetry = synthesise(3, 16, LENGTH)
    telemetry.values[:] = np.abs(telemetry.values) + 1
    centre = draw(telemetry, np.random.default_rng(1), 512, patches=1).reading.centre
    assert abs((centre < 0).mean() - MIRRORED) < 0.06


@pytest.mark.slow
def test_training_goes_on_from_a_checkpoint_bit_for_bit(eager: None) -> None:
    from bts_assets.pretraining.training import LENGTH, Trainer, draw

    telemetry = synthesise(3, 16, LENGTH)
    first, second = (draw(telemetry, np.random.default_rng(k), 4, patches=1) for k in range(2))
    whole, later = Trainer(network.first_weights(1)), Trainer(network.first_weights(2))
    whole.train(first, 1e-3)
    later.load_state(whole.state())
    assert whole.train(second, 1e-3) == later.train(second, 1e-3)
    for name, array in whole.weights().items():
        np.testing.assert_array_equal(array, later.weights()[name], err_msg=name)
    assert not np.array_equal(network.first_weights(1)["out/kernel"], whole.weights()["out/kernel"])
