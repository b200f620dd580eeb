"""Under which licence each locked package is, as its own metadata say: `make audit`.

python -m benchmarks.licences
"""

import re
import sys
from collections import defaultdict
from email.message import Message
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Final, cast

LOCK: Final = Path(__file__).parents[1] / "requirements.lock"
#: Licences whose texts some packages put where their name belongs.
_LONGEST: Final = 40


def locked() -> list[str]:
    """Names of the packages in the lock file."""
    return sorted(set(re.findall(r"^([A-Za-z0-9._-]+)==", LOCK.read_text(encoding="utf-8"), flags=re.MULTILINE)))


def licence_of(name: str) -> str | None:
    """What a package says its licence is; None: it is not installed here (it is for other machines)."""
    try:
        told = cast(Message, metadata(name))  # `get` is not among what typeshed promises of it
    except PackageNotFoundError:
        return None
    classified = [c.rpartition(" :: ")[2] for c in told.get_all("Classifier") or [] if c.startswith("License :: ")]
    stated = (told.get("License-Expression") or told.get("License") or "").strip()
    if stated and "\n" not in stated and len(stated) <= _LONGEST:
        return stated
    return "; ".join(classified) or (stated.splitlines()[0][:_LONGEST] if stated else "not stated")


def main() -> None:
    by_licence = defaultdict(list)
    for name in locked():
        by_licence[licence_of(name) or "not installed here"].append(name)
    for licence, names in sorted(by_licence.items(), key=lambda item: (-len(item[1]), item[0])):
        sys.stdout.write(f"{licence} ({len(names)}): {', '.join(sorted(names))}\n")


if __name__ == "__main__":
    main()
