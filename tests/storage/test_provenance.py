"""What is told of the machine that a result was made on."""

from pathlib import Path

import pytest

from bts_assets.pretraining.weights import DIGEST
from bts_assets.storage import mlflow_registry, provenance


@pytest.mark.parametrize(
    ("visible", "told"),
    [(None, "NVIDIA H100, NVIDIA L4"), ("1", "NVIDIA H100, NVIDIA L4"), ("-1", ""), ("", "")],
)
def test_gpus_are_told_unless_they_are_hidden_from_the_process(
    visible: str | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slot, model in (("0000:17:00.0", "NVIDIA H100"), ("0000:2a:00.0", "NVIDIA L4")):
        (tmp_path / slot).mkdir()
        (tmp_path / slot / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 10\n")
    monkeypatch.setattr(provenance, "_DRIVER", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert provenance._gpus() == told


def test_a_machine_without_a_driver_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_DRIVER", tmp_path / "nowhere")
    assert provenance._gpus() == ""


def test_the_pretrained_weights_are_told_beside_the_packages() -> None:
    assert provenance.packages()[provenance.PRETRAINED] == DIGEST[:12]
    assert provenance.PRETRAINED not in mlflow_registry._serving_packages()
