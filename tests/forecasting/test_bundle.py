import dataclasses
import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bts_assets.forecasting.architecture import Architecture
from bts_assets.forecasting.bundle import VERSION, Bundle, BundleError
from bts_assets.forecasting.calibration import Calibration
from bts_assets.forecasting.ensemble_weights import Weights
from bts_assets.forecasting.fit import FittedBundle
from bts_assets.forecasting.scaling import AsinhScales

FILES = (
    "asinh_scales.safetensors",
    "bundle.json",
    "calibration.safetensors",
    "fine_tuned.safetensors",
    "linear.safetensors",
    "lstm.safetensors",
    "spreads.safetensors",
    "weights.safetensors",
    "SHA256SUMS",
)
each_file = pytest.mark.parametrize("name", FILES)


def assert_alike(mine: Weights | Calibration, its: Weights | Calibration) -> None:
    np.testing.assert_array_equal(mine.default, its.default)
    for kept, read in ((mine.by_parameter, its.by_parameter), (mine.by_series, its.by_series)):
        assert kept.keys() == read.keys()
        for key, values in kept.items():
            np.testing.assert_array_equal(read[key], values)


def test_a_model_version_survives_its_files(fitted: FittedBundle) -> None:
    files = fitted.bundle.files()
    read = Bundle.from_files(files)
    assert read.files() == files
    assert read.digest == fitted.bundle.digest
    assert read.weights.candidates == fitted.bundle.weights.candidates
    assert_alike(fitted.bundle.weights, read.weights)
    assert_alike(fitted.bundle.calibration, read.calibration)
    for name in ("grid", "zone", "effort", "seed", "catalogue_digest", "lstm_failure"):
        assert getattr(read, name) == getattr(fitted.bundle, name)
    assert read.scales == fitted.bundle.scales
    assert len(read.scales.by_series) == 5
    assert len(read.lstm) == 2
    assert read.linear.keys() == fitted.bundle.linear.keys()
    assert all(np.array_equal(read.linear[name], array) for name, array in fitted.bundle.linear.items())
    for mine, its in zip(fitted.bundle.lstm, read.lstm, strict=True):
        assert mine.keys() == its.keys()
        assert all(np.array_equal(mine[name], its[name]) for name in mine)


def test_what_was_not_tried_is_still_told_from_nothing(fitted: FittedBundle) -> None:
    weights = Weights(
        ("lstm", "mstl"), np.array([1.0, np.nan]), {}, {(2, 1): np.array([0.25, 0.75]), (1, 9): np.array([1.0, 0.0])}
    )
    read = Bundle.from_files(dataclasses.replace(fitted.bundle, weights=weights).files()).weights
    given = read.of(np.array([2, 1, 5]), np.array([1, 9, 1]))
    np.testing.assert_array_equal(given, [[0.25, 0.75], [1.0, 0.0], [1.0, np.nan]])


def test_the_order_in_which_weights_were_learned_leaves_no_trace(fitted: FittedBundle) -> None:
    backwards = dataclasses.replace(
        fitted.bundle.weights, by_series=dict(reversed(list(fitted.bundle.weights.by_series.items())))
    )
    assert list(backwards.by_series) != list(fitted.bundle.weights.by_series)
    assert dataclasses.replace(fitted.bundle, weights=backwards).digest == fitted.bundle.digest


@each_file
def test_a_missing_file_is_refused_by_name(fitted: FittedBundle, name: str) -> None:
    files = fitted.bundle.files()
    del files[name]
    with pytest.raises(BundleError, match=f"{name} is missing"):
        Bundle.from_files(files)


@each_file
def test_a_flipped_bit_is_refused_by_name(fitted: FittedBundle, name: str) -> None:
    files = fitted.bundle.files()
    at = len(files[name]) // 2
    files[name] = files[name][:at] + bytes([files[name][at] ^ 1]) + files[name][at + 1 :]
    # A sum that was altered itself speaks of another file.
    with pytest.raises(BundleError, match="was altered" if name == "SHA256SUMS" else f"was altered: {name}"):
        Bundle.from_files(files)


def test_a_file_that_does_not_belong_is_refused(fitted: FittedBundle) -> None:
    with pytest.raises(BundleError, match=r"payload\.pkl"):
        Bundle.from_files(fitted.bundle.files() | {"payload.pkl": b""})


