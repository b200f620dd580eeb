"""What the terminal shows of lineage: a tree of what made a row, tables of what was touched, how a replay went."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from bts_assets.cli.render.terminal import out
from bts_assets.contracts.text import counted
from bts_assets.forecasting.comparison import TOLERANCE
from bts_assets.forecasting.recalibration import SIDES, stretches
from bts_assets.services.breach_replay import TOLERANCE as BREACH_TOLERANCE
from bts_assets.services.replay import Replayed, Retrained
from bts_assets.storage.lineage import Impact, Lineage, Row
from bts_assets.storage.mlflow_pages import run_page, version_page
from bts_assets.storage.served_pages import Pages

#: Where `bts up` serves unless told otherwise.
#: Landing files that a tree names, and rows that a table shows, at most.
_FILES_NAMED: Final = 3
_ROWS_SHOWN: Final = 12

#: Columns that are folded where the terminal is too narrow.
_FOLDED: Final = ("path", "status", "content")


def show_lineage(found: Lineage, pages: Pages) -> None:
    """Draw lineage as a tree, with addresses of Dagster's and MLflow's `pages`."""
    row = found.made_by
    station = f"station {row['station_id']}{_named(row['station_name'])}"
    tree = Tree(f"[bold]{station}, parameter {row['parameter_id']}{_named(row['parameter_name'])}[/bold]")
    _add_forecast(tree, found)
    origin = f"origin {_time(row['issued_at'])}, {row['kind']}"
    published = f"published {_time(row['published_at'])}" if row["published_at"] else "not published"
    batch = tree.add(f"[bold]batch {row['batch_id']}[/bold]: {origin}, {published}")
    window = f"input window {_short(row['input_start'])} to {_time(row['issued_at'])}"
    _add_files(batch, window, row["input_ledger_seq"], row["input_file_names"], row["input_files"])
    batch.add(f"observations {row['observations_digest'][:12]}, catalogue {row['catalogue_digest'][:12]}")
    applied = f", recalibration {row['recalibration_digest'][:12]}" if row["recalibration_digest"] else ""
    batch.add(f"forecasts {row['forecasts_digest'][:12]}{applied}")
    batch.add(_code(row, ""))
    _add_run(batch, row["dagster_run_id"], pages)
    batch.add(f"settings: {_facts(row['settings'])}")
    canary = ", a challenger that served some stations of the batch" if row["canary"] else ""
    version = tree.add(
        f"[bold]model version {row['model_version_id']}[/bold]: bundle {row['bundle_digest'][:12]}{canary}"
    )
    if row["mlflow_run_id"]:
        version.add(f"MLflow run {row['mlflow_run_id']}")
        version.add(f"registry version {row['registry_version']}, {row['mlflow_model_uri']}")
    else:
        version.add("no MLflow run: MLflow did not answer when it was trained")
    span = f"training data {_short(row['training_start'])} to {_time(row['training_end'])}"
    _add_files(version, span, row["training_ledger_seq"], row["training_file_names"], row["training_files"])
    version.add(f"observations {row['training_observations_digest'][:12]}, seed {row['seed']}")
    version.add(_code(row, "training_"))
    _add_run(version, row["training_dagster_run_id"], pages)
    version.add(f"machine: {_facts(row['machine'])}")
    version.add(f"packages: {_facts(row['packages'])}")
    others = {k: v for k, v in row["training_settings"].items() if row["settings"].get(k) != v}
    version.add(f"settings: {_facts(others)}, all others as of the batch" if others else "settings: those of the batch")
    out.print(tree, soft_wrap=False)
    # Below the tree, which cuts what is wider than the terminal: an address in two is none.
    for page in _mlflow_pages(row, pages):
        out.print(page, markup=False, soft_wrap=True)
    out.print("\n[dim]The pages answer while bts up serves.[/dim]")


def _mlflow_pages(row: Row, pages: Pages) -> Sequence[str]:
    if not row["mlflow_run_id"]:
        return ()
    run = run_page(pages.mlflow, row["mlflow_run_id"], row["mlflow_experiment_id"])
    return (
        "\nMLflow's pages of the training and of the version:",
        run,
        version_page(pages.mlflow, row["registry_version"]),
    )


def _add_forecast(tree: Tree, found: Lineage) -> None:
    row, forecast = found.made_by, found.forecast
    why = f": {row['reason']}" if row["reason"] else ""
    if forecast is None:
        gone = (
            f"{row['status']} by {row['source']}{why}; pruned on {_time(row['pruned_at'])}" if row["pruned_at"] else ""
        )
        tree.add(f"excluded{why}" if row["status"] == "excluded" else gone)
        return
    numbers = ", ".join(f"{name} {forecast[name]:.6g}" for name in ("q05", "q10", "q50", "q90", "q95"))
    unit = f" {row['unit']}" if row["unit"] else ""
    where = f"[bold]{_time(forecast['target_at'])}[/bold], step {forecast['step_ahead']}"
    node = tree.add(f"{where}: {numbers}{unit}")
    weights = sorted((row["components"] or {}).items(), key=lambda item: -(item[1] or 0))
    parts = ", ".join(f"{name} {'not tried' if weight is None else f'{weight:.3f}'}" for name, weight in weights)
    node.add(f"{row['status']} by {row['source']}{why}{f' ({parts})' if parts else ''}")
    if row["recalibration_factors"]:
        node.add(_recalibrated(row, forecast["step_ahead"]))


def _recalibrated(row: Mapping[str, Any], step_ahead: int) -> str:
    """By which factors the quantiles of a step were moved away from the median, and on the word of how many nights."""
    first = int(stretches(row["horizon_steps"])[step_ahead - 1]) * len(SIDES)
    nights, factors = (row[f"recalibration_{name}"][first : first + len(SIDES)] for name in ("nights", "factors"))
    moved = ", ".join(f"q{round(q * 100):02} x {factor:.3g}" for q, factor in zip(SIDES, factors, strict=True))
    return f"recalibrated from {max(nights):.1f} past nights: {moved}"


def _add_files(node: Tree, span: str, entry: int, names: Sequence[str], digests: Sequence[str]) -> None:
    files = sorted(zip(names, digests, strict=True))
    branch = node.add(f"{span}: {counted(len(files), 'landing file')}, as known at entry {entry}")
    for name, digest in files[:_FILES_NAMED]:
        branch.add(f"{digest[:12]}  {escape(name)}")
    if len(files) > _FILES_NAMED:
        branch.add(f"and {len(files) - _FILES_NAMED:,} more; bts.forecast_lineage names them all")


def _add_run(node: Tree, run_id: str | None, pages: Pages) -> None:
    if run_id:
        node.add(f"Dagster run {run_id}").add(f"{pages.dagster}/runs/{run_id}")
    else:
        node.add("no Dagster run")


def _facts(facts: Mapping[str, Any]) -> str:
    """Each with its value; what is unset is left out."""
    return ", ".join(f"{name} {facts[name]}" for name in sorted(facts) if facts[name] not in (None, ""))


def _code(row: Mapping[str, Any], of: str) -> str:
    version, commit = row[f"{of}code_version"].partition("+")[0], row[f"{of}code_commit"]
    state = "with changes that are in no commit" if row[f"{of}code_dirty"] else "as committed"
    return f"code {version}, commit {commit}, {state}" if commit else f"code {version}"


def show_file(name: str, found: Impact) -> None:
    by_input = [batch for batch in found.batches if batch["by_input"]]
    by_training = [batch for batch in found.batches if batch["by_training"]]
    out.print(
        f"[bold]{escape(name)}[/bold] touched {counted(len(found.batches), 'batch', 'batches')}:"
        f" {len(by_input):,} by the input window, {len(by_training):,} through the training of"
        f" {counted(len(found.versions), 'model version')}"
    )
    _table(
        "what the name held, and other names of it",
        ("entry", "path", "content", "status", "readings", "from (UTC)"),
        (
            (
                *(row["ledger_seq"], escape(row["path"]), row["digest"][:12], _status(row), row["accepted"]),
                _short(row["first_reading_at"]),
            )
            for row in found.entries
        ),
    )
    _show_versions(found.versions, "model versions that were trained on it")
    _table(
        "batches that it touched: the content in the input window, and series with readings of it there; and, where it"
        " was trained on, series forecast",
        ("batch", "origin (UTC)", "version", "", "content", "series by input", "series by training"),
        (
            (
                *(row["batch_id"], _short(row["issued_at"]), row["model_version_id"], _state(row)),
                " ".join(digest[:12] for digest in row["used"]),
                ("?" if found.gone else row["series_by_input"]) if row["by_input"] else "",
                row["forecast"] + row["fallback"] if row["by_training"] else "",
            )
            for row in found.batches
        ),
    )
    if found.gone:
        out.print(f"\nseries cannot be counted: {found.gone}", markup=False)
    _table(
        "series with readings of it, and how many batches had some in their input window",
        ("station", "parameter", "readings", "batches"),
        found.series.itertuples(index=False),
    )


def show_model(found: Impact) -> None:
    (version,) = found.versions
    out.print(
        f"[bold]model version {version['model_version_id']}[/bold] forecast"
        f" {counted(len(found.batches), 'batch', 'batches')}, {len(found.series):,} series in all"
    )
    _show_versions(found.versions, "what it was trained on")
    _table(
        "batches that it forecast",
        ("batch", "origin (UTC)", "", "forecast", "fallback", "excluded"),
        (
            (row["batch_id"], _short(row["issued_at"]), _state(row), row["forecast"], row["fallback"], row["excluded"])
            for row in found.batches
        ),
    )
    _table(
        "series that it served, and in how many batches",
        ("station", "parameter", "batches"),
        found.series.itertuples(index=False),
    )


def _show_versions(versions: Sequence[Mapping[str, Any]], title: str) -> None:
    _table(
        title,
        ("version", "bundle", "from (UTC)", "to (UTC)", "in the registry", "batches"),
        (
            (
                *(row["model_version_id"], row["bundle_digest"][:12]),
                *(_short(row["training_start"]), _short(row["training_end"])),
                *(row["registry_version"] or "", row["batches"]),
            )
            for row in versions
        ),
    )


def show_replayed(found: Replayed) -> None:
    made, compared = found.made, found.forecasts
    out.print(
        f"[bold]Batch {found.batch_id}[/bold], origin {_time(made['issued_at'])}, model version"
        f" {made['model_version_id']}"
        + (f" ({made['canary_version_id']} for some stations)" if made["canary_version_id"] else "")
        + ", made again"
    )
    said = f"{counted(compared.numbers, 'number')}, all identical bit for bit"
    if compared.differing:
        said = (
            f"{compared.differing:,} of {compared.numbers:,} numbers differ, by {compared.largest:.1g} of their scale"
            " at most (the width of the series' 90 % interval)"
        )
    rows = f"{counted(found.ledger_rows, 'row')}, all identical"
    if found.ledger_differing:
        rows = f"{found.ledger_differing:,} of {found.ledger_rows:,} rows differ"
    foreseen = found.breaches
    breaches = f"{counted(foreseen.rows, 'row')}, all identical bit for bit"
    if foreseen.why_not or foreseen.differing:
        breaches = f"{foreseen.differing:,} of {foreseen.rows:,} rows differ"
        breaches = f"not compared: {foreseen.why_not}" if foreseen.why_not else breaches
    files = f"{counted(found.files, 'landing file')} of its days"
    for name, text in (
        ("input", f"{files}, as known at entry {made['input_ledger_seq']}, give its observations"),
        ("model", f"bundle {made['bundle_digest'][:12]}, as it was trained"),
        ("forecasts", said),
        ("ledger", rows),
        ("breaches", breaches),
    ):
        out.print(f"  {name:<10} {text}", markup=False)
    if found.other_kind:
        out.print(
            f"  another kind of machine: {found.other_kind}; {TOLERANCE:g} of the scale is allowed, and"
            f" {BREACH_TOLERANCE:g} of a probability",
            markup=False,
        )
    for note in found.notes:
        out.print(f"  note: {note}", markup=False)
    if found.differs:
        out.print(f"[red]They differ[/red], first in the {found.differs}: ", end="")
        out.print(found.first or "", markup=False)
    else:
        out.print("[green]They agree.[/green]")


def show_retrained(found: Retrained) -> None:
    compared = found.forecasts
    same = "the same bundle, bit for bit"
    other = (
        f"another bundle, {found.digest[:12]}; of the batch's {compared.numbers:,} numbers {compared.differing:,}"
        f" differ, by {compared.largest:.1g} of their scale at most (the width of the series' 90 % interval)"
    )
    out.print(f"[bold]Model version {found.model_version_id}[/bold], trained again: {same if found.same else other}")


def _table(title: str, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    cells = [[f"{cell:,}" if isinstance(cell, int) and n else str(cell) for n, cell in enumerate(row)] for row in rows]
    if not cells:
        return
    out.print(f"\n[dim]{title}[/dim]")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=column not in _FOLDED, overflow="fold")
    for row in cells[:_ROWS_SHOWN]:
        table.add_row(*row)
    out.print(table, soft_wrap=False)
    if len(cells) > _ROWS_SHOWN:
        out.print(f"and {len(cells) - _ROWS_SHOWN:,} more")


def _status(row: Mapping[str, Any]) -> str:
    """What became of the file of an entry of the ingest ledger."""
    if row["status"] == "refused":
        return f"refused: {escape(row['reason'])}"
    return f"superseded by {row['superseded_by']}" if row["superseded_by"] else row["status"]


def _state(row: Mapping[str, Any]) -> str:
    return "serves" if row["serves"] else "published" if row["published"] else "not published"


def _time(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC" if instant else ""


def _short(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M}" if instant else ""


def _named(name: str | None) -> str:
    return f" {escape(name)}" if name else ""
