"""Batteries, generators and cooling of every station, held against their own past and kept with the batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.grid import Grid
from bts_assets.monitoring import power
from bts_assets.monitoring.cooling import cooling
from bts_assets.monitoring.terms import Limits
from bts_assets.services.home import Home
from bts_assets.storage.power import StationSeries, replace_findings, station_series
from bts_assets.storage.station_limits import station_limits

#: Parameters by what they tell of a site; of a battery's voltages the first that is there.
GRID_VOLTAGE, GRID_LOAD, GENERATOR_VOLTAGE, GENERATOR_LOAD, ROOM, OUTDOOR = 121, 122, 124, 125, 111, 114
GRID_FREQUENCY: Final = 123
GRID: Final = (GRID_VOLTAGE, GRID_LOAD, GRID_FREQUENCY)
BATTERY_VOLTAGES: Final = (141, 143, 144)
_ALL: Final = (*BATTERY_VOLTAGES, GRID_VOLTAGE, GRID_LOAD, GENERATOR_VOLTAGE, GENERATOR_LOAD, ROOM, OUTDOOR)

#: What can be found of a site, as `bts.station_finding` calls it.
FINDINGS: Final = ("battery", "generator_stood", "generator_load", "generator_hours", "cooling")

#: A generator that gives so much more than its site took before, or runs so much longer than in any week, is named.
_HARDER, _LONGER = 1.25, 1.5
#: Weeks in which a generator hardly runs say nothing of it.
_LEAST_HOURS: Final = 4.0
#: Share of a step without the grid from which on a room is not held against its past: voltages vary.
_AWAY: Final = 0.2
#: Past that a station is held against: older outages say little of a battery of today.
_SPAN: Final = timedelta(days=56)
#: Hours below which a battery's autonomy is grave in itself.
_CRITICAL_HOURS, _MAJOR_HOURS = 2.0, 4.0


@dataclass(frozen=True)
class SitePower:
    """What was found: stations whose battery's autonomy is known, and findings."""

    stations: int
    findings: int


@dataclass(frozen=True)
class _Site:
    """One station's series up to the origin; `away`: share of each step without the grid, None where unmeasured."""

    station_id: int
    series: StationSeries
    grid: Grid
    start: datetime
    away: np.ndarray | None

    def at(self, step: int) -> datetime:
        return self.start + step * self.grid.step


def assess(home: Home, batch_id: int, origin: datetime) -> SitePower:
    """Keep with a batch what the eight weeks before its origin tell, or BTS_TRAINING_SPAN if that is shorter."""
    grid = home.settings.grid
    start = origin - min(home.settings.training_span or _SPAN, _SPAN) // grid.step * grid.step
    autonomy: list[dict[str, Any]] = []
    findings: list[dict[str, Any]] = []
    with home.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        own = station_limits(connection)
        for station, series in station_series(connection, grid, _ALL, start, origin):
            grid_voltage = series.get(GRID_VOLTAGE)
            away = None if grid_voltage is None else power.grid_away(grid_voltage)
            site = _Site(station, series, grid, start, away)
            autonomy += (battery := list(_battery(site, home.catalogue, own)))
            findings += [*_of_battery(site, battery), *_of_generator(site), *_of_cooling(site)]
    replace_findings(home.engine, batch_id, autonomy, findings)
    return SitePower(len(autonomy), len(findings))


def _battery(site: _Site, catalogue: Catalogue, own: Limits) -> Iterator[dict[str, Any]]:
    for parameter in BATTERY_VOLTAGES:
        limit = own.get((site.station_id, parameter), (None, None))[0] or catalogue.of(parameter).low_limit
        voltage = site.series.get(parameter)
        if voltage is None or limit is None:
            continue
        past = power.discharges(voltage, site.away)
        day = site.grid.steps_per_day
        found = power.autonomy(past, limit, len(voltage), day, _newest(voltage[-max(day // 24, 1) :]))
        if found:
            hours = site.grid.step.total_seconds() / 3600
            yield {
                "station_id": site.station_id,
                "parameter_id": parameter,
                "limit_value": limit,
                "hours": found.steps * hours,
                "low_hours": found.low * hours,
                "high_hours": found.high * hours,
                "outages": found.outages,
                "falling_since": None if found.falling_since is None else site.at(found.falling_since),
                "hours_before": None if found.before is None else found.before * hours,
            }
        return


def _newest(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else None


def _of_battery(site: _Site, autonomy: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in autonomy:
        hours, before = row["hours"], row["hours_before"]
        if before is None and row["high_hours"] >= _MAJOR_HOURS:
            continue
        fell = f", {before:.1f} h before" if before else ""
        severity = "major" if hours < _CRITICAL_HOURS else "minor" if hours < _MAJOR_HOURS else "warning"
        yield _finding(
            site,
            "battery",
            severity,
            row["falling_since"],
            f"battery lasts {hours:.1f} h ({row['low_hours']:.1f} to {row['high_hours']:.1f}){fell}",
            "capacity of the battery strings, terminals, charging voltage, temperature of the battery",
        )


def _of_generator(site: _Site) -> Iterator[dict[str, Any]]:
    voltage, load = site.series.get(GENERATOR_VOLTAGE), site.series.get(GENERATOR_LOAD)
    if voltage is None and load is None:
        return
    on = power.running(voltage if voltage is not None else load)  # type: ignore[arg-type]
    found = power.generator(on, load, site.series.get(GRID_LOAD), site.away, site.grid.steps_per_day)
    if found.stood is not None:
        yield _finding(
            site, "generator_stood", "major", site.at(found.stood),
            f"generator stood while the grid was away, from {site.at(found.stood):%Y-%m-%d %H:%M} UTC",
            "fuel, starter battery, transfer switch",
        )  # fmt: skip
    if found.load_ratio is not None and found.load_ratio > _HARDER:
        yield _finding(
            site, "generator_load", "minor", None,
            f"generator gives {found.load_ratio:.2f} times what the site took before at that hour",
            "what else hangs on the generator; its filters and bearings, the air conditioners",
        )  # fmt: skip
    if found.hours is not None and found.past_hours is not None and _longer(found.hours, found.past_hours):
        there = "" if site.away is None else " while the grid was there"
        yield _finding(
            site, "generator_hours", "minor", None,
            f"generator ran {found.hours:.0f} h in a week{there}, at most {found.past_hours:.0f} h before",
            "the grid's supply, the transfer switch, fuel for the days to come",
        )  # fmt: skip


def _longer(hours: float, past_hours: float) -> bool:
    return hours > max(_LONGER * past_hours, _LEAST_HOURS)


def _of_cooling(site: _Site) -> Iterator[dict[str, Any]]:
    room, outdoor = site.series.get(ROOM), site.series.get(OUTDOOR)
    if room is None or outdoor is None:
        return
    powered = np.ones(len(room), bool) if site.away is None else ~(site.away > _AWAY)
    found = cooling(room, outdoor, powered, site.grid.steps_per_day)
    if found:
        yield _finding(
            site, "cooling", "major" if found.warmer > 5 else "minor", site.at(found.since),
            f"room is {found.warmer:.1f} °C warmer than before at the same outdoor temperature",
            "air conditioners: refrigerant, filters, fans, compressor; the door",
        )  # fmt: skip


def _finding(site: _Site, kind: str, severity: str, since: datetime | None, what: str, check: str) -> dict[str, Any]:
    return {
        "station_id": site.station_id,
        "kind": kind,
        "perceived_severity": severity,
        "since": since,
        "what": what,
        "what_to_check": check,
    }
