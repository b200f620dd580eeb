"""Where the files that ship beside the code are: migrations/, sql/, dagster.yaml, workspace.yaml."""

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parents[1]


def shipped(name: str) -> Path:
    """The path of a shipped file or folder: in a wheel below the package, in a checkout at its top."""
    packed = _PACKAGE / "_shipped" / name
    return packed if packed.exists() else _PACKAGE.parent / name
