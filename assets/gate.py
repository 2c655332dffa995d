"""The deploy gate as assets: what was evaluated, what the gate said of it, and the model that is deployed.

Belongs here: the two assets, the check between them, their tables, and telling of a new version. Not here: deciding
(`core.gate`), the rules of promotion (`core.model_registry`). Nothing is promoted here: that is `mlcc registry promote`, in
production the CI's alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from assets.lifecycle import OWNER
from mlcc_dagster.core.evaluation_reading import Read, read_candidate
from mlcc_dagster.core.evaluations import CandidateEvaluation, aggregate
from mlcc_dagster.core.exceptions import MlccError
from mlcc_dagster.core.model_registry import Listed, judgement_refusals, newest_candidate, newest_gate
from mlcc_dagster.core.registry_chain import Chain, RegistryLine
from resources.dagster_resources import PlatformResource
from resources.home import Home
from resources.notifiers import PromotionNotice, notifiers_of, tell
from resources.registry import Registry, open_registry

SHOWN_ROWS = 100
"""Rows of a metadata table; `mlcc registry list` shows all versions."""
SHOWN_REASONS = 20

VERSION = "version"
DIGEST = "digest"


def evaluation_of(home: Home, digest: str) -> Read[CandidateEvaluation] | None:
    """Return the evaluation of a candidate that this home made, none where it made none."""
    from resources.evaluations import (
        evaluations_folder,
    )  # brings the servers of candidates along, which a code location needs not

    path = evaluations_folder(home) / f"{digest}.json"
    try:
        return read_candidate(path.read_text("utf-8"), source=path.name)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, MlccError) as error:
        return Read(None, (str(error),))


def buckets_table(rows: Mapping[str, Mapping[str, Any]]) -> dg.MetadataValue:
    """Return buckets side by side: accuracy of baseline and candidate, their difference, items."""
    columns = [dg.TableColumn("bucket", "string"), dg.TableColumn("n", "int")]
    columns += [dg.TableColumn(name, "string") for name in ("baseline", "candidate", "difference")]
    records = [
        dg.TableRecord(
            {
                "bucket": name,
                "n": int(row["n"]),
                "baseline": _accuracy(row.get("baseline")),
                "candidate": _accuracy(row.get("candidate")),
                "difference": "" if row.get("difference") is None else f"{100 * row['difference']:+.1f} pp",
            }
        )
        for name, row in list(rows.items())[:SHOWN_ROWS]
    ]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def versions_table(rows: Sequence[Listed]) -> dg.MetadataValue:
    """Return versions and candidates in the columns of `mlcc registry list`."""
    columns = [dg.TableColumn(name, "string") for name in ("version", "digest", "gate", "CpQU USD", "env", "at", "by")]
    records = [
        dg.TableRecord(
            {
                "version": row.version or "",
                "digest": row.digest[:12],
                "gate": row.gate or "",
                "CpQU USD": "" if row.usd_per_quality_unit is None else f"{row.usd_per_quality_unit:.3g}",
                "env": row.env,
                "at": row.at,
                "by": row.identity,
            }
        )
        for row in rows[:SHOWN_ROWS]
    ]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


@dg.asset(
    group_name="deployment",
    owners=[OWNER],
    kinds={"python"},
    description=(
        "The newest candidate of this environment (MLCC_ENV) and its accuracy per bucket, beside the baseline's where a gate "
        "compared them."
    ),
)
def evaluation_results(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Show what the registry's newest candidate was evaluated to; a registry with a fault shows its faults."""
    home = platform.open().home
    registry = open_registry(home)
    chain = registry.read()
    digest = newest_candidate(chain.lines, registry.env)
    metadata: dict[str, Any] = {
        "env": registry.env,
        "registry": dg.MetadataValue.path(str(registry.index)),
        "lines": len(chain.lines),
        "faults": dg.MetadataValue.md(_listed([str(fault) for fault in chain.faults])),
    }
    if digest is None:
        context.log.info(f"no candidate is registered in {registry.env}")
        return dg.MaterializeResult(metadata=metadata | {"candidate": "none"})
    metadata["candidate"] = digest
    gate = newest_gate(chain.lines, digest, registry.env)
    read = evaluation_of(home, digest)
    rows: Mapping[str, Any] = {} if gate is None else gate.body["decision"].get("buckets", {})
    if read is not None and read.document is not None:
        found = read.document
        metadata["accuracy over everything (decides nothing)"] = round(aggregate(found.buckets, found.items), 6)
        metadata["evaluation set"] = found.eval_set_dvc_hash
        metadata["evaluated"] = dg.MetadataValue.json(dict(found.evaluated))
        rows = rows or {name: {"n": score.n, "candidate": score.accuracy} for name, score in found.buckets.items()}
    if rows:
        metadata["buckets"] = buckets_table(rows)
    problems = () if read is None else read.problems
    metadata["problems"] = dg.MetadataValue.md(_listed(problems))
    context.log.info(f"the newest candidate of {registry.env} is {digest[:12]}")
    return dg.MaterializeResult(metadata=metadata)


