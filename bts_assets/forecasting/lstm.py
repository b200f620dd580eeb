"""The LSTM forecaster: one network for all series, its training, its forecasts. Alone in importing TensorFlow.

The network reads a context in patches, scales each window by that window's own past, and gives ascending quantiles of
the deviation from a base forecast, which is itself a learned mixture of simple ones (last value, yesterday, a week ago,
the mean at that phase of the day): a global network in the manner of Salinas et al., DeepAR (2020), with the direct
multi-horizon quantile output of Wen et al., MQ-RNN (2017), and patches as in Nie et al., PatchTST (2023).
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import tzinfo
from functools import lru_cache
from threading import Lock
from typing import Final

import numpy as np

from bts_assets.contracts.hyperparameters import Hyperparameters
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting.architecture import UNNAMED, Architecture
from bts_assets.forecasting.scaling import Scaling, centre_and_spread, daily_change
from bts_assets.forecasting.training_plan import STEPS_PER_CALL
from bts_assets.forecasting.windows import (
    CALENDAR_FEATURES,
    calendar,
    in_chunks,
    latest_context,
    minimum_past,
)


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

# Another panel is another shape and another compilation: meant so, and no news for the terminal.
tf.get_logger().setLevel("ERROR")

#: Series that are forecast at once: it bounds memory, not speed.
PREDICT_CHUNK: Final = 512

_LEVELS: Final = len(QUANTILES)
_CLIP: Final = 8.0


def build(arch: Architecture) -> keras.Model:
    """The trainable part: tokens, descriptors and bucket in; raw quantiles, logits of the bases, a linear part out."""
    tokens = keras.Input((arch.tokens, 2 * arch.patch))
    descriptors = keras.Input((_DESCRIPTORS,))
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
    raw = keras.layers.Dense(arch.horizon_steps * _LEVELS, kernel_initializer=start, name="quantiles")(x)
    logits = keras.layers.Dense(arch.horizon_steps * arch.bases, kernel_initializer=start, name="bases")(x)
    raw = keras.layers.Reshape((arch.horizon_steps, _LEVELS))(raw)
    # A straight line from the context, past the LSTM: what is linear need not be learned through the gates.
    line = keras.layers.Dense(arch.horizon_steps, kernel_initializer=start, name="line")
    straight = line(keras.layers.Flatten()(tokens[:, :, : arch.patch]))
    logits = keras.layers.Reshape((arch.horizon_steps, arch.bases))(logits)
    return keras.Model([tokens, descriptors, bucket], [raw, logits, straight])


_DESCRIPTORS: Final = CALENDAR_FEATURES + 4


#: The trainable part as a function: [tokens, descriptors, bucket] to raw quantiles, logits of bases, linear part.
Core = Callable[[list[tf.Tensor]], list[tf.Tensor]]


def forward(model: Core, arch: Architecture, past: tf.Tensor, when: tf.Tensor, bucket: tf.Tensor) -> tf.Tensor:
    """Quantiles (batch, horizon, levels) in the unit of `past` (batch, context; NaN where not observed)."""
    known = tf.math.is_finite(past)
    centre, scale = _own_scale(arch, past, known)
    scaled = tf.where(known, (past - centre) / scale, 0.0)
    bases = _bases(arch, scaled, known)
    clipped = tf.clip_by_value(scaled, -_CLIP, _CLIP)
    pad = arch.tokens * arch.patch - arch.context_steps
    shape = (-1, arch.tokens, arch.patch)
    seen = tf.reshape(tf.pad(clipped, [[0, 0], [pad, 0]]), shape)
    mask = tf.reshape(tf.pad(tf.cast(known, tf.float32), [[0, 0], [pad, 0]]), shape)
    descriptors = tf.concat([when, _descriptors(arch, clipped, known, centre, scale)], axis=1)
    raw, logits, straight = model([tf.concat([seen, mask], axis=2), descriptors, bucket])
    base = tf.reduce_sum(tf.nn.softmax(logits, axis=2) * bases, axis=2, keepdims=True)
    return centre[:, :, None] + scale[:, :, None] * (base + straight[:, :, None] + _ascending(raw))


def _ascending(raw: tf.Tensor) -> tf.Tensor:
    """The median as it is, the others by positive steps away from it, so that quantiles cannot cross."""
    # Squareplus (Barron, 2021): as smooth as softplus, and cheap.
    steps = 0.5 * (raw - 1.5 + tf.sqrt(tf.square(raw - 1.5) + 1.0))
    below = tf.cumsum(steps[:, :, :MEDIAN], axis=2, reverse=True)
    above = tf.cumsum(steps[:, :, MEDIAN + 1 :], axis=2)
    middle = raw[:, :, MEDIAN : MEDIAN + 1]
    return tf.concat([middle - below, middle, middle + above], axis=2)


def _own_scale(arch: Architecture, past: tf.Tensor, known: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Centre and scale of each window (batch, 1): the mean of its last day, leaning on that of all; mean deviation.

    The mean deviation, unlike the median one, survives a series that is mostly zero.
    """
    values = tf.where(known, past, 0.0)
    day = min(arch.steps_per_day, arch.context_steps)
    count = tf.reduce_sum(tf.cast(known, tf.float32), axis=1, keepdims=True)
    mean = tf.reduce_sum(values, axis=1, keepdims=True) / tf.maximum(count, 1.0)
    recent = tf.reduce_sum(tf.cast(known[:, -day:], tf.float32), axis=1, keepdims=True)
    lean = day / 8
    centre = (tf.reduce_sum(values[:, -day:], axis=1, keepdims=True) + lean * mean) / (recent + lean)
    deviation = tf.reduce_sum(tf.where(known, tf.abs(past - centre), 0.0), axis=1, keepdims=True)
    return centre, tf.maximum(deviation / tf.maximum(count, 1.0), 1e-6)


