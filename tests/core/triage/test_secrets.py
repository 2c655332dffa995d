"""Secrets: what counts as one, and that nothing of it is left in a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.triage.secrets import (
    WITHHELD,
    ByteScrubber,
    FromEnvironment,
    Scrubber,
    Secret,
    Variables,
    is_secret,
    references,
)


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("HF_TOKEN", "x", True),
        ("hf_token", "x", True),
        ("AWS_SECRET_ACCESS_KEY", "x", True),
        ("AWS_ACCESS_KEY_ID", "plain", False),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE", True),
        ("OPENAI_API_KEY", "x", True),
        ("DB_PASSWORD", "x", True),
        ("PGPASSWORD", "x", False),
        ("PGPASSWORD", "my-passw0rd", True),
        ("PROXY", "http://user:pass@proxy:80", True),
        ("PROXY", "http://proxy:80", False),
        ("HEADER", "Bearer abc", True),
        ("VALUE", "hf_abcdefghijkl", True),
        ("VALUE", "this is secret", True),
        ("CERT", "-----BEGIN PRIVATE KEY-----\nabc", True),
        ("VLLM_MAX_NUM_BATCHED_TOKENS", "8192", False),
        ("MAX_TOKENS", "8192", False),
        ("NCCL_DEBUG", "INFO", False),
        ("KEY_CACHE_TYPE", "f16", False),
        ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True", False),
        ("MY_ENV_VAR", "1", False),
        ("ANY", FromEnvironment("X"), True),
    ],
)
def test_a_secret_is_known_by_its_name_its_shape_or_its_source(name, value, secret):
    assert is_secret(name, value) is secret


def test_no_variable_that_is_built_in_reads_as_a_secret():
    from mlcc_dagster.core.triage.built_in import MITIGATIONS

    assert [
        name for mitigation in MITIGATIONS for name, value in mitigation.variables.items() if is_secret(name, value)
    ] == []


def test_a_name_that_is_marked_is_a_secret():
    assert is_secret("PLAIN", "1", frozenset({"PLAIN"}))


def test_what_is_shown_of_variables_keeps_names_and_hides_secrets():
    variables = Variables({"A": "1", "B": "hide"}, frozenset({"B"}))
    assert variables.shown() == {"A": "1", "B": WITHHELD}
    assert variables.secret_values() == ("hide",)


def test_references_are_the_variables_themselves_unless_two_owners_differ():
    same = [Secret("a", "T", "x"), Secret("b", "T", "x"), Secret("1c-d", "U", "y"), Secret("e", "U", "z")]
    assert {key: value.variable for key, value in references(same).items()} == {
        ("a", "T"): "T",
        ("b", "T"): "T",
        ("1c-d", "U"): "_1C_D_U",
        ("e", "U"): "E_U",
    }


secret_values = st.lists(st.text("abc\n", min_size=4, max_size=8), min_size=1, max_size=4)


@given(secret_values, st.text("abcx\n", max_size=60))
def test_no_secret_is_left_in_a_text(values, text):
    scrubber = Scrubber(values)
    scrubbed = scrubber.text(f"x{values[0]}{text}")
    assert not [value for value in values if value in scrubbed.replace(WITHHELD, "·")]


@given(secret_values, st.text("abcx\n", max_size=60), st.data())
def test_no_secret_is_left_in_a_stream_however_it_is_cut(values, text, data):
    whole = f"x{values[0]}{text}".encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    stream = ByteScrubber(Scrubber(values))
    pieces = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    passed = b"".join([*map(stream.piece, pieces), stream.rest()]).decode()
    assert not [value for value in values if value in passed.replace(WITHHELD, "·")]


def test_a_stream_without_secrets_passes_as_it_is_and_at_once():
    stream = ByteScrubber(Scrubber([]))
    assert stream.piece(b"abc") == b"abc"
    assert stream.rest() == b""


def test_short_values_are_left_or_every_text_would_go_with_them():
    assert Scrubber(["1", "abc"]).text("1 abc") == "1 abc"


def test_documents_are_scrubbed_to_their_leaves():
    scrubbed = Scrubber(["hidden"]).document({"hidden": ["a hidden b", 1, {"x": "hidden"}], "n": None})
    assert scrubbed == {WITHHELD: [f"a {WITHHELD} b", 1, {"x": WITHHELD}], "n": None}
