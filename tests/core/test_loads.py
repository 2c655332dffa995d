"""A load as somebody asks for one: what fits a configuration, and its text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.loader import load_catalog
from catalog.model import MOST_CONCURRENCY
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.loads import load_of, load_text, read_levels, read_load
from mlcc_dagster.core.resolution import configuration_of

CATALOG = load_catalog()
LANGUAGE_MODEL = configuration_of(CATALOG.entry("local-llamacpp-smollm2-q4-1-2cpu"), CATALOG)
PREDICTOR = configuration_of(CATALOG.entry("local-fastapi-forest-1cpu"), CATALOG)


@pytest.mark.parametrize(
    ("configuration", "workload", "levels", "words"),
    [
        pytest.param(LANGUAGE_MODEL, "local_predict", None, "is for a predictor", id="a predictor's workload"),
        pytest.param(PREDICTOR, "local_chat", None, "is for a language-model", id="a language model's workload"),
        pytest.param(LANGUAGE_MODEL, "local_caht", None, "did you mean 'local_chat'?", id="misspelt"),
        pytest.param(LANGUAGE_MODEL, "local_chat", [0, 4], "no concurrency level 0;", id="nobody at a time"),
        pytest.param(LANGUAGE_MODEL, "local_chat", [MOST_CONCURRENCY + 1], "from 1 to", id="more than are measured"),
        pytest.param(LANGUAGE_MODEL, "local_chat", [], "no concurrency level was named", id="no level"),
    ],
)
def test_a_load_that_does_not_fit_is_refused_with_a_sentence(configuration, workload, levels, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_of(configuration, workload, levels, CATALOG)


def test_without_levels_those_of_the_workload_are_measured() -> None:
    plan = load_of(PREDICTOR, "local_predict", None, CATALOG)
    assert (plan.enabled, plan.concurrency_levels) == (True, CATALOG.workloads["local_predict"].concurrency_levels)


@given(st.lists(st.integers(1, MOST_CONCURRENCY), min_size=1, max_size=6))
def test_a_load_is_the_same_after_its_text_was_read_and_its_levels_rise(levels: list[int]) -> None:
    plan = load_of(LANGUAGE_MODEL, "local_chat", levels, CATALOG)
    assert plan.concurrency_levels == tuple(sorted(set(levels)))
    assert read_load(load_text(plan), LANGUAGE_MODEL, CATALOG) == plan


@pytest.mark.parametrize("text", ["", "local_chat", "local_chat x", "local_chat x a", "local_chat x 1,", " x 1"])
def test_a_text_that_is_no_load_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(UsageError, match="such as 'local_chat x 1,4'"):
        read_load(text, LANGUAGE_MODEL, CATALOG)


@pytest.mark.parametrize("text", ["", "a", "1;4", "1,,4", "-1", "1.5", "²"])
def test_levels_that_are_no_numbers_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="such as 1,4"):
        read_levels(text)


def test_levels_may_stand_apart() -> None:
    assert read_levels("1, 4") == (1, 4)
