"""Recipes: every mistake with its path, all at once, and the same whichever way a recipe came in."""

from typing import Any

import pytest
from hypothesis import given
from recipe_documents import recipe_documents

from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.triage.recipe import EnvironmentChoice, StopAfter, baseline_of, resolved, to_document
from mlcc_dagster.core.triage.recipe_flags import Flags, document_of
from mlcc_dagster.core.triage.recipe_reading import read_recipe
from mlcc_dagster.core.triage.secrets import FromEnvironment

CELL = {"name": "a", "mitigations": ["none"], "environment": "local"}
GOOD: dict[str, Any] = {"schema_version": 1, "workload": "w", "trials": 3, "steps": 5, "cells": [CELL]}
UNSET = object()


def changed(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in (GOOD | values).items() if value is not UNSET}


def cell(**values: Any) -> dict[str, Any]:
    return changed(cells=[{key: value for key, value in (CELL | values).items() if value is not UNSET}])


def cells(*names: str, **values: Any) -> dict[str, Any]:
    return changed(cells=[CELL | {"name": name} | values for name in names])


BAD: list[tuple[str, Any, str]] = [
    ("no mapping", ["cells"], 'the recipe: must be a mapping with schema_version, workload and cells, not ["cells"]'),
    ("empty file", None, "the recipe: must be a mapping with schema_version, workload and cells, not nothing"),
    ("no version", changed(schema_version=UNSET), "schema_version: is missing; write 1"),
    ("newer version", changed(schema_version=2), "schema_version: must be 1, not 2; update mlcc or the recipe"),
    ("version as text", changed(schema_version="1"), "schema_version: must be 1, not 1; update mlcc or the recipe"),
    (
        "version as truth",
        changed(schema_version=True),
        "schema_version: must be 1, not true; update mlcc or the recipe",
    ),
    ("unknown key", changed(cell=[]), "cell: unknown key; did you mean 'cells'?"),
    ("key of another mode", changed(mitigation_axis=["none"]), "mitigation_axis: is of another kind of recipe; "),
    ("no workload", changed(workload=UNSET), "workload: is missing; give it a value"),
    ("workload a number", changed(workload=7), "workload: must be a text, not 7; put it in quotes"),
    ("workload empty", changed(workload=" "), "workload: is empty; give it a value"),
    ("workload of two lines", changed(workload="a\nb"), "workload: must be one line of printable text, not 'a\\nb'"),
    ("workload too long", changed(workload="w" * 201), "workload: has 201 characters; use at most 200"),
    ("ticket a number", changed(ticket=12), "ticket: must be a text, not 12; put it in quotes"),
    ("ticket null", changed(ticket=None), "ticket: must be a text, not nothing"),
    ("no trials", changed(trials=UNSET), "trials: is missing; give it a value"),
    ("no trial", changed(trials=0), "trials: must be at least 1, not 0"),
    ("trials a text", changed(trials="3"), "trials: must be a whole number, not 3"),
    ("trials true", changed(trials=True), "trials: must be a whole number, not true"),
    ("trials a fraction", changed(trials=2.5), "trials: must be a whole number, not 2.5"),
    ("trials beyond sense", changed(trials=10**7), "trials: must be at most 1,000,000, not 10000000"),
    ("no steps", changed(steps=UNSET), "steps: is missing; give it a value"),
    ("steps below one", changed(steps=-1), "steps: must be at least 1, not -1"),
    ("save_logs a text", changed(save_logs="yes"), "save_logs: must be true or false, not yes"),
    (
        "confound a number",
        changed(confound=1.2),
        "confound: must be a mapping with threshold and baseline_cell, not 1.2",
    ),
    ("threshold zero", changed(confound={"threshold": 0}), "confound.threshold: must be above 0, not 0"),
    ("threshold below zero", changed(confound={"threshold": -1.5}), "confound.threshold: must be above 0, not -1.5"),
    ("threshold a text", changed(confound={"threshold": "x"}), "confound.threshold: must be a finite number, not x"),
    ("threshold true", changed(confound={"threshold": True}), "confound.threshold: must be a finite number, not true"),
    (
        "threshold infinite",
        changed(confound={"threshold": float("inf")}),
        "confound.threshold: must be a finite number",
    ),
    (
        "threshold no number",
        changed(confound={"threshold": float("nan")}),
        "confound.threshold: must be a finite number",
    ),
    ("key of confound", changed(confound={"treshold": 1}), "confound.treshold: unknown key; did you mean 'threshold'?"),
    (
        "baseline that is none",
        changed(confound={"baseline_cell": "b"}),
        "confound.baseline_cell: no cell is called 'b'; known are a",
    ),
    (
        "no baseline at all",
        cells("a", "b", mitigations=["x"]),
        "confound.baseline_cell: nothing says which cell is the baseline; name one, call one baseline-…, or give one the "
        "mitigations [none]",
    ),
    ("no cells", changed(cells=UNSET), "cells: is missing; list at least one cell"),
    ("cells empty", changed(cells=[]), "cells: must be a list of at least one cell, not []"),
    ("cells a mapping", changed(cells={"a": {}}), "cells: must be a list of at least one cell"),
    (
        "cell a text",
        changed(cells=["a"]),
        "cells[0]: must be a mapping with name, mitigations and environment, not a text",
    ),
    ("key of a cell", cell(enviroment="x"), "cells[0].enviroment: unknown key; did you mean 'environment'?"),
    ("cell without a name", cell(name=UNSET), "cells[0].name: is missing; give it a value"),
    ("cell name a number", cell(name=3), "cells[0].name: must be a text, not 3; put it in quotes"),
    ("cell name of a path", cell(name="../a"), "cells[0].name: '../a' must match ^"),
    ("cell name empty", cell(name=""), "cells[0].name: '' must match ^"),
    ("cell name dot", cell(name="."), "cells[0].name: '.' is reserved; choose another name"),
    ("cell name dots", cell(name=".."), "cells[0].name: '..' is reserved; choose another name"),
    ("cell name of an output", cell(name="matrix.md"), "cells[0].name: 'matrix.md' is reserved; choose another name"),
    ("cell name of the other", cell(name="matrix.json"), "cells[0].name: 'matrix.json' is reserved"),
    ("cell name of an option", cell(name="-x"), "cells[0].name: '-x' must match ^"),
    ("cell name with a line end", cell(name="a\n"), "cells[0].name: 'a\\n' must match ^"),
    ("cell name with a space", cell(name="a b"), "cells[0].name: 'a b' must match ^"),
    ("cell name beyond file names", cell(name="a" * 201), "cells[0].name: has 201 characters; use at most 200"),
    ("one name twice", cells("a", "a"), "cells[1].name: 'a' is the name of cells[0]; give each its own"),
    (
        "names but for case",
        cells("a", "A"),
        "cells[1].name: 'A' differs by letter case alone from cells[0]; give each its own",
    ),
    ("no mitigations", cell(mitigations=UNSET), "cells[0].mitigations: is missing; write [none] for no mitigation"),
    (
        "mitigations empty",
        cell(mitigations=[]),
        "cells[0].mitigations: must be a list of at least one name, not []; write",
    ),
    (
        "mitigations a text",
        cell(mitigations="none"),
        "cells[0].mitigations: must be a list of at least one name, not none",
    ),
    (
        "mitigation a number",
        cell(mitigations=["x", 1]),
        "cells[0].mitigations[1]: must be a text, not 1; put it in quotes",
    ),
    ("mitigation twice", cell(mitigations=["x", "y", "x"]), "cells[0].mitigations: names 'x' twice; keep one"),
    ("no environment", cell(environment=UNSET), "cells[0].environment: is missing; name one such as local"),
    (
        "environment a list",
        cell(environment=["local"]),
        'cells[0].environment: must be the name of an environment or {docker: IMAGE}, not ["local"]',
    ),
    (
        "key of an environment",
        cell(environment={"docker": "a", "venv": "b"}),
        "cells[0].environment.venv: unknown key; ",
    ),
    (
        "environment without an image",
        cell(environment={}),
        "cells[0].environment: must be the name of an environment or",
    ),
    (
        "image a number",
        cell(environment={"docker": 7}),
        "cells[0].environment.docker: must be an image reference, not 7",
    ),
    (
        "image with a space",
        cell(environment={"docker": "a b"}),
        "cells[0].environment.docker: must be an image reference",
    ),
    ("image empty", cell(environment={"docker": ""}), "cells[0].environment.docker: must be an image reference, not "),
    (
        "name of an inline image",
        cell(environment="_inline_0123abcd"),
        "cells[0].environment: '_inline_0123abcd' is how an image of a cell's own is named; write {docker: IMAGE}",
    ),
    (
        "variables a list",
        cell(extra_env=["A=1"]),
        "cells[0].extra_env: must be a mapping of variables to texts, not a list",
    ),
    (
        "variable a number",
        cell(extra_env={"A": 1}),
        "cells[0].extra_env.A: must be a text, not a number; put it in quotes",
    ),
    (
        "variable a truth",
        cell(extra_env={"A": True}),
        "cells[0].extra_env.A: must be a text, not a truth value; put it",
    ),
    (
        "variable null",
        cell(extra_env={"A": None}),
        "cells[0].extra_env.A: must be a text, not a null; put it in quotes",
    ),
    (
        "variable of no name",
        cell(extra_env={"A-B": "1"}),
        "cells[0].extra_env: 'A-B' cannot name an environment variable; ",
    ),
    ("variable with NUL", cell(extra_env={"A": "x\0y"}), "cells[0].extra_env.A: holds a character that no environment"),
    (
        "reference with more",
        cell(extra_env={"A": {"from_environment": "B", "or": "c"}}),
        "cells[0].extra_env.A: must be a text or {from_environment: NAME}",
    ),
    (
        "reference to no name",
        cell(extra_env={"A": {"from_environment": "B C"}}),
        "cells[0].extra_env.A.from_environment: 'B C' cannot name an environment variable; ",
    ),
    ("cell trials", cell(trials=0), "cells[0].trials: must be at least 1, not 0"),
    ("cell steps", cell(steps="many"), "cells[0].steps: must be a whole number, not many"),
    ("config a list", changed(workload_config=[1]), "workload_config: must be a mapping of names to values, not [1]"),
    (
        "steps in config",
        cell(workload_config={"steps": 3}),
        "cells[0].workload_config.steps: is a key of its own; write",
    ),
    (
        "secret in config",
        changed(workload_config={"api_key": "x"}),
        "workload_config.api_key: looks like a secret, and",
    ),
    (
        "infinite in config",
        changed(workload_config={"x": [float("inf")]}),
        "workload_config.x[0]: must be a finite number",
    ),
    ("stop_after a number", changed(stop_after=3), "stop_after: must be a mapping with events and max_trials, not 3"),
    (
        "stop_after without most",
        changed(stop_after={"events": 1}),
        "stop_after.max_trials: is missing; give it a value",
    ),
    (
        "stop_after of no event",
        changed(stop_after={"events": 0, "max_trials": 3}),
        "stop_after.events: must be at least 1",
    ),
    (
        "stop_after never",
        changed(stop_after={"events": 4, "max_trials": 3}),
        "stop_after.events: 4 can never be seen in max_trials 3; raise max_trials",
    ),
    (
        "key of stop_after",
        changed(stop_after={"events": 1, "max_trials": 3, "verdict": "fail"}),
        "stop_after.verdict: unknown key; known are events, max_trials",
    ),
]


