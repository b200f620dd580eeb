"""All benchmarks, one after the other: `make bench`. Their report is docs/performance.md."""

import subprocess
import sys

for name in ("stages", "landing", "training", "publishing", "nightly", "lineage", "lineage_share", "month"):
    sys.stdout.write(f"\n$ python -m benchmarks.{name}\n")
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)  # noqa: S603 - ourselves
