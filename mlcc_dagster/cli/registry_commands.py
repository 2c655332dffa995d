"""`mlcc registry`: candidates, versions, and the chain that holds what was decided. It does not import Dagster.

Belongs here: reading the request, and saying what came of it. Not here: the rules (`core.model_registry`), files and proof
(`resources.registry`), bundles (`resources.candidate_bundles`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlcc_dagster.cli.help_pages import examples, show_help

if TYPE_CHECKING:
    from mlcc_dagster.core.model_registry import Listed
    from mlcc_dagster.core.registry_chain import RegistryLine

registry_app = typer.Typer(rich_markup_mode=None)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

BASELINE = Path("eval_baseline.json")


def add_to(app: typer.Typer) -> None:
    """Add the `registry` group to the command line."""
    registry_app.command(
        "register-pending",
        epilog=examples(
            "mlcc registry register-pending ./my-model",
            "mlcc registry register-pending 0123456789abcdef0123456789abcdef --artifact model",
        ),
    )(register_pending)
    registry_app.command(epilog=examples("mlcc registry promote 3f2a90c1 v1.2.0-dev"))(promote)
    registry_app.command("list", epilog=examples("mlcc registry list", "mlcc registry list --json"))(list_)
    registry_app.command(epilog=examples("mlcc registry show v1.2.0", "mlcc registry show 3f2a90c1"))(show)
    registry_app.command("resolve", epilog=examples("mlcc registry resolve", "mlcc registry resolve v1.2.0 --json"))(
        resolve
    )
    registry_app.command(epilog=examples("mlcc registry verify", "mlcc registry verify --head HASH"))(verify)
    registry_app.command("eval-set", epilog=examples("mlcc registry eval-set evaluation_set.jsonl"))(eval_set)
    app.add_typer(registry_app, name="registry")


@registry_app.callback(
    invoke_without_command=True,
    epilog=examples("mlcc registry register-pending ./my-model", "mlcc registry list", "mlcc registry verify"),
)
def registry(context: typer.Context) -> None:
    """Candidates, what the gate said, and promoted versions.

    The environment is MLCC_ENV (default dev). Production versions are given in the CI alone; nothing switches that off.
    """
    show_help(context)


def register_pending(
    candidate: Annotated[str, typer.Argument(help="An MLflow run id (32 hexadecimal digits), or a folder or file.")],
    artifact: Annotated[
        str, typer.Option(help="Path below the artifacts of the MLflow run (default: all of them).")
    ] = "",
    tracking_uri: Annotated[
        str | None, typer.Option(help="Tracking store of MLflow (default: MLFLOW_TRACKING_URI).")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Register a candidate bundle by the digest of its content.

    A folder whose name looks like a run id is meant by ./NAME.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.exceptions import UsageError
    from resources.candidate_bundles import RUN_ID, fetch_run, read_bundle
    from resources.home import Home
    from resources.registry import open_registry
    from resources.registry_identity import says_that_it_is_ci

    if not candidate.strip():
        raise UsageError("the candidate is empty; name the folder or file of a model, or the run id of MLflow")
    home = Home.current()
    registry = open_registry(home)
    if RUN_ID.fullmatch(candidate):
        fetched = fetch_run(home, candidate, artifact=artifact, tracking_uri=tracking_uri)
        bundle, place = fetched.bundle, fetched.folder
        body: dict[str, Any] = {
            "source": printable(f"mlflow run {fetched.run_id} of {fetched.experiment}"),
            "mlflow": {"run_id": fetched.run_id, "experiment": fetched.experiment, "artifact": fetched.artifact_path},
        }
    else:
        if artifact or tracking_uri:
            raise UsageError(
                f"--artifact and --tracking-uri are for runs of MLflow; {candidate} is a path, leave them out"
            )
        place = Path(candidate)
        bundle = read_bundle(place)
        body = {"source": printable(candidate), "mlflow": None}
    body |= {"files": len(bundle.files), "bytes": bundle.size}
    line, new = registry.register_pending(bundle.digest, body)
    if not says_that_it_is_ci():
        console.warn("this is not the CI path: what is to reach production is registered by the CI's workflow")
    if json:
        document = {
            "digest": bundle.digest,
            "env": line.env,
            "new": new,
            "bundle": str(place),
            "files": len(bundle.files),
            "bytes": bundle.size,
            "line": line.sequence,
        }
        console.print_json(document)
        return
    files = console.counted(len(bundle.files), "file")
    console.say(
        f"{'registered' if new else 'registered before'} {bundle.digest} in {line.env} ({files}, {bundle.size} bytes)"
    )
    console.say(f"bundle {place}")


def promote(
    digest: Annotated[str, typer.Argument(metavar="SHA", help="The digest, or its first 8 or more digits.")],
    version: Annotated[str, typer.Argument(help="vX.Y.Z; outside production vX.Y.Z-dev.")],
    baseline: Annotated[
        Path, typer.Option(help="The committed baseline, which the gate's record must be against in production.")
    ] = BASELINE,
    json: JsonOption = False,
) -> None:
    """Give a candidate a version, with the gate's evidence, or do nothing.

    In production (MLCC_ENV=prod) only in the CI, and only where the newest gate record of exactly this digest says promote against
    the baseline that is committed now. Elsewhere only -dev versions.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.exceptions import UsageError
    from mlcc_dagster.core.model_registry import PROD
    from mlcc_dagster.core.model_versions import Version
    from resources.home import Home
    from resources.registry import open_registry

    wanted = Version.read(version)
    registry = open_registry(Home.current())
    whole = registry.digest_of(digest)
    if whole is None:
        raise UsageError(f"no candidate {digest} is registered; `mlcc registry list` shows those that are")
    line = registry.promote(whole, wanted, baseline_digest=digest_of_file(baseline) if registry.env == PROD else None)
    evidence = line.body["evidence"]
    if registry.env != PROD:
        judged = "no gate judged it" if evidence is None else f"the gate said {evidence['verdict']}"
        console.warn(
            f"NOT A PRODUCTION VERSION: {wanted} is for trying in {registry.env} ({judged}); no production lookup ever resolves it"
        )
    if json:
        console.print_json(told(line))
        return
    console.say(f"promoted {wanted}: {whole} in {registry.env}")
    console.say(f"head {line.hash}")


