"""The workflows that are shipped: their form, the commands they name, and their scripts, run by a real shell."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

# test folders are no packages: what these tests share is imported by its own name
sys.path.insert(0, str(Path(__file__).parent / "resources"))

from ci_issuer import VARIABLES, WORKFLOW, Issuer, running_issuer, write_policy

from mlcc_dagster.cli import app

FOLDER = Path(__file__).parents[1] / "docs" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
DEPLOY = FOLDER / "deploy-candidate.yml"
GROUP: Any = typer.main.get_command(app)
BIN = Path(sys.executable).parent


def read(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text("utf-8"))


def jobs(path: Path) -> dict[str, Any]:
    return read(path)["jobs"]


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in jobs(path).values():
        yield from job["steps"]


def script(name: str, job: str = "deploy") -> str:
    """Return what a named step of the deployment runs."""
    (found,) = [step["run"] for step in jobs(DEPLOY)[job]["steps"] if step.get("name") == name]
    return found


SCRIPTS = [
    pytest.param(step["run"], id=f"{path.stem}: {step['name']}")
    for path in FILES
    for step in steps(path)
    if "run" in step
]

# ---- form

KNOWN = {
    "job": {
        *("name", "if", "needs", "runs-on", "timeout-minutes", "permissions", "outputs", "steps", "environment"),
        *("concurrency", "env"),
    },
    "step": {"name", "id", "if", "uses", "with", "env", "run"},
}


def test_both_workflows_are_there():
    assert [path.name for path in FILES] == ["check-baseline.yml", "deploy-candidate.yml"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_has_the_form_of_one_and_the_least_permissions(path: Path):
    document = read(path)
    # YAML 1.1 reads the word `on` as true.
    assert document.keys() - {True} == {"name", "permissions", "defaults", "jobs"}
    assert document["defaults"] == {"run": {"shell": "bash"}}, "named, it runs with pipefail"
    assert set(document["permissions"].values()) <= {"read"}
    for name, job in jobs(path).items():
        assert job.keys() <= KNOWN["job"], name
        assert job["timeout-minutes"] <= 120
        assert isinstance(job.get("permissions", {}), dict), "never write-all"
        for step in job["steps"]:
            assert step.keys() <= KNOWN["step"]
            assert ("run" in step) != ("uses" in step)
            assert "name" in step or "uses" in step


def test_only_the_job_that_promotes_may_write_contents_and_prove_who_it_is():
    may = {
        name: {key for key, value in job["permissions"].items() if value == "write"}
        for name, job in jobs(DEPLOY).items()
    }
    assert may == {"read": set(), "deploy": {"contents", "id-token", "pull-requests"}, "refused": {"pull-requests"}}
    assert read(DEPLOY)["permissions"] == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_actions_are_named_by_their_whole_version(path: Path):
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+", name)] == []


def test_nothing_of_the_pull_request_is_checked_out():
    assert read(DEPLOY)[True] == {"issue_comment": {"types": ["created"]}}, "runs the default branch's own workflow"
    checkouts = [step.get("with", {}) for step in steps(DEPLOY) if step.get("uses", "").startswith("actions/checkout")]
    assert [with_.get("ref") for with_ in checkouts] == [None, None, "model-registry"]
    assert [with_.get("persist-credentials", True) for with_ in checkouts] == [False, False, True]


@pytest.mark.parametrize("text", SCRIPTS)
def test_a_script_holds_no_expression_that_would_be_pasted_into_it(text: str):
    assert "${{" not in text


@pytest.mark.parametrize("text", SCRIPTS)
def test_a_script_is_one_for_the_shell(text: str):
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_done_comes_in_its_order_and_promotion_last():
    names = [step["name"] for step in jobs(DEPLOY)["deploy"]["steps"] if "name" in step]
    assert names == [
        "Locked sync",
        "Data pull with hash check",
        "Artifact",
        "Evaluate",
        "Compare",
        "Promote",
        "Publish the registry",
        "Notice",
        "Notice of a failure",
    ]
    conditions = {step["name"]: step.get("if") for step in jobs(DEPLOY)["deploy"]["steps"] if "name" in step}
    assert [name for name, condition in conditions.items() if condition] == [
        "Publish the registry",
        "Notice of a failure",
    ]


# ---- the commands


def commands() -> Iterator[str]:
    for path in FILES:
        for step in steps(path):
            for line in step.get("run", "").splitlines():
                found = re.search(r"(?:^|\$\()\s*(mlcc .*?)(?:\s*[|>].*)?$", line)
                if found:
                    yield found[1]


def parse(words: list[str]) -> None:
    """Let the real command line read words; it is not run. Raises what an unknown command or option raises."""
    command, parent, name = GROUP, None, "mlcc"
    while True:
        context = command.make_context(name, list(words), parent=parent)
        if not hasattr(command, "commands"):
            return
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        if not rest:
            return
        name, command, words = command.resolve_command(context, rest)
        parent = context


def test_the_commands_were_found():
    assert [shlex.split(line)[1] for line in commands()] == [
        "gate",
        "registry",
        "registry",
        "evaluate",
        "gate",
        "registry",
        "registry",
    ]


@pytest.mark.parametrize("line", commands())
def test_the_command_line_accepts_every_command(line: str):
    parse(shlex.split(line)[1:])


def test_a_command_that_does_not_exist_would_be_noticed():
    for words in (["registry", "deploy"], ["registry", "promote", "x", "y", "--force"], ["registry", "promote", "x"]):
        with pytest.raises(Exception, match=r"No such|Missing"):
            parse(words)


# ---- the scripts


def bash(text: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script as the runner does."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=kept | {"GITHUB_OUTPUT": str(folder / "output"), "PATH": f"{BIN}:{os.environ['PATH']}"} | environment,
    )


RUN = "0123456789abcdef" * 2


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_comment_in_the_form_is_read(tmp_path: Path, end: str):
    body = f"mlflow_run_id={RUN} semver=v1.20.3{end}"
    assert bash(script("The comment says exactly a run and a version", "read"), tmp_path, BODY=body).returncode == 0
    assert (tmp_path / "output").read_text() == f"run_id={RUN}\nversion=v1.20.3\n"


@pytest.mark.parametrize(
    "body",
    [
        "",
        f"mlflow_run_id={RUN}",
        f"mlflow_run_id={RUN} semver=v1.0.0-dev",
        f"mlflow_run_id={RUN} semver=v1.0",
        f"mlflow_run_id={RUN} semver=v01.0.0",
        f"mlflow_run_id={RUN} semver=v1.0.0;touch pwned",
        f"mlflow_run_id={RUN} semver=v1.0.0 $(touch pwned)",
        f"mlflow_run_id={RUN} semver=v1.0.0`touch pwned`",
        "mlflow_run_id=$(touch pwned) semver=v1.0.0",
        f'mlflow_run_id={RUN} semver=v1.0.0"; touch pwned; "',
        f"mlflow_run_id={RUN} semver=v1.0.0\nrun_id=mine",
        f"mlflow_run_id={RUN} semver=v1.0.0\n\n",
        f"x\nmlflow_run_id={RUN} semver=v1.0.0",
        f"mlflow_run_id={RUN[:-1]} semver=v1.0.0",
        f"mlflow_run_id={RUN}0 semver=v1.0.0",
        f"mlflow_run_id={RUN.upper()} semver=v1.0.0",
        "mlflow_run_id=../../../../../../../etc/passwd0 semver=v1.0.0",
        f"mlflow_run_id={RUN}  semver=v1.0.0",
        f"mlflow_run_id={RUN} semver=v1.0.٠",
    ],
)
def test_any_other_comment_is_refused_and_runs_nothing(tmp_path: Path, body: str):
    done = bash(script("The comment says exactly a run and a version", "read"), tmp_path, BODY=body)
    assert done.returncode == 1
    assert "write one line" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def with_gh(folder: Path, answer: str) -> str:
    """Put a `gh` in the way that prints `answer` and notes what it was asked; return the PATH."""
    place = folder / "bin"
    place.mkdir()
    (place / "gh").write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >> {folder}/asked\nprintf %b {shlex.quote(answer)}\n")
    (place / "gh").chmod(0o755)
    return f"{place}:{BIN}:{os.environ['PATH']}"


OWNERS = (FOLDER / "CODEOWNERS").read_text("utf-8")


@pytest.mark.parametrize(
    ("commenter", "labellers", "owners", "allowed"),
    [
        ("ada", "grace\n", OWNERS, True),
        ("Ada", "ada\n", OWNERS, True),
        ("ada", "mallory\ngrace\n", OWNERS, True),
        ("ada", "grace\nmallory\n", OWNERS, False),
        ("mallory", "ada\n", OWNERS, False),
        ("ada", "", OWNERS, False),
        ("", "ada\n", OWNERS, False),
        ("ad", "ada\n", OWNERS, False),
        ("a.a", "ada\n", OWNERS, False),
        ("ada", "ada\n", "", False),
        ("ada", "ada\n", "* @ada\n", False),
        ("ada", "ada\n", "# /eval_baseline.json @ada\n", False),
        ("ada", "ada\n", "/eval_baseline.json @ada\n/eval_baseline.json @grace\n", False),
        ("grace", "grace\n", "/eval_baseline.json @ada\n/eval_baseline.json @grace\n", True),
        ("-v", "ada\n", OWNERS, False),
    ],
    ids=[
        "both own it",
        "logins have no case",
        "the last who set the label counts",
        "somebody else set it last",
        "somebody else commented",
        "nobody set the label",
        "nobody commented",
        "a part of a name",
        "a pattern",
        "no owners",
        "owners of everything are not named for it",
        "a remark",
        "the last line for a file counts",
        "for whom it names",
        "an option",
    ],
)
def test_only_code_owners_of_the_baseline_may_ask(
    tmp_path: Path, commenter: str, labellers: str, owners: str, allowed: bool
):
    (tmp_path / ".github").mkdir()
    (tmp_path / ".github" / "CODEOWNERS").write_text(owners, "utf-8")
    done = bash(
        script("Who commented and who set the label are code owners of the baseline", "read"),
        tmp_path,
        PATH=with_gh(tmp_path, labellers),
        REPOSITORY="acme/tutor",
        PULL="7",
        COMMENTER=commenter,
    )
    assert (done.returncode == 0) == allowed, done.stdout + done.stderr
    assert "repos/acme/tutor/issues/7/events" in (tmp_path / "asked").read_text()
    assert allowed or "is no owner of" in done.stdout


def test_a_failure_is_told_with_what_the_gate_said_and_nothing_of_it_is_run(tmp_path: Path):
    (tmp_path / "gate.txt").write_text("blocked ``` $(touch pwned)\n", "utf-8")
    path = with_gh(tmp_path, "")
    done = bash(
        script("Notice of a failure"),
        tmp_path,
        PATH=path,
        PULL="7",
        VERSION="v1.0.0",
        RUN_ID=RUN,
        RUN_URL="https://x/1",
    )
    assert done.returncode == 0, done.stderr
    told = (tmp_path / "comment.md").read_text()
    assert told.startswith(f"not promoted: v1.0.0 of run {RUN}. What happened: https://x/1\n")
    assert told.count("```") == 2
    assert "$(touch pwned)" in told
    assert not (tmp_path / "pwned").exists()


# ---- the way to production, with a real registry, a real issuer of tokens, MLflow, git, and the gate


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as made:
        yield made


@pytest.fixture
def workspace(tmp_path: Path, issuer: Issuer) -> tuple[Path, dict[str, str]]:
    """A runner's folder before the step `Artifact`: code checked out, data pulled, a run logged, the registry's branch cloned."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/tracking.db")
    experiment = client.create_experiment("tutor", artifact_location=(tmp_path / "artifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id
    logged = tmp_path / "logged"
    logged.mkdir()
    (logged / "model.bin").write_bytes(b"weights")
    client.log_artifacts(run_id, str(logged), "model")
    client.set_terminated(run_id)
    branch = tmp_path / "branch.git"
    git(tmp_path, "init", "--quiet", "--bare", "-b", "model-registry", str(branch))
    folder = tmp_path / "workspace"
    folder.mkdir()
    git(folder, "clone", "--quiet", str(branch), "model-registry")
    write_policy(folder / "model-registry")
    git(folder / "model-registry", "add", "policy.json")
    git(folder / "model-registry", "commit", "--quiet", "-m", "policy")
    git(folder / "model-registry", "push", "--quiet", "origin", "HEAD:model-registry")
    buckets = {"tense": {"accuracy": 0.9, "n": 10}, "verb": {"accuracy": 0.8, "n": 10}}
    baseline = {
        "eval_set_dvc_hash": "0" * 32,
        "baseline_sha": sha256(b"before").hexdigest(),
        "previous_baseline_sha": None,
        "tolerance_pp": 0.02,
        "buckets": buckets,
    }
    (folder / "eval_baseline.json").write_text(json.dumps(baseline), "utf-8")
    environment = {
        **issuer.variables(),
        "MLCC_ENV": "prod",
        "MLCC_HOME": str(folder / ".mlcc"),
        "MLCC_MODEL_REGISTRY": str(folder / "model-registry"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/tracking.db",
        "RUN_ID": run_id,
        "VERSION": "v1.0.0",
        "OUTCOME": "success",
    }
    return folder, environment


def outputs(folder: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (folder / "output").read_text().splitlines())


def evaluated(folder: Path, digest: str, verb: float) -> None:
    """What the step `Evaluate` would leave: serving a model takes minutes and is tested where evaluations are."""
    buckets = {"tense": {"accuracy": 0.9, "n": 10}, "verb": {"accuracy": verb, "n": 10}}
    document = {"eval_set_dvc_hash": "0" * 32, "candidate_sha": digest, "buckets": buckets}
    (folder / "candidate_eval.json").write_text(json.dumps(document), "utf-8")


def published(folder: Path) -> list[str]:
    """The kinds of the lines that are on the branch, as anybody sees it."""
    branch = folder.parent / "branch.git"
    names = git(branch, "ls-tree", "--name-only", "model-registry").split()
    if "index.jsonl" not in names:
        return []
    return [json.loads(line)["kind"] for line in git(branch, "show", "model-registry:index.jsonl").splitlines()]


@pytest.mark.slow
def test_a_candidate_that_passes_goes_the_whole_way_and_the_branch_has_it(workspace: tuple[Path, dict[str, str]]):
    folder, environment = workspace
    assert bash(script("Artifact"), folder, **environment).returncode == 0
    found = outputs(folder)
    evaluated(folder, found["digest"], verb=0.8)
    for name in ("Compare", "Promote", "Publish the registry"):
        done = bash(script(name), folder, **environment, DIGEST=found["digest"])
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    assert published(folder) == ["pending", "gate", "promotion"]
    lookup = bash("mlcc registry resolve v1.0.0", folder, **environment)
    assert lookup.stdout.strip() == found["digest"]
    assert (Path(found["bundle"]) / "model.bin").read_bytes() == b"weights"


@pytest.mark.slow
def test_a_candidate_that_is_blocked_is_not_promoted_and_the_branch_says_so(workspace: tuple[Path, dict[str, str]]):
    folder, environment = workspace
    bash(script("Artifact"), folder, **environment)
    digest = outputs(folder)["digest"]
    evaluated(folder, digest, verb=0.5)
    assert bash(script("Compare"), folder, **environment).returncode == 1, "tee must not hide it"
    refused = bash(script("Promote"), folder, **environment, DIGEST=digest)
    assert refused.returncode == 1
    assert "says blocked" in refused.stderr
    assert bash(script("Publish the registry"), folder, **environment).returncode == 0
    assert published(folder) == ["pending", "gate"]
    assert "bucket verb fell" in (folder / "gate.txt").read_text()


@pytest.mark.slow
def test_where_somebody_published_meanwhile_or_lines_would_change_nothing_is_published(
    workspace: tuple[Path, dict[str, str]],
):
    folder, environment = workspace
    bash(script("Artifact"), folder, **environment)
    other = folder.parent / "other"
    git(folder.parent, "clone", "--quiet", "branch.git", "other")
    (other / "note").write_text("meanwhile")
    git(other, "add", "note")
    git(other, "commit", "--quiet", "-m", "meanwhile")
    git(other, "push", "--quiet", "origin", "HEAD:model-registry")
    raced = bash(script("Publish the registry"), folder, **environment)
    assert raced.returncode != 0
    assert published(folder) == []
    registry = folder / "model-registry"
    git(registry, "pull", "--quiet", "--rebase", "origin", "model-registry")
    git(registry, "push", "--quiet", "origin", "HEAD:model-registry")
    assert published(folder) == ["pending"]
    # Written anew from the start, the chain is sound in itself: the branch it was on is what finds it.
    (registry / "index.jsonl").unlink()
    (folder / "another").mkdir()
    (folder / "another" / "model.bin").write_bytes(b"other")
    assert bash("mlcc registry register-pending ./another", folder, **environment).returncode == 0
    rewritten = bash(script("Publish the registry"), folder, **environment)
    assert rewritten.returncode == 1
    assert "would be changed" in rewritten.stdout
    assert published(folder) == ["pending"]


def test_the_policy_in_the_page_fits_the_workflow_that_is_shipped():
    page = (FOLDER.parent / "registry.md").read_text("utf-8")
    (policy,) = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.S)]
    assert policy["claims"]["workflow_ref"] == WORKFLOW
    assert WORKFLOW.partition("@")[0].endswith(f".github/workflows/{DEPLOY.name}")