@pytest.mark.parametrize("version", [1, 99])
def test_another_format_version_is_refused(fitted: FittedBundle, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    monkeypatch.setattr("bts_assets.forecasting.bundle.VERSION", version)
    files = fitted.bundle.files()
    monkeypatch.undo()
    with pytest.raises(BundleError, match=f"is bts-forecaster version {version}; this code reads .* version {VERSION}"):
        Bundle.from_files(files)


def test_the_first_version_is_refused_as_such_though_it_had_other_files() -> None:
    described = json.dumps({"format": "bts-forecaster", "version": 1}).encode()
    files = {"bundle.json": described, "choice.safetensors": b"", "lstm.safetensors": b"", "SHA256SUMS": b""}
    with pytest.raises(BundleError, match="is bts-forecaster version 1; this code reads"):
        Bundle.from_files(files)


@pytest.mark.parametrize("text", [b"", b"[]", b"nonsense", b'{"format": "bts-forecaster"}', b"\xff"])
def test_a_description_that_says_nothing_is_refused(fitted: FittedBundle, text: bytes) -> None:
    with pytest.raises(BundleError, match=r"was altered: bundle\.json"):
        Bundle.from_files(fitted.bundle.files() | {"bundle.json": text})


def other_weights(bundle: Bundle) -> Bundle:
    return dataclasses.replace(bundle, weights=dataclasses.replace(bundle.weights, by_series={}))


def other_calibration(bundle: Bundle) -> Bundle:
    return dataclasses.replace(bundle, calibration=Calibration(bundle.calibration.default * 1.01))


def other_seed(bundle: Bundle) -> Bundle:
    return dataclasses.replace(bundle, seed=bundle.seed + 1)


def other_lstm(bundle: Bundle) -> Bundle:
    first = {name: array + np.float32(1e-3) for name, array in bundle.lstm[0].items()}
    return dataclasses.replace(bundle, lstm=(first, *bundle.lstm[1:]))


def other_linear(bundle: Bundle) -> Bundle:
    return dataclasses.replace(bundle, linear={**bundle.linear, "reach": bundle.linear["reach"] * np.float32(1.01)})


def other_scales(bundle: Bundle) -> Bundle:
    return dataclasses.replace(bundle, scales=AsinhScales({**bundle.scales.by_series, (1, 1): 0.5}))


@pytest.mark.parametrize(
    "changed", [other_weights, other_calibration, other_seed, other_lstm, other_linear, other_scales]
)
def test_any_change_is_another_model_version(fitted: FittedBundle, changed: Callable[[Bundle], Bundle]) -> None:
    assert changed(fitted.bundle).digest != fitted.bundle.digest


def test_the_description_can_be_read_by_people(fitted: FittedBundle) -> None:
    described = json.loads(fitted.bundle.files()["bundle.json"])
    assert described["candidates"][0] == "lstm"
    assert described["lstm_seeds"] == 2
    assert described["grid"] == {"step": 3600, "context": 172800, "horizon": 43200}


def test_files_hold_text_and_bare_numbers_alone(fitted: FittedBundle) -> None:
    described = json.loads(fitted.bundle.files()["bundle.json"])
    # Counts that our own code builds the network from: no layer, class or function is named.
    counts = described["architecture"]
    assert counts.keys() == {field.name for field in dataclasses.fields(Architecture)}
    assert all(isinstance(n, int) for n in (*counts.pop("parameters"), *counts.values()))
    for name in FILES:
        if name.endswith(".safetensors"):
            data = fitted.bundle.files()[name]
            length = int.from_bytes(data[:8], "little")
            tensors = json.loads(data[8 : 8 + length])
            assert {tensor["dtype"] for tensor in tensors.values()} <= {"F32", "F64", "I32", "I64"}
            assert max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0) == len(data) - 8 - length


class _Payload:
    """What runs code of its maker's choice wherever it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", FILES[:-1])
def test_a_pickle_in_place_of_a_file_is_refused_and_not_run(fitted: FittedBundle, name: str, tmp_path: Path) -> None:
    files = fitted.bundle.files() | {name: pickle.dumps(_Payload(tmp_path / "ran"))}
    sums = "".join(f"{hashlib.sha256(files[n]).hexdigest()}  {n}\n" for n in FILES[:-1])
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.from_files(files | {"SHA256SUMS": sums.encode()})
    assert not (tmp_path / "ran").exists()
