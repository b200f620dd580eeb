"""bts: the command line, a thin face over jobs and services."""

import gc
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bts_assets import __version__
from bts_assets.cli import picture_file
from bts_assets.cli.commands.alerts import alerts, outage, take_alarms
from bts_assets.cli.commands.backup import backup, restore
from bts_assets.cli.commands.catalogue import catalogue
from bts_assets.cli.commands.database import migrate, url
from bts_assets.cli.commands.lineage import impact, lineage, replay
from bts_assets.cli.commands.models import probation, promote, retrain, rollback, versions
from bts_assets.cli.commands.prune import prune
from bts_assets.cli.commands.rehearse import rehearse
from bts_assets.cli.commands.serve import explore, stop, up
from bts_assets.cli.commands.simulate import simulate, simulated_files
from bts_assets.cli.commands.tune import tune
from bts_assets.cli.commands.verify import verify
from bts_assets.cli.commands.watch import accuracy, breaches, drift, status
from bts_assets.contracts.errors import BtsError, InputError, UsageError

if TYPE_CHECKING:
    from bts_assets.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Nightly forecasts of base transceiver stations: landing files in, traceable forecasts in Postgres out.\n\n"
    "Exit codes: 0 done, 2 usage, 3 input, 4 database, 5 disk, 70 defect, 1 anything else.",
)

Landing = Annotated[Path | None, typer.Option("--landing", help="Folder of landing files. Default: BTS_LANDING_DIR.")]


#: The parts of `bts --help`.
_NIGHTS: Final = "Nights"
_LOOK: Final = "Looking at what is there"
_MODELS: Final = "Models"
_TRACE: Final = "Where a number comes from"
_KEEP: Final = "Setting up and keeping"

#: Ids of stations and parameters that files name lie below zero, and are no options.
_BELOW_ZERO: Final = {"ignore_unknown_options": True}


def main() -> None:
    """The entry point: what a user can act on ends in one line, not a traceback."""
    from bts_assets.cli.error_boundary import run

    # A million objects, of imports most of them, stay to the end. Python looks through them for garbage every few
    # seconds, and at the end once more: that was a fifth of a night without training, and two seconds after it.
    gc.set_threshold(50_000, 20, 10)
    try:
        run(app)
    finally:
        gc.freeze()


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit


@app.command(rich_help_panel=_NIGHTS)
def nightly(
    landing: Landing = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Forecast origin. Default: the newest grid instant.")
    ] = None,
) -> None:
    """The main job: take landing files in, forecast with the champion, publish.

    It trains first where no model version fits the grid, context and horizon. The same origin again changes
    nothing; without --as-of it is the newest step of the grid.

    Example: `bts nightly --landing /data/landing --as-of 2026-11-20T02:00+00:00`
    """
    from bts_assets.cli.first_nights import first_nights
    from bts_assets.cli.query import one_to_show, series_forecast
    from bts_assets.cli.render.terminal import draw, night_summary, out, progress_bars, tell_if_challenger_is_due
    from bts_assets.cli.run_job import run_job
    from bts_assets.services.home import open_home
    from bts_assets.services.retraining import due_by_age
    from bts_assets.settings import load_settings

    settings = load_settings(landing_dir=landing)
    _own_files_alone(settings)
    simulated = settings.landing_dir is None
    folder = settings.landing_dir or simulated_files(settings)
    with progress_bars():
        if simulated and as_of is None:
            said = first_nights(settings, folder)
        else:
            said = run_job("nightly", settings, landing=folder, as_of=as_of)
    night_summary(said)
    batch = said["station_forecasts"]
    home = open_home(settings, to_read=True)
    tell_if_challenger_is_due(due_by_age(home, datetime.fromisoformat(batch["issued_at"])))
    home.engine.dispose()
    shown = one_to_show(settings, batch["batch_id"])
    if shown:
        draw(series_forecast(settings, *shown, batch["batch_id"])[0])
    station, parameter = shown or (1161114002, 122)
    view = "latest_forecast" if batch["serves_latest"] else f"forecast_at_origin('{batch['issued_at']}')"
    out.print("\n[bold]Try next[/bold]")
    for command in (
        f'bts sql "SELECT target_at, q10, q50, q90 FROM bts.{view} '
        f'WHERE station_id = {station} AND parameter_id = {parameter} ORDER BY target_at LIMIT 8"',
        f"bts forecast {station} {parameter} --plot forecast.png",
        "bts up",
    ):
        out.print(f"  {_called(settings)}{command}", style="cyan", markup=False)


