"""Answers that are dear and seldom change, kept until something new is there."""

from collections import OrderedDict
from threading import Lock
from typing import Any, Final

import sqlalchemy as sa

from bts_assets.explorer.question import Question, Row

#: Answers kept at most.
_MOST: Final = 64


class AnswerCache:
    """Answers by question and database; each is asked again when its stamp is another."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, str], tuple[Any, list[Row]]] = OrderedDict()
        self._lock = Lock()

    def answer(self, connection: sa.Connection, question: Question, stamp: Any) -> list[Row]:
        key = (str(connection.engine.url), question.as_text())
        with self._lock:
            found = self._answers.get(key)
        if found is not None and found[0] == stamp:
            return found[1]
        rows = question.ask(connection)
        with self._lock:
            self._answers[key] = (stamp, rows)
            self._answers.move_to_end(key)
            while len(self._answers) > _MOST:
                self._answers.popitem(last=False)
        return rows
