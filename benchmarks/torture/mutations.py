"""Damaged landing files: none crashes or hangs the parser, every row is accounted for, memory stays.

Where only the rows are damaged, each is judged as the slow oracle of tests/landing judges it.
"""

import importlib.util
import resource
import signal
from collections import Counter
from datetime import timedelta
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, Final
from zoneinfo import ZoneInfo

from small_nights import HEADER, NOW, hourly

from benchmarks.torture.campaign import FaultTrial
from benchmarks.torture.children import in_child
from benchmarks.torture.stage import Stage
from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.schemas import Readings, validate
from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.files import parse_landing_file

_ORACLE: Final = Path(__file__).parents[2] / "tests" / "landing" / "test_landing_oracle.py"
_RULES: Final[dict[str, Any]] = {
    "landing_timezone": ZoneInfo("UTC"), "now": NOW, "max_skew": timedelta(days=1), "max_bytes": 64 << 20,
    "number_of": lambda _, names: {name: -1 - k for k, name in enumerate(sorted(set(names)))},
}  # fmt: skip
_FILES_A_CHILD: Final = 500
#: Nothing of these small files may take longer, seconds, or more memory than that, bytes.
_PATIENCE: Final = 20
_MEMORY: Final = 300 << 20
#: What is put into a file, or in place of a part of it.
_TOKENS: Final = (
    *(b"", b"\0", b"\n", b"\r", b"\r\n", b'"', b",", b";", b"\t", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b", b"nan"),
    *(b"-1", b"999999", b"1e999", b"9" * 400, b"2147483648", b"18446744073709551616", b"1,5", b"0x10", b"\xc3\x28"),
    *(b"2026-02-30 00:00:00", b"2026-03-29 02:30:00", b"id", HEADER.encode(), b"\n" * 300, b"," * 300, b'"' * 99),
)


def trial(stage: Stage, random: Random, number: int) -> FaultTrial:
    """Five hundred damaged files in a process that must neither grow nor take its time."""
    oracle, made, seed = stage.once("oracle", _oracle), FaultTrial(), random.getrandbits(32)
    ended = in_child(lambda: _judged(oracle, seed), stage.log)
    if ended.status != "done":
        made.fail(f"seed {seed}: {ended.value}"[-600:])
        return made
    kinds, made.failures = ended.value
    for kind, count in kinds.items():
        made.land(kind, count)
    return made


def _oracle() -> ModuleType:
    spec = importlib.util.spec_from_file_location("landing_oracle", _ORACLE)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - the file is in the checkout
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _judged(oracle: ModuleType, seed: int) -> tuple[Counter[str], list[str]]:
    """How many files came to what, and what was wrong."""
    random, kinds, failures, before = Random(seed), Counter[str](), [], _peak()  # noqa: S311 - to be repeated
    rows = [*hourly(range(24)), *hourly(range(24), station=2, first_id=100)]
    whole = "\n".join([HEADER, *rows, ""]).encode()
    header, _, body = oracle.SOUND_FILE.partition(b"\n")
    for k in range(_FILES_A_CHILD):
        signal.alarm(_PATIENCE)  # its default ends the process
        try:
            if k % 2:
                kinds[_parsed(damaged(whole, random))] += 1
            else:
                oracle.check(header + b"\n" + damaged(body, random))
                kinds["as the oracle"] += 1
        except Exception as error:
            failures.append(f"file {k} of seed {seed}: {type(error).__name__}: {error}"[:300])
    signal.alarm(0)
    if _peak() - before > _MEMORY:
        failures.append(f"seed {seed}: {(_peak() - before) >> 20} MB more")
    return kinds, failures


def _parsed(data: bytes) -> str:
    try:
        parsed = parse_landing_file(data, load_catalogue(), **_RULES)
    except LandingFileRefused:
        return "refused"
    validate(Readings, parsed.readings)
    if parsed.accepted + parsed.rejected_rows + parsed.duplicates != parsed.rows:
        raise AssertionError("rows unaccounted for")
    return "parsed"


def damaged(sound: bytes, random: Random) -> bytes:
    """One to eight damages: flipped bits, bytes gone, doubled or replaced, the end cut off."""
    data = bytearray(sound)
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        at, length = random.randrange(len(data) + 1), random.choice((1, 2, 10, 60))
        match random.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << random.randrange(8)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = random.choice(_TOKENS)
            case 3:
                data[at : at + length] = random.choice(_TOKENS)
            case 4:
                data[at:at] = data[at // 2 : at // 2 + 10 * length]
            case _:
                del data[at : None if random.random() < 0.2 else at + 1]
    return bytes(data)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
