"""The page on the SQL models as a claim: it names every model, column, source and named query as they are declared."""

import re
from pathlib import Path

import pytest

from resources.sql_models import LAYERS, shipped_project

PAGE = (Path(__file__).parents[1] / "docs" / "models.md").read_text("utf-8")
PROJECT = shipped_project()
PARTS = re.split(r"^## (.+)$", PAGE, flags=re.M)
SECTIONS = dict(zip(PARTS[1::2], PARTS[2::2], strict=True))
HEADINGS = {"staging": "Staging models", "intermediate": "Intermediate models", "marts": "Marts"}


def rows(table: str) -> list[tuple[str, ...]]:
    """Return the cells of every row that begins with a name, the backticks of the first one left out."""
    lines = re.findall(r"^\| `([^`]+)` \| (.*) \|$", table, re.M)
    return [(name, *rest.split(" | ")) for name, rest in lines]


@pytest.mark.parametrize("layer", LAYERS)
def test_every_model_is_on_the_page_with_its_description_grain_and_what_it_reads(layer: str):
    said = rows(SECTIONS[HEADINGS[layer]])
    assert said == [
        (
            model.name,
            model.description,
            ", ".join(f"`{name}`" for name in model.grain),
            ", ".join(f"`{name}`" for name in (*model.refs, *model.sources)),
        )
        for model in PROJECT.models
        if model.layer == layer
    ]


def test_every_source_and_named_query_is_on_the_page():
    assert rows(SECTIONS["Sources"]) == [(each.name, each.description) for each in PROJECT.sources.values()]
    assert rows(SECTIONS["Named queries"]) == [(each.name, each.answers) for each in PROJECT.queries]


def test_every_column_of_the_table_of_triage_cells_is_on_the_page():
    said = re.findall(r"^\| `(\w+)` \| (\w+) \| (\S*) ?\| (.*) \|$", SECTIONS["Columns of triage_cells"], re.M)
    columns = PROJECT.sources["triage_cells"].columns
    assert said == [(each.name, each.data_type, each.unit or "", each.description) for each in columns]


def test_every_column_of_every_mart_is_on_the_page_with_its_type_unit_and_description():
    parts = re.split(r"^### `(\w+)`$", SECTIONS["Columns of the marts"], flags=re.M)
    said = {
        name: [
            (column, *re.split(r" *\| *", rest)) for column, rest in re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.M)
        ]
        for name, table in zip(parts[1::2], parts[2::2], strict=True)
    }
    assert said == {
        model.name: [
            (column.name, column.data_type, column.unit or "", column.description.replace("|", "&#124;"))
            for column in model.columns
        ]
        for model in PROJECT.models
        if model.layer == "marts"
    }
