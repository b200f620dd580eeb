"""`bts alerts`, `bts outage` and `bts ingest --alarms` as their user meets them. They decide nothing."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from bts_assets.contracts.errors import UsageError

alerts = typer.Typer(invoke_without_command=True, no_args_is_help=False)
outage = typer.Typer(no_args_is_help=True)

_STATION = typer.Option("--station", help="Station, by id or name.")
_PARAMETER = typer.Option("--parameter", help="Parameter, by id or name.")


@alerts.callback()
def show(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
) -> None:
    """List what people are told of: breaches, drift, failed runs, late nights, silent stations.

    Example: `bts alerts --all`
    """
    if context.invoked_subcommand is not None:
        return
    from bts_assets.cli.render.alerts import show_alerts
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings

    show_alerts(open_home(load_settings(), to_read=True).engine, every)


@alerts.command()
def ack(
    numbers: Annotated[list[int], typer.Argument(help="Numbers of alerts, as `bts alerts` lists them.")],
    reason: Annotated[str, typer.Option(help="What to note with it.")] = "acknowledged",
) -> None:
    """Take alerts over: they stay listed, and nobody is told of them any more until they are over.

    Example: `bts alerts ack 12 13 --reason "crew is on its way"`
    """
    from bts_assets.cli.render.terminal import out
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings
    from bts_assets.storage.alerts import acknowledge

    home = open_home(load_settings(), migrates=False)
    with home.engine.begin() as connection:
        missing = sorted(set(numbers) - acknowledge(connection, numbers, reason, datetime.now(UTC)))
        if missing:
            raise UsageError(f"alert {missing[0]} is not open: bts alerts lists those that are; none was acknowledged")
    out.print(f"acknowledged: {', '.join(map(str, sorted(set(numbers))))}")


@alerts.command()
def silence(
    station: Annotated[str | None, _STATION] = None,
    parameter: Annotated[str | None, _PARAMETER] = None,
    lasts: Annotated[str, typer.Option("--for", help="How long, for example 12h or 7d.")] = "24h",
    reason: Annotated[str, typer.Option(help="Why.")] = "by hand",
) -> None:
    """Tell nobody of a station, of a parameter, or of a parameter of a station, for a while; alerts are kept.

    Example: `bts alerts silence --station 1161114002 --for 7d --reason "sensor is being replaced"`
    """
    from bts_assets.cli.render.terminal import out
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings, parse_duration
    from bts_assets.storage.alerts import add_silence
    from bts_assets.storage.series_names import number_meant

    if station is None and parameter is None:
        raise UsageError("say what to silence: --station, --parameter or both")
    try:
        until = datetime.now(UTC) + parse_duration(lasts)
    except ValueError as error:
        raise UsageError(f"--for {lasts} {error}") from None
    home = open_home(load_settings(), migrates=False)
    with home.engine.begin() as connection:
        meant = {
            "station_id": None if station is None else number_meant(connection, "station", station),
            "parameter_id": None if parameter is None else number_meant(connection, "parameter", parameter),
        }
        values = meant | {"until": until, "reason": reason}
        number = add_silence(connection, values)
    out.print(f"silence {number}, until {until:%Y-%m-%d %H:%M} UTC; bts alerts unsilence {number} ends it")


@alerts.command()
def unsilence(number: Annotated[int, typer.Argument(help="Number of the silence.")]) -> None:
    """End a silence now.

    Example: `bts alerts unsilence 3`
    """
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings
    from bts_assets.storage.alerts import end_silence

    home = open_home(load_settings(), migrates=False)
    with home.engine.begin() as connection:
        if not end_silence(connection, number, datetime.now(UTC)):
            raise UsageError(f"no silence {number} runs: bts alerts lists those that do")


@alerts.command()
def check() -> None:
    """Look at everything that is watched and tell people of what is new; `bts up` does it every minute.

    Example: `bts alerts check`
    """
    from bts_assets.cli.render.terminal import out
    from bts_assets.services.alerts import check as look
    from bts_assets.services.delivery import deliver
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings

    home, now = open_home(load_settings(), migrates=False), datetime.now(UTC)
    checked, delivered = look(home, now), deliver(home, now)
    out.print(
        f"{checked.raised} raised, {checked.cleared} cleared; {delivered.sent} messages sent,"
        f" {len(delivered.failed)} failed, {delivered.waiting} waiting"
    )
    if delivered.failed:
        raise typer.Exit(1)


@alerts.command()
def test() -> None:
    """Send a message to every channel of BTS_ALERT_URLS and BTS_ALERT_WEBHOOK, and say which took it.

    Example: `bts alerts test`
    """
    from bts_assets.cli.render.terminal import out
    from bts_assets.contracts.alerts import Event
    from bts_assets.services.delivery import send_plain
    from bts_assets.settings import load_settings

    event = Event("failure", "test", "warning", "this is a test: nothing failed")
    outcomes = send_plain(load_settings(), event, datetime.now(UTC))
    if not outcomes:
        raise UsageError("no channel is set: BTS_ALERT_URLS and BTS_ALERT_WEBHOOK say where alerts go")
    for channel, error in outcomes.items():
        out.print(f"{channel}: {error or 'took it'}", markup=False)
    if any(outcomes.values()):
        raise typer.Exit(1)


def take_alarms(file: Path) -> None:
    """`bts ingest --alarms`: an alarm log into its ledger, and what is odd about it, a line each."""
    from bts_assets.cli.render.alerts import show_alarm_report
    from bts_assets.cli.render.terminal import err
    from bts_assets.services.alarms import take_in_alarms
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings

    home = open_home(load_settings(), say=lambda told: err.print(told, markup=False))
    show_alarm_report(file.name, take_in_alarms(home, file, datetime.now(UTC)))


@outage.callback()
def planned() -> None:
    """Outages that are planned: what happens at their stations then is not told of, and no breach is scored by it.

    Example: `bts outage add 1161114002 2026-11-20T08:00 2026-11-20T16:00 --reason "new rectifier"`
    """


@outage.command()
def add(
    station: Annotated[str | None, typer.Argument(help="Station, by id or name.")] = None,
    start: Annotated[str | None, typer.Argument(help="Its start; in BTS_TIMEZONE unless it says otherwise.")] = None,
    end: Annotated[str | None, typer.Argument(help="Its end.")] = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "planned",
    file: Annotated[
        Path | None, typer.Option("--file", help="A CSV of them: station_id,starts_at,ends_at,reason.")
    ] = None,
) -> None:
    """Enter an outage, or those of a CSV; the same again changes nothing.

    Example: `bts outage add --file outages.csv`
    """
    from bts_assets.cli.render.terminal import out
    from bts_assets.services import outages
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings
    from bts_assets.storage.series_names import number_meant

    if (file is None) == (station is None):
        raise UsageError("give a station with start and end, or --file")
    home = open_home(load_settings(), migrates=False)
    if file is not None:
        added, known = outages.add_file(home, file)
    else:
        with home.engine.connect() as connection:
            number = number_meant(connection, "station", str(station))
        added, known = outages.add_one(home, str(number), start or "", end or "", reason)
    out.print(f"{added} entered" + (f", {known} known before" if known else ""))


@outage.command(name="list")
def list_outages() -> None:
    """List outages that are planned or under way, and those of the last week.

    Example: `bts outage list`
    """
    from bts_assets.cli.render.alerts import show_outages
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings

    show_outages(open_home(load_settings(), to_read=True).engine)


@outage.command()
def remove(numbers: Annotated[list[int], typer.Argument(help="Numbers, as `bts outage list` lists them.")]) -> None:
    """Delete outages: what happens then is told of again.

    Example: `bts outage remove 3`
    """
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings
    from bts_assets.storage.alerts import remove_outages

    home = open_home(load_settings(), migrates=False)
    with home.engine.begin() as connection:
        missing = sorted(set(numbers) - remove_outages(connection, numbers))
        if missing:
            raise UsageError(f"there is no outage {missing[0]}: bts outage list lists them; none was removed")
