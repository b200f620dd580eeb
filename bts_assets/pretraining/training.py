"""Training of the pretrained network, on synthetic telemetry or on a network's own series: windows, loss, optimiser."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import keras
import numpy as np
import tensorflow as tf

from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.pretraining.network import Operations, first_weights, forward
from bts_assets.pretraining.reading import CONTEXT, HORIZON_PATCHES, PAST, PATCH, Reading, moves, read
from bts_assets.pretraining.telemetry import Telemetry

#: Windows of an optimiser step, and the share that is mirrored at zero: few of the synthetic series are negative.
BATCH: Final = 512
MIRRORED: Final = 0.2
#: Scaled truths are cut off there, so that a few wild windows do not decide every step.
FURTHEST: Final = 5.0
#: An error is judged in daily changes, but in no less than this share of a window's scale.
LEAST_CHANGE: Final = 0.1
#: Origins of synthetic series have this many steps before them at least.
_LEAST_PAST: Final = 16
#: Steps of each synthetic series.
LENGTH: Final = 2400

TENSORFLOW: Final = Operations(
    tanh=tf.tanh,
    exp=tf.exp,
    sqrt=tf.sqrt,
    maximum=tf.maximum,
    minimum=tf.minimum,
    mean=lambda x: tf.reduce_mean(x, axis=-1, keepdims=True),
    concatenate=tf.concat,
    stack=tf.stack,
    cumulative=lambda x: tf.cumsum(x, axis=-1),
    reshape=tf.reshape,
    softmax=tf.nn.softmax,
    unstack=lambda x: tf.unstack(x, axis=1),
    split=lambda x, parts: tf.split(x, parts, axis=-1),
)


@dataclass(frozen=True)
class Examples:
    """Windows as read, and their truth (n, HORIZON) scaled, NaN where unknown.

    weight, size (n,): what an error of one scaled unit counts, by window, in the two halves of the loss: as scaled, and
    in the series' unit, where it is judged by the window's mean change from one day to the next.
    """

    reading: Reading
    truth: np.ndarray
    weight: np.ndarray
    size: np.ndarray

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        return *self.reading.inputs, self.truth, self.weight, self.size


def draw(telemetry: Telemetry, rng: np.random.Generator, count: int, patches: int = HORIZON_PATCHES) -> Examples:
    """Windows at random: three in ten know less than all of their past, as a station's first days do."""
    values, clock, horizon = telemetry.values, telemetry.clock, patches * PATCH
    rows = rng.integers(0, len(values), count)
    origin = rng.integers(_LEAST_PAST, values.shape[1] - horizon + 1, count)
    at = origin[:, None] + np.arange(-PAST, horizon)
    window = values[rows[:, None], np.maximum(at, 0)]
    window = np.where(at >= 0, window, np.nan)
    window = np.where(rng.random((count, 1)) < MIRRORED, -window, window)
    short = rng.random(count) < 0.35
    kept = np.where(short, np.exp(rng.uniform(np.log(4), np.log(CONTEXT), count)), PAST)
    past = np.where(np.arange(-PAST, 0) >= -kept[:, None], window[:, :PAST], np.nan)
    some = np.flatnonzero(np.isfinite(past[:, -CONTEXT:]).sum(axis=1) >= 4)
    # Always as many, so that one compilation serves.
    some = np.resize(some, count)
    day = clock.day[rows][some]
    since = ((clock.start[rows] + origin) / clock.day[rows])[some]
    # The calendar is right, unknown, or of another place: habits that it suggests must be seen in the past, too.
    told = rng.random(len(since))
    since = np.where(told < 0.5, since, np.where(told < 0.8, np.nan, since + 7 * rng.random(len(since))))
    reading = read(past[some], day, since, patches)
    truth = np.clip(reading.scaled(window[some, PAST:]), -FURTHEST, FURTHEST).astype(np.float32)
    change = daily_change((past[some] - reading.centre) / reading.scale, day)
    # Of a context that never moved there is no scale to judge an error by in the series' unit.
    size = np.where(moves(past[some]), 1 / np.maximum(change, LEAST_CHANGE), 0.0).astype(np.float32)
    return Examples(reading, truth, _weights(reading), size)


def daily_change(values: np.ndarray, day: np.ndarray, otherwise: float = 1.0) -> np.ndarray:
    """Mean absolute change from one day (n,) to the next of each row (n, steps); `otherwise` where none is known."""
    before = np.arange(values.shape[1]) - day[:, None]
    change = np.abs(values - np.take_along_axis(values, np.maximum(before, 0), axis=1))
    known = np.isfinite(change) & (before >= 0)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, change, 0.0).sum(axis=1) / np.maximum(count, 1), otherwise)


