"""What the terminal shows: progress bars, the result of a night, a forecast drawn in characters."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bts_assets import progress
from bts_assets.contracts.text import counted, percent, printable

if TYPE_CHECKING:
    import numpy as np

    from bts_assets.plots.forecast import Forecast
    from bts_assets.services.retraining import Verdict

#: Columns where there is no terminal to ask.
_WIDTH: Final = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 100


class _SafeConsole(Console):
    """Prints no control characters that came with data: a rejected row could steer the terminal of who looks at it."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


out: Final = _SafeConsole(highlight=False, soft_wrap=True, width=_WIDTH)
err: Final = _SafeConsole(stderr=True, highlight=False, soft_wrap=True)

#: Words that stand out: states of a batch, severities, kinds of drift.
_COLOURS: Final = {
    **dict.fromkeys(("stale", "critical", "concept", "label"), "red"),
    **dict.fromkeys(("major", "covariate"), "yellow"),
    "current": "green",
}

#: What is said of a batch that is not live.
_LABELS: Final = {
    "retrospective": " [yellow](retrospective: made after the fact)[/yellow]",
    "in_sample": " [yellow](in sample: the model has seen the targets)[/yellow]",
}

#: Files that were not taken are named up to this many.
_NAMED: Final = 5

#: Steps of history drawn per step of forecast, at most.
_HISTORY_SHARE: Final = 2
#: Observations further apart than so many times the usual distance are not joined.
_GAP: Final = 2
#: Fewest and most labels of an axis of time.
_TICKS: Final = (3, 6)


def coloured(word: str) -> str:
    """A state, severity or kind of drift in its colour, as markup."""
    colour = _COLOURS.get(word)
    return f"[{colour}]{word}[/{colour}]" if colour else word


def station_of(row: Mapping[Any, Any]) -> str:
    """The station of a row by name and number, or by number where it has no name. It is not escaped."""
    return f"{row['station']} ({row['station_id']})" if row["station"] else str(row["station_id"])