@app.command(rich_help_panel=_NIGHTS)
def ingest(
    landing: Landing = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Read files again that were refused, unusable or set aside.")
    ] = False,
    alarms: Annotated[
        Path | None, typer.Option("--alarms", help="Take in this alarm log of yours instead, a CSV.")
    ] = None,
) -> None:
    """Take landing files in and compute their observations, without forecasting; or an alarm log.

    Example: `bts ingest --landing /data/landing`
    """
    if alarms is not None:
        take_alarms(alarms)
        return
    from bts_assets.cli.render.terminal import ingest_summary, progress_bars
    from bts_assets.cli.run_job import run_job
    from bts_assets.settings import load_settings

    settings = load_settings(landing_dir=landing)
    _own_files_alone(settings)
    with progress_bars():
        if retry:
            _retry_failed(settings)
        said = run_job("ingest", settings, landing=settings.landing_dir)
    ingest_summary(said)


@app.command(rich_help_panel=_LOOK, context_settings=_BELOW_ZERO)
def forecast(
    station: Annotated[str, typer.Argument(help="Station: its id or its name.")],
    parameter: Annotated[str, typer.Argument(help="Parameter: its id or its name.")],
    plot: Annotated[Path | None, typer.Option("--plot", help="Write the picture into this PNG file.")] = None,
) -> None:
    """Show the latest forecast of one series with its history.

    Example: `bts forecast 1161114002 122 --plot forecast.png`
    """
    from bts_assets.cli.query import series_forecast
    from bts_assets.cli.render.terminal import draw, out
    from bts_assets.plots import forecast as forecast_plots
    from bts_assets.settings import load_settings

    picture_file.check_name(plot)
    shown, about = series_forecast(load_settings(), station, parameter)
    draw(shown)
    out.print(about)
    if plot:
        out.print(picture_file.write(plot, forecast_plots.forecasts([shown], about, dpi=150)))


@app.command(rich_help_panel=_MODELS)
def backtest(
    origins: Annotated[int, typer.Option(min=1, help="How many past origins to forecast from.")],
    output: Annotated[
        Path | None, typer.Option(help="Parquet file to write: a row per series, origin, candidate and metric.")
    ] = None,
    landing: Annotated[
        Path | None,
        typer.Option(help="Folder of landing files, taken into a temporary home. Default: what BTS_HOME has observed."),
    ] = None,
    step: Annotated[str | None, typer.Option(help="Grid width. Default: BTS_STEP.")] = None,
    context: Annotated[str | None, typer.Option(help="Past that a model sees. Default: BTS_CONTEXT.")] = None,
    horizon: Annotated[str | None, typer.Option(help="How far ahead. Default: BTS_HORIZON.")] = None,
    apart: Annotated[
        str | None,
        typer.Option(
            help="Time between origins. Default: a day, as between nights, or the horizon if that is shorter."
        ),
    ] = None,
    effort: Annotated[
        str | None, typer.Option(help="quick, standard or thorough. Default: BTS_TRAINING_EFFORT.")
    ] = None,
    refit_every: Annotated[
        int, typer.Option(min=1, help="Train at every so many origins; in between the older version forecasts.")
    ] = 1,
) -> None:
    """Rolling-origin backtest: at each cutoff refit on what was known, forecast, and score against the actuals.

    Every candidate is scored, and beside them what would have been served. Nothing is published, no champion changes.

    Example: `bts backtest --landing /data/landing --origins 8 --output scores.parquet`
    """
    from bts_assets import progress
    from bts_assets.cli.render.backtest import show
    from bts_assets.cli.render.terminal import err, out, progress_bars
    from bts_assets.services.backtest import opened, place_for, record_in_home, run_backtest
    from bts_assets.settings import load_settings, parse_duration

    settings = load_settings(step=step, context=context, horizon=horizon, training_effort=effort)
    try:
        between = parse_duration(apart)
    except ValueError as error:
        raise UsageError(f"--apart {apart} {error}") from None
    with place_for(output) as put:
        with progress_bars(), opened(settings, landing, progress.report) as home:
            tested = run_backtest(home, origins, between, refit_every, progress.report)
        put(tested.parquet)
    show(tested, home.catalogue)
    out.print(f"\nwrote {output}" if output else "\n--output FILE.parquet keeps the scores of every series")
    try:
        page = record_in_home(settings, tested).page
        out.print(f"MLflow has it, and shows it while bts up serves:\n{page}", markup=False, soft_wrap=True)
    except BtsError as error:
        err.print(f"not in MLflow: {error}", markup=False)


