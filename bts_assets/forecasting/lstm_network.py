"""The LSTM's forward pass, and its forecasts by numpy: a night that trains nothing needs no TensorFlow.

The network reads a context in patches, scales each window by that window's own past, and gives ascending quantiles of
the deviation from a base forecast, which is itself a learned mixture of simple ones (last value, yesterday, a week ago,
the mean at that phase of the day): a global network in the manner of Salinas et al., DeepAR (2020), with the direct
multi-horizon quantile output of Wen et al., MQ-RNN (2017), and patches as in Nie et al., PatchTST (2023).

What surrounds the trained layers is written once, over the few operations of `Operations`: numpy serves it, TensorFlow
trains it. The layers are Keras' in training (`lstm.build`) and `layers` here, with the same weights.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, Final

import numpy as np
from threadpoolctl import threadpool_limits

from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting.architecture import Architecture
from bts_assets.forecasting.scaling import AsinhScales, Scaling
from bts_assets.forecasting.windows import CALENDAR_FEATURES, calendar, in_chunks, minimum_past, recent_context
from bts_assets.pretraining.network import softmax

LEVELS: Final = len(QUANTILES)
DESCRIPTORS: Final = CALENDAR_FEATURES + 4

#: Windows that are forecast at once; every chunk has one shape, so that a window's bits do not depend on others.
_CHUNK: Final = 128
_CLIP: Final = 8.0

#: Trained arrays by name, float32.
Weights = Mapping[str, np.ndarray]
#: The trained layers: [tokens, descriptors, bucket] to raw quantiles, logits of bases, linear part.
Core = Callable[[list[Any]], Sequence[Any]]


@dataclass(frozen=True)
class Operations:
    """What numpy and TensorFlow call by different names. `total` and `greatest` keep the axis, of length 1."""

    finite: Callable[[Any], Any]
    where: Callable[[Any, Any, Any], Any]
    absolute: Callable[[Any], Any]
    sqrt: Callable[[Any], Any]
    log1p: Callable[[Any], Any]
    maximum: Callable[[Any, Any], Any]
    minimum: Callable[[Any, Any], Any]
    total: Callable[[Any, int], Any]
    greatest: Callable[[Any, int], Any]
    floats: Callable[[Any], Any]
    reshape: Callable[[Any, tuple[int, ...]], Any]
    padded: Callable[[Any, int], Any]
    concatenate: Callable[[list[Any], int], Any]
    stack: Callable[[list[Any], int], Any]
    columns: Callable[[Any, np.ndarray], Any]
    zeros: Callable[[Any], Any]
    cumulative: Callable[[Any], Any]
    softmax: Callable[[Any], Any]


def _cumulative(x: np.ndarray) -> np.ndarray:
    """The sums of numpy's cumsum, faster where steps are adjacent in memory (`_steps_last`)."""
    sums = x.copy("K")
    for k in range(1, x.shape[-1]):
        sums[..., k] += sums[..., k - 1]
    return sums


NUMPY: Final = Operations(
    finite=np.isfinite,
    where=np.where,
    absolute=np.abs,
    sqrt=np.sqrt,
    log1p=np.log1p,
    maximum=np.maximum,
    minimum=np.minimum,
    total=lambda x, axis: x.sum(axis=axis, keepdims=True),
    greatest=lambda x, axis: x.max(axis=axis, keepdims=True),
    floats=lambda x: x.astype(np.float32),
    reshape=np.reshape,
    padded=lambda x, before: np.pad(x, [(0, 0), (before, 0)]),
    concatenate=np.concatenate,
    stack=np.stack,
    columns=lambda x, at: x[:, at],
    zeros=np.zeros_like,
    cumulative=_cumulative,
    softmax=softmax,
)


