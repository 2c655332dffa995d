"""The documentation as a claim: what it names exists, what exists is named, and its commands run."""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from mlcc_dagster.cli import app
from mlcc_dagster.core.records import COLUMNS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
GROUP = typer.main.get_command(app)


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def sections(page: str) -> dict[str, str]:
    """Return the text of each second-level section by its heading."""
    parts = re.split(r"^## (.+)$", page, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def first_column(table: str) -> list[str]:
    """Return what stands in backticks at the start of each row of a table."""
    return re.findall(r"^\| `([^`]+)` \|", table, re.M)


# ---- commands


def commands(group: Any = GROUP, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield " ".join((*words, name)), command
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))


COMMANDS = dict(commands())
COMMAND_SECTIONS = sections(text_of("commands.md"))


def test_there_is_one_section_per_command_and_none_for_another():
    documented = {heading for heading in COMMAND_SECTIONS if heading.startswith("`mlcc")}
    assert documented == {f"`mlcc {name}`" for name in COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_in_its_section_and_no_other_is(name: str):
    section = COMMAND_SECTIONS[f"`mlcc {name}`"]
    table = {option.split()[0] for option in first_column(section) if option.startswith("--")}
    real = {option for parameter in COMMANDS[name].params for option in parameter.opts if option.startswith("--")}
    assert table == real - {"--help"}


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if not hasattr(command, "commands")])
def test_every_command_has_an_example_that_it_accepts(name: str):
    section = COMMAND_SECTIONS[f"`mlcc {name}`"]
    examples = section.rpartition("Example")[2]
    assert re.search(rf"`(?:\w+=\S+ )?mlcc {name}\b", examples)


def json_blocks(name: str) -> list[Any]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", COMMAND_SECTIONS[f"`mlcc {name}`"], re.S)]


def shape(document: Any) -> Any:
    """Return the keys of a document, level by level; of a list its first item, of a value nothing."""
    if isinstance(document, dict):
        return {key: shape(value) for key, value in document.items()}
    if isinstance(document, list):
        return [shape(document[0])] if document else []
    return None


OPEN_ENDED = {"details", "proofs_by_executor", "released", "reservations", "slots", "alive", "left_out", "more_than"}
"""Parts that are empty in a quiet home, or whose keys are data."""


def without_open_ended(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: None if key in OPEN_ENDED else without_open_ended(value) for key, value in document.items()}
    return [without_open_ended(item) for item in document] if isinstance(document, list) else document


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLCC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))
    for name in ("MLCC_EXECUTOR", "MLCC_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("name", "words", "which"),
    [
        ("init", "init --json", 0),
        ("run", "run --config local-fastapi-logistic-1cpu --dry-run --json", 1),
        ("plan", "path-prove --dry-run --json", 0),
        ("plan", "plan --json", 0),
        ("study", "study --worlds 1 --strategies expected-gain --shape 2x2x2x1x1x1 --golden 1 --json", 0),
        ("gate study", "gate study --buckets 1 --items 50 --simulations 20 --json", 0),
        ("coverage", "coverage --json", 0),
        ("gaps", "gaps --json --limit 1", 0),
        ("ledger", "ledger --json", 0),
        ("reap", "reap --json", 0),
        ("catalog list", "catalog list --json", 0),
        ("catalog validate", "catalog validate --json", 0),
        ("register", "register rt-qwen3-4b --json", 0),
    ],
)
def test_the_json_shape_that_is_documented_is_the_one_that_is_printed(name, words, which, home, capsys):
    from mlcc_dagster.cli import main

    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    documented = json_blocks(name)[which]
    if name == "reap":
        assert list(documented) == list(printed)
        assert all(isinstance(part, list) for part in documented.values())
    else:
        assert shape(without_open_ended(printed)) == shape(without_open_ended(documented))


# ---- assets and the table


