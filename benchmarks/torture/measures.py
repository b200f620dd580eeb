"""What the campaign measures: each measure by its name, with what is asked of it."""

from typing import Final

from benchmarks.torture import cuts, flips, kills, memory, mutations, orders, poison, races, reads, servers
from benchmarks.torture.campaign import Measure

MEASURES: Final = {
    measure.name: measure
    for measure in (
        Measure("kills", "SIGKILL of the client: rows lost, doubled or partial after a rerun", 10_000, 44, kills.trial),
        Measure("cuts", "connections cut around a COMMIT: rows that differ after a rerun", 1_000, 6, cuts.trial),
        Measure("races", "two at once at one thing: more or less than one winner", 1_000, 5, races.trial),
        Measure("flips", "bits flipped in stored files: other numbers, read in silence", 10_000, 66, flips.trial),
        Measure("orders", "files in another order and portions: rows that differ", 30, 3, orders.trial),
        Measure("poison", "one of 1,500 series poisoned: other series that change", 1_000, 10, poison.trial),
        Measure("mutations", "damaged landing files: crashes, hangs, lost rows", 1_000_000, 2_000, mutations.trial),
        Measure("reads", "reads beside nights: torn, empty or failed", 1_000_000, 1_000, reads.trial),
        Measure("memory", "nights in one process: growth over 5 % after warm-up", 100, 0, memory.trial),
        Measure("servers", "SIGKILL of Postgres: acknowledged files lost, other rows", 500, 3, servers.trial, True),
    )
}  # fmt: skip
