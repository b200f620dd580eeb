import dataclasses
import json

import numpy as np
import pytest

from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.bundle import Bundle, BundleError
from bts_assets.forecasting.fit import FittedBundle


def test_a_model_version_survives_its_files(fitted: FittedBundle) -> None:
    files = fitted.bundle.files()
    read = Bundle.from_files(files)
    assert read.files() == files
    assert read.digest == fitted.bundle.digest
    assert read.choice == fitted.bundle.choice
    assert read.grid == fitted.bundle.grid
    for mine, its in zip(fitted.bundle.lstm, read.lstm, strict=True):
        assert mine.keys() == its.keys()
        assert all(np.array_equal(mine[name], its[name]) for name in mine)


@pytest.mark.parametrize("name", ["bundle.json", "choice.safetensors", "lstm.safetensors", "SHA256SUMS"])
def test_a_missing_file_is_refused_by_name(fitted: FittedBundle, name: str) -> None:
    files = fitted.bundle.files()
    del files[name]
    with pytest.raises(BundleError, match=f"{name} is missing"):
        Bundle.from_files(files)


@pytest.mark.parametrize("name", ["bundle.json", "choice.safetensors", "lstm.safetensors", "SHA256SUMS"])
def test_a_flipped_bit_is_refused_by_name(fitted: FittedBundle, name: str) -> None:
    files = fitted.bundle.files()
    at = len(files[name]) // 2
    files[name] = files[name][:at] + bytes([files[name][at] ^ 1]) + files[name][at + 1 :]
    with pytest.raises(BundleError, match="was altered"):
        Bundle.from_files(files)


def test_a_file_that_does_not_belong_is_refused(fitted: FittedBundle) -> None:
    with pytest.raises(BundleError, match=r"payload\.pkl"):
        Bundle.from_files(fitted.bundle.files() | {"payload.pkl": b""})


def test_another_format_version_is_refused(fitted: FittedBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bts_assets.forecasting.bundle.VERSION", 99)
    files = fitted.bundle.files()
    monkeypatch.undo()
    with pytest.raises(BundleError, match="version 99"):
        Bundle.from_files(files)


def test_any_change_is_another_model_version(fitted: FittedBundle, panel: Panel) -> None:
    choice = dataclasses.replace(fitted.bundle.choice, default="last_value")
    assert dataclasses.replace(fitted.bundle, choice=choice).digest != fitted.bundle.digest
    described = json.loads(fitted.bundle.files()["bundle.json"])
    assert described["candidates"][0] == "lstm"
    assert described["lstm_seeds"] == 2
