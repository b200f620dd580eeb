"""The LSTM's training: its layers in Keras, its loss, its optimiser steps. Alone in importing TensorFlow.

Around the layers is `lstm_network.forward`, and forecasts are made there, by numpy.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import tzinfo
from functools import lru_cache
from typing import Final

import numpy as np

from bts_assets.contracts.hyperparameters import Hyperparameters
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.forecasting.architecture import UNNAMED, Architecture
from bts_assets.forecasting.lstm_network import DESCRIPTORS, LEVELS, Operations, forward, predict
from bts_assets.forecasting.scaling import AsinhScales, Scaling, centre_and_spread, daily_change
from bts_assets.forecasting.training_plan import STEPS_PER_CALL
from bts_assets.forecasting.windows import calendar


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keeps TensorFlow's greetings off the terminal: it writes them to descriptor 2 before any log level counts."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _quiet_stderr():
    import keras
    import tensorflow as tf

    # TensorFlow places the network on a GPU by itself; the sums of a GPU then have one order, too.
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()

#: A window of the holdout window may move so many times as much as its series did before.
_MOST_MOVED: Final = 2.0

# Another panel is another shape and another compilation: meant so, and no news for the terminal.
tf.get_logger().setLevel("ERROR")

_TENSORFLOW: Final = Operations(
    finite=tf.math.is_finite,
    where=tf.where,
    absolute=tf.abs,
    sqrt=tf.sqrt,
    log1p=tf.math.log1p,
    maximum=tf.maximum,
    minimum=tf.minimum,
    total=lambda x, axis: tf.reduce_sum(x, axis=axis, keepdims=True),
    greatest=lambda x, axis: tf.reduce_max(x, axis=axis, keepdims=True),
    floats=lambda x: tf.cast(x, tf.float32),
    reshape=tf.reshape,
    padded=lambda x, before: tf.pad(x, [[0, 0], [before, 0]]),
    concatenate=tf.concat,
    stack=tf.stack,
    columns=lambda x, at: tf.gather(x, at, axis=1),
    zeros=tf.zeros_like,
    cumulative=lambda x: tf.cumsum(x, axis=-1),
    softmax=tf.nn.softmax,
)


def build(arch: Architecture) -> keras.Model:
    """The trainable part: tokens, descriptors and bucket in; raw quantiles, logits of the bases, a linear part out."""
    tokens = keras.Input((arch.tokens, 2 * arch.patch))
    descriptors = keras.Input((DESCRIPTORS,))
    bucket = keras.Input((), dtype="int32")
    known_parameter = keras.layers.Embedding(len(arch.parameters) + 1, arch.embedding, name="parameter")(bucket)
    x = keras.layers.Dense(arch.width, activation="relu", name="patch")(tokens)
    first = keras.layers.LSTM(arch.width, return_sequences=True, name="first_lstm")(x)
    x = keras.layers.Add()([x, first])
    x = keras.layers.LSTM(arch.width, name="second_lstm")(x)
    x = keras.layers.Concatenate()([x, descriptors, known_parameter])
    x = keras.layers.Dense(2 * arch.width, activation="relu", name="summary")(x)
    # Small first weights: training starts at the base forecast, not at noise around it.
    start = keras.initializers.RandomNormal(stddev=0.01)
    raw = keras.layers.Dense(arch.horizon_steps * LEVELS, kernel_initializer=start, name="quantiles")(x)
    logits = keras.layers.Dense(arch.horizon_steps * arch.bases, kernel_initializer=start, name="bases")(x)
    raw = keras.layers.Reshape((arch.horizon_steps, LEVELS))(raw)
    # A straight line from the context, past the LSTM: what is linear need not be learned through the gates.
    line = keras.layers.Dense(arch.horizon_steps, kernel_initializer=start, name="line")
    straight = line(keras.layers.Flatten()(tokens[:, :, : arch.patch]))
    logits = keras.layers.Reshape((arch.horizon_steps, arch.bases))(logits)
    return keras.Model([tokens, descriptors, bucket], [raw, logits, straight])


def pinball(quantiles: tf.Tensor, truth: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Mean pinball loss (Koenker and Bassett, 1978) over levels and observed targets, each window times its weight."""
    known = tf.math.is_finite(truth)
    error = tf.where(known, truth, 0.0)[:, :, None] - quantiles
    levels = tf.constant(QUANTILES, tf.float32)
    loss = tf.maximum(levels * error, (levels - 1.0) * error) * tf.cast(known, tf.float32)[:, :, None]
    count = tf.maximum(tf.reduce_sum(tf.cast(known, tf.float32)), 1.0) * LEVELS
    return 2.0 * tf.reduce_sum(loss * weight[:, None, None]) / count


