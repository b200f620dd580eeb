"""What a rehearsal comes to: which planted faults were noticed, how early, and what was told without any reason."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import isfinite
from statistics import median
from typing import Final

#: How far ahead a breach is expected.
_AHEAD: Final = timedelta(hours=48)

#: Share of a change that must be left in the nights after, and how many nights must tell.
_STILL: Final = 0.5
_LEAST_NIGHTS: Final = 2

EXPECTED, BREACH, DRIFT = "expected breach", "breach", "drift"
#: What a notice of a series or station can be that a fault's parameters decide on.
_OF_SERIES: Final = (EXPECTED, BREACH, DRIFT)

_ROOM: Final = frozenset({111, 112, 113, 116, 155})
_POWER: Final = frozenset({116, 121, 122, 123, 124, 125, 126, 141, 142, 143, 144, 145, 161, 165})
_WEATHER: Final = frozenset({111, 112, 113, 114, 115, 116, 122, 125, 162, 163, 164})


@dataclass(frozen=True)
class _Signs:
    """What tells of a kind of fault: parameters whose breaches and drift do, and notices of other kinds that do."""

    parameters: frozenset[int] = frozenset()
    notices: frozenset[str] = frozenset()


_SIGNS: Final = {
    "dying_air_conditioner": _Signs(_ROOM, frozenset({"cooling"})),
    "ageing_battery": _Signs(_POWER, frozenset({"battery"})),
    "fuel_runs_out": _Signs(_POWER | _ROOM, frozenset({"generator_stood", "generator_hours", "battery"})),
    "worn_generator": _Signs(_POWER, frozenset({"generator_load", "generator_hours"})),
    "change_of_season": _Signs(_WEATHER),
    "stuck_sensor": _Signs(notices=frozenset({"stuck", "flat_lined"})),
    "mis_scaled_sensor": _Signs(notices=frozenset({"mis_scaled", "flat_lined"})),
    "silent_station": _Signs(notices=frozenset({"silent", "silent_station", "missing"})),
}


@dataclass(frozen=True)
class Planted:
    """A fault: when it began, and when its harm came (a limit was passed, the grid failed); None: not yet.

    station_id: None for every station. parameter_id: the sensor's, of a faulty one.
    """

    kind: str
    station_id: int | None
    parameter_id: int | None
    began_at: datetime
    happened_at: datetime | None


@dataclass(frozen=True)
class Notice:
    """Something that a night told of, once: at its origin. side: high or low, of a breach. figure: of drift."""

    at: datetime
    how: str
    station_id: int | None
    parameter_id: int | None
    what: str
    side: str | None = None
    figure: str | None = None


@dataclass(frozen=True)
class Judged:
    """A notice with the fault that it tells of, if any, and when the limit was passed that it expected, if it was.

    lasted: of drift, whether the change was still there in the nights after.
    """

    notice: Notice
    fault: Planted | None
    came_at: datetime | None
    lasted: bool = False

    @property
    def false(self) -> bool:
        """Whether nothing was planted that explains it, and nothing came of it."""
        return self.fault is None and self.came_at is None and not self.lasted

    @property
    def lead(self) -> timedelta | None:
        """Time from the notice of an expected breach until it came."""
        return None if self.notice.how != EXPECTED or self.came_at is None else self.came_at - self.notice.at


@dataclass(frozen=True)
class FaultReport:
    """A planted fault and its first notice; expected: the first breach of it that was foreseen and came."""

    fault: Planted
    first: Notice | None
    expected: Judged | None


@dataclass(frozen=True)
class Report:
    """What a rehearsal came to."""

    faults: tuple[FaultReport, ...]
    judged: tuple[Judged, ...]
    series_nights: int

    @property
    def false_alarms(self) -> list[Judged]:
        return [j for j in self.judged if j.false]

    @property
    def unplanted_drift(self) -> list[Judged]:
        """Drift that no fault explains, and that lasted: a sensor that wanders."""
        return [j for j in self.judged if j.fault is None and j.lasted]

    @property
    def leads(self) -> list[timedelta]:
        """The lead of every expected breach that happened, whatever its cause."""
        return [j.lead for j in self.judged if j.lead is not None]

    @property
    def median_lead(self) -> timedelta | None:
        return timedelta(seconds=median(lead.total_seconds() for lead in self.leads)) if self.leads else None

    @property
    def false_per_1000(self) -> float:
        """False alarms per 1,000 series and nights."""
        return 1000 * len(self.false_alarms) / max(self.series_nights, 1)


def judge(
    planted: Sequence[Planted],
    notices: Sequence[Notice],
    beyond: Mapping[tuple[int, int, str], Sequence[datetime]],
    series_nights: int,
    lasting: Collection[Notice] = (),
) -> Report:
    """Compare the messages with the planted faults and the breaches that happened.

    beyond: (station_id, parameter_id, side) -> the instants, ascending, at which the series lay beyond that limit.
    lasting: notices of drift whose change `lasts`.
    """
    judged = tuple(
        replace(_judged(notice, planted, _came(notice, beyond)), lasted=notice in lasting) for notice in notices
    )
    return Report(tuple(_report(fault, judged) for fault in planted), judged, series_nights)


def lasts(levels: Sequence[float]) -> bool:
    """Whether a change of a level is still there: levels of the night that told of it and of those after, less the
    training's, half of them or more at least half as far off on the same side. A last night tells nothing.
    """
    told, *after = levels
    left = [level * told for level in after if isfinite(level)]
    return told != 0 and len(left) >= _LEAST_NIGHTS and median(left) >= _STILL * told**2


def _report(fault: Planted, judged: Sequence[Judged]) -> FaultReport:
    # Within a night, a notice that names the fault goes before one that only its values cause.
    mine = sorted((j for j in judged if j.fault == fault), key=lambda j: (j.notice.at, j.notice.how in _OF_SERIES))
    expected = next((j for j in mine if j.lead is not None), None)
    return FaultReport(fault, mine[0].notice if mine else None, expected)


def _judged(notice: Notice, planted: Sequence[Planted], came_at: datetime | None) -> Judged:
    """A notice with the fault that it tells of; of several that of a sensor or station before the whole network's.

    A breach that did not come tells of a fault at its own station, where a crew finds it, and of no weather.
    """
    no_weather = notice.how == EXPECTED and came_at is None
    ordered = sorted(planted, key=lambda fault: fault.station_id is None)
    found = (f for f in ordered if _tells_of(notice, f) and not (no_weather and f.station_id is None))
    return Judged(notice, next(found, None), came_at)


def _tells_of(notice: Notice, fault: Planted) -> bool:
    if notice.at < fault.began_at or (fault.station_id is not None and notice.station_id != fault.station_id):
        return False
    signs = _SIGNS[fault.kind]
    if notice.how not in _OF_SERIES:
        of_sensor = fault.parameter_id is None or notice.parameter_id == fault.parameter_id
        return notice.how in signs.notices and of_sensor
    if notice.parameter_id is None:
        return True  # drift of a whole station
    return notice.parameter_id == fault.parameter_id or notice.parameter_id in signs.parameters


def _came(notice: Notice, beyond: Mapping[tuple[int, int, str], Sequence[datetime]]) -> datetime | None:
    if notice.station_id is None or notice.parameter_id is None or notice.side is None:
        return None
    if notice.how == BREACH:
        return notice.at
    instants = beyond.get((notice.station_id, notice.parameter_id, notice.side), ())
    return next((at for at in instants if notice.at <= at < notice.at + _AHEAD), None)