def forward(ops: Operations, core: Core, arch: Architecture, past: Any, when: Any, bucket: Any) -> Any:
    """Quantiles (batch, horizon, levels) in the unit of `past` (batch, context; NaN where not observed)."""
    known = ops.finite(past)
    centre, scale = _own_scale(ops, arch, past, known)
    scaled = ops.where(known, (past - centre) / scale, np.float32(0))
    bases = _bases(ops, arch, scaled, known)
    clipped = ops.minimum(ops.maximum(scaled, np.float32(-_CLIP)), np.float32(_CLIP))
    pad, shape = arch.tokens * arch.patch - arch.context_steps, (-1, arch.tokens, arch.patch)
    seen = ops.reshape(ops.padded(clipped, pad), shape)
    mask = ops.reshape(ops.padded(ops.floats(known), pad), shape)
    descriptors = ops.concatenate([when, _descriptors(ops, arch, clipped, known, centre, scale)], 1)
    raw, logits, straight = core([ops.concatenate([seen, mask], 2), descriptors, bucket])
    base = ops.total(ops.softmax(logits) * bases, 2)
    return centre[:, :, None] + scale[:, :, None] * (base + straight[:, :, None] + _ascending(ops, raw))


def _ascending(ops: Operations, raw: Any) -> Any:
    """The median as it is, the others by positive steps away from it, so that quantiles cannot cross."""
    # Squareplus (Barron, 2021): as smooth as softplus, and cheap.
    moved = raw - 1.5
    steps = 0.5 * (moved + ops.sqrt(moved * moved + 1.0))
    below = ops.cumulative(steps[:, :, MEDIAN - 1 :: -1])[:, :, ::-1]
    above = ops.cumulative(steps[:, :, MEDIAN + 1 :])
    middle = raw[:, :, MEDIAN : MEDIAN + 1]
    return ops.concatenate([middle - below, middle, middle + above], 2)


def _own_scale(ops: Operations, arch: Architecture, past: Any, known: Any) -> tuple[Any, Any]:
    """Centre and scale of each window (batch, 1): the mean of its last day, leaning on that of all; mean deviation.

    The mean deviation, unlike the median one, survives a series that is mostly zero.
    """
    values, observed = ops.where(known, past, np.float32(0)), ops.floats(known)
    day = min(arch.steps_per_day, arch.context_steps)
    count = ops.maximum(ops.total(observed, 1), np.float32(1))
    mean = ops.total(values, 1) / count
    lean = day / 8
    centre = (ops.total(values[:, -day:], 1) + lean * mean) / (ops.total(observed[:, -day:], 1) + lean)
    deviation = ops.total(ops.where(known, ops.absolute(past - centre), np.float32(0)), 1)
    return centre, ops.maximum(deviation / count, np.float32(1e-6))


def _bases(ops: Operations, arch: Architecture, scaled: Any, known: Any) -> Any:
    """Simple forecasts (batch, horizon, bases) in scaled units; 0 (the centre) where one has nothing to say."""
    ahead = np.arange(arch.horizon_steps)
    position = ops.where(known, np.arange(arch.context_steps, dtype=np.int32)[None, :], np.int32(-1))
    is_newest = (position == ops.greatest(position, 1)) & known
    last = ops.total(ops.where(is_newest, scaled, np.float32(0)), 1)
    constant = ops.columns(last, np.zeros(arch.horizon_steps, np.int64))  # its only column, at every step
    bases = [constant, ops.zeros(constant)]
    if arch.days:
        shape = (-1, arch.days, arch.steps_per_day)
        day_values = ops.reshape(scaled[:, -arch.days * arch.steps_per_day :], shape)
        day_known = ops.reshape(known[:, -arch.days * arch.steps_per_day :], shape)
        day = ops.where(day_known, np.arange(arch.days, dtype=np.int32)[None, :, None], np.int32(-1))
        is_newest = (day == ops.greatest(day, 1)) & day_known
        yesterday = ops.total(ops.where(is_newest, day_values, np.float32(0)), 1)[:, 0]
        seen = ops.total(ops.floats(day_known), 1)[:, 0]
        phase_mean = ops.total(day_values, 1)[:, 0] / ops.maximum(seen, np.float32(1))
        phase = ahead % arch.steps_per_day
        bases += [ops.columns(yesterday, phase), ops.columns(phase_mean, phase)]
        if arch.days >= 7:
            at = arch.context_steps - 7 * arch.steps_per_day + ahead % (7 * arch.steps_per_day)
            week_ago = ops.where(ops.columns(known, at), ops.columns(scaled, at), bases[2])
            bases.append(week_ago)
        if arch.days >= 8:
            now, then = (_mean_of_day(ops, arch, scaled, known, back) for back in (0, 7))
            bases.append(week_ago + now - then)
        if arch.days >= 14:
            at = at - 7 * arch.steps_per_day
            bases.append(ops.where(ops.columns(known, at), ops.columns(scaled, at), week_ago))
    return ops.stack(bases, 2)


