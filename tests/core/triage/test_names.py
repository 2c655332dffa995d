"""Names: none leads out of its folder, and numbers stay in their order."""

from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.triage.names import (
    cell_name_mistake,
    colliding,
    folder_name,
    inline_environment,
    run_name,
    trial_file,
    trial_number,
)

OUTSIDE = ["../x", "..", ".", "", "/etc/passwd", "a/../../b", "a\\b", "C:\\x", "a\0b", "a\nb", "‥/x", "~/x", "…"]


@given(st.one_of(st.text(max_size=40), st.sampled_from(OUTSIDE)))
def test_a_folder_name_is_one_part_of_a_path_that_means_no_other_folder(name: str):
    made = folder_name(name)
    assert PurePosixPath("run", made).parts == ("run", made)
    assert made not in ("", ".", "..")
    assert made.isascii()
    assert folder_name(made) == made


@given(st.text(max_size=40))
def test_a_cell_name_that_is_taken_is_a_folder_name_as_it_stands(name: str):
    if cell_name_mistake(name) is None:
        assert folder_name(name) == name


def test_an_image_has_the_same_short_name_wherever_it_is_named():
    import hashlib

    reference = "org/image:1@sha256:00"
    assert inline_environment(reference) == f"_inline_{hashlib.blake2b(reference.encode()).hexdigest()[:8]}"
    assert inline_environment(reference) != inline_environment("org/image:2")


def test_runs_are_called_by_their_utc_second():
    moment = datetime(2026, 6, 9, 14, 30, 22, 999_999, UTC)
    assert [run_name(moment, number) for number in (1, 2, 11)] == [
        "2026-06-09T14-30-22",
        "2026-06-09T14-30-22-2",
        "2026-06-09T14-30-22-11",
    ]


def test_trials_beyond_the_tenth_stay_in_their_order():
    names = [trial_file(number) for number in range(12)]
    assert sorted(names) != names
    assert sorted(names, key=lambda name: trial_number(name) or 0) == names


@pytest.mark.parametrize(
    "name", ["trial_1.json.new", ".trial_1.json", "trial_01.json", "trial_-1.json", "trial_1.log", "x"]
)
def test_no_other_file_is_taken_for_a_trial(name: str):
    assert trial_number(name) is None


def test_environments_that_share_a_folder_are_found_whatever_makes_them_share_it():
    assert colliding(["a/b", "a_b", "A_B", "c"]) == [("a/b", "a_b"), ("a/b", "A_B")]
    assert colliding(["a", "a", "b"]) == []
