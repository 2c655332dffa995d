"""How a baseline follows another: made from a candidate, with a reason, and chained to the one before.

Belongs here: the next baseline, and what keeps one from following the last. Not here: comparing a candidate with a baseline
(`gate.py`), files and git.
"""

from urllib.parse import urlsplit

from mlcc_dagster.core.evaluations import CandidateEvaluation, EvalBaseline
from mlcc_dagster.core.exceptions import UsageError

DEFAULT_TOLERANCE = 0.02
"""Share of the items that a first baseline tolerates. Source: the specification of the gate."""


def first_baseline(
    candidate: CandidateEvaluation, *, justification: str, tolerance: float | None = None
) -> EvalBaseline:
    """Return the baseline that follows none. Raises `UsageError` where the candidate does not say what it is of."""
    return EvalBaseline(
        candidate.eval_set_dvc_hash,
        _sha_of(candidate),
        None,
        DEFAULT_TOLERANCE if tolerance is None else tolerance,
        candidate.buckets,
        candidate.items,
        justification,
    )


def next_baseline(
    last: EvalBaseline, candidate: CandidateEvaluation, *, justification: str, tolerance: float | None = None
) -> EvalBaseline:
    """Return the baseline that a candidate makes after `last`; its tolerance stays unless another is given.

    Raises `UsageError` where the candidate does not say what it is of, or is what the baseline is of already: then only the
    tolerance may be another.
    """
    sha = _sha_of(candidate)
    used = last.tolerance_pp if tolerance is None else tolerance
    same = sha == last.baseline_sha and candidate.eval_set_dvc_hash == last.eval_set_dvc_hash
    if same and used == last.tolerance_pp:
        raise UsageError(f"the baseline is of {sha} on this set already; there is nothing to update")
    if same and (candidate.buckets, candidate.items) != (last.buckets, last.items):
        raise UsageError(
            f"the baseline is of {sha} on this set already, with other results; a changed tolerance keeps them: update it from "
            "the evaluation that the baseline was made of"
        )
    return EvalBaseline(
        candidate.eval_set_dvc_hash,
        sha,
        last.baseline_sha,
        used,
        candidate.buckets,
        candidate.items,
        justification,
        last.tolerance_pp if used != last.tolerance_pp else None,
    )


def chain_faults(new: EvalBaseline, last: EvalBaseline | None) -> tuple[str, ...]:
    """Return one sentence for everything that keeps `new` from following `last` (none: nothing was committed before).

    The same baseline follows itself.
    """
    if last is not None and new.to_json() == last.to_json():
        return ()
    faults = []
    before = None if last is None else last.baseline_sha
    if new.previous_baseline_sha != before:
        faults.append(
            f"previous_baseline_sha is {new.previous_baseline_sha or 'absent'} and the last baseline is of "
            f"{before or 'nothing'}; make it with `mlcc gate update-baseline` from the last one"
        )
    if not new.justification:
        faults.append("justification is absent; update it with --justification URL of what was decided")
    elif not _is_web_address(new.justification):
        faults.append("justification is no web address; update it with --justification URL of what was decided")
    elif last is not None and new.justification == last.justification:
        faults.append("justification is that of the last baseline; say why this one was made")
    if last is not None and new.tolerance_pp > last.tolerance_pp and new.tolerance_before != last.tolerance_pp:
        faults.append(
            f"tolerance_pp rose from {last.tolerance_pp} to {new.tolerance_pp} by hand; change it with "
            "`mlcc gate update-baseline --tolerance`, which says so in the file"
        )
    elif new.tolerance_before is not None and (
        last is None or new.tolerance_before != last.tolerance_pp or new.tolerance_pp == last.tolerance_pp
    ):
        faults.append(
            f"tolerance_before is {new.tolerance_before} and no update wrote that: the tolerance was "
            f"{'none' if last is None else last.tolerance_pp} and is {new.tolerance_pp}; make it with `mlcc gate update-baseline`"
        )
    if last is not None and (new.baseline_sha, new.eval_set_dvc_hash) == (last.baseline_sha, last.eval_set_dvc_hash):
        if (new.buckets, new.items) != (last.buckets, last.items):
            faults.append(
                f"it has other results than the last baseline of the same {new.baseline_sha} on the same set; evaluate "
                "another bundle, or take the last baseline again"
            )
        elif new.tolerance_pp == last.tolerance_pp:
            faults.append(
                f"baseline_sha is {new.baseline_sha}, which the last baseline is of on this set already; a baseline cannot follow "
                "itself: take the last one again"
            )
    return tuple(faults)


def _is_web_address(text: str) -> bool:
    if any(character.isspace() or not character.isprintable() for character in text):
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:  # a host or port that cannot be read
        return False


def fallen(new: EvalBaseline, last: EvalBaseline) -> dict[str, float]:
    """Return the buckets whose accuracy is lower than in the last baseline, and by how much."""
    return {
        name: last.buckets[name].accuracy - score.accuracy
        for name, score in new.buckets.items()
        if name in last.buckets and score.accuracy < last.buckets[name].accuracy
    }


def _sha_of(candidate: CandidateEvaluation) -> str:
    if candidate.candidate_sha is None:
        raise UsageError(
            "the evaluation has no candidate_sha, so no later baseline could chain to it; evaluate a bundle"
        )
    return candidate.candidate_sha