def mistakes(document: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidInput) as refused:
        read_recipe(document, source="recipe.yaml")
    return refused.value.problems


@pytest.mark.parametrize(("document", "told"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_recipe_is_refused_with_one_mistake_that_names_its_path_and_what_to_do(document: Any, told: str):
    (mistake,) = mistakes(document)
    assert mistake.startswith(told)


def test_the_table_of_bad_recipes_has_one_row_per_text():
    assert len(BAD) >= 40
    assert len({told for _, _, told in BAD}) >= 60


def test_all_mistakes_of_a_recipe_come_at_once():
    document = {
        "schema_version": 3,
        "trials": "x",
        "cells": [CELL, {"name": "b/c", "mitigations": [], "environment": 1, "extra_env": {"A": 1}}, "c"],
        "confound": {"threshold": 0},
        "extra": 1,
    }
    paths = {mistake.split(": ")[0] for mistake in mistakes(document)}
    assert paths == {
        "schema_version",
        "trials",
        "steps",
        "workload",
        "extra",
        "confound.threshold",
        "cells[1].name",
        "cells[1].mitigations",
        "cells[1].environment",
        "cells[1].extra_env.A",
        "cells[2]",
    }


def test_no_mistake_of_a_variable_shows_its_value():
    for value in (123456789, ["hunter22"], {"from_environment": 1, "value": "hunter22"}, "hunter22\0"):
        assert not any("hunter22" in text or "123456789" in text for text in mistakes(cell(extra_env={"A": value})))


FLAGS = {"workload": "w", "mitigation_axis": ["none", "x"], "environment_axis": ["local"], "trials": 3}


@pytest.mark.parametrize(
    ("flags", "file", "why"),
    [
        ({"trials": 0}, changed(trials=0), "a number below its least"),
        ({"steps": 0}, changed(steps=0), "the same for steps"),
        ({"confound_threshold": -1.0}, changed(confound={"threshold": -1.0}), "a nested key"),
        ({"workload": ""}, changed(workload=""), "an empty text"),
        ({"ticket": "a\tb"}, changed(ticket="a\tb"), "an unprintable text"),
        ({"mitigation_axis": []}, changed(cells=[]), "an empty axis is a recipe without cells"),
        (
            {"mitigation_axis": ["none", "a b"]},
            changed(cells=[CELL, CELL | {"name": "a b-local"}]),
            "a cell name made of a name",
        ),
        (
            {"mitigation_axis": ["none", "none"]},
            changed(cells=[CELL | {"name": "none-local"}] * 2),
            "the same cell twice",
        ),
        (
            {"baseline_cell": "y-local"},
            changed(
                cells=[CELL | {"name": "none-local"}, CELL | {"name": "x-local"}], confound={"baseline_cell": "y-local"}
            ),
            "a baseline that is none",
        ),
    ],
)
def test_a_mistake_has_the_same_path_and_words_in_both_ways_of_entry(flags, file, why):
    assert mistakes(document_of(Flags(**(FLAGS | flags)))) == mistakes(file), why


def test_options_name_cells_by_mitigation_and_environment_with_images_under_their_short_names():
    flags = Flags(**(FLAGS | {"environment_axis": ["local", "image:org/img:1"]}))
    recipe = read_recipe(document_of(flags), source="the options")
    inline = EnvironmentChoice.inline("org/img:1")
    assert [each.name for each in recipe.cells] == [
        "none-local",
        f"none-{inline.name}",
        "x-local",
        f"x-{inline.name}",
    ]
    assert recipe.cells[1].environment == inline


def test_what_a_cell_says_comes_before_what_the_recipe_says():
    document = changed(
        workload_config={"a": 1, "b": 2},
        cells=[CELL, CELL | {"name": "b", "trials": 9, "steps": 8, "workload_config": {"b": 3, "c": [1, {"d": None}]}}],
    )
    first, second = read_recipe(document, source="r").cells
    assert (first.trials, first.steps, dict(first.config)) == (3, 5, {"a": 1, "b": 2})
    assert (second.trials, second.steps) == (9, 8)
    assert dict(second.config) == {"a": 1, "b": 3, "c": (1, {"d": None})}


def test_a_recipe_that_collects_failures_tries_each_cell_up_to_its_most():
    recipe = read_recipe(changed(stop_after={"events": 2, "max_trials": 30}), source="r")
    assert recipe.stop_after == StopAfter(2, 30)
    assert recipe.most_trials(recipe.cells[0]) == 30


@pytest.mark.parametrize(
    ("names", "mitigations", "named", "baseline"),
    [
        (["a", "baseline-b", "c"], ["none"], "c", "c"),
        (["a", "baseline-b", "baseline-c"], ["x"], None, "baseline-b"),
        (["a", "b"], ["none"], None, "a"),
        (["a"], ["x"], None, "a"),
    ],
    ids=[
        "the one that is named",
        "else the first by prefix",
        "else the first without mitigations",
        "else the only one",
    ],
)
def test_the_baseline_is_chosen_in_order(names, mitigations, named, baseline):
    confound = {} if named is None else {"confound": {"baseline_cell": named}}
    recipe = read_recipe(cells(*names, mitigations=mitigations) | confound, source="r")
    chosen = baseline_of(recipe)
    assert chosen is not None
    assert chosen.name == baseline


def test_a_secret_of_the_recipe_is_no_part_of_its_resolved_form():
    document = changed(
        cells=[
            CELL | {"extra_env": {"HF_TOKEN": "one-secret", "A": "1"}},
            CELL | {"name": "b", "extra_env": {"HF_TOKEN": "another-secret"}},
            CELL | {"name": "c", "extra_env": {"DB_PASSWORD": "third-secret"}},
        ]
    )
    recipe = resolved(read_recipe(document, source="r"))
    assert "-secret" not in repr(recipe)
    assert [dict(each.extra_env) for each in recipe.cells] == [
        {"HF_TOKEN": FromEnvironment("A_HF_TOKEN"), "A": "1"},
        {"HF_TOKEN": FromEnvironment("B_HF_TOKEN")},
        {"DB_PASSWORD": FromEnvironment("DB_PASSWORD")},
    ]


@given(recipe_documents())
def test_a_resolved_recipe_reads_as_itself_and_gives_the_same_cells(document: dict[str, Any]):
    recipe = read_recipe(document, source="r")
    once = resolved(recipe)
    again = read_recipe(to_document(once), source="r")
    assert again == once
    assert resolved(again) == once
    assert [(each.name, each.mitigations, each.environment, each.trials, each.steps) for each in again.cells] == [
        (each.name, each.mitigations, each.environment, each.trials, each.steps) for each in recipe.cells
    ]
