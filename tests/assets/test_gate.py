"""The deploy gate as assets, on a real instance: what is blocked is not deployed, and what is deployed is told once."""

import json
import sys
from collections.abc import Iterator, Mapping
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import dagster as dg
import pytest

# test folders are no packages: what these tests share is imported by its own name
sys.path.insert(0, str(Path(__file__).parents[1] / "resources"))

from ci_issuer import VARIABLES

from assets.gate import ASSETS, CHECKS, gate_job
from mlcc_dagster.build import build_defs
from mlcc_dagster.core.model_versions import Version
from resources.dagster_resources import PlatformResource
from resources.home import Home
from resources.registry import Registry, open_registry

A, B = (sha256(text.encode()).hexdigest() for text in "AB")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name in (*VARIABLES, "MLCC_EXECUTOR", "MLCC_NOTIFY_WEBHOOK"):
        monkeypatch.delenv(name, raising=False)
    return Home(tmp_path / "home").ensure()


@pytest.fixture
def registry(home: Home) -> Registry:
    return open_registry(home)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def decision(digest: str, verdict: str = "promote", **values: Any) -> dict[str, Any]:
    return {
        "kind": "evaluation",
        "verdict": verdict,
        "rule": "fixed",
        "candidate_sha": digest,
        "tolerance": {"value": 0.02, "committed": 0.02, "loosened": False},
        "reasons": [] if verdict == "promote" else ["bucket verb fell from 0.9000 to 0.5000"],
        "buckets": {"verb": {"n": 10, "baseline": 0.9, "candidate": 0.5, "difference": -0.4}},
    } | values


