"""Recorded outcomes: one documented file, every mistake of it named, nothing invented where it says nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import InvalidInput, StageFailed
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.stages import Stage
from resources.recorded_outcomes import RecordedOutcomes

QWEN = Configuration("transformers-vllm", "Qwen/Qwen3-4B", "qwen3", "ml.g5.xlarge", "us-west-2")
KEY = config_id(QWEN)
PLAN = BenchmarkPlan(enabled=True, workload="sample", concurrency_levels=(2,))
RECORD = '{"metadata": {"request_start_ns": 0, "request_end_ns": 5}, "metrics": {}}\n'


def written(folder: Path, document: Any) -> Path:
    path = folder / "outcomes.json"
    path.write_text(json.dumps(document), "utf-8")
    return path


def test_stages_and_records_play_as_recorded(tmp_path: Path) -> None:
    (tmp_path / "two.jsonl").write_text(RECORD, "utf-8")
    stages = {
        "build": {"seconds": 410, "status": "pass", "log": "built"},
        "deploy": {"seconds": 30.5, "status": "fail", "log": "CUDA out of memory"},
        "benchmark": {"seconds": 95.5, "status": "pass"},
    }
    outcomes = RecordedOutcomes.read(written(tmp_path, {KEY: {"stages": stages, "records": {"2": "two.jsonl"}}}))
    build, deploy, benchmark = (
        outcomes.play(f"{KEY}-g7", QWEN, stage, PLAN) for stage in (Stage.BUILD, Stage.DEPLOY, Stage.BENCHMARK)
    )
    assert (build.seconds, build.failed, build.log, dict(build.records)) == (410.0, False, "built", {})
    assert (deploy.seconds, deploy.failed, deploy.log) == (30.5, True, "CUDA out of memory")
    assert dict(benchmark.records) == {2: RECORD}


def test_what_was_not_recorded_is_not_invented(tmp_path: Path) -> None:
    stages = {"benchmark": {"seconds": 1, "status": "pass"}}
    outcomes = RecordedOutcomes.read(written(tmp_path, {KEY: {"stages": stages}}))
    other = Configuration("http-flask", None, "unknown", "ml.m5.xlarge", "us-west-2")
    assert outcomes.refusal(QWEN) is None
    assert outcomes.refusal(other) == f"nothing is recorded of {config_id(other)}"
    with pytest.raises(StageFailed, match="no stage build is recorded"):
        outcomes.play(f"{KEY}-g1", QWEN, Stage.BUILD, PLAN)
    with pytest.raises(StageFailed, match="no records at concurrency 2"):
        outcomes.play(f"{KEY}-g1", QWEN, Stage.BENCHMARK, PLAN)


@pytest.mark.parametrize(
    ("document", "problems"),
    [
        pytest.param([], ["must be an object of config ids"], id="not an object"),
        pytest.param({"abc": {}}, ["abc: must be an object with stages"], id="no stages"),
        pytest.param(
            {
                "abc": {
                    "stages": {
                        "dance": {"seconds": 1, "status": "pass"},
                        "clean": {"seconds": 1, "status": "pass"},
                        "build": {"seconds": -1, "status": "maybe"},
                        "deploy": {"seconds": True, "status": "fail"},
                    },
                    "records": {"0": "x", "2": "absent.jsonl"},
                }
            },
            [
                "abc.stages.dance: unknown stage",
                "abc.stages.clean: unknown stage",
                "abc.stages.build.seconds: must be a number from 0, not -1",
                "abc.stages.build.status: must be pass or fail, not 'maybe'",
                "abc.stages.deploy.seconds: must be a number from 0, not True",
                "abc.stages.deploy.log: must be a text, not empty where the stage failed",
                "abc.records.0: a concurrency level is a whole number from 1",
                "abc.records.2: there is no file",
            ],
            id="every mistake at once",
        ),
    ],
)
def test_mistakes_of_the_file_are_all_named(tmp_path: Path, document: Any, problems: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        RecordedOutcomes.read(written(tmp_path, document))
    assert len(caught.value.problems) == len(problems)
    for problem, start in zip(caught.value.problems, problems, strict=True):
        assert problem.startswith(start)


@pytest.mark.parametrize(
    ("content", "said"),
    [pytest.param(None, "cannot be read", id="absent"), pytest.param("{", "not readable as JSON", id="cut off")],
)
def test_an_unreadable_file_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "outcomes.json"
    if content is not None:
        path.write_text(content, "utf-8")
    with pytest.raises(InvalidInput, match=said):
        RecordedOutcomes.read(path)
