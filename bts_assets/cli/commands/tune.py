"""`bts tune` as its user meets it: what it prints, and the file of settings that it leaves. It does not search."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bts_assets.contracts.hyperparameters import Hyperparameters, bounds

if TYPE_CHECKING:
    from bts_assets.services.tuning import Trial, Tuned

#: Rows of the table of the best trials.
_SHOWN: Final = 5


def tune(
    minutes: Annotated[
        float, typer.Option(min=0, help="Then no trial begins, and one that runs is cut short and not compared.")
    ] = 10,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Try no more than so many. Default: as time allows.")
    ] = None,
    effort: Annotated[str, typer.Option(help="What one trial costs: quick, standard or thorough.")] = "quick",
    output: Annotated[
        Path | None, typer.Option(help="File for the best settings. Default: tuned.env in BTS_HOME.")
    ] = None,
) -> None:
    """Search for better hyper-parameters of the LSTM on what this home has observed, and write the best as settings.

    Run again it goes on where it stopped, while observations, grid and effort are the same.

    Example: `bts tune --minutes 10`
    """
    from bts_assets import progress
    from bts_assets.cli.render.terminal import out, progress_bars
    from bts_assets.services.backtest import place_for
    from bts_assets.services.home import open_home
    from bts_assets.services.tuning import require_optuna, tune
    from bts_assets.settings import load_settings

    require_optuna()
    settings = load_settings(training_effort=effort)
    home = open_home(settings, migrates=False)
    settings.home.mkdir(parents=True, exist_ok=True)  # with a Postgres elsewhere, there may be none yet
    output = output or settings.home / "tuned.env"
    with place_for(output) as put:
        with progress_bars():
            tuned = tune(
                home,
                seconds=60 * minutes,
                trials=trials,
                on_start=_show_start,
                on_trial=_show_trial,
                on_progress=progress.report,
            )
        put(as_settings(tuned).encode())
    _show_best(tuned)
    out.print(f"\n{_verdict(tuned)}", markup=False)
    out.print(f"\nWritten to {output}; the next training uses them after", markup=False)
    # A name without a slash would be looked for in PATH.
    near = output.absolute().is_relative_to(Path.cwd())
    file = f"./{os.path.relpath(output)}" if near else str(output)
    out.print(f"  set -a; . {shlex.quote(file)}; set +a", style="cyan", markup=False)


def as_settings(tuned: "Tuned") -> str:
    """The best hyper-parameters as lines that a shell, and an env file of Docker's, can read."""
    lines = [f"BTS_LSTM_{name.upper()}={value}" for name, value in tuned.best.hyperparameters.to_dict().items()]
    return "\n".join([f"# bts tune, study {tuned.study}: {_verdict(tuned)}", *lines, ""])


def _verdict(tuned: "Tuned") -> str:
    best, present, count = tuned.best, tuned.present, len(tuned.trials)
    if present is None:
        return f"Trial {best.number} is the best of {count}, loss {best.loss:.4f}; the present settings gave no loss."
    if best == present:
        return f"The present settings are the best of {count}, loss {best.loss:.4f}: they are kept."
    than = f"{_change(best, present)} against {present.loss:.4f} of the present settings"
    doubt = "on the very origins that chose it: expect less of nights to come"
    return f"Trial {best.number} is the best of {count}: loss {best.loss:.4f}, {than}, {doubt}."


def _change(trial: "Trial", present: "Trial") -> str:
    assert trial.loss is not None and present.loss  # noqa: PT018, S101 - only these are compared
    return f"{100 * (trial.loss / present.loss - 1):+.1f} %"


# What is told on the way goes where the bars are drawn, or they would get into each other's lines.
def _show_start(known: "Tuned") -> None:
    from bts_assets.cli.render.terminal import err

    begun = f"goes on from {len(known.trials)} trials" if known.trials else "is new"
    until = f"{known.observed_until:%Y-%m-%d %H:%M} UTC"
    err.print(f"Study {known.study} {begun}: {known.series:,} series, observed until {until}", markup=False)


def _show_trial(trial: "Trial") -> None:
    from bts_assets.cli.render.terminal import err

    told = f"loss {trial.loss:.4f}" if trial.loss is not None else f"no loss: {trial.reason}"
    chosen = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in _items(trial.hyperparameters))
    err.print(f"  trial {trial.number:>3}  {trial.seconds:5.0f} s  {told}  ({chosen})", markup=False)


def _show_best(tuned: "Tuned") -> None:
    from rich.table import Table

    from bts_assets.cli.render.terminal import out

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("trial", "loss", "change", *(name.replace("_", " ") for name in bounds()), "s"):
        table.add_column(column, justify="right")
    present = tuned.present
    shown = tuned.trials[:_SHOWN]
    for trial in (*shown, *([present] if present and present not in shown else [])):
        against = "" if present is None else "present" if trial == present else _change(trial, present)
        values = [f"{value:.3g}" for _, value in _items(trial.hyperparameters)]
        table.add_row(str(trial.number), f"{trial.loss:.4f}", against, *values, f"{trial.seconds:.0f}")
    out.print()
    out.print(table)


def _items(chosen: Hyperparameters) -> list[tuple[str, float]]:
    return list(chosen.to_dict().items())
