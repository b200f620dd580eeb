"""The option `--plot FILE.png`: its name is checked before the work, and the picture is written after it."""

from pathlib import Path

from bts_assets.contracts.errors import InputError, UsageError


def check_name(plot: Path | None) -> None:
    """Raises UsageError if a file for a picture is not named as one."""
    if plot and plot.suffix.lower() != ".png":
        raise UsageError(f"--plot {plot} writes a PNG file: give a name that ends in .png")


def write(plot: Path, picture: bytes) -> str:
    """Write it; what to say of it. Raises InputError if it cannot be written."""
    try:
        plot.write_bytes(picture)
    except OSError as error:
        raise InputError(f"--plot {plot} cannot be written: {error.strerror}") from None
    return f"wrote {plot}"
