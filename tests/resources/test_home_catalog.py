"""The catalog of a home: the shipped one and what the home adds, taken in whole or not at all."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from catalog.errors import CatalogError
from catalog.json_entries import read_json_entries
from catalog.loader import load_catalog
from catalog.model import Entry, EntryBenchmark
from mlcc_dagster.core.exceptions import HomeError
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.resolution import configuration_of
from resources.home import Home
from resources.home_catalog import IMPORTED, catalog_of, import_entries
from resources.platform import Platform

SHIPPED = load_catalog()
EAST = replace(SHIPPED.entry("rt-qwen3-4b"), id="east-4b", region="us-east-1")
WEST = replace(SHIPPED.entry("rt-qwen3-8b"), id="west-8b", region="us-west-1", timeout=600)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def imported(home: Home) -> tuple[Entry, ...]:
    return catalog_of(home).entries[len(SHIPPED.entries) :]


def own_file(home: Home, text: str, name: str = "mine.yaml") -> Path:
    path = home.root / "catalog" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_a_home_without_entries_has_the_shipped_catalog_and_is_not_made(home: Home):
    assert catalog_of(home) is SHIPPED
    assert not home.root.exists()


def test_imported_entries_stand_behind_the_shipped_ones_as_they_are(home: Home):
    done = import_entries(home, [EAST, WEST])
    assert (done.added, done.changed, done.unchanged) == (("east-4b", "west-8b"), (), ())
    assert catalog_of(home).entries == (*SHIPPED.entries, EAST, WEST)
    assert catalog_of(home).tier_entries("ci")[-2:] == (EAST, WEST)
    assert load_catalog() is SHIPPED
    assert imported(Home(home.root.parent / "other")) == ()


def test_every_field_of_an_entry_survives_the_file(home: Home):
    full = replace(
        EAST,
        quantization="fp8",
        tp_degree=1,
        serving_params={"kv": "yes", "odd": "a: b\u2028\n\U0001f600 #", "n": "007"},
        lifecycle=("stage", *EAST.lifecycle),
        benchmark=EntryBenchmark(True, "rag_document_qa", (2, 4)),
        tune_timeout=None,
        expected_failure="oom",
    )
    import_entries(home, [full])
    assert imported(home) == (full,)


def test_the_same_entries_again_change_nothing(home: Home):
    import_entries(home, [EAST, WEST])
    path = home.root / "catalog" / IMPORTED
    before, catalog = path.stat(), catalog_of(home)
    done = import_entries(home, [EAST, WEST])
    assert (done.added, done.changed, done.unchanged) == ((), (), ("east-4b", "west-8b"))
    assert path.stat() == before
    assert catalog_of(home) is catalog, "nobody reads the file again until it changes"


def test_a_changed_entry_replaces_what_was_imported_and_the_others_stay(home: Home):
    import_entries(home, [EAST, WEST])
    longer = replace(EAST, timeout=3600)
    done = import_entries(home, [longer])
    assert (done.added, done.changed, done.unchanged) == ((), ("east-4b",), ())
    assert imported(home) == (longer, WEST)


def test_a_shipped_entry_as_it_is_adds_nothing_and_makes_no_file(home: Home):
    done = import_entries(home, [SHIPPED.entry("rt-qwen3-4b"), SHIPPED.entry("rt-qwen35-4b")])
    assert done.unchanged == ("rt-qwen3-4b", "rt-qwen35-4b")
    assert imported(home) == ()
    assert not (home.root / "catalog" / IMPORTED).exists()


CONFLICTS = [
    (replace(EAST, id="rt-qwen3-4b"), "is a shipped entry with another region", "a shipped id"),
    (replace(EAST, id="rt-qwen35-4b"), "is a shipped entry with another tier, model_name", "an extension's id"),
    (
        replace(SHIPPED.entry("rt-qwen3-4b"), id="x"),
        "the configuration of entry 'rt-qwen3-4b'",
        "a shipped configuration",
    ),
    (replace(WEST, id="y"), "the configuration of entry 'west-8b'", "a configuration imported before"),
    (replace(EAST, id="mine"), "is an entry of your own in", "an id of a file that a person wrote"),
]


@pytest.mark.parametrize(("entry", "said", "reason"), CONFLICTS)
def test_what_is_taken_already_is_refused_and_nothing_is_taken_in(home: Home, entry: Entry, said: str, reason: str):
    import_entries(home, [WEST])
    own_file(
        home,
        "entries: [{id: mine, tier: local, track: async, deployment_config: http-flask, model_name: null, timeout: 60,"
        " instance_type: local.1cpu, region: local, deployment_target: async-inference, lifecycle: [generate, clean],"
        " benchmark: {enabled: false, workload: local_predict}}]",
    )
    good = replace(EAST, id="good", region="eu-west-1")
    with pytest.raises(CatalogError) as refused:
        import_entries(home, [good, entry], source="e2e.json")
    assert str(refused.value).startswith("e2e.json has ")
    assert refused.value.problems[0].startswith("configs[1]."), reason
    assert said in refused.value.problems[0], reason
    assert {entry.id for entry in imported(home)} == {"west-8b", "mine"}


def test_all_conflicts_are_reported_at_once_before_a_home_is_made(home: Home):
    with pytest.raises(CatalogError) as refused:
        import_entries(
            home, [replace(EAST, id="rt-qwen3-4b"), replace(WEST, id="rt-qwen3-8b"), WEST, replace(WEST, id="z")]
        )
    paths = [problem.partition(":")[0] for problem in refused.value.problems]
    assert paths == ["configs[0].id", "configs[1].id", "configs[2].args", "configs[3].args"]
    assert not home.root.exists()


def test_a_mistake_in_a_file_of_a_persons_own_is_reported_with_its_path(home: Home):
    own_file(home, "entries: [{id: rt-qwen3-4b, tear: ci}]\nother: 1\n")
    with pytest.raises(CatalogError) as refused:
        catalog_of(home)
    assert str(refused.value).startswith("the catalog of this home has ")
    said = "\n".join(refused.value.problems)
    assert "mine.yaml: other: unknown field" in said
    assert "mine.yaml: entries[0].id: 'rt-qwen3-4b' is given twice, first at the shipped catalog" in said
    assert "mine.yaml: entries[0].tear: unknown field; did you mean 'tier'?" in said


def test_an_edited_file_is_read_again(home: Home):
    import_entries(home, [EAST])
    path = home.root / "catalog" / IMPORTED
    path.write_text(path.read_text("utf-8").replace("timeout: 1800", "timeout: 1801"), "utf-8")
    assert imported(home) == (replace(EAST, timeout=1801),)


def test_a_home_that_cannot_be_written_is_said_to_be_one(tmp_path: Path):
    (tmp_path / "home").write_text("a file", "utf-8")
    with pytest.raises(HomeError, match="set MLCC_HOME"):
        import_entries(Home(tmp_path / "home"), [EAST])


def test_a_platform_has_the_entries_of_its_home_also_when_it_replays(home: Home):
    import_entries(home, [EAST])
    key = config_id(configuration_of(EAST, SHIPPED))
    for executor in ("local", "replay"):
        platform = Platform.open(home.root, executor=executor)
        assert platform.catalog.entry("east-4b") == EAST
        assert key in platform.configurations()


IMPORT_ONE = """
import json, sys
from pathlib import Path
from catalog.json_entries import read_json_entries
from catalog.loader import load_catalog
from resources.home import Home
from resources.home_catalog import import_entries
import_entries(Home(Path(sys.argv[1])), read_json_entries(sys.stdin.read(), load_catalog()))
"""


def test_imports_at_the_same_time_lose_nothing(home: Home):
    regions = SHIPPED.regions[:6]
    started = []
    for region in regions:
        args = f"--deployment-config=http-flask --instance-type=ml.m5.large --region={region}"
        config = {"id": f"flask-{region}", "tier": "ci", "track": "realtime", "args": args, "timeout": 60}
        config["lifecycle"] = ["build", "push", "deploy", "test", "clean"]
        assert read_json_entries(json.dumps({"configs": [config]}), SHIPPED)
        process = subprocess.Popen([sys.executable, "-c", IMPORT_ONE, home.root], stdin=subprocess.PIPE, text=True)
        assert process.stdin is not None
        process.stdin.write(json.dumps({"configs": [config]}))
        process.stdin.close()
        started.append(process)
    assert [process.wait(timeout=120) for process in started] == [0] * len(regions)
    assert {entry.id for entry in imported(home)} == {f"flask-{region}" for region in regions}
    assert {path.name for path in (home.root / "catalog").iterdir()} == {IMPORTED, ".lock"}
