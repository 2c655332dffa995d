"""The commit of a run, in its one order: intent, publication, end; and its replay after a crash.

Belongs here: that order. Not here: what is written (`core.records`), the table (`ci_table.py`), the files
(`result_store.py`).

The published file is the commit point: before it nothing was proven, after it the rest only has to follow. As the
intent holds all that will be written, any process can go forward from wherever the first one died; nobody ever goes
back.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mlcc_dagster.core.exceptions import MlccError
from mlcc_dagster.core.outcome import Claim
from mlcc_dagster.core.records import partition_path
from resources.ci_table import CiTable, Commit
from resources.result_store import check_rows


class Publisher(Protocol):
    """Where result rows go: create-only and idempotent, so that publishing a run again changes nothing."""

    def publish(self, run_id: str, rows: Sequence[Mapping[str, Any]], /) -> Path:
        """Publish the rows of a run as one file and return it."""
        ...


def commit(ci: CiTable, store: Publisher, claim: Claim, payload: Commit) -> Path | None:
    """Commit a run and return the file of its rows; none where it has no rows, since it neither proved nor refuted.

    Raises `InvalidInput` with every mistake of the rows before anything is written: an intent that no store takes could
    go neither forward nor back.
    Raises `LeaseLost` before anything is published when the claim is no longer the record's. Any error after that
    leaves the attempt committing, and `recover` goes on from there.
    """
    rows = Commit.from_text(payload.to_text()).rows  # as the intent holds them: a replay publishes the very same
    if rows:
        check_rows(claim.run_id, rows)
        partition_path(rows[0], claim.run_id)
    ci.intend(claim, payload)
    path = store.publish(claim.run_id, rows) if rows else None
    ci.finish(claim.run_id)
    return path


def recover(ci: CiTable, store: Publisher) -> tuple[str, ...]:
    """Bring every begun commit to its end and return the run ids that this call finished.

    Safe beside the owner itself and beside other recoveries. One that cannot be published does not hold up the others;
    raises `MlccError` naming all such at the end.
    """
    finished: list[str] = []
    problems: list[str] = []
    for run_id, payload in ci.pending():
        try:
            if payload.rows:
                store.publish(run_id, payload.rows)
            if ci.finish(run_id):
                finished.append(run_id)
        except Exception as error:
            problems.append(f"{run_id}: {error}")
    if problems:
        raise MlccError(
            "results of finished runs could not be published; mend the cause and run `mlcc reap`:\n"
            + "\n".join(f"  - {problem}" for problem in problems)
        )
    return tuple(finished)
