"""What the terminal shows of a pruning."""

from collections.abc import Iterator
from datetime import timedelta

from bts_assets.cli.render.terminal import out
from bts_assets.contracts.grid import format_duration
from bts_assets.services.retention import Past

_MIB = 1 << 20


def show_past(past: Past, forecasts: timedelta | None, observations: timedelta | None, *, gone: bool) -> None:
    """What of forecasts, observations and readings went, or would go, by the retention of each."""
    out.print("deleted:" if gone else "would be deleted (nothing was):", highlight=False)
    for name, kept, lines in (
        ("BTS_FORECAST_RETENTION", forecasts, _of_forecasts(past)),
        ("BTS_OBSERVATION_RETENTION", observations, _of_observations(past)),
    ):
        if kept is None:
            out.print(f"  {name} is unset: all is kept", highlight=False)
            continue
        out.print(f"  {name}={format_duration(kept)}", highlight=False)
        for line in lines:
            out.print(f"    {line}", highlight=False, soft_wrap=True)


def _of_forecasts(past: Past) -> Iterator[str]:
    batches = past.batches
    yield f"{len(batches):,} batches, {past.forecast_rows:,} rows, about {past.forecast_bytes / _MIB:,.1f} MiB"
    if batches:
        yield f"origins {batches[0].issued_at:%Y-%m-%d %H:%M} to {batches[-1].issued_at:%Y-%m-%d %H:%M} UTC"


def _of_observations(past: Past) -> Iterator[str]:
    days = past.days
    of_days = f", {days[0].day} to {days[-1].day}" if days else ""
    size = f"about {past.observation_bytes / _MIB:,.1f} MiB"
    yield f"{len(days):,} days{of_days}: {past.observations:,} observations, {size}"
    yield f"readings of {len(past.files):,} landing files, {past.file_bytes / _MIB:,.1f} MiB"
