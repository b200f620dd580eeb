"""Translates our schemas, pictures, counts and MLflow runs to Dagster's metadata."""

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
import pandera.pandas as pa
import sqlalchemy as sa

from bts_assets.plots import forecast as forecast_plots
from bts_assets.plots.style import attempted
from bts_assets.storage.mlflow_pages import run_page
from bts_assets.storage.mlflow_registry import ModelStore
from bts_assets.storage.model_versions import ModelVersion


def column_schema(schema: pa.DataFrameSchema) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=name,
                type=str(column.dtype),
                description=column.description,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable, other=[str(c.error) for c in column.checks]
                ),
            )
            for name, column in schema.columns.items()
        ]
    )


def table_schema(table: sa.Table) -> dg.TableSchema:
    """The columns of a table of ours, with what their comments say."""
    return dg.TableSchema(
        columns=[dg.TableColumn(column.name, str(column.type).lower(), column.comment) for column in table.columns]
    )


def check_spec(name: str, asset: str, holds: str, otherwise: str, blocking: bool = False) -> dg.AssetCheckSpec:
    """A check that says what holds where it passes, and what to do where it does not."""
    return dg.AssetCheckSpec(name, asset=asset, description=f"{holds}. If not: {otherwise}", blocking=blocking)


def tag_run(context: dg.AssetExecutionContext, **made: object) -> None:
    """Let the list of runs say what a run made."""
    context.instance.add_run_tags(context.run.run_id, {f"bts/{name}": str(value) for name, value in made.items()})


def picture(draw: Callable[..., bytes | None], *of: Any) -> Mapping[str, Any]:
    """The picture that `draw` makes, if it makes one."""
    png = attempted(draw, *of)
    return {"picture": dg.MetadataValue.md(forecast_plots.as_markdown(png))} if png else {}


def mlflow_run(models: ModelStore, version: ModelVersion) -> Mapping[str, Any]:
    """Page and number of the run of a version; nothing where MLflow has none."""
    run_id = version.mlflow_run_id
    if run_id is None:
        return {}
    page = run_page(models.pages, run_id, version.mlflow_experiment_id)
    return {"mlflow_run": dg.MetadataValue.url(page), "mlflow_run_id": run_id}


def counts(values: Mapping[str, int]) -> dg.TableMetadataValue:
    records = [dg.TableRecord({"what": k, "rows": int(v)}) for k, v in values.items()]
    columns = [dg.TableColumn("what", "string"), dg.TableColumn("rows", "int")]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns))