def run(home: Home, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    definitions = dg.Definitions(
        assets=[*ASSETS],
        asset_checks=[*CHECKS],
        jobs=[gate_job],
        resources={"platform": PlatformResource(home=str(home.root))},
        executor=dg.in_process_executor,
    )
    job = definitions.resolve_job_def("gate_job")
    return job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def materialized(result: dg.ExecuteInProcessResult) -> dict[str, Mapping[str, Any]]:
    return {
        event.asset_key.to_user_string(): {
            name: value.records if isinstance(value, dg.TableMetadataValue) else value.value
            for name, value in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }


def check_of(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (check,) = result.get_asset_check_evaluations()
    assert check.check_name == "gate_verdict"
    assert check.blocking
    return check


def test_what_the_gate_let_through_and_was_promoted_is_deployed(
    home: Home, registry: Registry, instance: dg.DagsterInstance
):
    registry.register_pending(A, {"source": "a"})
    registry.record_gate(A, decision(A), evaluated={"items": 10, "correct": 5, "cost_usd": 0.1})
    promoted = registry.promote(A, Version.read("v1.0.0-dev"))
    result = run(home, instance)
    assert result.success
    check = check_of(result)
    assert check.passed
    assert check.metadata["verdict"].value == "promote"
    shown = materialized(result)
    assert shown["evaluation_results"]["candidate"] == A
    (row,) = shown["evaluation_results"]["buckets"]
    assert row.data == {
        "bucket": "verb",
        "n": 10,
        "baseline": "0.9000",
        "candidate": "0.5000",
        "difference": "-40.0 pp",
    }
    model = shown["production_model"]
    assert (model["version"], model["digest"], model["env"]) == ("v1.0.0-dev", A, "dev")
    assert model["registry head"] == promoted.hash
    assert model["versions"][0].data["CpQU USD"] == "0.02"


def blocked(registry: Registry) -> None:
    registry.register_pending(B, {"source": "b"})
    registry.record_gate(B, decision(B, "blocked"))


def inconclusive(registry: Registry) -> None:
    registry.register_pending(B, {"source": "b"})
    registry.record_gate(B, decision(B, "inconclusive"))


def not_judged(registry: Registry) -> None:
    registry.register_pending(B, {"source": "b"})


def judged_again(registry: Registry) -> None:
    registry.record_gate(A, decision(A, "blocked"))


def loosened(registry: Registry) -> None:
    registry.register_pending(B, {"source": "b"})
    registry.record_gate(B, decision(B, tolerance={"value": 0.5, "committed": 0.02, "loosened": True}))


def tampered(registry: Registry) -> None:
    registry.index.write_bytes(registry.index.read_bytes().replace(b"v1.0.0-dev", b"v9.0.0-dev"))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (blocked, "says blocked"),
        (inconclusive, "says inconclusive"),
        (not_judged, "no gate has judged"),
        (judged_again, "says blocked"),
        (loosened, "tolerates more than the committed baseline"),
        (tampered, "its hash is not that of what it says"),
    ],
)
def test_a_candidate_that_is_not_let_through_keeps_the_model_from_being_materialized(
    home: Home, registry: Registry, instance: dg.DagsterInstance, spoil: Any, why: str
):
    registry.register_pending(A, {"source": "a"})
    registry.record_gate(A, decision(A))
    registry.promote(A, Version.read("v1.0.0-dev"))
    spoil(registry)
    result = run(home, instance)
    assert not result.success
    check = check_of(result)
    assert not check.passed
    assert why in (check.description or "")
    assert list(materialized(result)) == ["evaluation_results"]
    assert instance.get_latest_materialization_event(dg.AssetKey("production_model")) is None


def test_where_nothing_is_registered_nothing_is_deployed(home: Home, registry: Registry, instance: dg.DagsterInstance):
    result = run(home, instance)
    assert "no candidate is registered in dev" in (check_of(result).description or "")
    assert list(materialized(result)) == ["evaluation_results"]
    assert not registry.root.exists(), "asking makes nothing"


def test_a_candidate_that_passed_and_waits_for_its_version_deploys_nothing_of_its_own(
    home: Home, registry: Registry, instance: dg.DagsterInstance
):
    registry.register_pending(A, {"source": "a"})
    registry.record_gate(A, decision(A))
    first = run(home, instance)
    assert first.success
    assert list(materialized(first)) == ["evaluation_results"]
    registry.promote(A, Version.read("v1.0.0-dev"))
    registry.register_pending(B, {"source": "b"})
    registry.record_gate(B, decision(B))
    model = materialized(run(home, instance))["production_model"]
    assert (model["digest"], model["waits for its promotion"]) == (A, B)


def test_what_dev_promoted_is_nothing_to_production(
    home: Home, registry: Registry, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    registry.register_pending(A, {"source": "a"})
    registry.record_gate(A, decision(A))
    registry.promote(A, Version.read("v1.0.0-dev"))
    monkeypatch.setenv("MLCC_ENV", "prod")
    result = run(home, instance)
    assert "no candidate is registered in prod" in (check_of(result).description or "")
    assert "production_model" not in materialized(result)


def test_the_evaluation_that_the_home_made_is_shown_before_any_gate_and_a_broken_one_as_broken(
    home: Home, registry: Registry, instance: dg.DagsterInstance
):
    registry.register_pending(A, {"source": "a"})
    place = home.root / "evaluations"
    place.mkdir()
    document = {"eval_set_dvc_hash": "0" * 32, "candidate_sha": A, "buckets": {"tense": {"accuracy": 0.75, "n": 8}}}
    (place / f"{A}.json").write_text(json.dumps(document), "utf-8")
    shown = materialized(run(home, instance))["evaluation_results"]
    assert [row.data["candidate"] for row in shown["buckets"]] == ["0.7500"]
    assert shown["evaluation set"] == "0" * 32
    (place / f"{A}.json").write_text("{", "utf-8")
    assert "JSON" in materialized(run(home, instance))["evaluation_results"]["problems"]


def test_a_new_version_is_told_once(
    home: Home, registry: Registry, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    told: list[tuple[dict[str, Any], str | None]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.append((json.loads(body), self.headers["Idempotency-Key"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("MLCC_NOTIFY_WEBHOOK", f"http://127.0.0.1:{server.server_port}/secret")
    fresh = Home(home.root.with_name("told")).ensure()
    registry = open_registry(fresh)
    try:
        registry.register_pending(A, {"source": "a"})
        registry.record_gate(A, decision(A))
        for version in ("v1.0.0-dev", "v1.1.0-dev"):
            registry.promote(A, Version.read(version))
            for _ in range(2):
                assert run(fresh, instance).success
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert [(message["event"], message["version"], key) for message, key in told] == [
        ("promoted", "v1.0.0-dev", "promoted-dev-v1.0.0-dev"),
        ("promoted", "v1.1.0-dev", "promoted-dev-v1.1.0-dev"),
    ]
    assert told[0][0]["text"].startswith(f"promoted v1.0.0-dev in dev ({A[:12]})")


def test_the_platform_has_the_gate_before_the_model_and_the_model_behind_the_results():
    graph = build_defs().get_repository_def().asset_graph
    check = dg.AssetCheckKey(dg.AssetKey("evaluation_results"), "gate_verdict")
    assert check in graph.asset_check_keys
    assert graph.get(check).blocking
    assert graph.get(dg.AssetKey("production_model")).parent_keys == {dg.AssetKey("evaluation_results")}
