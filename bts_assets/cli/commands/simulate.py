"""`bts simulate`, and the network that a night simulates where it was given no landing folder."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bts_assets.contracts.errors import InputError, UsageError
from bts_assets.contracts.grid import instant_of

if TYPE_CHECKING:
    from bts_assets.settings import Settings


def simulate(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the landing files; new or empty.")],
    stations: Annotated[int, typer.Option(help="How many stations.")] = 8,
    days: Annotated[int, typer.Option(help="How many days.")] = 14,
    parameters: Annotated[int, typer.Option(help="How many sensors and counters a station has, 27 at most.")] = 15,
    readings_per_hour: Annotated[float, typer.Option(help="Of a sensor that reports at a steady rate.")] = 30.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 1,
    end: Annotated[str | None, typer.Option(help="End of the last day. Default: the last whole hour.")] = None,
) -> None:
    """Write landing files of a simulated network, with its truth in a folder beside them.

    Example: `bts simulate --stations 8 --days 14 --out landing --seed 1`
    """
    from bts_assets.cli.render.terminal import out, progress_bars

    _check({"--stations": stations, "--days": days, "--parameters": parameters}, least=1)
    _check({"--readings-per-hour": readings_per_hour}, least=0.01)
    _check({"--seed": seed}, least=0)
    with progress_bars():
        truth = _simulate(out_dir, stations, days, seed, whole_hour(end), None, parameters, readings_per_hour)
    totals = truth.totals
    rejected = sum(totals["rejected"].values())
    out.print(
        f"{totals['files']:,} landing files in {out_dir}: {totals['rows']:,} rows, of which {rejected:,} must be"
        f" rejected and {totals['duplicates']:,} are duplicates; the truth is in {truth.folder}"
    )


def _check(given: dict[str, float], least: float) -> None:
    for option, value in given.items():
        if value < least:
            raise UsageError(f"{option} {value}: {least:g} is the least that there can be")


def simulated_files(settings: "Settings") -> Path:
    """The simulated network's landing folder, made at first use."""
    import shutil

    from bts_assets.cli.render.terminal import out
    from bts_assets.services.home import simulated_landing

    landing = simulated_landing(settings.home)
    if landing.is_dir():
        out.print(f"No landing folder was given: using the simulated network in {landing}")
        return landing
    out.print("No landing folder was given (--landing or BTS_LANDING_DIR): simulating a network of 8 stations, 16 days")
    # Made aside and renamed, so that a run that is killed leaves no half network behind.
    partial = landing.parent.with_name("simulated.part")
    shutil.rmtree(partial, ignore_errors=True)
    _simulate(partial / landing.name, 8, 16, 1, whole_hour(None), partial / "truth")
    partial.rename(landing.parent)
    return landing


def whole_hour(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    try:
        return instant_of(text, UTC).astimezone(UTC)
    except ValueError:
        raise UsageError(f"--end {text} is not a time; write for example 2026-11-20T00:00+00:00") from None


def _simulate(
    folder: Path,
    stations: int,
    days: int,
    seed: int,
    end: datetime,
    truth: Path | None = None,
    parameters: int = 15,
    readings_per_hour: float = 30.0,
) -> Any:
    from bts_assets import progress
    from bts_assets.simulation.simulate import NetworkSpec, first_parameters, simulate_network

    chosen = first_parameters(parameters)
    spec = NetworkSpec(stations, days, end, seed, parameters=chosen, readings_per_hour=readings_per_hour)
    try:
        return simulate_network(
            spec, folder, truth=truth, on_progress=lambda done, total: progress.report("simulating", done, total)
        )
    except OSError as error:
        raise InputError(f"--out {folder} cannot be written: {error.strerror}; name a new folder") from None
