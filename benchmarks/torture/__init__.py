"""The fault campaign, `make torture`: faults injected for real, again and again, and what must hold after each.

What it shares with the tests, nights that need no training above all, lives in tests/helpers.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "helpers"))
