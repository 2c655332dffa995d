"""The artifacts of a tier run: one JSON and one Markdown file, in the home and where a person wants them.

Belongs here: reading a round's outcome from the tables, and writing the files whole or not at all. Not here: what a summary
says (`core.tier_summary`).
"""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.release_gate import RELEASE_TIER
from mlcc_dagster.core.tier_summary import SummaryRow, TierSummary
from resources.ci_lines import decide_release, entries_by_config, read_lines
from resources.home import Home
from resources.platform import Platform


def summaries_folder(home: Home) -> Path:
    """Return where a home keeps its summaries."""
    return home.root / "summaries"


def file_stem(round_id: str) -> str:
    """Return the name of a round's files without their ending: `ci@20261122T060000Z` gives `ci-20261122T060000Z`."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", round_id)


def newest_rounds(platform: Platform) -> dict[str, str]:
    """Return the round in which each tier ran last, by tier; one that never ran is not in it. Runs of single configurations
    and of the prover are no runs of the tier."""
    found: dict[str, str] = {}
    for attempt in platform.ci.attempts():
        tier, _, _ = attempt.round.partition("@")
        if tier == attempt.tier and tier in platform.catalog.tiers:
            found.setdefault(tier, attempt.round)
    return found


def keep_newest(platform: Platform) -> tuple[Path, ...]:
    """Write into the home the summary of each tier's newest round, where it is finished and has none that says so, and return
    the pages there are.

    A command writes its own; this is for rounds that schedules began. What is written stays: its release gate is that of
    its day.
    """
    pages = []
    for tier, round_id in newest_rounds(platform).items():
        folder = summaries_folder(platform.home)
        page = folder / f"{file_stem(round_id)}.md"
        if not _written(page.with_suffix(".json")).get("finished"):
            summary = summarize(platform, round_id, scope=tier)
            if not summary.finished:
                continue
            write_summary(folder, summary)
        pages.append(page)
    return tuple(pages)


def summarize(
    platform: Platform,
    round_id: str,
    *,
    scope: str,
    members: Sequence[str] = (),
    estimated_usd: float | None = None,
    estimated_seconds: float | None = None,
) -> TierSummary:
    """Return how a round ended, or where it stands, from the tables alone, so that it makes no difference who ran it.

    `members` are the config ids that belong to it beside those that ran; by default what the round itself names and, of a
    tier, the tier's entries that the executor can run. What an earlier summary of the round estimated stays, whatever is given
    now: what is estimated in the middle of a run is no estimate of it.
    """
    entries = entries_by_config(platform.catalog)
    attempts = sorted(platform.ci.attempts(round=round_id), key=lambda attempt: attempt.generation)
    newest = {attempt.config_id: attempt for attempt in attempts}
    spent: dict[str, float] = {}
    for attempt in attempts:
        if attempt.cost_usd is not None:  # an attempt that was interrupted and made again cost something too
            spent[attempt.config_id] = spent.get(attempt.config_id, 0.0) + attempt.cost_usd
    keys = dict.fromkeys([*(members or _members(platform, round_id, scope)), *newest])
    lines = {line.config_id: line for line in read_lines(platform.ci, platform.catalog)}
    known = platform.configurations()
    rows = []
    for key in keys:
        attempt, entry, line = newest.get(key), entries.get(key), lines.get(key)
        ended = attempt if attempt is not None and attempt.state == "finished" else None
        rows.append(
            SummaryRow(
                config_id=key,
                name=entry.id if entry else key,
                configuration=str(known[key]) if key in known else key,
                run_id=attempt.run_id if attempt else None,
                status=ended.status if ended else None,
                test_status=ended.test_status if ended else None,
                run_status=ended.run_status if ended else None,
                seconds=attempt.seconds if attempt else None,
                cost_usd=spent.get(key),
                failure_category=ended.failure_category if ended else None,
                reason=attempt.reason if attempt else None,
                expected_failure=entry.expected_failure if entry else None,
                regressed=ended is not None and line is not None and line.regressed,
                confidence=line.stability.confidence if line else None,
            )
        )
    tier = platform.catalog.tiers.get(scope)
    now = datetime.now(UTC)
    earlier = _written(summaries_folder(platform.home) / f"{file_stem(round_id)}.json")
    if earlier.get("estimated_usd") is not None:
        estimated_usd, estimated_seconds = earlier["estimated_usd"], earlier.get("estimated_seconds")
    return TierSummary(
        scope=scope,
        round=round_id,
        executor=platform.executor.name,
        written_at=utc_text(now),
        rows=tuple(rows),
        estimated_usd=estimated_usd,
        estimated_seconds=estimated_seconds,
        cost_ceiling_usd=tier.cost_ceiling_usd if tier else None,
        gate=decide_release(platform.ci, platform.catalog, now=now) if scope == RELEASE_TIER else None,
    )


def write_summary(folder: Path, summary: TierSummary) -> tuple[Path, Path]:
    """Write both files into a folder (made where it is not there) and return their paths, JSON first.

    Each is whole or not there: a reader never sees half of one, and a write that fails leaves the earlier one. Of the same
    round the later summary replaces the earlier. Raises `OSError`.
    """
    stem = file_stem(summary.round)
    folder.mkdir(parents=True, exist_ok=True)
    document = json.dumps(summary.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    page = _replace(folder / f"{stem}.md", summary.to_markdown())
    # the JSON last: where it is, the page is too
    return _replace(folder / f"{stem}.json", document), page


def check_folder(folder: Path) -> None:
    """Raise `UsageError` where summaries cannot be written, before a run that costs money finds out. Makes nothing."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise UsageError(f"--save-local {folder}: {place} is a file; name a folder")
    if not os.access(place, os.W_OK | os.X_OK) or not _takes_files(place):
        raise UsageError(f"--save-local {folder}: {place} cannot be written to; name another folder")


def _takes_files(place: Path) -> bool:
    """Whether a file can be made in a folder: rights alone do not say it, for a superuser or a special file system."""
    try:
        with tempfile.TemporaryFile(dir=place):
            return True
    except OSError:
        return False


def _members(platform: Platform, round_id: str, scope: str) -> tuple[str, ...]:
    members: list[str] = []
    # a round that nobody opened here (a schedule's own occasion) has no members of its own
    with contextlib.suppress(UsageError):
        for part in platform.rounds.progress(round_id):
            members += part
    if not members and scope in platform.catalog.tiers:
        configurations = platform.configurations()
        wanted = {entry.id for entry in platform.catalog.tier_entries(scope)}
        members = [
            key
            for key, entry in entries_by_config(platform.catalog).items()
            if entry.id in wanted and platform.executor.can_run(configurations[key]) is None
        ]
    return tuple(members)


def _written(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _replace(path: Path, text: str) -> Path:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp's files are for their owner alone; these are for whoever may read the folder
        partial.chmod(0o644)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return path