def _mean_of_day(ops: Operations, arch: Architecture, scaled: Any, known: Any, back: int) -> Any:
    """The mean (batch, 1) of the day that ended `back` days before the origin; 0 (the centre) if not observed."""
    end = arch.context_steps - back * arch.steps_per_day
    day = slice(end - arch.steps_per_day, end)
    return ops.total(scaled[:, day], 1) / ops.maximum(ops.total(ops.floats(known[:, day]), 1), np.float32(1))


def _descriptors(ops: Operations, arch: Architecture, clipped: Any, known: Any, centre: Any, scale: Any) -> Any:
    """(batch, 4): share observed, roughness from step to step and from day to day, level against scale."""

    def roughness(lag: int) -> Any:
        both = known[:, lag:] & known[:, :-lag]
        change = ops.absolute(clipped[:, lag:] - clipped[:, :-lag])
        count = ops.maximum(ops.total(ops.floats(both), 1), np.float32(1))
        return ops.total(ops.where(both, change, np.float32(0)), 1) / count

    share = ops.total(ops.floats(known), 1) / arch.context_steps
    daily = roughness(arch.steps_per_day) if arch.days >= 2 else ops.zeros(share)
    level = ops.log1p(ops.absolute(centre) / scale)
    return ops.concatenate([share, roughness(1), daily, ops.minimum(level, np.float32(10)) / 5.0], 1)


def shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """The trained arrays by the names that Keras gives them (`lstm.build`)."""
    w, horizon = arch.width, arch.horizon_steps
    found: dict[str, tuple[int, ...]] = {"parameter/embeddings": (len(arch.parameters) + 1, arch.embedding)}
    for name in ("first_lstm", "second_lstm"):
        found[f"{name}/lstm_cell/kernel"] = found[f"{name}/lstm_cell/recurrent_kernel"] = (w, 4 * w)
        found[f"{name}/lstm_cell/bias"] = (4 * w,)
    dense = {
        "patch": (2 * arch.patch, w),
        "summary": (w + DESCRIPTORS + arch.embedding, 2 * w),
        "quantiles": (2 * w, horizon * LEVELS),
        "bases": (2 * w, horizon * arch.bases),
        "line": (arch.tokens * arch.patch, horizon),
    }
    for name, shape in dense.items():
        found[f"{name}/kernel"], found[f"{name}/bias"] = shape, shape[1:]
    return found


def layers(w: Weights, arch: Architecture) -> Core:
    """The trained layers as `lstm.build` has them."""

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return np.asarray(x @ w[f"{name}/kernel"] + w[f"{name}/bias"])

    # Consecutive steps are adjacent in memory: loops over the few levels or bases would be slow.
    ends = [_steps_last(w, "quantiles", LEVELS), _steps_last(w, "bases", arch.bases)]

    def run(inputs: list[np.ndarray]) -> Sequence[np.ndarray]:
        tokens, descriptors, bucket = inputs
        x = np.maximum(dense(tokens, "patch"), 0)
        x = x + np.stack(_lstm(w, "first_lstm/lstm_cell", x), axis=1)
        newest = _lstm(w, "second_lstm/lstm_cell", x)[-1]
        x = np.concatenate([newest, descriptors, w["parameter/embeddings"][bucket]], axis=1)
        x = np.maximum(dense(x, "summary"), 0)
        raw, logits = (
            np.swapaxes((x @ kernel + bias).reshape(len(x), -1, arch.horizon_steps), 1, 2) for kernel, bias in ends
        )
        return raw, logits, dense(tokens[:, :, : arch.patch].reshape(len(tokens), -1), "line")

    return run


