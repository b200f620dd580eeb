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
    return {name: version(name) for name in _PACKAGES}


@cache
def machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


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
