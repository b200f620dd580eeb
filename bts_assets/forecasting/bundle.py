"""A model version: everything that decides a forecast, frozen, as files that cannot run code. Nothing is fitted here.

JSON for what is named, safetensors for arrays, and a list of SHA-256 over both: same content, same bytes, same digest.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from bts_assets.contracts.catalogue import Catalogue, catalogue_of_rows
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.forecasting.calibration import Calibration, Spreads
from bts_assets.forecasting.ensemble_weights import Weights
from bts_assets.forecasting.scaling import AsinhScales
from bts_assets.pretraining.weights import DIGEST as PRETRAINED_DIGEST

FORMAT: Final = "bts-forecaster"
VERSION: Final = 12
_NAMES: Final = (
    "asinh_scales.safetensors",
    "bundle.json",
    "calibration.safetensors",
    "fine_tuned.safetensors",
    "linear.safetensors",
    "lstm.safetensors",
    "spreads.safetensors",
    "weights.safetensors",
)
_SUMS: Final = "SHA256SUMS"


class BundleError(ValueError):
    """Files that are not a sound model version: which file, and what is wrong with it."""


class OtherFormat(BundleError):
    """A model version that other code wrote, as it may well have been sound there."""


@dataclass(frozen=True)
class Bundle:
    """One model version. `catalogue` is what it was trained by, with the kinds that were inferred for what it does not
    list. `lstm` holds the weights of each seed by name, float32; empty where training failed.

    `architecture` is what the LSTM's weights fit into; `lstm_failure` says why there are none. `scales` are of the
    series that it and the linear model could learn from. `linear` is what `LinearForecaster.arrays` gives; empty where
    it could not be fitted. `pretrained` is the SHA-256 of the shipped weights that its pretrained candidate has; None
    where it has none. `fine_tuned` are such weights once they have learned from the series that were trained on; empty
    where they were not, or where it did not help.
    """

    grid: Grid
    zone: ZoneInfo
    effort: str
    seed: int
    catalogue: Catalogue
    weights: Weights
    calibration: Calibration = field(default_factory=Calibration)
    spreads: Spreads = field(default_factory=Spreads)
    architecture: Mapping[str, Any] | None = None
    lstm: tuple[Mapping[str, np.ndarray], ...] = ()
    lstm_failure: str | None = None
    scales: AsinhScales = field(default_factory=AsinhScales)
    linear: Mapping[str, np.ndarray] = field(default_factory=dict)
    pretrained: str | None = None
    fine_tuned: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def catalogue_digest(self) -> str:
        return self.catalogue.digest

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the names and contents of all files, in order of name."""
        return digest_of(self.files())

    def files(self) -> dict[str, bytes]:
        files = {
            "bundle.json": json.dumps(self._description(), sort_keys=True, indent=1, allow_nan=False).encode(),
            "asinh_scales.safetensors": save_tensors(_scales_as_arrays(self.scales)),
            "calibration.safetensors": save_tensors(_tables_as_arrays(self.calibration)),
            "spreads.safetensors": save_tensors(_tables_as_arrays(self.spreads)),
            "weights.safetensors": save_tensors(_tables_as_arrays(self.weights)),
            "linear.safetensors": save_tensors({name: np.ascontiguousarray(a) for name, a in self.linear.items()}),
            "fine_tuned.safetensors": save_tensors(
                {name: np.ascontiguousarray(a) for name, a in self.fine_tuned.items()}
            ),
            "lstm.safetensors": save_tensors(
                {f"{k}/{name}": np.ascontiguousarray(w) for k, seed in enumerate(self.lstm) for name, w in seed.items()}
            ),
        }
        sums = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in _NAMES)
        return files | {_SUMS: sums.encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "Bundle":
        """Read back what `files` gave.

        Raises:
            BundleError: if a file is missing, altered, of another format, or its parts do not fit each other.
        """
        _check_version(files)
        _check_sums(files)
        try:
            described = json.loads(files["bundle.json"])
            if described["quantiles"] != list(QUANTILES):
                raise BundleError(f"bundle.json was made for the quantiles {described['quantiles']}")
            weights, calibration, spreads = (
                _tables(load_tensors(files[f"{name}.safetensors"])) for name in ("weights", "calibration", "spreads")
            )
            return cls(
                grid=Grid(*(timedelta(seconds=described["grid"][k]) for k in ("step", "context", "horizon"))),
                zone=ZoneInfo(described["zone"]),
                effort=described["effort"],
                seed=described["seed"],
                catalogue=catalogue_of_rows(described["catalogue"]),
                weights=Weights(tuple(described["candidates"]), *weights),
                calibration=Calibration(*calibration),
                spreads=Spreads(*spreads[:2]),
                architecture=described["architecture"],
                lstm=_read_seeds(load_tensors(files["lstm.safetensors"]), described["lstm_seeds"]),
                lstm_failure=described["lstm_failure"],
                scales=_scales(load_tensors(files["asinh_scales.safetensors"])),
                linear=load_tensors(files["linear.safetensors"]),
                pretrained=_same_weights(described["pretrained"]),
                fine_tuned=load_tensors(files["fine_tuned.safetensors"]),
            )
        except (KeyError, TypeError, IndexError, ValueError, OSError, SafetensorError) as error:
            if isinstance(error, BundleError):
                raise
            raise BundleError(f"the model version cannot be read: {type(error).__name__}: {error}") from error

    def _description(self) -> dict[str, Any]:
        grid = self.grid
        spans = {"step": grid.step, "context": grid.context, "horizon": grid.horizon}
        return {
            "format": FORMAT,
            "version": VERSION,
            "grid": {name: span.total_seconds() for name, span in spans.items()},
            "quantiles": list(QUANTILES),
            "zone": str(self.zone),
            "effort": self.effort,
            "seed": self.seed,
            "catalogue": self.catalogue.rows(),
            "candidates": list(self.weights.candidates),
            "architecture": self.architecture and dict(self.architecture),
            "lstm_seeds": len(self.lstm),
            "lstm_failure": self.lstm_failure,
            "pretrained": self.pretrained,
        }


def digest_of(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode())
        digest.update(files[name])
    return digest.hexdigest()


def _check_version(files: Mapping[str, bytes]) -> None:
    """First of all, because another version has other files. What cannot be read is left to the sums."""
    try:
        described = json.loads(files["bundle.json"])
        found = described["format"], described["version"]
    except (KeyError, TypeError, ValueError):
        return
    if found != (FORMAT, VERSION):
        raise OtherFormat(f"bundle.json is {found[0]} version {found[1]}; this code reads {FORMAT} version {VERSION}")


def _same_weights(digest: str | None) -> str | None:
    if digest not in (None, PRETRAINED_DIGEST):
        raise OtherFormat(
            f"bundle.json has the pretrained weights {digest[:12]}; this code ships {PRETRAINED_DIGEST[:12]}"
        )
    return digest


def _check_sums(files: Mapping[str, bytes]) -> None:
    for name in (*_NAMES, _SUMS):
        if name not in files:
            raise BundleError(f"{name} is missing from the model version")
    expected = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in _NAMES).encode()
    if files[_SUMS] != expected:
        lines = files[_SUMS].splitlines()
        altered = [n for n, line in zip(_NAMES, expected.splitlines(), strict=True) if line not in lines]
        raise BundleError(f"the model version was altered: {', '.join(altered) or _SUMS} does not match {_SUMS}")
    unknown = set(files) - {*_NAMES, _SUMS}
    if unknown:
        raise BundleError(f"the model version has files that do not belong to it: {', '.join(sorted(unknown))}")