def list_(
    env: Annotated[str | None, typer.Option(help="Of this environment alone (default: all).")] = None,
    json: JsonOption = False,
) -> None:
    """List versions, newest first, then candidates that have none."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.model_registry import env_of
    from resources.home import Home
    from resources.registry import open_registry

    wanted = None if env is None else env_of(env)
    registry = open_registry(Home.current())
    rows = [row for row in registry.listing() if wanted is None or row.env == wanted]
    if json:
        console.print_json({"registry": str(registry.root), "versions": [row.to_json() for row in rows]})
    elif rows:
        show_listing(rows)
    else:
        console.say("nothing is registered yet; `mlcc registry register-pending` registers a candidate")


def show(
    name: Annotated[str, typer.Argument(help="A version, or a digest or its first 8 or more digits.")],
    json: JsonOption = False,
) -> None:
    """Show every line on a candidate: where it comes from, what gates said, which versions it was given."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.exceptions import UsageError
    from mlcc_dagster.core.model_versions import Version
    from resources.home import Home
    from resources.registry import open_registry

    registry = open_registry(Home.current())
    lines = registry.sound()
    if name.startswith("v"):
        text = Version.read(name).text
        digest = next(
            (line.digest for line in lines if line.kind == "promotion" and line.body["version"] == text), None
        )
    else:
        digest = registry.digest_of(name)
    if digest is None:
        raise UsageError(f"the registry has no {name}; `mlcc registry list` shows what it has")
    mine = [line for line in lines if line.digest == digest]
    if json:
        console.print_json({"digest": digest, "lines": [told(line) for line in mine]})
        return
    console.print_table(
        digest,
        ["line", "kind", "env", "at", "by", "proven", "what"],
        (
            [
                line.sequence,
                line.kind,
                line.env,
                line.at,
                line.identity.get("name"),
                bool(line.identity.get("proven")),
                what_is_said(line),
            ]
            for line in mine
        ),
        right=["line"],
    )


def resolve(
    version: Annotated[str | None, typer.Argument(help="A version (default: the highest of the environment).")] = None,
    json: JsonOption = False,
) -> None:
    """Print the digest that a version stands for. Production (MLCC_ENV=prod) resolves production's versions alone."""
    from mlcc_dagster.cli import console
    from resources.home import Home
    from resources.registry import open_registry

    line = open_registry(Home.current()).resolve(version)
    if json:
        console.print_json(
            {
                "version": line.body["version"],
                "digest": line.digest,
                "env": line.env,
                "at": line.at,
                "line": line.sequence,
            }
        )
    else:
        console.say(line.digest)


