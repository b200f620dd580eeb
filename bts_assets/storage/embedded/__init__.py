"""The Postgres that comes along: created at first use, woken on demand, asleep when nobody asks."""
