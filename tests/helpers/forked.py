"""The `bts` command in a process of its own that need not import its libraries: it is forked from one that has.

To import TensorFlow, Dagster and MLflow takes seconds, and the tests run some hundred commands. The process that is
forked holds libraries of others alone: our own modules are imported anew by every command, in its own environment.
What a start costs, and what it imports, is tested by real starts (`tests/cli/test_startup.py`).
"""

import atexit
import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from functools import cache
from pathlib import Path
from typing import IO, Final

#: What commands import that takes a tenth of a second or more, and what is theirs to import only on some ways.
_LIBRARIES: Final = (
    *("numpy", "pandas", "pyarrow.parquet", "pandera.pandas", "sqlalchemy", "psycopg2", "alembic.command"),
    *("dagster", "mlflow", "mlflow.pyfunc", "scipy.stats", "matplotlib.figure", "typer", "rich.console"),
    *("pydantic_settings", "keras", "tensorflow"),
)


def run(
    arguments: list[str], env: dict[str, str], cwd: Path | None, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run `bts ARGUMENTS` in that environment; `subprocess.TimeoutExpired` if it does not end, and it is killed."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, socket.socket(socket.AF_UNIX) as ask:
        ask.settimeout(timeout)
        ask.connect(_server())
        order = json.dumps({"arguments": arguments, "env": env, "cwd": str(cwd or Path.cwd())}).encode()
        socket.send_fds(ask, [len(order).to_bytes(8, "big")], [out.fileno(), err.fileno()])
        ask.sendall(order)
        try:
            ended = ask.recv(8)
        except TimeoutError:
            raise subprocess.TimeoutExpired(["bts", *arguments], timeout, _all(out), _all(err)) from None
        code = int.from_bytes(ended, "big", signed=True)
        return subprocess.CompletedProcess(["bts", *arguments], code, _all(out), _all(err))


def _all(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


_starting = threading.Lock()


def _server() -> str:
    with _starting:
        return _started()


@cache
def _started() -> str:
    """Start the process that is forked; it ends when its standard input does, and so with the tests."""
    folder = tempfile.mkdtemp(prefix="bts-forked-")
    address = f"{folder}/socket"
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    plain = {name: value for name, value in os.environ.items() if not name.startswith("BTS_")}
    process = subprocess.Popen(
        [sys.executable, __file__, address], env=plain | quiet, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"

    def end() -> None:
        process.stdin.close()  # type: ignore[union-attr]
        process.wait()
        Path(address).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):  # the tests' own folder may have gone with all that it held
            Path(folder).rmdir()

    atexit.register(end)
    return address


def _serve(address: str) -> None:
    """Fork a process for each command, for as long as standard input is open; returns in those processes alone."""
    for library in _LIBRARIES:
        __import__(library)
    gc.freeze()  # what is shared stays shared: no collection in a command walks through it
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        print("ready", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            readable, _, _ = select.select([door, sys.stdin], [], [])
            if sys.stdin in readable:
                os._exit(0)
            asked, _ = door.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                break
            asked.close()
    _obey(asked)


def _obey(asked: socket.socket) -> None:
    """Wait for the command and say how it ended; returns in the command's own process alone."""
    size, descriptors, _, _ = socket.recv_fds(asked, 8, 2)
    order = json.loads(_exactly(asked, int.from_bytes(size, "big")))
    child = os.fork()
    if child:
        ended = os.pidfd_open(child)
        readable, _, _ = select.select([ended, asked], [], [])
        if ended not in readable:  # whoever asked has gone: no command outlives its test
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(OSError):
            asked.sendall(code.to_bytes(8, "big", signed=True))
        os._exit(0)
    asked.close()
    for descriptor, place in zip((os.open(os.devnull, os.O_RDONLY), *descriptors), (0, 1, 2), strict=True):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.argv = ["bts", *order["arguments"]]


def _exactly(asked: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        got += asked.recv(size - len(got))
    return got


def _end(code: int) -> None:
    """End as the interpreter would, but without tearing down every module that came along."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: a user's command does not have it
    _serve(sys.argv[1])
    from bts_assets.cli.app import main

    try:
        main()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        _end(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
    except BaseException:
        traceback.print_exc()
        _end(1)
    _end(0)
