"""The entry point that Dagster loads."""

from mlcc_dagster.build import build_defs

defs = build_defs()
