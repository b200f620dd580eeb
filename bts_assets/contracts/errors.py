"""The one family of errors that a user can act on. Anything else that escapes is a defect, and shows its traceback."""


class BtsError(Exception):
    """Its text is one line: what was wrong, where, and what to do."""
