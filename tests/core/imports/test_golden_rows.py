"""What an existing writer makes of the same requests: equal but where we differ on purpose, and each such place is listed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.core.configuration import instance_family
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.imports.completion import ImportedLevel, imported_runs
from mlcc_dagster.core.imports.formats import read_document
from mlcc_dagster.core.imports.measured import Document
from mlcc_dagster.core.imports.settings import ImportSettings, read_settings
from mlcc_dagster.core.records import partition_path

PROJECT = Path(__file__).parents[3]
GOLDEN = PROJECT.parent / "shared" / "data" / "golden_benchmark_writer.json"
CATALOG = load_catalog()

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not GOLDEN.exists(), reason="the shared data is not beside this checkout"),
]

NOT_RECORDED = {"prefill_tps_avg", "prefill_tps_p50", "output_token_tps_avg", "output_token_tps_p50"} | {
    "output_token_tps_p90",
    "ttst_p50_ms",
    "ttst_p90_ms",
}
"""0.0 there, NULL here."""

NOT_KNOWN = {"benchmark_job_name", "mcc_version", "adapter_name"}
"""An empty text there, NULL here."""

OTHER_FORM = {"run_timestamp": "2026-06-09T14:30:22.000000Z", "duration_seconds": 1}
"""The time in our one form, and the whole number that the column holds."""


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text("utf-8"))


def level(document: Document, settings: ImportSettings) -> ImportedLevel:
    measured = read_document(document, source="f")[1]
    (run,), problems = imported_runs(measured, settings=settings, catalog=CATALOG)
    assert problems == ()
    (made,) = run.levels
    return made


def settings_of(golden: dict[str, Any]) -> ImportSettings:
    given = {k: v for k, v in golden["config"].items() if k not in ("base_image", "max_model_len")}
    words = [f"{name}={value}" for name, value in given.items()]
    more = ["max_model_len=4096", "run_type=ci", "streaming=true", "enable_lora=false"]
    times = [f"concurrency={golden['concurrency_arg']}", f"run_timestamp={golden['run_timestamp']}"]
    return read_settings([*words, *more, *times])


def test_the_requests_of_the_writer_give_its_row_but_for_what_is_listed(golden: dict[str, Any]):
    row = level(Document("lines", golden["jsonl_rows"]), settings_of(golden)).row
    (expected,) = golden["records"]
    differing = {name for name, value in expected.items() if row[name] != value}
    # Observed by CloudWatch, which the records do not hold.
    observed = {"gpu_utilization_avg", "metrics_source"}
    assert differing == NOT_RECORDED | NOT_KNOWN | set(OTHER_FORM) | observed | {"serving_config"}
    assert {name: row[name] for name in OTHER_FORM} == OTHER_FORM
    assert {row[name] for name in NOT_RECORDED | NOT_KNOWN} == {None}


def test_the_row_of_the_writer_is_taken_in_as_it_is_but_for_what_is_listed(golden: dict[str, Any]):
    (expected,) = golden["records"]
    row = level(Document("json", [expected]), read_settings([])).row
    assert {n for n, v in expected.items() if row[n] != v} == NOT_RECORDED | NOT_KNOWN | set(OTHER_FORM)
    assert row["serving_config"] == expected["serving_config"]


def test_both_readings_are_of_one_configuration(golden: dict[str, Any]):
    raw = level(Document("lines", golden["jsonl_rows"]), settings_of(golden)).row
    taken = level(Document("json", golden["records"]), read_settings([])).row
    assert raw["config_id"] == taken["config_id"]


def test_the_place_of_a_file_differs_in_its_name_alone(golden: dict[str, Any]):
    row = level(Document("json", golden["records"]), read_settings([])).row
    place = partition_path(row, row["run_id"])
    theirs = golden["s3"]["s3_uri"].partition("s3://bkt/")[2]
    assert str(place.parent) == theirs.rpartition("/")[0]
    assert place.name == f"run-{row['run_id']}.parquet"


DASHED = {"ml.p6-b200.48xlarge": "p6-b200"}
"""`unknown` there: their pattern has no dash."""


def test_families_of_models_are_those_of_the_writer(golden: dict[str, Any]):
    assert {name: CATALOG.family_of(name) for name in golden["model_families"]} == golden["model_families"]


def test_families_and_costs_of_instances_are_those_of_the_writer_but_for_names_with_a_dash(golden: dict[str, Any]):
    for name, (family, cost, _) in golden["instances_family_cost100_valid"].items():
        assert instance_family(name) == DASHED.get(name, family)
        known = CATALOG.instances.get(name)
        if known is not None and cost is not None and known.usd_per_hour is not None:
            assert cost == pytest.approx(known.usd_per_hour / (100 * 3600) * 1e6, abs=1e-4)


def test_what_the_writer_refuses_is_refused_here_by_the_same_field_but_for_what_is_listed(golden: dict[str, Any]):
    """Not refused here: no project (no configuration is named by one), no region (the catalog's is the default), no metrics
    and no concurrency (a run without a benchmark is a row)."""
    refused_here = {"model_name", "instance_type", "deployment_config", "concurrency"}
    told: dict[int, set[str]] = {}
    expected: dict[int, set[str]] = {}
    for number, case in enumerate(golden["validation"]):
        given = case["input"] if isinstance(case["input"], dict) else {}
        (entry,) = [*given.get("metrics", []), {}][:1]
        row = {k: v for k, v in given.items() if k not in ("metrics", "base_image")}
        row |= {"run_timestamp": "2026-06-09", **(entry if isinstance(entry, dict) else {})}
        row.setdefault("quantization", "none")
        row.setdefault("tensor_parallel_degree", 1)
        named = {error["field"].rpartition(".")[2] for error in case["errors"] if "metrics[0].c" not in error["field"]}
        if any(error["reason"] == "must be an integer" for error in case["errors"]):
            named.add("concurrency")
        expected[number] = named & refused_here
        try:
            measured = read_document(Document("json", [row]), source="f", name="athena-export")[1]
            problems = imported_runs(measured, settings=read_settings([]), catalog=CATALOG)[1]
        except InvalidInput as refused:
            problems = refused.problems
        told[number] = {name for name in refused_here if any(name in problem for problem in problems)}
    assert any(expected.values())
    # What is no object at all is refused as a whole.
    whole = {number for number, case in enumerate(golden["validation"]) if case["input"] == "x"}
    assert {n: t for n, t in told.items() if n not in whole} == {n: e for n, e in expected.items() if n not in whole}


def test_every_deliberate_difference_is_in_the_documentation():
    page = (PROJECT / "docs" / "table.md").read_text("utf-8")
    listed = re.split(r"^## ", page, flags=re.M)
    (section,) = [each for each in listed if each.startswith("Where we differ from existing writers")]
    for name in (
        "0.0",
        "empty text",
        "run_timestamp",
        "instance_family",
        "duration_seconds",
        "region",
        "serving_config",
    ):
        assert name in section
