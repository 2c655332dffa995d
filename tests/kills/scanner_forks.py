"""Scanners without an orchestrator: processes that look at one home's table and run what is due, until nothing is left.

Run as a script it imports everything once and forks the scanners: importing takes longer than most of their work. The first line
on standard output names their pids, the last one how each ended. Each writes what became of its own runs into a file of its own.
"""

import json
import os
import sys
import time
import uuid
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAUSE_SECONDS = 0.05
LOOKS_FOR_NOTHING = 3


def scan_until_nothing_is_left(root: Path, stage_seconds: float, said: Path) -> None:
    """Do what a scanner does: look, ask for the oldest due record, run it; clean up where an owner is dead."""
    from scripted_runs import Scripted, platform_with

    from mlcc_dagster.core.exceptions import LeaseLost
    from mlcc_dagster.core.scanning import Omission
    from mlcc_dagster.core.stages import CANONICAL_ORDER, Stage
    from resources import processes
    from resources.ci_table import Refused
    from resources.home import Home
    from resources.lifecycle import RunRequest, begin, conclude, interrupted_usd, perform
    from resources.reaper import reap
    from resources.scanner import has_dead_owner, look

    executor = Scripted(Home(root), dict.fromkeys(Stage, lambda request: time.sleep(stage_seconds)))
    platform = platform_with(executor.home, executor)
    nothing = 0

    def say(what: str, run_id: str) -> None:
        with said.open("a") as file:
            file.write(json.dumps({"what": what, "run_id": run_id}) + "\n")

    def clean_up() -> None:
        reap(
            home=platform.home,
            ci=platform.ci,
            ledger=platform.ledger,
            store=platform.store,
            executor=executor,
            interrupted_usd=partial(interrupted_usd, platform),
        )

    while nothing < LOOKS_FOR_NOTHING:
        found = look(platform, now=datetime.now(UTC), max_concurrency=100)
        if has_dead_owner(found):
            clean_up()
            continue
        if not found.start:
            busy = any(left.omission in (Omission.RUNNING, Omission.COMMITTING) for left in found.left_out)
            nothing = 0 if busy else nothing + 1
            time.sleep(PAUSE_SECONDS)
            continue
        due = found.start[0]
        outcome = begin(
            platform,
            RunRequest(due.config_id, due.round, "ci", due.tier),
            processes.this_process(str(uuid.uuid4())),
        )
        if isinstance(outcome, Refused):
            say("lost", outcome.run_id)
            continue
        for stage in CANONICAL_ORDER:
            outcome = perform(platform, stage, outcome)
        try:
            conclude(platform, outcome)
        except LeaseLost:
            say("refused", outcome.claim.run_id)
        else:
            say("concluded", outcome.claim.run_id)


def main() -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "assets")]
    root, count, stage_seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    import scripted_runs  # noqa: F401

    import resources.reaper
    import resources.scanner  # noqa: F401

    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                scan_until_nothing_is_left(root, stage_seconds, root / f"said-{number}.jsonl")
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    print(json.dumps(children), flush=True)
    ends = {child: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}
    print(json.dumps([ends[child] for child in children]), flush=True)


if __name__ == "__main__":
    main()
