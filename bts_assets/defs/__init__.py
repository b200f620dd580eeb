"""The Dagster shell: assets, checks, job, schedule and sensor, each a translation of what a service did. No logic."""
