"""The pretrained network: two recurrent blocks over the patches of a context and of the horizon. No TensorFlow here.

The forward pass is written once, over the few operations of `Operations`: numpy serves it, TensorFlow trains it. The
horizon is read on with the state that the context left, as in TiRex (Auer et al., 2025): any horizon in one pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.pretraining.reading import (
    BASES,
    CHANNELS,
    COARSE_PATCHES,
    CONTEXT_PATCHES,
    DESCRIPTORS,
    PATCH,
    PLACES,
)

WIDTH: Final = 128
BLOCKS: Final = 2
_LEVELS: Final = len(QUANTILES)
_AHEAD: Final = PATCH * BASES + BASES + PLACES
_OUT: Final = PATCH * (_LEVELS + BASES) + 1

#: Trained arrays by name, float32.
Weights = Mapping[str, Any]


@dataclass(frozen=True)
class Operations:
    """What numpy and TensorFlow call by different names."""

    tanh: Callable[[Any], Any]
    exp: Callable[[Any], Any]
    sqrt: Callable[[Any], Any]
    maximum: Callable[[Any, Any], Any]
    minimum: Callable[[Any, Any], Any]
    mean: Callable[[Any], Any]
    concatenate: Callable[[list[Any], int], Any]
    stack: Callable[[list[Any], int], Any]
    cumulative: Callable[[Any], Any]
    reshape: Callable[[Any, tuple[int, ...]], Any]
    softmax: Callable[[Any], Any]
    unstack: Callable[[Any], list[Any]]
    split: Callable[[Any, int], list[Any]]


def softmax(logits: np.ndarray) -> np.ndarray:
    grown = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=-1, keepdims=True))


NUMPY: Final = Operations(
    tanh=np.tanh,
    exp=np.exp,
    sqrt=np.sqrt,
    maximum=np.maximum,
    minimum=np.minimum,
    mean=lambda x: x.mean(axis=-1, keepdims=True),
    concatenate=np.concatenate,
    stack=np.stack,
    cumulative=lambda x: np.cumsum(x, axis=-1),
    reshape=np.reshape,
    softmax=softmax,
    unstack=lambda x: [np.ascontiguousarray(x[:, t]) for t in range(x.shape[1])],
    split=lambda x, parts: np.split(x, parts, axis=-1),
)


def shapes() -> dict[str, tuple[int, ...]]:
    """The trained arrays by name, in the order in which they are drawn."""
    found: dict[str, tuple[int, ...]] = {
        "context/coarse": (CHANNELS * PATCH, WIDTH),
        "context/fine": (CHANNELS * PATCH, WIDTH),
        "context/described": (DESCRIPTORS, WIDTH),
        "context/bias": (WIDTH,),
        "ahead/kernel": (_AHEAD, WIDTH),
        "ahead/described": (DESCRIPTORS, WIDTH),
        "ahead/bias": (WIDTH,),
    }
    for k in range(BLOCKS):
        found |= {
            f"block{k}/lstm/scale": (WIDTH,),
            f"block{k}/lstm/kernel": (WIDTH, 4 * WIDTH),
            f"block{k}/lstm/recurrent": (WIDTH, 4 * WIDTH),
            f"block{k}/lstm/bias": (4 * WIDTH,),
            f"block{k}/dense/scale": (WIDTH,),
            f"block{k}/dense/up": (WIDTH, 2 * WIDTH),
            f"block{k}/dense/bias": (2 * WIDTH,),
            f"block{k}/dense/down": (2 * WIDTH, WIDTH),
        }
    return found | {"out/scale": (WIDTH,), "out/kernel": (WIDTH, _OUT), "out/bias": (_OUT,)}


def first_weights(seed: int) -> dict[str, np.ndarray]:
    """Where training starts, decided by the seed alone."""
    rng = np.random.default_rng(seed)
    return {name: _first(rng, name, shape) for name, shape in shapes().items()}


def _first(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("/scale"):
        return np.ones(shape, np.float32)
    if name.endswith("/bias"):
        bias = np.zeros(shape, np.float32)
        if "lstm" in name:
            bias[WIDTH : 2 * WIDTH] = 1.0  # remember at first
        return bias
    # Small last weights: training starts at the mean of the bases, not at noise around it.
    size = 0.01 if name.startswith("out") else 1 / np.sqrt(shape[0])
    return (size * rng.standard_normal(shape)).astype(np.float32)


def forward(ops: Operations, w: Weights, tokens: Any, bases: Any, offered: Any, described: Any, places: Any) -> Any:
    """Quantiles (n, horizon, levels), scaled, of what `Reading.inputs` gives."""
    patches = bases.shape[1]
    coarse, fine = tokens[:, :COARSE_PATCHES] @ w["context/coarse"], tokens[:, COARSE_PATCHES:] @ w["context/fine"]
    past = ops.concatenate([coarse, fine], 1) + (described @ w["context/described"] + w["context/bias"])[:, None]
    flat = ops.reshape(bases, (-1, patches, PATCH * BASES))
    repeated = ops.stack([offered] * patches, 1)
    ahead = ops.concatenate([flat, repeated, places], 2) @ w["ahead/kernel"]
    ahead = ahead + (described @ w["ahead/described"] + w["ahead/bias"])[:, None]
    x = ops.concatenate([past, ahead], 1)
    state = None
    for k in range(BLOCKS):
        y, state = _lstm(ops, w, f"block{k}/lstm", _normed(ops, x, w[f"block{k}/lstm/scale"]), state)
        x = x + y
        wide = _normed(ops, x, w[f"block{k}/dense/scale"]) @ w[f"block{k}/dense/up"] + w[f"block{k}/dense/bias"]
        x = x + ops.maximum(wide, 0.0) @ w[f"block{k}/dense/down"]
    out = _normed(ops, x[:, -patches:], w["out/scale"]) @ w["out/kernel"] + w["out/bias"]
    raw = ops.reshape(out[:, :, : PATCH * _LEVELS], (-1, patches, PATCH, _LEVELS))
    logits = ops.reshape(out[:, :, PATCH * _LEVELS : -1], (-1, patches, PATCH, BASES))
    share = ops.softmax(logits + 30.0 * (offered - 1.0)[:, None, None])
    base = ops.mean(share * bases) * BASES
    size = ops.exp(ops.minimum(ops.maximum(out[:, :, -1:], -6.0), 3.0))[:, :, :, None]
    return ops.reshape(base + size * _ascending(ops, raw), (-1, patches * PATCH, _LEVELS))


def _normed(ops: Operations, x: Any, scale: Any) -> Any:
    return x / ops.sqrt(ops.mean(x * x) + 1e-6) * scale


def _sigmoid(ops: Operations, x: Any) -> Any:
    return 0.5 * ops.tanh(0.5 * x) + 0.5


def _lstm(ops: Operations, w: Weights, name: str, x: Any, state: Any) -> tuple[Any, Any]:
    """Outputs (n, tokens, width) of a long short-term memory (Hochreiter and Schmidhuber, 1997), token by token, and
    its state where the context ends.

    It begins with the state that the block below had there, so that it knows the whole context from its first token
    (Moroshan et al., TempoPFN, 2025).
    """
    entering = ops.unstack(x @ w[f"{name}/kernel"] + w[f"{name}/bias"])
    hidden, cell = state or (0.0 * x[:, 0], 0.0 * x[:, 0])
    outputs = []
    for t, gates in enumerate(entering):
        taken, kept, given, candidate = ops.split(gates + hidden @ w[f"{name}/recurrent"], 4)
        cell = _sigmoid(ops, kept) * cell + _sigmoid(ops, taken) * ops.tanh(candidate)
        hidden = _sigmoid(ops, given) * ops.tanh(cell)
        outputs.append(hidden)
        if t == CONTEXT_PATCHES - 1:
            state = hidden, cell
    return ops.stack(outputs, 1), state


def _ascending(ops: Operations, raw: Any) -> Any:
    """The median as it is, the others by positive steps away from it, so that quantiles cannot cross."""
    moved = raw - 0.5
    steps = 0.5 * (moved + ops.sqrt(moved * moved + 1.0))  # squareplus (Barron, 2021)
    below = ops.cumulative(steps[..., MEDIAN - 1 :: -1])[..., ::-1]
    above = ops.cumulative(steps[..., MEDIAN + 1 :])
    middle = raw[..., MEDIAN : MEDIAN + 1]
    return ops.concatenate([middle - below, middle, middle + above], 3)
