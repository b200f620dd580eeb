"""By what a result was made: code, packages, machine. Read once per process; no secrets, no paths."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from bts_assets import __version__

_PACKAGES: Final = (
    "numpy",
    "pandas",
    "pyarrow",
    "pandera",
    "safetensors",
    "tensorflow",
    "keras",
    "mlflow",
    "dagster",
    "sqlalchemy",
)


@cache
def code_version() -> str:
    """`0.1.0`, from a checkout `0.1.0+g<commit>`, and `.dirty` where tracked files differ from that commit."""
    top = Path(__file__).resolve().parents[2]
    if not (top / ".git").exists():
        return __version__
    commit = _git(top, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return __version__
    return f"{__version__}+g{commit}" + (".dirty" if _git(top, "status", "--porcelain", "-uno") else "")


@cache
def packages() -> dict[str, str]:
    """Versions of what computes, and which weights the pretrained network ships with."""
    from bts_assets.forecasting.pretrained import WEIGHTS

    return {name: version(name) for name in _PACKAGES} | {PRETRAINED: WEIGHTS}


#: No package that could be installed.
PRETRAINED: Final = "pretrained weights"


@cache
def machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "gpus": _gpus(),
    }


def _gpus() -> str:
    """The machine's NVIDIA GPUs, with commas between; empty if none, or if they are hidden from this process. It is not
    TensorFlow that is asked, which takes seconds to import.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return ""
    told = (file.read_text(encoding="utf-8") for file in sorted(_DRIVER.glob("*/information")))
    return ", ".join(line.partition(":")[2].strip() for text in told for line in text.splitlines() if "Model" in line)


_DRIVER: Final = Path("/proc/driver/nvidia/gpus")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _git(top: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=top, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603, S607
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