@dg.asset_check(
    asset=evaluation_results,
    blocking=True,
    description=(
        "The newest gate record of the newest candidate says promote, of exactly this content, and the registry has no fault. "
        "Else nothing downstream is materialized."
    ),
)
def gate_verdict(platform: PlatformResource) -> dg.AssetCheckResult:
    """Fail, with every reason, unless the gate let the newest candidate through."""
    registry = open_registry(platform.open().home)
    chain = registry.read()
    digest = newest_candidate(chain.lines, registry.env)
    gate = None if digest is None else newest_gate(chain.lines, digest, registry.env)
    reasons = refusals(registry, chain, digest, gate)
    decision = {} if gate is None else gate.body["decision"]
    return dg.AssetCheckResult(
        passed=not reasons,
        description=f"{digest[:12]} may be promoted" if digest and not reasons else "; ".join(reasons[:SHOWN_REASONS]),
        metadata={
            "env": registry.env,
            "candidate": digest or "none",
            "verdict": "none" if gate is None else gate.body["verdict"],
            "rule": "none" if gate is None else gate.body["rule"],
            "reasons": dg.MetadataValue.md(_listed([*reasons, *map(str, decision.get("reasons", ()))])),
            "evidence": dg.MetadataValue.json({} if gate is None else _without_token(gate)),
        },
    )


def refusals(registry: Registry, chain: Chain, digest: str | None, gate: RegistryLine | None) -> tuple[str, ...]:
    """Return why the newest candidate is not let through; none where it is."""
    if chain.faults:
        return tuple(str(fault) for fault in chain.faults)
    if digest is None:
        return (f"no candidate is registered in {registry.env}; `mlcc registry register-pending` registers one",)
    return judgement_refusals(gate, digest=digest, env=registry.env)


@dg.asset(
    deps=[evaluation_results],
    group_name="deployment",
    owners=[OWNER],
    kinds={"python"},
    output_required=False,
    description=(
        "The model that this environment deploys: the highest version that was promoted in it. Only materialized when the gate let "
        "the newest candidate through."
    ),
)
def production_model(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
    """Resolve the environment's version, and tell of it when it is a new one. Yields nothing while none is promoted."""
    home = platform.open().home
    registry = open_registry(home)
    lines = registry.sound()
    given = [line for line in lines if line.kind == "promotion" and line.env == registry.env]
    if not given:
        context.log.info(f"the gate let the candidate through, and no version was promoted in {registry.env} yet")
        return
    line = registry.resolve()
    version, evidence = str(line.body["version"]), line.body["evidence"]
    waiting = newest_candidate(lines, registry.env)
    notice = PromotionNotice(
        version=version,
        digest=line.digest,
        env=registry.env,
        gate=None if evidence is None else evidence["verdict"],
        identity=str(line.identity.get("name", "unknown")),
        promoted_at=line.at,
    )
    if told_before(context) != (registry.env, version):
        for problem in tell(notifiers_of(home.settings, context.log), notice):
            context.log.error(f"the promotion of {version} could not be told to {problem}")
    yield dg.MaterializeResult(
        metadata={
            VERSION: version,
            DIGEST: line.digest,
            "env": registry.env,
            "promoted at": line.at,
            "promoted by": notice.identity,
            "proven to be by the CI": bool(line.identity.get("proven")),
            "waits for its promotion": "nothing" if waiting in (None, line.digest) else str(waiting),
            "registry head": lines[-1].hash,
            "versions": versions_table([row for row in registry.listing() if row.env == registry.env]),
        }
    )


def told_before(context: dg.AssetExecutionContext) -> tuple[str, str] | None:
    """Return environment and version that the last materialization was of, none where there is none."""
    event = context.instance.get_latest_materialization_event(context.asset_key)
    last = None if event is None else event.asset_materialization
    if last is None or not {VERSION, "env"} <= last.metadata.keys():
        return None
    return str(last.metadata["env"].value), str(last.metadata[VERSION].value)


def _without_token(gate: RegistryLine) -> dict[str, Any]:
    document = gate.to_json()
    # The token signs the line and belongs into its file alone.
    return {name: document[name] for name in ("sequence", "env", "at", "hash", "body")}


def _accuracy(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, (int, float)) else str(value or "")


def _listed(reasons: Sequence[str]) -> str:
    return "\n".join(f"- {reason}" for reason in reasons[:SHOWN_REASONS]) or "none"


ASSETS: tuple[dg.AssetsDefinition, ...] = (evaluation_results, production_model)
CHECKS: tuple[dg.AssetChecksDefinition, ...] = (gate_verdict,)

gate_job = dg.define_asset_job(
    "gate_job",
    selection=dg.AssetSelection.assets(*ASSETS) | dg.AssetSelection.checks(*CHECKS),
    description="The newest candidate's evaluation, the gate's verdict on it, and the model that is deployed.",
    # Dagster's default launcher does not look after its runs' processes: one that was killed would stay started for ever.
    tags={"dagster/max_runtime": "600"},
)
