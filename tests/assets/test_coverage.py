"""Coverage, gaps and checks: one run for all families, and checks that fail on what is really wrong in a file."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scripted_runs import Graph, fails

from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.outcome import Outcome
from mlcc_dagster.core.stages import Stage
from mlcc_dagster.core.verdicts import Say, Word
from resources import processes
from resources.lifecycle import RunRequest, begin
from resources.result_store import DamagedResults


def metadata_of(graph: Graph, run: dg.ExecuteInProcessResult, asset: str) -> dict[str, dict[str, object]]:
    """What a refresh says of an asset: values by name, by partition."""
    found = [event.step_materialization_data.materialization for event in run.get_asset_materialization_events()]
    return {
        str(m.partition): {name: value.value for name, value in m.metadata.items()}
        for m in found
        if m.asset_key == dg.AssetKey(asset)
    }


def checks_of(run: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """What the checks said by name; those of the SQL models have tests of their own."""
    found = run.get_asset_check_evaluations()
    return {each.check_name: each for each in found if each.asset_key.path[0] != "mlcc_ci"}


def one_result(graph: Graph) -> Path:
    """Publish one run's rows and return their file."""
    assert graph.run().success
    (path,) = graph.platform.store.snapshot().files
    return path


def rewrite(path: Path, **values: object) -> None:
    """Write a result file anew with other values in all its rows."""
    table = pq.read_table(path, partitioning=None)
    for name, value in values.items():
        column = pa.array([value] * table.num_rows, table.schema.field(name).type)
        table = table.set_column(table.schema.get_field_index(name), name, column)
    pq.write_table(table, path)


def test_one_run_refreshes_both_assets_for_all_families(graph: Graph) -> None:
    one_result(graph)
    run = graph.refresh()
    coverage, gaps = metadata_of(graph, run, "coverage_matrix"), metadata_of(graph, run, "gap_list")
    families = graph.instance.get_dynamic_partitions("model_family")
    assert sorted(coverage) == sorted(gaps) == sorted(families)
    assert len(families) > 3
    proven = coverage["logistic-regression"]
    assert (proven["proven"], proven["failed"]) == (1, 0)
    assert str(proven["proven share"]).startswith(f"1/{proven['possible']} (")
    assert proven["proven by"] == "scripted 1"
    assert coverage["random-forest"]["proven"] == 0


def test_coverage_and_gaps_are_tables_that_add_up(graph: Graph) -> None:
    one_result(graph)
    run = graph.refresh()
    coverage = metadata_of(graph, run, "coverage_matrix")["logistic-regression"]
    crossed = coverage["deployment_config x instance_family"]
    cells = {record.data["deployment_config"]: record.data["local"] for record in crossed.records}  # type: ignore[attr-defined]
    assert cells["http-fastapi"].startswith("1/")
    assert cells["http-flask"].startswith("0/")
    counted = sum(int(coverage[name]) for name in ("proven", "failed", "unfeasible", "untested"))  # type: ignore[call-overload]
    assert counted == coverage["possible"]
    gaps = metadata_of(graph, run, "gap_list")["logistic-regression"]
    records = gaps["first gaps"].records  # type: ignore[attr-defined]
    assert len(records) == gaps["gaps"] == coverage["untested"]
    assert {record.data["model_family"] for record in records} == {"logistic-regression"}
    assert {"neighbours", "reason", "detail", *DIMENSIONS} == set(records[0].data)


def test_an_unfeasible_configuration_is_a_gap_with_its_reason_that_nobody_starts(tmp_path: Path) -> None:
    graph = Graph.over(tmp_path / "home", {Stage.DEPLOY: fails("CUDA out of memory")})
    assert not graph.run().success
    run = graph.refresh()
    assert metadata_of(graph, run, "coverage_matrix")["logistic-regression"]["unfeasible"] == 1
    gaps = metadata_of(graph, run, "gap_list")["logistic-regression"]
    assert gaps["startable"] == gaps["gaps"] - 1  # type: ignore[operator]
    (known_bad,) = [r.data for r in gaps["first gaps"].records if r.data["reason"] == "unfeasible"]  # type: ignore[attr-defined]
    assert "CUDA out of memory" in known_bad["detail"]


def test_a_family_without_a_possible_vector_here_has_zeros_and_no_gaps(graph: Graph) -> None:
    run = graph.refresh(["a-family-nobody-knows"])
    coverage = metadata_of(graph, run, "coverage_matrix")["a-family-nobody-knows"]
    assert (coverage["possible"], coverage["proven"], coverage["proven by"]) == (0, 0, "nobody yet")
    assert metadata_of(graph, run, "gap_list")["a-family-nobody-knows"]["gaps"] == 0


def test_a_lifecycle_run_does_not_read_the_whole_store(graph: Graph) -> None:
    run = graph.run()
    assert checks_of(run) == {}
    assert len(checks_of(graph.refresh())) == 6


def test_the_checks_pass_on_what_a_run_wrote(graph: Graph) -> None:
    one_result(graph)
    checks = checks_of(graph.refresh())
    assert {name: check.passed for name, check in checks.items() if name.startswith("results_")} == {
        "results_are_readable": True,
        "results_are_unique": True,
        "results_are_plausible": True,
    }
    assert checks["results_are_readable"].metadata["files"].value == 1
    assert checks["results_are_unique"].metadata["rows"].value == 2


