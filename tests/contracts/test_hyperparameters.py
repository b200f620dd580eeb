"""Hyper-parameters: that their defaults lie within their bounds, and that each says what it is."""

from dataclasses import fields

from bts_assets.contracts.hyperparameters import Hyperparameters, bounds


def test_every_default_is_within_its_bounds_and_says_what_it_is() -> None:
    assert list(bounds()) == [f.name for f in fields(Hyperparameters)]
    for name, value in Hyperparameters().to_dict().items():
        bound = bounds()[name]
        assert 0 <= bound.least <= value <= bound.most, name
        assert bound.about, name


def test_hyperparameters_are_made_again_from_what_is_written_of_them() -> None:
    chosen = Hyperparameters(width=96, learning_rate=0.1 + 0.2)
    assert Hyperparameters(**chosen.to_dict()) == chosen