def _served(values: tf.Tensor, unit: tf.Tensor) -> tf.Tensor:
    """Scaled values (batch, ...) in the unit that errors are judged in; unit (batch, 4) as `TrainingData` has it."""
    scale, centre, spread, size = tf.unstack(tf.reshape(unit, [-1, 4] + [1] * (values.shape.rank - 1)), axis=1)
    linear = tf.where(scale > 0, 0.0, values)  # no gradient through the branch not taken
    inner = tf.clip_by_value(centre + spread * tf.where(scale > 0, values, 0.0), -12.0, 12.0)
    return size * tf.where(scale > 0, tf.sinh(inner), linear)


class LstmNetwork:
    """One architecture, compiled once, and trained from several seeds: each training changes the weights it holds."""

    def __init__(self, arch: Architecture, weight_decay: float) -> None:
        self.arch = arch
        self.model = build(arch)
        self._optimizer = keras.optimizers.AdamW(1e-3, weight_decay=weight_decay, global_clipnorm=1.0)
        self._train = tf.function(self._train_steps, jit_compile=True)

    @property
    def parameter_count(self) -> int:
        return int(self.model.count_params())

    def weights(self) -> dict[str, np.ndarray]:
        # Trainable only: Keras also keeps the state of dropout, random in each process and used by nothing here.
        return {v.path: np.asarray(v) for v in self.model.trainable_variables}

    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Raises KeyError or ValueError where the weights do not fit the architecture."""
        for variable in self.model.trainable_variables:
            variable.assign(weights[variable.path])

    def start(self, seed: int) -> None:
        """Fresh weights and a fresh optimiser, decided by the seed alone."""
        keras.utils.set_random_seed(seed)
        fresh = build(self.arch)
        self.model.set_weights(fresh.get_weights())
        if not self._optimizer.built:
            self._optimizer.build(self.model.trainable_variables)
        for variable in self._optimizer.variables:
            variable.assign(tf.zeros_like(variable.value))

    def train(
        self,
        data: "TrainingData",
        rows: np.ndarray,
        origins: np.ndarray,
        rates: np.ndarray,
        unnamed: np.ndarray | None = None,
    ) -> float:
        """Take `STEPS_PER_CALL` optimiser steps; rows and origins (steps, batch), rates (steps,). The mean loss.
        Of the windows `unnamed`, bool (steps, batch), the parameter is not told.
        """
        values, when, bucket, weight, unit = data.windows(rows, origins)
        bucket = bucket if unnamed is None else np.where(unnamed, UNNAMED, bucket)
        return float(self._train(*map(tf.constant, (values, when, bucket, weight, unit, rates))))

    def _forward(self, past: tf.Tensor, when: tf.Tensor, bucket: tf.Tensor) -> tf.Tensor:
        return forward(_TENSORFLOW, self.model, self.arch, past, when, bucket)

    def _train_steps(
        self,
        windows: tf.Tensor,
        when: tf.Tensor,
        bucket: tf.Tensor,
        weight: tf.Tensor,
        unit: tf.Tensor,
        rates: tf.Tensor,
    ) -> tf.Tensor:
        context = self.arch.context_steps
        variables = self.model.trainable_variables
        total = tf.constant(0.0)
        for k in tf.range(STEPS_PER_CALL):
            # By gather: of a slice that begins at a tensor, XLA takes the columns wrongly, and says nothing.
            window, now, row, scale, own = (tf.gather(part, k) for part in (windows, when, bucket, weight, unit))
            truth = window[:, context:]
            with tf.GradientTape() as tape:
                quantiles = self._forward(window[:, :context], now, row)
                # Half by what is scaled, half by what is served: the night's small numbers and the day's large ones.
                loss = 0.5 * pinball(quantiles, truth, scale)
                loss += 0.5 * pinball(_served(quantiles, own), _served(truth, own), tf.ones_like(own[:, 0]))
            self._optimizer.learning_rate.assign(rates[k])
            self._optimizer.apply(tape.gradient(loss, variables), variables)
            total += loss
        return total / STEPS_PER_CALL


@lru_cache(maxsize=4)
def network(arch: Architecture, weight_decay: float = Hyperparameters.weight_decay) -> LstmNetwork:
    """The network of an architecture, kept because compiling it costs seconds."""
    return LstmNetwork(arch, weight_decay)


class TrainingData:
    """A panel that windows are cut from: one dense array, and what belongs to its rows and columns."""

    def __init__(self, panel: Panel, arch: Architecture, zone: tzinfo, cut: int, scales: AsinhScales) -> None:
        """Each series is in units of what it was before column `cut`."""
        asinh_scale, centre, spread, weight, size = _units(panel.values[:, :cut], scales.at(panel), arch.steps_per_day)
        values = Scaling(asinh_scale, centre, spread).apply(panel.values).astype(np.float32)
        self.values = np.pad(values, [(0, 0), (arch.context_steps, 0)], constant_values=np.nan)
        self.when = calendar(panel, zone)
        self.bucket = arch.buckets(panel.parameter_id)
        self.weight = weight.astype(np.float32)
        self.unit = np.stack([asinh_scale > 0, centre, spread, size], axis=1).astype(np.float32)
        self.context, self.horizon, self.day = arch.context_steps, arch.horizon_steps, arch.steps_per_day

    def windows(self, rows: np.ndarray, origins: np.ndarray) -> tuple[np.ndarray, ...]:
        """What a network learns from at (rows, origins), of any one shape `s`, each with `s` before its own axes.

        Values (context and horizon), calendar (features), bucket (), weight (), unit (4). They are cut here and not in
        the compiled function, which so is the same for every panel: to compile it takes ten times what one call does.
        """
        # `values` begins one context before the panel: column `origin` there is where the context starts.
        span = origins[..., None] + np.arange(self.context + self.horizon)
        values = self.values[rows[..., None], span]
        return values, self.when[origins], self.bucket[rows], self.weight[rows], self.unit[rows]

    def validation_loss(self, network: LstmNetwork, rows: np.ndarray, origins: np.ndarray) -> float:
        """The loss of training, on windows (rows, origins) that training does not draw.

        One that moves far more than its series did before is judged by itself: a sensor whose unit was changed, or that
        was at rest, would else decide for all.
        """
        values, when, bucket, weight, _ = self.windows(rows, origins)
        weight = weight / np.maximum(1, weight * daily_change(values, self.day) / _MOST_MOVED)
        quantiles = predict(network.weights(), network.arch, values[:, : self.context], when, bucket)
        return float(pinball(quantiles, values[:, self.context :], weight))


def _units(values: np.ndarray, asinh_scale: np.ndarray, day: int) -> np.ndarray:
    """What each series is scaled and weighed by, (5, series): the three of `Scaling`; what an error of what is scaled
    counts for; and what one of `Scaling`'s unit is in the unit that errors are judged in.
    """
    scaling = Scaling.of(values, asinh_scale)
    unit = np.maximum(daily_change(scaling.apply(values).astype(np.float32), day), 0.1)
    # MASE's scale; a series that hardly moves is no exception.
    change = np.maximum(daily_change(values, day), 0.1 * centre_and_spread(values)[1])
    size = np.where(scaling.asinh_scale > 0, scaling.asinh_scale, scaling.spread) / change
    return np.stack([scaling.asinh_scale, scaling.centre, scaling.spread, 1 / unit, size])