def _steps_last(w: Weights, name: str, kinds: int) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a dense layer, their columns in order of kind and step instead of step and kind."""
    kernel = w[f"{name}/kernel"]
    turned = kernel.reshape(len(kernel), -1, kinds).swapaxes(1, 2).reshape(kernel.shape)
    return np.ascontiguousarray(turned), w[f"{name}/bias"].reshape(-1, kinds).T.ravel()


def _lstm(w: Weights, name: str, x: np.ndarray) -> list[np.ndarray]:
    """Outputs (n, width) of a long short-term memory (Hochreiter and Schmidhuber, 1997), token by token."""
    entering = x @ w[f"{name}/kernel"] + w[f"{name}/bias"]
    hidden = cell = np.zeros_like(x[:, 0])
    outputs = []
    for t in range(x.shape[1]):
        taken, kept, candidate, given = np.split(entering[:, t] + hidden @ w[f"{name}/recurrent_kernel"], 4, axis=1)
        cell = _sigmoid(kept) * cell + _sigmoid(taken) * np.tanh(candidate)
        hidden = _sigmoid(given) * np.tanh(cell)
        outputs.append(hidden)
    return outputs


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * np.tanh(0.5 * x) + 0.5


def predict(weights: Weights, arch: Architecture, past: np.ndarray, when: np.ndarray, bucket: np.ndarray) -> np.ndarray:
    """Quantiles (windows, horizon, levels) float32 in the unit of `past` (windows, context) float32.

    Raises KeyError or ValueError where the weights do not fit the architecture.
    """
    for name, shape in shapes(arch).items():
        if weights[name].shape != shape:
            raise ValueError(f"{name} has shape {weights[name].shape}, not {shape}")
    # Their order in memory would change the bits of products.
    core = layers({name: np.ascontiguousarray(w, np.float32) for name, w in weights.items()}, arch)
    quantiles = np.empty((len(past), arch.horizon_steps, LEVELS), np.float32)
    # Products of one token are so small that a second thread would only spin while it waits for them. What was not
    # observed is NaN until it is replaced.
    with threadpool_limits(1, "blas"), np.errstate(over="ignore", invalid="ignore"):
        for part in in_chunks(len(past), _CHUNK):
            # A chunk that is not full is filled up with its own windows.
            filled = [a[part][np.arange(_CHUNK) % (part.stop - part.start)] for a in (past, when, bucket)]
            quantiles[part] = forward(NUMPY, core, arch, *filled)[: part.stop - part.start]
    return quantiles


@dataclass(frozen=True)
class LstmForecaster:
    """The LSTM as a forecaster: the mean of the quantiles of every seed. NaN for a series with too few observations.

    scales: of what it was trained on.
    """

    arch: Architecture
    seeds: tuple[Weights, ...] = field(repr=False)
    zone: tzinfo
    scales: AsinhScales = field(repr=False)
    name: str = "lstm"

    def forecast(self, panel: Panel) -> np.ndarray:
        arch = self.arch
        panel = recent_context(panel)
        scaling = Scaling.of(panel.values, self.scales.at(panel))
        missing = arch.context_steps - panel.steps
        past = np.pad(scaling.apply(panel.values).astype(np.float32), [(0, 0), (missing, 0)], constant_values=np.nan)
        when = np.repeat(calendar(panel, self.zone)[-1:], len(panel), axis=0)
        bucket = arch.buckets(panel.parameter_id)
        quantiles = np.zeros((len(panel), arch.horizon_steps, LEVELS))
        for weights in self.seeds:
            quantiles += predict(weights, arch, past, when, bucket)
        quantiles = scaling.undo(quantiles / len(self.seeds))
        quantiles[np.isfinite(past).sum(axis=1) < minimum_past(panel.grid)] = np.nan
        return quantiles