def _weights(reading: Reading) -> np.ndarray:
    """Windows that hardly move count more than restless ones, for whose sake they would be forgotten."""
    by_day = np.exp(2 * reading.descriptors[:, 2])
    step = np.exp(2 * reading.descriptors[:, 0])
    error = np.where(reading.offered[:, 3] > 0, by_day, np.maximum(2 * step, 0.1))
    return (1 / (0.4 + error)).astype(np.float32)


def variables(weights: Mapping[str, np.ndarray]) -> dict[str, keras.Variable]:
    return {name: keras.Variable(array, name=name.replace("/", "_")) for name, array in weights.items()}


class Trainer:
    """Weights and optimiser; every step depends on the first weights, the earlier steps and the examples alone.

    Half of the loss is of what is scaled, half of what is served: the night's small numbers and the day's large.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], decay: float = 0.01) -> None:
        self.variables = variables(weights)
        # Muon (Jordan et al., 2024) for what maps one layer to the next, AdamW for the rest.
        self.optimizer = keras.optimizers.Muon(
            1e-3,
            adam_beta_2=0.99,
            adam_weight_decay=decay,
            weight_decay=decay,
            global_clipnorm=1.0,
            exclude_layers=["out", "described"],
            exclude_embeddings=False,
        )
        self.optimizer.build(list(self.variables.values()))
        self._step = tf.function(self._train_step)
        self._loss = tf.function(self._batch_loss)

    def train(self, examples: Examples, rate: float) -> float:
        return float(self._step(*map(tf.constant, examples.arrays), tf.constant(rate, tf.float32)))

    def loss(self, examples: Examples) -> float:
        return float(self._loss(*map(tf.constant, examples.arrays)))

    def weights(self) -> dict[str, np.ndarray]:
        return {name: np.asarray(v) for name, v in self.variables.items()}

    def load_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        for name, variable in self.variables.items():
            variable.assign(weights[name])

    def state(self) -> dict[str, np.ndarray]:
        own = {f"optimizer/{k}": np.asarray(v) for k, v in enumerate(self.optimizer.variables)}
        return {f"weights/{name}": a for name, a in self.weights().items()} | own

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.load_weights({name: state[f"weights/{name}"] for name in self.variables})
        for k, variable in enumerate(self.optimizer.variables):
            variable.assign(state[f"optimizer/{k}"])

    def _batch_loss(self, *arrays: tf.Tensor) -> tf.Tensor:
        *inputs, truth, weight, size = arrays
        weights = {name: v.value for name, v in self.variables.items()}
        quantiles = forward(TENSORFLOW, weights, *inputs)
        served = pinball(_linear(quantiles), _linear(truth), size)
        return 0.5 * pinball(quantiles, truth, weight) + 0.5 * served

    def _train_step(self, *arrays: tf.Tensor) -> tf.Tensor:
        *examples, rate = arrays
        own = list(self.variables.values())
        with tf.GradientTape() as tape:
            loss = self._batch_loss(*examples)
        self.optimizer.learning_rate.assign(rate)
        self.optimizer.apply(tape.gradient(loss, [v.value for v in own]), own)
        return loss


class FineTuner(Trainer):
    """Compiled, because it has the machine's threads, and graphs that are not add up in another order every time."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__(weights)
        self._step = tf.function(self._train_step, jit_compile=True)
        self._loss = tf.function(self._batch_loss, jit_compile=True)

    def start(self, weights: Mapping[str, np.ndarray]) -> None:
        """These weights, and a fresh optimiser."""
        self.load_weights(weights)
        for variable in self.optimizer.variables:
            variable.assign(tf.zeros_like(variable.value))


@lru_cache(maxsize=1)
def fine_tuner() -> FineTuner:
    """The process's one, kept because compiling it costs seconds; `start` begins anew."""
    return FineTuner(first_weights(0))


def _linear(scaled: tf.Tensor) -> tf.Tensor:
    """In units of the window's scale; what is far off does not decide every step."""
    return tf.sinh(tf.clip_by_value(scaled, -FURTHEST, FURTHEST))


def pinball(quantiles: tf.Tensor, truth: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Mean pinball loss (Koenker and Bassett, 1978), scaled; each window times its weight."""
    known = tf.math.is_finite(truth)
    error = tf.where(known, truth, 0.0)[:, :, None] - quantiles
    levels = tf.constant(QUANTILES, tf.float32)
    loss = tf.maximum(levels * error, (levels - 1.0) * error) * tf.cast(known, tf.float32)[:, :, None]
    return 2.0 * tf.reduce_mean(tf.reduce_mean(loss, axis=[1, 2]) * weight)