def _bases(arch: Architecture, scaled: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
    """Simple forecasts (batch, horizon, bases) in scaled units; 0 (the centre) where one has nothing to say."""
    ahead = np.arange(arch.horizon_steps)
    position = tf.where(known, tf.range(arch.context_steps)[None, :], -1)
    newest = tf.reduce_max(position, axis=1, keepdims=True)
    last = tf.reduce_sum(tf.where((position == newest) & known, scaled, 0.0), axis=1, keepdims=True)
    bases = [tf.tile(last, [1, arch.horizon_steps]), tf.zeros_like(tf.tile(last, [1, arch.horizon_steps]))]
    if arch.days:
        shape = (-1, arch.days, arch.steps_per_day)
        day_values = tf.reshape(scaled[:, -arch.days * arch.steps_per_day :], shape)
        day_known = tf.reshape(known[:, -arch.days * arch.steps_per_day :], shape)
        day = tf.where(day_known, tf.range(arch.days)[None, :, None], -1)
        is_newest = (day == tf.reduce_max(day, axis=1, keepdims=True)) & day_known
        yesterday = tf.reduce_sum(tf.where(is_newest, day_values, 0.0), axis=1)
        seen = tf.reduce_sum(tf.cast(day_known, tf.float32), axis=1)
        phase_mean = tf.reduce_sum(day_values, axis=1) / tf.maximum(seen, 1.0)
        phase = ahead % arch.steps_per_day
        bases += [tf.gather(yesterday, phase, axis=1), tf.gather(phase_mean, phase, axis=1)]
        if arch.days >= 7:
            at = arch.context_steps - 7 * arch.steps_per_day + ahead % (7 * arch.steps_per_day)
            week_ago = tf.where(tf.gather(known, at, axis=1), tf.gather(scaled, at, axis=1), bases[2])
            bases.append(week_ago)
        if arch.days >= 8:
            now, then = (_mean_of_day(arch, scaled, known, back) for back in (0, 7))
            bases.append(week_ago + now - then)
        if arch.days >= 14:
            at -= 7 * arch.steps_per_day
            bases.append(tf.where(tf.gather(known, at, axis=1), tf.gather(scaled, at, axis=1), week_ago))
    return tf.stack(bases, axis=2)


def _mean_of_day(arch: Architecture, scaled: tf.Tensor, known: tf.Tensor, back: int) -> tf.Tensor:
    """The mean (batch, 1) of the day that ended `back` days before the origin; 0 (the centre) if not observed."""
    end = arch.context_steps - back * arch.steps_per_day
    day = slice(end - arch.steps_per_day, end)
    count = tf.reduce_sum(tf.cast(known[:, day], tf.float32), axis=1, keepdims=True)
    return tf.reduce_sum(scaled[:, day], axis=1, keepdims=True) / tf.maximum(count, 1.0)


def _descriptors(
    arch: Architecture, clipped: tf.Tensor, known: tf.Tensor, centre: tf.Tensor, scale: tf.Tensor
) -> tf.Tensor:
    """(batch, 4): share observed, roughness from step to step and from day to day, level against scale."""

    def roughness(lag: int) -> tf.Tensor:
        both = known[:, lag:] & known[:, :-lag]
        total = tf.reduce_sum(tf.where(both, tf.abs(clipped[:, lag:] - clipped[:, :-lag]), 0.0), axis=1, keepdims=True)
        return total / tf.maximum(tf.reduce_sum(tf.cast(both, tf.float32), axis=1, keepdims=True), 1.0)

    share = tf.reduce_mean(tf.cast(known, tf.float32), axis=1, keepdims=True)
    daily = roughness(arch.steps_per_day) if arch.days >= 2 else tf.zeros_like(share)
    level = tf.math.log1p(tf.abs(centre) / scale)
    return tf.concat([share, roughness(1), daily, tf.minimum(level, 10.0) / 5.0], axis=1)


def pinball(quantiles: tf.Tensor, truth: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Mean pinball loss (Koenker and Bassett, 1978) over levels and observed targets, each window times its weight."""
    known = tf.math.is_finite(truth)
    error = tf.where(known, truth, 0.0)[:, :, None] - quantiles
    levels = tf.constant(QUANTILES, tf.float32)
    loss = tf.maximum(levels * error, (levels - 1.0) * error) * tf.cast(known, tf.float32)[:, :, None]
    count = tf.maximum(tf.reduce_sum(tf.cast(known, tf.float32)), 1.0) * _LEVELS
    return 2.0 * tf.reduce_sum(loss * weight[:, None, None]) / count


def _served(values: tf.Tensor, unit: tf.Tensor) -> tf.Tensor:
    """Scaled values (batch, ...) in the unit that errors are judged in; unit (batch, 4) as `TrainingData` has it."""
    scale, centre, spread, size = tf.unstack(tf.reshape(unit, [-1, 4] + [1] * (values.shape.rank - 1)), axis=1)
    linear = tf.where(scale > 0, 0.0, values)  # no gradient through the branch not taken
    inner = tf.clip_by_value(centre + spread * tf.where(scale > 0, values, 0.0), -12.0, 12.0)
    return size * tf.where(scale > 0, tf.sinh(inner), linear)


class LstmNetwork:
    """One architecture, compiled once: trained from several seeds, and forecasting with any weights that fit it.

    Training changes the weights that it holds. Forecasting takes its weights as an input, changes nothing, and may run
    in several threads at once, beside each other and beside training.
    """

    def __init__(self, arch: Architecture, weight_decay: float) -> None:
        self.arch = arch
        self.model = build(arch)
        self._predict = tf.function(self._forward_with, jit_compile=True)
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

    def predict(
        self, weights: Mapping[str, np.ndarray], past: np.ndarray, when: np.ndarray, bucket: np.ndarray
    ) -> np.ndarray:
        """Quantiles (windows, horizon, levels) float32 in the unit of `past` (windows, context) float32.

        Raises KeyError or ValueError where the weights, as `weights` gives them, do not fit the architecture.
        """
        count = len(past)
        given = [self._fitting(variable, weights[variable.path]) for variable in self.model.trainable_variables]
        quantiles = np.empty((count, self.arch.horizon_steps, _LEVELS), np.float32)
        for part in in_chunks(count, PREDICT_CHUNK):
            # Every chunk has one shape, so that one compilation serves them all.
            fill = PREDICT_CHUNK - (part.stop - part.start)
            inputs = (np.pad(a[part], [(0, fill)] + [(0, 0)] * (a.ndim - 1)) for a in (past, when, bucket))
            quantiles[part] = self._predict(given, *map(tf.constant, inputs)).numpy()[: part.stop - part.start]
        return quantiles

    def _fitting(self, variable: keras.Variable, weight: np.ndarray) -> tf.Tensor:
        if weight.shape != tuple(variable.shape):
            raise ValueError(f"{variable.path} has shape {weight.shape}, not {tuple(variable.shape)}")
        return tf.constant(weight, tf.float32)

    def _forward_with(self, weights: list[tf.Tensor], past: tf.Tensor, when: tf.Tensor, bucket: tf.Tensor) -> tf.Tensor:
        def model(inputs: list[tf.Tensor]) -> list[tf.Tensor]:
            state = self.model.non_trainable_variables
            return list(self.model.stateless_call(weights, state, inputs)[0])

        return forward(model, self.arch, past, when, bucket)

    def _forward(self, past: tf.Tensor, when: tf.Tensor, bucket: tf.Tensor) -> tf.Tensor:
        return forward(self.model, self.arch, past, when, bucket)

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


#: Of two threads that ask for a network at once, one builds it.
_BUILDING: Final = Lock()


def network(arch: Architecture, weight_decay: float = Hyperparameters.weight_decay) -> LstmNetwork:
    """The network of an architecture, kept because compiling it costs seconds."""
    with _BUILDING:
        return _network(arch, weight_decay)


@lru_cache(maxsize=4)
def _network(arch: Architecture, weight_decay: float) -> LstmNetwork:
    return LstmNetwork(arch, weight_decay)


class TrainingData:
    """A panel that windows are cut from: one dense array, and what belongs to its rows and columns."""

    def __init__(self, panel: Panel, arch: Architecture, zone: tzinfo, cut: int) -> None:
        """Scales are taken from columns before `cut` alone."""
        past = panel.values[:, :cut]
        scaling = Scaling.of(past)
        values = scaling.apply(panel.values).astype(np.float32)
        self.values = np.pad(values, [(0, 0), (arch.context_steps, 0)], constant_values=np.nan)
        self.when = calendar(panel, zone)
        self.bucket = arch.buckets(panel.parameter_id)
        self.weight = (1 / np.maximum(daily_change(values[:, :cut], arch.steps_per_day), 0.1)).astype(np.float32)
        # What one is in the unit that errors are judged in, MASE's scale; a series that hardly moves is no exception.
        change = np.maximum(daily_change(past, arch.steps_per_day), 0.1 * centre_and_spread(past)[1])
        size = np.where(scaling.asinh_scale > 0, scaling.asinh_scale, scaling.spread) / change
        self.unit = np.stack([scaling.asinh_scale > 0, scaling.centre, scaling.spread, size], axis=1).astype(np.float32)
        self.context, self.horizon = arch.context_steps, arch.horizon_steps

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
        """The loss of training, on windows (rows, origins) that training does not draw."""
        values, when, bucket, weight, _ = self.windows(rows, origins)
        quantiles = network.predict(network.weights(), values[:, : self.context], when, bucket)
        return float(pinball(quantiles, values[:, self.context :], weight))


@dataclass(frozen=True)
class LstmForecaster:
    """The LSTM as a forecaster: the mean of the quantiles of every seed. NaN for a series with too few observations."""

    network: LstmNetwork
    seeds: tuple[dict[str, np.ndarray], ...]
    zone: tzinfo
    name: str = "lstm"

    def forecast(self, panel: Panel) -> np.ndarray:
        arch = self.network.arch
        panel = latest_context(panel)
        scaling = Scaling.of(panel.values)
        missing = arch.context_steps - panel.steps
        past = np.pad(scaling.apply(panel.values).astype(np.float32), [(0, 0), (missing, 0)], constant_values=np.nan)
        when = np.repeat(calendar(panel, self.zone)[-1:], len(panel), axis=0)
        bucket = arch.buckets(panel.parameter_id)
        quantiles = np.zeros((len(panel), arch.horizon_steps, _LEVELS))
        for weights in self.seeds:
            quantiles += self.network.predict(weights, past, when, bucket)
        quantiles = scaling.undo(quantiles / len(self.seeds))
        quantiles[np.isfinite(past).sum(axis=1) < minimum_past(panel.grid)] = np.nan
        return quantiles