def verify(
    head: Annotated[
        str | None, typer.Option(help="A hash that was kept elsewhere: its line must still be there.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check the chain: every changed, dropped, added or moved line is found, and every line that the rules do not allow.

    What was cut off the end, or written anew from the start, only shows against a hash that was kept elsewhere: commit the printed
    head, and give it with --head.
    """
    from mlcc_dagster.cli import console
    from resources.home import Home
    from resources.registry import open_registry

    registry = open_registry(Home.current())
    chain = registry.read()
    faults = registry.verify(head)
    if json:
        console.print_json(
            {
                "index": str(registry.index),
                "lines": len(chain.lines),
                "head": chain.head,
                "sound": not faults,
                "faults": [{"line": fault.line or None, "reason": fault.reason} for fault in faults],
            }
        )
    else:
        for fault in faults:
            console.say(f"{fault}")
        if faults:
            console.say(f"{registry.index} is not sound: {console.counted(len(faults), 'fault')}")
        else:
            console.say(f"{registry.index} is sound: {console.counted(len(chain.lines), 'line')}")
            console.say(f"head {chain.head}")
    if faults:
        raise typer.Exit(1)


def eval_set(
    path: Annotated[Path, typer.Argument(help="The evaluation set: a file, a folder, or its .dvc file.")],
    expect: Annotated[str | None, typer.Option(help="The hash that it must have.")] = None,
    json: JsonOption = False,
) -> None:
    """Print the hash of an evaluation set as DVC writes it, and check it against the .dvc file beside it."""
    from mlcc_dagster.cli import console
    from resources.evaluation_sets import eval_set_hash

    found = eval_set_hash(path)
    fits = expect is None or expect == found
    if json:
        console.print_json({"path": str(path), "eval_set_dvc_hash": found, "expected": expect, "fits": fits})
    elif fits:
        console.say(found)
    else:
        console.say(f"{path} has the hash {found}, {expect} is expected; fetch it with `dvc pull`")
    if not fits:
        raise typer.Exit(1)


def show_listing(rows: Sequence["Listed"]) -> None:
    """Print versions and candidates as a table."""
    from mlcc_dagster.cli import console

    console.print_table(
        "versions and candidates, newest first",
        ["version", "digest", "gate", "CpQU USD", "env", "at", "by"],
        (
            [
                row.version,
                row.digest[:12],
                f"{row.gate}, loosened" if row.loosened else row.gate,
                None if row.usd_per_quality_unit is None else f"{row.usd_per_quality_unit:.3g}",
                row.env,
                row.at,
                row.identity,
            ]
            for row in rows
        ),
        right=["CpQU USD"],
    )


def what_is_said(line: "RegistryLine") -> str:
    """Return what a line says in some words."""
    if line.kind == "promotion":
        evidence = line.body["evidence"]
        judged = "no gate" if evidence is None else f"gate of line {evidence['sequence']}{_loosening(evidence)}"
        return f"{line.body['version']}, {judged}"
    if line.kind == "gate":
        return f"{line.body['verdict']} by the rule {line.body['rule']}{_loosening(line.body)}"
    return str(line.body.get("source", "unknown"))


def _loosening(judged: Mapping[str, Any]) -> str:
    from mlcc_dagster.core.model_registry import is_loosened

    return ", loosened: more was tolerated than the baseline does" if is_loosened(judged) else ""


def told(line: "RegistryLine") -> dict[str, Any]:
    """Return a line as JSON values without the token that signs it, which belongs into the file and into no log."""
    document = line.to_json()
    return document | {"identity": {name: value for name, value in document["identity"].items() if name != "token"}}


def printable(text: str) -> str:
    """Return a text that a terminal shows as it is: paths and names come from elsewhere, and may hold control sequences."""
    return "".join(character if character.isprintable() else "?" for character in text)[:300]


def digest_of_file(path: Path) -> str | None:
    """Return the SHA-256 of a file, none where it is not there. Raises `UsageError` where it cannot be read."""
    from hashlib import sha256

    from mlcc_dagster.core.exceptions import UsageError

    try:
        return sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(
            f"cannot read {path} ({error.strerror}); name the committed baseline with --baseline"
        ) from error
