"""When a night is: its origin, its start, the time by which its batch is due; on nights of clock changes too."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

#: A night's origin, by the clock of BTS_TIMEZONE.
ORIGIN: Final = time(2)

#: A night starts so much later: by then the files of the hour before the origin have landed.
FILES_LAND: Final = timedelta(minutes=30)

#: When nights start, by that clock.
START: Final = time(2, 30)


def origin_of(day: date, zone: ZoneInfo) -> datetime:
    """The origin of the night of a local day, in `zone`.

    Where the clock never shows two, it is the instant at which it would have; where it does so twice, the later one.
    """
    return _instant(day, ORIGIN, zone).astimezone(zone)


def night_of(issued_at: datetime, zone: ZoneInfo) -> date:
    """The night that an origin belongs to: its local day, by the clock of `zone`."""
    return issued_at.astimezone(zone).date()


def may_start(tick: datetime, zone: ZoneInfo) -> bool:
    """Whether the night of a tick's local day may start then: its files have had their time."""
    return tick.astimezone(UTC) >= origin_of(tick.astimezone(zone).date(), zone).astimezone(UTC) + FILES_LAND


def successor_due(issued_at: datetime, zone: ZoneInfo, ready_by: time) -> datetime:
    """When the first night whose origin is later than `issued_at` is to be ready, UTC."""
    day = issued_at.astimezone(zone).date()
    if origin_of(day, zone).astimezone(UTC) <= issued_at:
        day += timedelta(days=1)
    return _instant(day, ready_by, zone)


def _instant(day: date, clock: time, zone: ZoneInfo) -> datetime:
    """The UTC instant of a local time; the later of two, and the one after the gap where there is none."""
    return max(datetime.combine(day, clock, zone).replace(fold=fold).astimezone(UTC) for fold in (0, 1))