def _scales_as_arrays(scales: AsinhScales) -> dict[str, np.ndarray]:
    series = sorted(scales.by_series)
    return _keys_as_arrays(series) | {"asinh_scale": np.array([scales.by_series[k] for k in series], dtype=np.float64)}


def _scales(arrays: Mapping[str, np.ndarray]) -> AsinhScales:
    return AsinhScales(dict(zip(_keys(arrays), arrays["asinh_scale"].tolist(), strict=True)))


def _keys_as_arrays(series: Sequence[tuple[int, int]], prefix: str = "") -> dict[str, np.ndarray]:
    return {
        f"{prefix}station_id": np.array([s for s, _ in series], dtype=np.int64),
        f"{prefix}parameter_id": np.array([p for _, p in series], dtype=np.int32),
    }


def _keys(arrays: Mapping[str, np.ndarray], prefix: str = "") -> list[tuple[int, int]]:
    station, parameter = (arrays[f"{prefix}{name}"].tolist() for name in ("station_id", "parameter_id"))
    return list(zip(station, parameter, strict=True))


def _tables_as_arrays(tables: Weights | Calibration | Spreads) -> dict[str, np.ndarray]:
    """What is kept by series, by parameter and by default, in ascending order of key."""
    series, parameters = sorted(tables.by_series), sorted(tables.by_parameter)
    like = tables.default.shape
    return {
        "default": np.ascontiguousarray(tables.default, dtype=np.float64),
        "parameter/parameter_id": np.array(parameters, dtype=np.int32),
        "parameter/values": np.array([tables.by_parameter[p] for p in parameters]).reshape(-1, *like),
        **_keys_as_arrays(series, "series/"),
        "series/values": np.array([tables.by_series[k] for k in series]).reshape(len(series), like[-1]),
    }


def _tables(
    arrays: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, dict[int, np.ndarray], dict[tuple[int, int], np.ndarray]]:
    return (
        arrays["default"],
        dict(zip(arrays["parameter/parameter_id"].tolist(), arrays["parameter/values"], strict=True)),
        dict(zip(_keys(arrays, "series/"), arrays["series/values"], strict=True)),
    )


def _read_seeds(arrays: Mapping[str, np.ndarray], count: int) -> tuple[dict[str, np.ndarray], ...]:
    seeds: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
    for name, array in arrays.items():
        seed, _, weight = name.partition("/")
        seeds[int(seed)][weight] = array
    return tuple(seeds)
