"""A job that is run in a process of somebody else's: it leaves what it finds there as it was."""

import logging.config
from io import StringIO
from pathlib import Path

from absl import logging as absl_logging

from bts_assets.cli.run_job import _libraries_in_a_file


def test_logging_that_is_set_up_anew_does_not_close_the_callers_standard_error(tmp_path: Path) -> None:
    # As in a notebook: standard error was another than the process's own when TensorFlow was imported.
    was = absl_logging.get_absl_handler().python_handler.stream
    notebook = StringIO()
    absl_logging.get_absl_handler().python_handler.stream = notebook
    try:
        with _libraries_in_a_file(tmp_path):
            logging.config.dictConfig({"version": 1})
        assert not notebook.closed
    finally:
        absl_logging.get_absl_handler().python_handler.stream = was
