"""Means and medians of what is known: NaN is what was not observed, and where nothing was, so is the result."""

import numpy as np


def mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean over an axis of what is known, without a warning where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=axis) / np.maximum(count, 1), np.nan)


def median(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Median over an axis of what is known, without a warning where nothing is."""
    ordered = np.sort(np.moveaxis(values, axis, -1), axis=-1)  # NaN last
    if not ordered.shape[-1]:
        return np.full(ordered.shape[:-1], np.nan)
    count = np.isfinite(ordered).sum(axis=-1, keepdims=True)
    newest = np.maximum(count - 1, 0)
    low, high = (np.take_along_axis(ordered, at, axis=-1) for at in (newest // 2, np.minimum(count // 2, newest)))
    return np.where(count > 0, (low + high) / 2, np.nan)[..., 0]
