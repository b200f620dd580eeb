"""What a landing file says of each reading, by the names that its header has unless a setting gives it others.

Where a header is matched with them: `landing/header.py`.
"""

from typing import Final

#: The first, the source's id of the reading, may be left out.
LANDING_COLUMNS: Final = ("id", "value", "station_id", "parameter_id", "reading_time")
