"""Triage in the outside world: files, registries, workloads, and running a matrix.

Belongs here: all of triage that reads, writes or runs something. Not here: rules (`mlcc_dagster.core.triage`), the command
line. Nothing here imports Dagster, and the runner itself starts no process.
"""
