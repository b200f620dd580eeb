"""Runs whose process is gone: they say STARTED, and would for hours, and keep the next night from its turn."""

import os
import socket
from pathlib import Path
from typing import Final

import dagster as dg

#: Tag of every run: where and as what process it runs.
PROCESS: Final = "bts/process"

_RUNNING: Final = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def this_process() -> str:
    """Host, boot, number and start of this process: a number alone is given again."""
    return f"{socket.gethostname()} {_boot()} {os.getpid()} {_started(os.getpid())}"


def fail_abandoned(instance: dg.DagsterInstance) -> list[str]:
    """Report runs as failed whose process, on this host, is gone; their ids. Those of other hosts are not judged."""
    runs = instance.get_runs(dg.RunsFilter(statuses=_RUNNING))
    gone = [run for run in runs if _is_gone(run.tags.get(PROCESS, ""))]
    for run in gone:
        instance.report_run_failed(run, f"its process is gone ({run.tags[PROCESS]}): it was killed, or its machine was")
    return [run.run_id for run in gone]


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="fails runs whose process is gone, which would keep the next night from its turn",
)
def abandoned_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Fails runs whose process is gone, within a minute or so; `bts nightly` and `bts up` do so when they start."""
    failed = fail_abandoned(context.instance)
    return dg.SkipReason(f"reported as failed: {', '.join(failed)}" if failed else "every run has its process")


def _is_gone(process: str) -> bool:
    parts = process.split(" ")
    if len(parts) != 4 or parts[0] != socket.gethostname():
        return False
    _, boot, pid, started = parts
    return boot != _boot() or _started(int(pid)) != started


def _boot() -> str:
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text().strip() if file.exists() else "-"


def _started(pid: int) -> str:
    """When a process started, in ticks since boot where /proc tells; empty: there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "" if Path("/proc/self/stat").exists() else "-"
