"""`bts rehearse` as its user meets it."""

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from bts_assets.cli import picture_file

if TYPE_CHECKING:
    from bts_assets.monitoring.rehearsal import Report
    from bts_assets.settings import Settings
    from bts_assets.simulation.rehearsal import Plan


def rehearse(
    nights: Annotated[int, typer.Option(min=3, help="How many nights.")] = 30,
    stations: Annotated[int, typer.Option(min=7, help="How many stations; seven have a fault.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The same seed plants the same faults.")] = 1,
    end: Annotated[str | None, typer.Option(help="End of the last day. Default: the last whole hour.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write the picture into this PNG file.")] = None,
) -> None:
    """Rehearse a month of a simulated network with planted faults: what is noticed, how early, what is a false alarm.

    It runs in a temporary home; nothing of BTS_HOME is touched, and nobody is notified.

    Example: `bts rehearse --nights 30 --stations 10 --plot rehearsal.png`
    """
    from bts_assets.cli.commands.simulate import whole_hour
    from bts_assets.cli.render.rehearsal import picture_of, show_report
    from bts_assets.cli.render.terminal import out, progress_bars
    from bts_assets.settings import load_settings
    from bts_assets.simulation.rehearsal import plan

    picture_file.check_name(plot)
    planned = plan(stations, nights, whole_hour(end), seed)
    with progress_bars():
        report = _rehearsed(load_settings(), planned)
    show_report(report)
    if plot:
        out.print(picture_file.write(plot, picture_of(report, planned.origins[0], planned.spec.end)))


def _rehearsed(settings: "Settings", planned: "Plan") -> "Report":
    from bts_assets import progress
    from bts_assets.monitoring.rehearsal import Planted
    from bts_assets.services.rehearsal import rehearse as walk
    from bts_assets.services.temporary_home import temporary_home
    from bts_assets.simulation.simulate import simulate_network

    planted = [
        Planted(fault.kind, planned.station_id(fault), fault.parameter, planned.began_at(fault), None)
        for fault in planned.spec.faults
    ]
    with TemporaryDirectory(prefix="bts-rehearsal-") as folder:
        stage = Path(folder) / "stage"
        simulate_network(
            planned.spec, stage, on_progress=lambda done, total: progress.report("simulating", done, total)
        )
        with temporary_home(settings, file_stable_for=timedelta(0)) as home:
            return walk(home, stage, planned.origins, planned.spec.end, planted, progress.report)
