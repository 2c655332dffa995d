"""`mlcc plan` and `mlcc study`: what they say, that they start nothing, and what they refuse."""

from pathlib import Path

import pytest
from command_calls import Call

from mlcc_dagster.core.study import KINDS, STUDIED
from resources.ledger import Ledger

SMALL = ("--shape", "3x4x3x2x3x2", "--golden", "1", "--worlds", "2", "--budget", "30")


def test_a_plan_says_odds_new_pairs_price_and_the_weakest_point_of_every_pick(mlcc: Call, proven_home: Path):
    document = mlcc("plan", "--json").document
    assert document["strategy"] == "expected-gain"
    assert document["started"] is False
    assert 0 < document["objective"] <= document["upper_bound"]
    assert document["proven_ratio"] == pytest.approx(document["objective"] / document["upper_bound"])
    for rank, pick in enumerate(document["picks"], start=1):
        assert pick["rank"] == rank
        assert 0 < pick["odds"] < 1
        assert pick["expected_gain"] == pytest.approx(pick["odds"] * pick["new_pairs"])
        assert 0 < pick["expected_usd"] <= pick["promised_usd"]
        assert pick["doubt"].endswith(("passed)", "(never tried)"))
    assert sum(pick["expected_gain"] for pick in document["picks"]) == pytest.approx(document["objective"])


def test_a_plan_starts_nothing_promises_nothing_and_is_the_dry_run_of_path_prove(mlcc: Call, proven_home: Path):
    bounds = ("--max-proves", "3", "--max-cost", "2", "--json")
    planned = mlcc("plan", *bounds).document
    assert planned == mlcc("path-prove", "--dry-run", *bounds).document
    assert len(planned["picks"]) == 3
    assert Ledger(proven_home / "state.sqlite").reservations() == []


def test_plans_of_both_strategies_are_measured_by_one_objective(mlcc: Call, proven_home: Path):
    ours, neighbours = (
        mlcc("plan", "--strategy", name, "--max-proves", "1", "--json").document
        for name in ("expected-gain", "neighbours")
    )
    assert neighbours["upper_bound"] > 0
    usd = [each["picks"][0]["expected_usd"] for each in (ours, neighbours)]
    assert ours["objective"] / usd[0] >= neighbours["objective"] / usd[1]


def test_the_table_says_how_good_the_plan_is_and_who_waits_for_whom(mlcc: Call):
    said = mlcc("plan").out
    assert "no affordable choice is expected to cover more than" in said
    assert "pick 2 waits for pick 1, the canary of" in said


@pytest.mark.parametrize("name", STUDIED)
def test_every_strategy_that_the_help_names_can_be_studied(mlcc: Call, name: str):
    answer = mlcc("study", "--strategies", name, *SMALL, "--json")
    (entry,) = answer.document["kinds"][0]["strategies"]
    assert entry["strategy"] == name
    assert 0 < entry["covered_share"]["mean"] <= 1


def test_all_kinds_are_studied_at_once_and_a_plot_shows_each(mlcc: Call, tmp_path: Path, home: Path):
    plot = tmp_path / "study.svg"
    answer = mlcc("study", "--strategies", "random", "--kind", "all", *SMALL, "--plot", str(plot))
    assert answer.code == 0
    picture = plot.read_text("utf-8")
    for name in KINDS:
        assert f"{name}: 3 x 4 x 3 x 2 x 3 x 2 values, 30 USD, 2 worlds" in answer.out
        assert f">{name}<" in picture
    assert [path.name for path in tmp_path.iterdir() if path.suffix not in ("", ".svg")] == []
    assert not home.exists()


def test_the_same_seed_gives_the_same_study_and_another_one_another(mlcc: Call):
    def shares(seed: int) -> list[float]:
        document = mlcc("study", "--seed", str(seed), *SMALL, "--json").document
        return [each["covered_share"]["mean"] for each in document["kinds"][0]["strategies"]]

    assert shares(1) == shares(1)
    assert shares(1) != shares(2)


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (
            "study --budget 0 --hours -1 --worlds 0 --seed -1 --plot x.gif --strategies luck --kind easy",
            ["--budget", "--hours", "--worlds", "--seed", "--plot must end", "luck", "unknown kind of world 'easy'"],
        ),
        ("study --plot nowhere/plot.svg", ["there is no folder", "make it first"]),
        ("study --shape 2x2", ["a shape has 6 numbers of values"]),
        ("study --shape 2xAx2", ["a shape is six numbers such as 5x8x6x4x4x3"]),
        ("study --shape 2x2x1x1x1x1 --golden 50 --worlds 1", ["ask for fewer golden or fewer faults"]),
        ("plan --max-proves 0 --max-cost 0", ["--max-proves", "--max-cost"]),
        ("plan --strategy luck", ["unknown strategy 'luck'; use one of expected-gain, neighbours"]),
    ],
)
def test_all_mistakes_are_told_at_once_with_exit_2_and_nothing_is_written(
    words: str, fragments: list[str], mlcc: Call, home: Path
):
    answer = mlcc(*words.split())
    assert (answer.code, answer.out) == (2, "")
    assert "Traceback" not in answer.err
    for fragment in fragments:
        assert fragment in answer.err
    assert not home.exists()
    assert list(Path.cwd().iterdir()) == []
