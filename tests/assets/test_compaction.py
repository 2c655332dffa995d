"""The compaction asset: what it does to a store and what it says."""

import os
import time
from pathlib import Path

import dagster as dg
import pytest

from assets.compaction import compacted_results, compaction_schedule
from mlcc_dagster.core.records import COLUMN_NAMES
from resources import compaction
from resources.platform import Platform
from resources.result_store import ResultStore


class Opened(dg.ConfigurableResource):
    """The platform of a home."""

    home: str

    def open(self) -> Platform:
        return Platform.open(Path(self.home))


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    made = Platform.open(tmp_path).store
    for number in range(3):
        row = dict.fromkeys(COLUMN_NAMES) | {
            "model_name": "org/model",
            "model_family": "family",
            "instance_type": "local.1cpu",
            "instance_family": "local",
            "deployment_config": "http-flask",
            "deployment_target": "realtime-inference",
            "run_type": "ci",
            "run_timestamp": "2026-06-09T14:30:22.000000Z",
            "run_id": f"c{number}-g1",
            "config_id": f"c{number}",
            "status": "completed",
            "tensor_parallel_degree": 1,
            "schema_version": 1,
        }
        path = made.publish(f"c{number}-g1", [row])
        before = time.time() - 2 * 86_400
        os.utime(path, (before, before))
    return made


def materialize(home: Path) -> dict[str, dg.MetadataValue]:
    done = dg.materialize([compacted_results], resources={"platform": Opened(home=str(home))})
    assert done.success
    (event,) = done.asset_materializations_for_node("compacted_results")
    return dict(event.metadata)


def test_it_merges_the_closed_days_and_counts(store: ResultStore, tmp_path: Path):
    metadata = materialize(tmp_path)
    assert metadata["files merged"].value == 3
    assert metadata["rows in them"].value == 3
    assert metadata["left alone"].value == "none"
    assert len(store.snapshot().files) == 1
    assert len(store.snapshot().rows()) == 3


def test_another_one_at_the_same_time_is_no_failure(store: ResultStore, tmp_path: Path):
    with compaction._only_one(store.root):
        metadata = materialize(tmp_path)
    assert metadata["another was running"].value is True
    assert len(store.snapshot().files) == 3


def test_the_schedule_is_on_since_it_spends_nothing():
    assert compaction_schedule.default_status == dg.DefaultScheduleStatus.RUNNING
