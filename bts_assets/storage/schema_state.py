"""What schema `bts` of a database is to this code: absent, current, of another revision, or somebody else's.

It looks, and changes nothing.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Literal

import sqlalchemy as sa

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.storage.failures import DatabaseError
from bts_assets.storage.shipped import shipped

State = Literal["absent", "current", "other views", "older", "newer", "foreign"]

#: What follows it in the schema's comment are the views and functions that are ours to drop.
NAMES: Final = "; views and functions: "

_STAMP: Final = sa.text("SELECT obj_description(to_regnamespace('bts'))")
_RELATIONS: Final = sa.text(
    "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace('bts')"
    " AND relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relispartition ORDER BY relname"
)
#: Made before the first revision, so that two processes do not migrate an empty database at once.
_LOCKS: Final = "lock"
_NAMED: Final = 5


@dataclass(frozen=True)
class Standing:
    """The state of a schema; unless it is current also its revision (None: it has none) and the newest known here."""

    state: State
    revision: str | None
    head: str
    foreign: str = ""

    def refusal(self) -> DatabaseError | None:
        """Why this code cannot read the schema, and what to do; None: it can."""
        if self.state in ("current", "other views"):
            return None
        return DatabaseError(
            {
                "absent": "nothing is in this database yet: run bts nightly, or bts migrate for empty tables"
                " (BTS_HOME and BTS_DATABASE_URL name another place)",
                "older": f"schema bts is of revision {self.revision}, and this version of bts reads {self.head}:"
                " run bts migrate (bts nightly does it too)",
                "newer": f"schema bts is of revision {self.revision}, and this version of bts knows {self.head}:"
                " use the newer version that migrated it, or a database of its own (BTS_HOME, BTS_DATABASE_URL)",
                "foreign": f"schema bts of this database is not one of ours: it holds {self.foreign};"
                " use another database",
            }[self.state]
        )


def standing(connection: sa.Connection, catalogue: Catalogue) -> Standing:
    """Look at the schema. The same revision with views or a catalogue of another version can be read: `other views`."""
    if connection.scalar(_STAMP) == stamp(catalogue):
        return Standing("current", None, "")
    revisions = _revisions()
    head = revisions[-1]
    relations = [name for name in connection.execute(_RELATIONS).scalars() if name != _LOCKS]
    if "alembic_version" not in relations:
        named = ", ".join(relations[:_NAMED]) + (" and more" if len(relations) > _NAMED else "")
        return Standing("foreign" if relations else "absent", None, head, named)
    revision = connection.scalar(sa.text("SELECT version_num FROM bts.alembic_version"))
    if revision is None:
        others = [name for name in relations if name != "alembic_version"]
        return Standing("foreign" if others else "absent", None, head, ", ".join(others[:_NAMED]))
    if revision in revisions and "installation" in relations:
        return Standing("other views" if revision == head else "older", revision, head)
    # Ours are numbers that count up.
    newer = re.fullmatch(r"\d{4}", revision) and revision > head and "installation" in relations
    return Standing("newer" if newer else "foreign", revision, head, f"revision {revision} of something else")


def is_current(engine: sa.Engine, catalogue: Catalogue) -> bool:
    """Whether the schema, the views and the catalogue are those of this code, so that a start need not migrate."""
    with engine.connect() as connection:
        return bool(connection.scalar(_STAMP) == stamp(catalogue))


def stamp(catalogue: Catalogue) -> str:
    """The comment of a schema that this code made: a digest of all that it was made from, and what is ours in it."""
    digest = hashlib.sha256(catalogue.digest.encode())
    for folder in (shipped("migrations") / "versions", shipped("sql") / "views"):
        for file in sorted(folder.glob("*.*")):
            digest.update(file.name.encode() + file.read_bytes())
    files = (shipped("sql") / "views").glob("*.sql")
    created = re.findall(r"CREATE (?:VIEW|FUNCTION) bts\.(\w+)", "".join(f.read_text(encoding="utf-8") for f in files))
    return f"BTS forecasts: {digest.hexdigest()}{NAMES}{', '.join(sorted(created))}"


def _revisions() -> list[str]:
    """Every revision of this code, oldest first."""
    from alembic.script import ScriptDirectory  # only where the schema is not that of this code: it takes its time

    return [r.revision for r in reversed(list(ScriptDirectory(str(shipped("migrations"))).walk_revisions()))]