class _Query(typer.core.TyperCommand):
    """A command whose argument may begin with a comment of SQL, `-- `, which is no option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        commented = [arg for arg in args if arg.startswith("--") and arg[2:3].isspace()]
        others = [arg for arg in args if arg not in commented]
        return super().parse_args(ctx, [*others, "--", *commented] if commented else args)


@app.command(rich_help_panel=_LOOK, cls=_Query)
def sql(
    query: Annotated[str | None, typer.Argument(help="The query.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="A file with one query.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON array of objects instead of a table.")] = False,
) -> None:
    """Run one query, read-only, and print its rows.

    Example: `bts sql "SELECT * FROM bts.series_status LIMIT 5"`
    """
    from bts_assets.cli.query import print_query
    from bts_assets.settings import load_settings

    if csv and json:
        raise UsageError("rows are printed in one form: give --csv or --json")
    if (query is None) == (file is None):
        raise UsageError('give a query or a file of one: bts sql "SELECT ..." or bts sql --file sql/examples/NAME.sql')
    try:
        text = query if file is None else file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"--file {file} cannot be read: {error.strerror}") from None
    print_query(load_settings(), text or "", "csv" if csv else "json" if json else "table")


@app.command(rich_help_panel=_KEEP)
def env() -> None:
    """Print what plain `dagster` and `mlflow` commands need in their environment.

    On a terminal passwords are masked; a shell that evaluates it gets them.

    Example: `eval "$(bts env)" && dagster dev -w workspace.yaml`
    """
    from bts_assets.cli.run_job import environment
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings
    from bts_assets.storage.postgres import masked

    settings = load_settings()
    home = open_home(settings, to_read=True)
    given = {name: os.environ[name] for name in sorted(_shareable(settings) & set(os.environ))}
    seen = sys.stdout.isatty()
    for name, value in (given | environment(home)).items():
        typer.echo(f"export {name}={shlex.quote(masked(value) if seen else value)}")
    if seen:
        typer.echo('# passwords are masked on a terminal; eval "$(bts env)" gets them')


@app.command(rich_help_panel=_KEEP)
def doctor() -> None:
    """Check the set-up, and say what to do about what is wrong.

    Example: `bts doctor`
    """
    from bts_assets.cli.doctor import examine

    if not examine():
        raise typer.Exit(1)


_PLACED: Final[Mapping[str, Sequence[Callable[..., None]]]] = {
    _NIGHTS: (up, stop),
    _LOOK: (status, breaches, accuracy, drift, explore),
    _MODELS: (versions, retrain, promote, rollback, probation, tune),
    _TRACE: (impact, replay, verify),
    _KEEP: (url, migrate, catalogue, prune, backup, restore, simulate, rehearse),
}
for _panel, _commands in _PLACED.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.command(rich_help_panel=_TRACE, context_settings=_BELOW_ZERO)(lineage)
app.add_typer(alerts, name="alerts", rich_help_panel=_LOOK)
app.add_typer(outage, name="outage", rich_help_panel=_LOOK)


def _shareable(settings: "Settings") -> set[str]:
    """Names of the settings that hold no secret."""
    return {"BTS_HOME", "BTS_LANDING_DIR", "BTS_STATIONS_FILE", "BTS_CATALOGUE", *settings.public()}


def _called(settings: "Settings") -> str:
    """How this very command is called again, so that what is printed can be pasted; no secret is among it."""
    names = _shareable(settings) & set(os.environ)
    if os.environ.get("BTS_HOME") == str(Path(".bts").absolute()):
        names.discard("BTS_HOME")
    program = Path(sys.argv[0])
    folder = f"{os.path.relpath(program.parent)}/" if program.name == "bts" and ".venv" in program.parts else ""
    return "".join(f"{name}={shlex.quote(os.environ[name])} " for name in sorted(names)) + folder


def _own_files_alone(settings: "Settings") -> None:
    """Refuse to mix an operator's files with the simulated network: forecasts and champion would be of both."""
    from bts_assets.services.home import simulated_landing

    simulated = simulated_landing(settings.home)
    if settings.landing_dir and simulated.is_dir() and settings.landing_dir.absolute() != simulated:
        raise UsageError(
            f"{settings.home} holds the simulated network: give your own files a home of their own,"
            " for example BTS_HOME=.bts-mine"
        )


def _retry_failed(settings: "Settings") -> None:
    from bts_assets.cli.render.terminal import err
    from bts_assets.services.home import open_home
    from bts_assets.services.ingest import retry_failed

    home = open_home(settings, say=lambda told: err.print(told, markup=False))
    retry_failed(home)
    home.engine.dispose()
