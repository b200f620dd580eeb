"""All benchmarks, one after the other: `make bench`. Their report is docs/performance.md."""

import subprocess
import sys
from pathlib import Path

names = ["stages", "landing", "training", "publishing", "nightly", "lineage", "lineage_share", "month"]
if (Path(__file__).parent.parent / ".bts-references").exists():  # else there is nobody to race with
    names.insert(3, "race")
for name in names:
    sys.stdout.write(f"\n$ python -m benchmarks.{name}\n")
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)  # noqa: S603 - ourselves