@contextmanager
def progress_bars() -> Iterator[None]:
    """A bar for each long stage, on standard error; nothing where that is no terminal."""
    if not err.is_terminal:
        yield
        return
    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as bars:
        tasks: dict[str, TaskID] = {}

        def listener(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        with progress.listening(listener):
            yield


def night_summary(said: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the summary of a night from the metadata of its assets."""
    forecasts = said["station_forecasts"]
    if not forecasts["new"]:
        news = sum(said["readings"][f"files_{kind}"] for kind in ("taken", "copies", "refused"))
        out.print(
            f"\n[bold]{'The forecasts did not change.' if news else 'Nothing changed.'}[/bold] Batch"
            f" {forecasts['batch_id']} of origin {_instant(forecasts['issued_at'])} was published before, from the same"
            " observations by the same model version."
        )
    if not forecasts["serves_latest"]:
        out.print("\n[yellow]This batch does not serve: one of a later origin does.[/yellow]")
    label = _LABELS.get(forecasts["kind"], "")
    out.print(f"\n[bold]Origin {_instant(forecasts['issued_at'])}[/bold], {forecasts['origin']}{label}")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(style="dim")
    table.add_column()
    for name, text in (*_ingest_lines(said["readings"], said["grouped_series"]), *_forecast_lines(said)):
        table.add_row(name, text)
    out.print(table)


def tell_if_challenger_is_due(verdict: "Verdict") -> None:
    """Where no daemon of Dagster runs, nobody else says so."""
    if verdict.due:
        what = (
            f"a challenger is due ({verdict.words}): bts retrain trains it, and so does bts up where it is left running"
        )
        out.print(f"  [yellow]{escape(what)}[/yellow]")


def ingest_summary(said: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(style="dim")
    table.add_column()
    for name, text in _ingest_lines(said["readings"], said["grouped_series"]):
        table.add_row(name, text)
    out.print(table)


def draw(forecast: "Forecast") -> None:
    """The forecast and the newest of its history, as wide as the terminal up to 100 columns.

    An event does not squash the rest: what lies far beyond is drawn at the edge, and named in the title.
    """
    import numpy as np
    import plotext

    from bts_assets.plots.forecast import value_range

    keep = min(len(forecast.history), _HISTORY_SHARE * len(forecast.quantiles))
    history, q = forecast.history[len(forecast.history) - keep :], forecast.stored
    at = np.arange(keep + len(q))
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(min(out.width, 100), 18)
    interval = "braille" if out.is_terminal else "·"  # told apart by colour, where there is any
    low, high = value_range(forecast)
    for number, steps in enumerate(_without_gaps(history)):
        shown = np.clip(history[steps], low, high).tolist()
        plotext.plot(steps.tolist(), shown, marker="braille", label=None if number else "observed")
    for column, label in ((0, "90 % interval"), (4, None)):
        plotext.plot(at[keep:].tolist(), q[:, column].tolist(), marker=interval, color="gray", label=label)
    plotext.plot(at[keep:].tolist(), q[:, 2].tolist(), marker="braille", color="orange", label="forecast (q50)")
    for _, value in forecast.limits:
        if low <= value <= high:
            plotext.hline(value, "red")
    times = [*forecast.history_times()[len(forecast.history) - keep :], *forecast.target_times()]
    ticks = _ticks(times)
    plotext.xticks(ticks, [f"{times[t]:%d %b %H:%M}" for t in ticks])
    ends = (np.nanmin(history, initial=low), np.nanmax(history, initial=high))
    beyond = [f"{value:.4g}" for value, edge in zip(ends, (low, high), strict=True) if value != edge]
    off = f" (off the chart: {', '.join(beyond)})" if beyond else ""
    limits = "".join(f", {name} {value:g}" for name, value in forecast.limits)
    unit = f", {forecast.unit}" if forecast.unit else ""
    plotext.title(f"{printable(forecast.title, '')}{unit}{limits}{off}; times in UTC")
    picture = plotext.build()
    out.print()
    # Without a terminal the colours would be escape codes in a file.
    print(picture if out.is_terminal else plotext.uncolorize(picture))  # noqa: T201


def _without_gaps(history: "np.ndarray") -> list["np.ndarray"]:
    """Steps between which a line is drawn: none across what was not observed. Readings that come less often than the
    grid has steps leave no gap.
    """
    import numpy as np

    known = np.flatnonzero(np.isfinite(history))
    if len(known) < 2:
        return [known] if len(known) else []
    apart = np.diff(known)
    return np.split(known, np.flatnonzero(apart > _GAP * np.median(apart)) + 1)


def _ticks(times: Sequence[datetime]) -> list[int]:
    """Where days begin, or half and quarter days where there are few; the ends of what is shorter still."""
    for hours in (24, 12, 6):
        found = [i for i, time in enumerate(times) if time.minute == 0 and time.hour % hours == 0 and not time.second]
        if len(found) >= _TICKS[0]:
            return found[:: -(-len(found) // _TICKS[1])]
    return [0, len(times) - 1]


def _ingest_lines(readings: Mapping[str, Any], series: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    parts = [f"{readings['files_taken']:,} taken"]
    kinds = ("corrected", "continued", "unchanged", "copies", "unusable", "refused", "left")
    parts += [f"{readings[f'files_{kind}']:,} {kind}" for kind in kinds if readings[f"files_{kind}"]]
    yield "landing files", f"{readings['files_found']:,} found: {', '.join(parts)}"
    yield from _named(readings.get("not_taken", {}))
    if readings["files_unusable"]:
        yield "no reading", f"[yellow]{counted(readings['files_unusable'], 'file')} gave no reading[/yellow]"
        yield from _named(readings.get("unusable", {}))
    if narrowed := readings.get("narrowed", {}):
        yield "narrowed", f"[yellow]{counted(len(narrowed), 'file')} replaced one that had more[/yellow]"
        yield from _named(narrowed)
    if readings["files_not_looked_at"]:
        named = list(readings.get("not_looked_at", {}).items())[:_NAMED]
        more = readings["files_not_looked_at"] - len(named)
        text = ", ".join(f"{path} ({why})" for path, why in named) + (f" and {more:,} more" if more else "")
        yield "not looked at", f"{counted(readings['files_not_looked_at'], 'file')}: {escape(text)}"
    if readings["rows"]:
        yield "readings", f"{readings['new_rows']:,} accepted of {readings['rows']:,} rows"
        yield "rejected rows", f"{readings['rejected']:,}{_by_reason(readings['rejected_by_reason'])}"
        across = series["duplicates_across_files"]
        yield "duplicate rows", f"{readings['duplicate']:,} within files, {across:,} across files"
    yield from _identity_lines(series)
    yield "series", f"{series['series']:,}, of {series['dagster/row_count']:,} observations"


def _identity_lines(series: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What ids did to the readings of the days that were computed, where they did anything."""
    if series["corrected"] or series["contradicted"]:
        within = f", {series['contradicted']:,} by one of the same file" if series["contradicted"] else ""
        yield "replaced", f"{series['corrected']:,} readings by a newer file's of the same id{within}"
    if series["ids_ignored"]:
        yield "ids", f"of {series['ids_ignored']:,} readings name nothing; they are told apart by time and value"
    if series["unlisted"]:
        ids = ", ".join(map(str, series["unlisted"][:_NAMED])) + (", ..." if len(series["unlisted"]) > _NAMED else "")
        yield "not listed", f"parameters {ids}: gauges without limits to us; bts catalogue shows what they look like"
    for warning in series["warnings"]:
        yield "[yellow]warning[/yellow]", f"[yellow]{escape(warning)}[/yellow]"


def _forecast_lines(said: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    model, forecasts = said["lstm_model"], said["station_forecasts"]
    version = f"version {model['model_version_id']}"
    yield (
        "model",
        version + (f", trained in {model['training_seconds']:.0f} s" if model["trained"] else ", the champion"),
    )
    if "lstm_failure" in model:
        yield "no LSTM", f"{model['lstm_failure']}; a smaller BTS_CONTEXT and BTS_HORIZON need less history"
    if model["trained"] and model["backtest"].records:
        records = [r.data for r in model["backtest"].records if r.data["median_mase"] is not None]
        # A candidate that was scored on some series alone cannot be told beside the others.
        most = max((r["series"] for r in records), default=0)
        shown = [r for r in records if r["candidate"] == "served" or r["series"] >= 0.9 * most]
        shown.sort(key=lambda r: r["candidate"] != "served")
        yield "median MASE", ", ".join(f"{r['candidate']} {r['median_mase']:.3f}" for r in shown)
    yield (
        "forecasts",
        f"{forecasts['dagster/row_count']:,} rows in batch {forecasts['batch_id']}: "
        + ", ".join(f"{forecasts[k]:,} {k}" for k in ("forecast", "fallback", "excluded")),
    )
    yield "served by", ", ".join(f"{r.data['what']} {r.data['rows']:,}" for r in forecasts["sources"].records)
    went = said.get("retention", {})
    if went.get("dagster/row_count") or went.get("files"):
        rows = f"{went['forecast_rows']:,} forecasts of {went['batches']:,} batches"
        yield "pruned", f"{rows}, {went['observations']:,} observations, readings of {went['files']:,} files"
    beside = said.get("challenger_forecasts", {})
    if "probation_id" in beside:
        serves = "canary_share" in forecasts
        how = f"serves {percent(beside['share'])} of the stations" if serves else "in shadow"
        text = f"version {beside['model_version_id']}, {how}: night {beside['nights']}"
        text += (
            f"; {beside['decision']}: {beside['reason']}"
            if "decision" in beside
            else f", the gate asks when {beside['nights_planned']} have come true"
        )
        yield "challenger", text if "shadow_batch_id" in beside else f"{text}; it made no batch tonight"


def _named(files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for path, why in list(files.items())[:_NAMED]:
        yield "", escape(f"{path}: {why}")
    if len(files) > _NAMED:
        yield "", f"and {len(files) - _NAMED:,} more; see bts.ingest_ledger"


def _by_reason(table: Any) -> str:
    reasons = sorted(((r.data["what"], r.data["rows"]) for r in table.records), key=lambda r: -r[1])
    return f" ({', '.join(f'{reason} {rows:,}' for reason, rows in reasons)})" if reasons else ""


def _instant(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"