def test_the_checks_pass_on_an_empty_store(graph: Graph) -> None:
    checks = checks_of(graph.refresh())
    assert not checks.pop("release_gate").passed, "nothing that was never tested may be released"
    assert all(check.passed for check in checks.values())


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    """Change a byte of the data, which the footer does not tell."""
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset
    for offset in range(start, start + 60):
        content[offset] ^= 0xFF
    path.write_bytes(bytes(content))


def replace_with_text(path: Path) -> None:
    path.write_text("not Parquet")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(truncate, id="cut off: its footer is gone"),
        pytest.param(flip, id="damaged inside: only reading it shows that"),
        pytest.param(replace_with_text, id="another kind of file under its name"),
    ],
)
def test_a_damaged_file_fails_its_check_and_is_left_out_of_everything_else(graph: Graph, damage: object) -> None:
    path = one_result(graph)
    graph.run()
    damage(path)  # type: ignore[operator]
    run = graph.refresh()
    check = checks_of(run)["results_are_readable"]
    assert not check.passed
    assert str(path) in str(check.metadata["left out"].value)
    assert checks_of(run)["results_are_unique"].metadata["rows"].value == 2, "the other run's rows"
    assert metadata_of(graph, run, "coverage_matrix")["logistic-regression"]["proven"] == 1


def test_rows_that_are_there_twice_fail_their_check(graph: Graph) -> None:
    path = one_result(graph)
    copy = path.with_name("run-imported-g1.parquet")
    copy.write_bytes(path.read_bytes())
    check = checks_of(graph.refresh())["results_are_unique"]
    assert not check.passed
    assert (check.metadata["rows"].value, check.metadata["distinct"].value) == (4, 2)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        pytest.param({"error_rate": 1.5}, "error_rate is 1.5, outside 0..1", id="more errors than requests"),
        pytest.param({"ttft_p50_ms": -3.0}, "ttft_p50_ms is -3.0, below 0", id="time runs forward"),
        pytest.param(
            {"e2e_latency_p50_ms": 9.0, "e2e_latency_p90_ms": 8.0, "e2e_latency_p99_ms": 10.0},
            "e2e_latency_p50_ms (9.0) is above e2e_latency_p90_ms (8.0)",
            id="percentiles do not decrease",
        ),
    ],
)
def test_a_value_that_cannot_be_true_fails_its_check_and_names_the_row(
    graph: Graph, values: dict[str, object], problem: str
) -> None:
    rewrite(one_result(graph), **values)
    check = checks_of(graph.refresh())["results_are_plausible"]
    assert not check.passed
    assert check.metadata["problems"].value == 2, "one for each level"
    assert f"{graph.config_id}-g1 at 4: {problem}" in str(check.metadata["first"].value)


def test_what_an_interrupted_run_published_late_does_not_count(graph: Graph) -> None:
    path = one_result(graph)
    owner = processes.this_process("a run that lost its lease")
    begun = begin(graph.platform, RunRequest(graph.config_id, "r2"), owner)
    assert isinstance(begun, Outcome)
    assert graph.platform.ci.interrupt(begun.claim.run_id, "its lease was over")
    late = path.with_name(f"run-{begun.claim.run_id}.parquet")
    late.write_bytes(path.read_bytes())
    rewrite(late, run_id=begun.claim.run_id, status="failed", run_timestamp="2100-01-01T00:00:00.000000Z")
    run = graph.refresh()
    assert checks_of(run)["results_are_readable"].metadata["files"].value == 1
    coverage = metadata_of(graph, run, "coverage_matrix")["logistic-regression"]
    assert (coverage["proven"], coverage["failed"]) == (1, 0)


def test_damage_that_does_not_go_away_is_raised(graph: Graph) -> None:
    looks: list[int] = []

    def read(snapshot: object) -> None:
        looks.append(1)
        raise DamagedResults("it could not be read; try again")

    with pytest.raises(DamagedResults):
        graph.platform.store.snapshot().read(read)
    assert len(looks) == 3, "a file may have moved meanwhile, and its new place may be damaged"


def test_interactions_are_measured_over_all_families_and_missing_ones_named(graph: Graph) -> None:
    assert graph.run().success
    run = graph.refresh()
    (event,) = [e for e in run.get_asset_materialization_events() if e.asset_key == dg.AssetKey("interaction_coverage")]
    metadata = event.materialization.metadata
    subsets = {record["dimensions"]: record for record in (r.data for r in metadata["2-way by dimensions"].records)}
    assert len(subsets) == 15
    both = subsets["deployment_config x model_family"]
    assert (both["covered"], both["possible"]) == (1, 11), (
        "five servers of predictors x two families, and one of language models"
    )
    assert metadata["2-way missing"].value == sum(s["possible"] - s["covered"] for s in subsets.values())
    assert {"1-way covered", "2-way covered", "3-way covered"} <= set(metadata)


def test_a_persons_mark_is_a_live_verdict_of_the_asset_and_no_longer_a_startable_gap(graph: Graph) -> None:
    vector = Vector("http-flask", "random-forest", "local", "none", "1", "realtime-inference")
    graph.platform.words.say(Word(vector, Say.MARK, "flask is old", "ann", datetime.now(UTC)))
    run = graph.refresh()
    (event,) = [e for e in run.get_asset_materialization_events() if e.asset_key == dg.AssetKey("unfeasible_verdicts")]
    assert event.materialization.metadata["live"].value == 1
    (record,) = event.materialization.metadata["verdicts"].records
    assert record.data["why"] == "marked: flask is old (ann)"
    gaps = metadata_of(graph, run, "gap_list")["random-forest"]
    assert gaps["startable"] == gaps["gaps"] - 1  # type: ignore[operator]
