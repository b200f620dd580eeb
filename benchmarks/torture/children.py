"""Work done in processes of its own that may be killed: forked, for to start Python anew takes longer than a night.

Whoever forks here has no threads and no open connection: what the children share with it is memory alone.
"""

import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bts_assets.storage.crash_points import arm


@dataclass(frozen=True)
class Ended:
    """How a child ended: `done` with its value, `killed`, or `failed` with its traceback."""

    status: str
    value: Any = None

    @property
    def why(self) -> str:
        """The line of the traceback that names the exception."""
        if self.status != "failed":
            return self.status
        lines = str(self.value).strip().splitlines()
        # What stands below the last frame, whose lines are indented: a message may have several lines.
        frames = [number for number, line in enumerate(lines) if line.startswith("  File ")]
        below = lines[frames[-1] + 1 :] if frames else lines
        return next((line for line in below if not line.startswith(" ")), lines[-1])


@dataclass
class Child:
    """A process that runs, and the pipe by which it reports its result."""

    pid: int
    pipe: int

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def end(self, kill_after: float | None = None) -> Ended:
        """Wait for it; after so many seconds it is killed, at whatever it is then."""
        until = None if kill_after is None else time.monotonic() + kill_after
        told = bytearray()
        with os.fdopen(self.pipe, "rb", buffering=0) as pipe:
            while True:
                left = None if until is None else max(until - time.monotonic(), 0)
                if not select.select([pipe], [], [], left)[0]:
                    self.kill()
                    until = None
                    continue
                if not (part := os.read(pipe.fileno(), 1 << 16)):
                    break
                told += part
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            return Ended("killed", os.WTERMSIG(status))
        return pickle.loads(told) if told else Ended("failed", f"exit status {status}, and nothing said")  # noqa: S301


def start(work: Callable[[], Any], log: Path, crash_at: str | None = None) -> Child:
    """Have a child do the work; it dies at a crash point, if one is named. Its stderr goes to `log`."""
    sys.stdout.flush()
    out, into = os.pipe()
    pid = os.fork()
    if pid:
        os.close(into)
        return Child(pid, out)
    os.close(out)
    with suppress(BaseException):  # nothing of the parent's may run here, whatever happens
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
        arm(crash_at)
        try:
            ended = Ended("done", work())
        except BaseException:
            ended = Ended("failed", traceback.format_exc())
        data = pickle.dumps(ended)
        while data:
            data = data[os.write(into, data) :]
    os._exit(0)


def in_child(work: Callable[[], Any], log: Path, crash_at: str | None = None, kill_after: float | None = None) -> Ended:
    return start(work, log, crash_at).end(kill_after)


def at_once(works: Sequence[Callable[[], Any]], log: Path) -> list[Ended]:
    """Have a child do each work, all let go at the same moment."""
    out, into = os.pipe()

    def wait_and_do(work: Callable[[], Any]) -> Any:
        os.close(into)
        os.read(out, 1)  # ends when the last that could write is gone
        return work()

    children = [start(lambda work=work: wait_and_do(work), log) for work in works]  # type: ignore[misc]
    os.close(out)
    os.close(into)
    return [child.end() for child in children]
