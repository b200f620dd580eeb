"""Stands where Dagster would put an I/O manager of its own into every launchpad, which stores pickles."""

from typing import Any

import dagster as dg


class StoresNothing(dg.ConfigurableIOManager):
    """Takes nothing: every asset stores what it makes itself, in Postgres, Parquet and MLflow."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        if obj is not None:
            raise TypeError(f"{context.step_key} gave a value: an asset stores what it makes itself")

    def load_input(self, context: dg.InputContext) -> Any:
        raise TypeError(f"{context.name} is read from where its asset stored it")
