"""The Dagster shell: assets, checks, job, schedule and sensor, each a translation of what the stores did. No logic."""
