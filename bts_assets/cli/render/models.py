"""Model versions as the terminal shows them: the list, the rules of promotion, the state of a probation."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from rich.markup import escape
from rich.padding import Padding

from bts_assets.cli.render.terminal import out
from bts_assets.contracts.text import counted, percent
from bts_assets.storage.mlflow_pages import trainings_page
from bts_assets.storage.served_pages import Pages

if TYPE_CHECKING:
    from bts_assets.services.home import Home
    from bts_assets.services.probation import Probation

_VERSIONS: Final = sa.text("SELECT * FROM bts.version_status ORDER BY model_version_id DESC")


def show_versions(engine: sa.Engine, pages: Pages) -> None:
    """One paragraph per version, the newest first, and where MLflow's `pages` compare them."""
    with engine.connect() as connection:
        rows = connection.execute(_VERSIONS).mappings().all()
    if not rows:
        out.print("no model version yet: run bts nightly")
        return
    for row in rows:
        number, mase, batches = row["model_version_id"], row["median_mase"], row["batches"]
        facts = [
            f"trained until {row['training_end']:%Y-%m-%d %H:%M} UTC",
            row["effort"],
            *([] if mase is None else [f"median MASE {mase:.3f}"]),
            f"{counted(batches, 'batch', 'batches')} published",
        ]
        out.print(f"[bold]version {number}, {row['role']}[/bold]: {', '.join(facts)}")
        if row["verdict"]:
            decided = f"{row['verdict']} by {row['decided_by']} on {row['decided_at']:%Y-%m-%d}: {row['reason']}"
            out.print(Padding(escape(decided), (0, 0, 0, 4)), soft_wrap=False)
    if experiment := next((row["mlflow_experiment_id"] for row in rows if row["mlflow_experiment_id"]), None):
        out.print("\nMLflow compares their trainings, at this address while bts up serves:")
        out.print(trainings_page(pages.mlflow, experiment), markup=False, soft_wrap=True)


def show_judged(said: Mapping[str, Any]) -> None:
    """Print the metadata of the asset `challenger_model`: the decision and its rules."""
    number, champion = said["model_version_id"], said.get("champion_version_id")
    beside = f", beside champion {champion}" if champion else ""
    out.print(f"\n[bold]Model version {number}: {said['decision']}[/bold]{beside}")
    for record in said["rules"].records:
        rule = record.data
        mark = "[green]yes[/green]" if rule["passed"] else "[red]no[/red] "
        out.print(f"  {mark}  {rule['rule']:<20} {escape(rule['words'])}")
    if not said["rules"].records:
        out.print(f"  {escape(said['reason'])}")


def show_probation(home: "Home", running: "Probation") -> None:
    from bts_assets.services import probation as probations

    nights = probations.nights_of(home, running)
    share = f"serves {percent(running.share)} of the stations" if running.share else "in shadow"
    out.print(
        f"model version {running.challenger.model_version_id}, {share}: {len(nights)} of"
        f" {counted(running.nights, 'night')}, since {running.began_at:%Y-%m-%d %H:%M} UTC"
    )
    for night in nights.to_dict("records"):
        scores = probations.errors_of(home, running, [night["batch_id"]])
        told = "nothing of it has come true yet"
        if night["failure"]:
            told = escape(f"it failed: {night['failure']}")
        elif len(scores):
            ratio = (scores["challenger"] / scores["champion"].where(scores["champion"] > 0)).median()
            told = f"its errors are {ratio:.2f} times the champion's (median over {len(scores)} series)"
        out.print(f"  {night['issued_at']:%Y-%m-%d %H:%M}  {told}")
