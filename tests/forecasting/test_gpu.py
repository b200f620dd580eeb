"""Where TensorFlow finds a GPU: the LSTM is on it, and the same training gives the same bits."""

import numpy as np
import pytest
from small_panels import CATALOGUE, GRID

from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.architecture import design
from bts_assets.forecasting.fit import fit_bundle

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def gpu() -> None:
    from bts_assets.forecasting import lstm

    if not lstm.tf.config.list_physical_devices("GPU"):
        pytest.skip("TensorFlow finds no GPU")


def test_the_lstm_is_placed_on_it() -> None:
    from bts_assets.forecasting import lstm

    network = lstm.network(design(GRID, np.array([1])))
    network.start(0)
    assert all("GPU" in variable.value.device for variable in network.model.trainable_variables)


def test_the_same_training_gives_the_same_bits(panel: Panel, tiny_effort: None) -> None:
    versions = {fit_bundle(panel, CATALOGUE, effort="quick", seed=7).bundle.digest for _ in range(2)}
    assert len(versions) == 1
