"""What `bts verify` shows: a line for each store, and one for each thing that is wrong."""

from collections.abc import Sequence

from rich.table import Table

from bts_assets.cli.render.terminal import out
from bts_assets.services.verify import Verified


def show(found: Sequence[Verified]) -> None:
    table = Table("store", "checked", "without a digest", "wrong", box=None)
    for store in found:
        table.add_row(store.store, f"{store.checked:,}", f"{store.unvouched:,}", f"{len(store.wrong):,}")
    out.print(table)
    for store in found:
        for line in store.wrong:
            out.print(f"{store.store}: {line}", markup=False, highlight=False, soft_wrap=True)
