"""The outside world: executors, stores, tables, ledger. Plain classes; Dagster only in `dagster_resources`."""
