"""Versions: one text each, ordered as Semantic Versioning orders them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.model_versions import Version

ASCENDING = [
    "v0.0.0-dev",
    "v0.0.0",
    "v0.0.1",
    "v0.1.0-dev",
    "v0.9.0",
    "v0.10.0",
    "v1.0.0-dev",
    "v1.0.0-dev.0",
    "v1.0.0-dev.2",
    "v1.0.0-dev.10",
    "v1.0.0",
    "v1.0.1-dev",
]


def test_versions_ascend_as_semantic_versioning_says_and_not_as_texts_do():
    read = [Version.read(text) for text in ASCENDING]
    assert all(lower < higher for lower, higher in pairwise(read))
    assert [version.text for version in sorted(read)] != sorted(ASCENDING)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("1.0.0", id="without v"),
        pytest.param("V1.0.0", id="large V"),
        pytest.param("v1.0", id="two numbers"),
        pytest.param("v1.0.0.0", id="four numbers"),
        pytest.param("v01.0.0", id="a leading zero is a second name of the same version"),
        pytest.param("v1.0.0-dev.01", id="also behind dev"),
        pytest.param("v1.0.0-rc1", id="another kind of version"),
        pytest.param("v1.0.0-dev+build", id="build metadata has no order"),
        pytest.param("v1.0.0-DEV", id="large letters"),
        pytest.param("v1.0.0;rm", id="a command"),
        pytest.param("v1.0.0 ", id="a blank after it"),
        pytest.param("v1.0.0\n", id="a newline, which $ would let pass"),
        pytest.param("v1.0.٠", id="digits of another script"),
        pytest.param("v1.0.0-dev\u200b", id="something nobody sees"),
        pytest.param("../v1.0.0", id="a path"),
        pytest.param(f"v{'9' * 5000}.0.0", id="a number too long to read"),
        pytest.param("v-1.0.0", id="below zero"),
        pytest.param("", id="nothing"),
    ],
)
def test_everything_else_is_refused(text: str):
    with pytest.raises(UsageError, match=r"write it as v1\.2\.3"):
        Version.read(text)


@given(st.tuples(*[st.integers(0, 999_999_999)] * 3), st.sampled_from(["", "-dev", "-dev.7"]))
def test_a_version_is_read_back_as_the_text_that_it_was(numbers: tuple[int, ...], end: str):
    text = f"v{'.'.join(map(str, numbers))}{end}"
    version = Version.read(text)
    assert str(version) == text
    assert version.dev == bool(end)
    assert version == Version.read(text)
