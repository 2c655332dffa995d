"""Sidecars: all mistakes at once, no value in any of them, and a copy without secrets that means the same."""

from typing import Any

import pytest

from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.triage.secrets import FromEnvironment
from mlcc_dagster.core.triage.sidecars import read_sidecar

GOOD: dict[str, Any] = {
    "version": 1,
    "mitigations": {"flag": {"MY_VAR": "1"}, "login": {"API_TOKEN": "abcd-efgh", "URL": "u"}},
    "environments": {"img": {"docker": "o/i:1"}, "py": {"venv": "/v"}},
}


def mistakes(document: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidInput) as refused:
        read_sidecar(document, source="sidecar s.json", file="s.json")
    return refused.value.problems


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": 2}, "version: is not known here; only version 1"),
        ({"version": True}, "version: is not known here; only version 1"),
        ({"mitigation": {}}, "mitigation: unknown key; did you mean 'mitigations'?"),
        ({"mitigations": ["a"]}, "mitigations: must be an object of names, not a list"),
        ({"mitigations": {"a": "X=1"}}, "mitigations.a: must be an object of variables and texts, not a text"),
        ({"mitigations": {"a": {"X": 4321}}}, "mitigations.a.X: must be a text, not a number; put it in quotes"),
        ({"mitigations": {"a": {"X-Y": "4321"}}}, "mitigations.a: 'X-Y' cannot name an environment variable; "),
        (
            {"mitigations": {"a,b": {}}},
            "mitigations: 'a,b' cannot be a name; use one line of printable text without commas",
        ),
        ({"mitigations": {" ": {}}}, "mitigations: ' ' cannot be a name; "),
        ({"environments": 3}, "environments: must be an object of names, not a number"),
        ({"environments": {"a": {}}}, "environments.a: must be {docker: IMAGE} or {venv: FOLDER}, one of both"),
        (
            {"environments": {"a": {"docker": "4321", "venv": "4321"}}},
            "environments.a: must be {docker: IMAGE} or {venv: FOLDER}, one of both",
        ),
        ({"environments": {"a": {"docker": "43 21"}}}, "environments.a.docker: must be an image reference"),
        ({"environments": {"a": {"venv": 4321}}}, "environments.a.venv: must be a folder"),
        (
            {"environments": {"_inline_01234567": {"docker": "a"}}},
            "environments._inline_01234567: _inline_… names images that cells give themselves; choose another name",
        ),
        ({"secrets": "X"}, "secrets: must be a list of the variables whose values are secret"),
        ({"secrets": ["X Y"]}, "secrets[0]: 'X Y' cannot name an environment variable; "),
    ],
)
def test_a_bad_sidecar_is_refused_with_its_path_and_without_its_values(changes, told):
    (mistake,) = mistakes(GOOD | changes)
    assert mistake.startswith(told)
    assert "4321" not in mistake
    assert "43 21" not in mistake


def test_a_sidecar_that_is_no_object_or_has_no_version_is_refused():
    assert mistakes([1])[0].startswith("the sidecar: must be an object")
    assert mistakes({"mitigations": {}}) == ("version: is missing; write 1",)


def test_all_mistakes_of_a_sidecar_come_at_once():
    assert len(mistakes({"version": 9, "mitigations": {"a": {"X": 1, "Y": 2}}, "environments": {"e": {}}})) == 4


def test_a_copy_without_secrets_means_the_same_once_they_are_in_the_environment():
    sidecar = read_sidecar(GOOD, source="sidecar s.json", file="s.json")
    assert [secret.name for secret in sidecar.written_secrets] == ["API_TOKEN"]
    copy = read_sidecar(sidecar.without_secrets(), source="sidecar s.json", file="s.json")
    assert "abcd-efgh" not in repr(copy)
    assert [dict(each.variables) for each in copy.mitigations] == [
        {"MY_VAR": "1"},
        {"API_TOKEN": FromEnvironment("API_TOKEN"), "URL": "u"},
    ]
    assert copy.environments == sidecar.environments
    assert copy.without_secrets() == sidecar.without_secrets()


def test_what_is_marked_is_taken_out_whatever_it_is_called():
    sidecar = read_sidecar(GOOD | {"secrets": ["MY_VAR"]}, source="s", file="s.json")
    assert {secret.name for secret in sidecar.written_secrets} == {"MY_VAR", "API_TOKEN"}
    assert sidecar.without_secrets()["secrets"] == ["MY_VAR"]


def test_a_sidecar_may_leave_out_what_it_has_none_of():
    sidecar = read_sidecar({"version": 1}, source="s", file="s.json")
    assert (sidecar.mitigations, sidecar.environments) == ((), ())
