"""The one family of errors that a user can act on, with the exit code of each kind. Anything else is a defect."""

from typing import ClassVar, Final

#: Exit codes of the command line; docs/operations.md lists them. 1 stays for what is of no kind, 2 is also typer's.
FAILED: Final = 1
USAGE: Final = 2
INPUT: Final = 3
DATABASE: Final = 4
DISK: Final = 5
DEFECT: Final = 70  # EX_SOFTWARE of sysexits.h


class BtsError(Exception):
    """Its text is one line: what was wrong, where, and what to do."""

    exit_code: ClassVar[int] = FAILED


class UsageError(BtsError):
    """A command was called, or a setting set, in a way that means nothing; or what it names is not there."""

    exit_code = USAGE


class InputError(BtsError):
    """A file or a folder that was given cannot be read, or does not hold what it should."""

    exit_code = INPUT


class DiskError(BtsError):
    """A disk is full, or a file as large as it may be: ours, or that of Postgres."""

    exit_code = DISK
