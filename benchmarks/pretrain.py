"""Makes the weights of the pretrained network again, from a seed: `make pretrain`.

    python -m benchmarks.pretrain [--seed 1] [--steps 75000] [--checkpoint .bts-pretraining] [--weights FILE]

Trained on synthetic telemetry alone. It goes on from its newest checkpoint, though not always to the very same bits.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Final

# One thread: the same bits whatever else the machine does, and no core waits for another.
for name in ("OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ[name] = "1"
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

import numpy as np  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

from bts_assets.pretraining.network import first_weights  # noqa: E402
from bts_assets.pretraining.telemetry import synthesise  # noqa: E402
from bts_assets.pretraining.training import BATCH, LENGTH, Examples, Trainer, draw  # noqa: E402

#: Steps between checkpoints; the synthetic series are made anew for each.
SHARD: Final = 250
SERIES: Final = 6400
#: The learning rate at its peak, and the share of the steps in which it falls to nothing.
PEAK: Final = 3e-3
FALL: Final = 0.8
#: Every so many steps the horizon is the longest, else two patches.
LONG_EVERY: Final = 3


def validation() -> Examples:
    """Windows of series that no training draws."""
    telemetry = synthesise(10**9, 512, LENGTH)
    return draw(telemetry, np.random.default_rng(10**9), 1024)


def rate(step: int, steps: int) -> float:
    """A short warm-up, a plateau, and then a straight line to nothing (Hu et al., MiniCPM, 2024).

    The plateau does not know how many steps there will be: a training can be lengthened from its checkpoint.
    """
    return PEAK * min((step + 1) / 300, 1.0, (steps - step) / (FALL * steps))


def pretrain(seed: int, steps: int, batch: int, folder: Path) -> Trainer:
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(first_weights(seed))
    kept, begun = folder / f"seed-{seed}.safetensors", 0
    if kept.exists():
        state = load_file(kept)
        begun = int(state["step"][0])
        trainer.load_state(state)
    held_out = validation()
    started, seen = time.monotonic(), begun
    while begun < steps:
        telemetry = synthesise(seed * 10**6 + begun // SHARD, SERIES, LENGTH)
        rng = np.random.default_rng((seed, begun))
        losses = []
        for step in range(begun, min(begun + SHARD, steps)):
            patches = 6 if step % LONG_EVERY == 0 else 2
            losses.append(trainer.train(draw(telemetry, rng, batch, patches), rate(step, steps)))
        begun = min(begun + SHARD, steps)
        save_file(trainer.state() | {"step": np.array([begun])}, folder / "next")
        (folder / "next").replace(kept)
        spent = time.monotonic() - started
        left = (steps - begun) * spent / (begun - seen)
        told = f"step {begun} of {steps}: loss {np.mean(losses):.4f}, holdout {trainer.loss(held_out):.4f}"
        sys.stderr.write(f"{told}; {spent:.0f} s, {left:.0f} s to go\n")
        sys.stderr.flush()
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=75000)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--checkpoint", type=Path, default=Path(".bts-pretraining"))
    parser.add_argument("--weights", type=Path, default=Path(".bts-pretraining/pretrained.safetensors"))
    asked = parser.parse_args()
    trainer = pretrain(asked.seed, asked.steps, asked.batch, asked.checkpoint)
    save_file(trainer.weights(), asked.weights)


if __name__ == "__main__":
    main()