def test_every_asset_check_job_sensor_and_schedule_is_documented_and_nothing_else():
    import dagster as dg

    from mlcc_dagster.build import build_defs

    repository = build_defs().get_repository_def()
    graph = repository.asset_graph
    page = sections(text_of("assets.md"))
    # The SQL models have a page of their own, and a test that holds it.
    own = {key for key in graph.get_all_asset_keys() if key.path[0] != "mlcc_ci"}
    assert set(first_column(page["Assets"])) == {key.to_user_string() for key in own}
    checks = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", page["Checks"], re.M)
    known = {(key.name, key.asset_key.to_user_string()) for key in graph.asset_check_keys if key.asset_key in own}
    assert set(checks) == known
    jobs = {job.name for job in repository.get_all_jobs()}
    assert set(first_column(page["Jobs"])) == {name for name in jobs if not name.startswith("__")}
    on = {dg.DefaultSensorStatus.RUNNING: "on", dg.DefaultSensorStatus.STOPPED: "off"}
    sensors = re.findall(r"^\| `(\w+)` \| (\w+) \|", page["Sensors"], re.M)
    assert dict(sensors) == {sensor.name: on[sensor.default_status] for sensor in repository.sensor_defs}
    schedules = re.findall(r"^\| `(\w+)` \| (\w+) \|", page["Schedules"], re.M)
    when = {dg.DefaultScheduleStatus.RUNNING: "on", dg.DefaultScheduleStatus.STOPPED: "off"}
    assert dict(schedules) == {schedule.name: when[schedule.default_status] for schedule in repository.schedule_defs}


def test_every_column_of_the_table_is_documented_in_its_order_with_its_type():
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (\w+) \|", text_of("table.md"), re.M)
    assert rows == [(str(n), column.name, column.type) for n, column in enumerate(COLUMNS, start=1)]


def test_the_readme_counts_the_columns_as_they_are():
    assert f"the {len(COLUMNS)} columns" in README.read_text("utf-8")


def test_the_glossary_is_in_alphabetical_order_and_says_everything_once():
    words = re.findall(r"^\| \*\*([^*]+)\*\* \|", text_of("glossary.md"), re.M)
    assert words == sorted(set(words), key=str.lower)


# ---- links and targets


def slug(heading: str) -> str:
    """Return the anchor that a heading gets on the usual hosts."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if not re.match(r"[a-z]+:", target):
                yield page, target


@pytest.mark.parametrize(("page", "target"), links(), ids=lambda value: value if isinstance(value, str) else value.name)
def test_every_link_leads_somewhere(page: Path, target: str):
    name, _, anchor = target.partition("#")
    place = page.parent / name if name else page
    assert place.exists()
    if anchor:
        headings = re.findall(r"^#+ (.+)$", place.read_text("utf-8"), re.M)
        assert anchor in {slug(heading) for heading in headings}


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    named = {word for page in PAGES for word in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text("utf-8"), re.M)}
    assert named >= {"run", "test", "setup"}
    assert named <= targets


# ---- the tour


@pytest.fixture(scope="module")
def tour() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tour", ROOT / "docs" / "tour.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tour_names_real_commands_and_shows_an_output_for_each_step(tour: ModuleType):
    page = README.read_text("utf-8")
    found = list(tour.STEP.finditer(page))
    assert len(found) == page.count("```sh tour") >= 5
    for step in found:
        assert step["output"].strip(), f"run `python docs/tour.py`: no output below {step['commands']}"
        for command in step["commands"].splitlines():
            assert command.split()[0] == "mlcc"
            assert command.split()[1] in COMMANDS


RUNS_SOMETHING = ("mlcc run", "mlcc path-prove", "mlcc triage run")


def test_the_commands_of_the_tour_that_run_nothing_work_on_a_fresh_home(tour: ModuleType, tmp_path: Path):
    for commands_of_step in tour.steps(README.read_text("utf-8")):
        for command in commands_of_step:
            if command.startswith(RUNS_SOMETHING):
                continue
            done = tour.run(command, tmp_path / "home")
            assert done.returncode == 0, f"{command}: {done.stdout}"


def told(output: str) -> set[tuple[str, ...]]:
    """Return what a step says of each configuration: proven or failed, and its name. Numbers differ from run to run."""
    return {tuple(line.split()[:2]) for line in output.splitlines() if line.startswith(("proven ", "failed "))}


@pytest.mark.slow
def test_the_whole_tour_works_from_the_top_and_ends_as_the_readme_shows(tour: ModuleType, tmp_path: Path):
    page = README.read_text("utf-8")
    again = tour.refreshed(page, tmp_path / "home")
    for shown, now in zip(tour.STEP.finditer(page), tour.STEP.finditer(again), strict=True):
        assert told(now["output"]) == told(shown["output"]), f"run `python docs/tour.py`: {now[0]}"
