"""A model version: everything that decides a forecast, frozen, as files that cannot run code. Nothing is fitted here.

JSON for what is named, safetensors for arrays, and a list of SHA-256 over both: same content, same bytes, same digest.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from bts_assets.contracts.grid import QUANTILES, Grid
from bts_assets.forecasting.mixture import Choice

FORMAT: Final = "bts-forecaster"
VERSION: Final = 1
_NAMES: Final = ("bundle.json", "choice.safetensors", "lstm.safetensors")
_SUMS: Final = "SHA256SUMS"


class BundleError(ValueError):
    """Files that are not a sound model version: which file, and what is wrong with it."""


@dataclass(frozen=True)
class Bundle:
    """One model version. `lstm` holds the weights of each seed by name, float32; empty where training failed.

    `architecture` is what the LSTM's weights fit into; `lstm_failure` says why there are none.
    """

    grid: Grid
    zone: ZoneInfo
    effort: str
    seed: int
    catalogue_digest: str
    candidates: tuple[str, ...]
    choice: Choice
    architecture: Mapping[str, Any] | None = None
    lstm: tuple[Mapping[str, np.ndarray], ...] = ()
    lstm_failure: str | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the names and contents of all files, in order of name."""
        return digest_of(self.files())

    def files(self) -> dict[str, bytes]:
        files = {
            "bundle.json": json.dumps(self._description(), sort_keys=True, indent=1, allow_nan=False).encode(),
            "choice.safetensors": save_tensors(_choice_arrays(self.choice, self.candidates)),
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
        _check_sums(files)
        try:
            described = json.loads(files["bundle.json"])
            if (described["format"], described["version"]) != (FORMAT, VERSION):
                found = f"{described['format']} version {described['version']}"
                raise BundleError(f"bundle.json is {found}; this code reads {FORMAT} version {VERSION}")
            if described["quantiles"] != list(QUANTILES):
                raise BundleError(f"bundle.json was made for the quantiles {described['quantiles']}")
            candidates = tuple(described["candidates"])
            return cls(
                grid=Grid(*(timedelta(seconds=described["grid"][k]) for k in ("step", "context", "horizon"))),
                zone=ZoneInfo(described["zone"]),
                effort=described["effort"],
                seed=described["seed"],
                catalogue_digest=described["catalogue_digest"],
                candidates=candidates,
                choice=_read_choice(load_tensors(files["choice.safetensors"]), described["default_choice"], candidates),
                architecture=described["architecture"],
                lstm=_read_seeds(load_tensors(files["lstm.safetensors"]), described["lstm_seeds"]),
                lstm_failure=described["lstm_failure"],
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
            "catalogue_digest": self.catalogue_digest,
            "candidates": list(self.candidates),
            "default_choice": self.choice.default,
            "architecture": self.architecture and dict(self.architecture),
            "lstm_seeds": len(self.lstm),
            "lstm_failure": self.lstm_failure,
        }


def digest_of(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode())
        digest.update(files[name])
    return digest.hexdigest()


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


def _choice_arrays(choice: Choice, candidates: tuple[str, ...]) -> dict[str, np.ndarray]:
    number = {name: k for k, name in enumerate(candidates)}
    series, parameters = sorted(choice.by_series), sorted(choice.by_parameter)
    return {
        "series/station_id": np.array([s for s, _ in series], dtype=np.int64),
        "series/parameter_id": np.array([p for _, p in series], dtype=np.int32),
        "series/candidate": np.array([number[choice.by_series[k]] for k in series], dtype=np.int16),
        "parameter/parameter_id": np.array(parameters, dtype=np.int32),
        "parameter/candidate": np.array([number[choice.by_parameter[p]] for p in parameters], dtype=np.int16),
    }


def _read_choice(arrays: Mapping[str, np.ndarray], default: str, candidates: tuple[str, ...]) -> Choice:
    def named(kind: str) -> list[str]:
        return [candidates[k] for k in arrays[f"{kind}/candidate"].tolist()]

    series = zip(arrays["series/station_id"].tolist(), arrays["series/parameter_id"].tolist(), strict=True)
    return Choice(
        default,
        dict(zip(arrays["parameter/parameter_id"].tolist(), named("parameter"), strict=True)),
        dict(zip(series, named("series"), strict=True)),
    )


def _read_seeds(arrays: Mapping[str, np.ndarray], count: int) -> tuple[dict[str, np.ndarray], ...]:
    seeds: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
    for name, array in arrays.items():
        seed, _, weight = name.partition("/")
        seeds[int(seed)][weight] = array
    return tuple(seeds)
