"""Proposals of a search: repeatable, only what is wanted, and drawn to what scores well."""

import math
import random

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.core.optimization import FAILED
from mlcc_dagster.core.optimization_space import Setting, Space, space_of
from mlcc_dagster.core.resolution import configuration_of
from resources.optimization_study import SettingStudy

CATALOG = load_catalog()
SPACE = space_of(
    configuration_of(CATALOG.entry("local-llamacpp-smollm2-q4-1-2cpu"), CATALOG),
    CATALOG,
    workload=CATALOG.workloads["local_chat"],
    refusal=lambda configuration: None,
    names=["kv_cache_dtype", "slots", "threads", "max_model_len"],
)


def truth(setting: Setting) -> float:
    """A made-up score with one best setting: eight slots, two threads, the fullest cache, the shortest context."""
    named = SPACE.named(setting)
    slots, threads, length = (int(str(named[name])) for name in ("slots", "threads", "max_model_len"))
    cache = {"f16": 0.0, "q8_0": 0.3, "q4_0": 0.6}[str(named["kv_cache_dtype"])]
    return abs(math.log2(8 / slots)) + abs(math.log2(2 / threads)) + cache + math.log2(length / 256) / 4


def searched(seed: int, trials: int, space: Space = SPACE) -> list[Setting]:
    """The settings that a search tries, one after the other."""
    study, left, tried = SettingStudy(space, seed=seed), list(space.settings), []
    for _ in range(trials):
        setting = study.propose(left)
        left.remove(setting)
        tried.append(setting)
        study.tell(setting, truth(setting))
    return tried


def test_the_same_seed_proposes_the_same_and_another_seed_other_settings() -> None:
    assert searched(1, 15) == searched(1, 15)
    assert searched(1, 15) != searched(2, 15)


def test_it_finds_better_settings_than_drawing_does() -> None:
    """The best of 25 settings among hundreds, over ten seeds: the mean of the search against that of random draws."""
    found = [min(map(truth, searched(seed, 25))) for seed in range(10)]
    drawn = [min(map(truth, random.Random(seed).sample(SPACE.settings, 25))) for seed in range(10)]
    assert sum(found) < sum(drawn)


def test_it_proposes_what_is_wanted_alone_also_where_that_is_one_setting_it_would_not_choose() -> None:
    study = SettingStudy(SPACE, seed=0)
    for setting in SPACE.settings[:30]:
        study.tell(setting, truth(setting))
    worst = max(SPACE.settings, key=truth)
    assert study.propose([worst]) == worst


def test_failures_count_as_worse_than_all_and_are_kept_away_from() -> None:
    study = SettingStudy(SPACE, seed=0)
    threads = [axis.name for axis in SPACE.axes].index("threads")
    draw = random.Random(0)
    for setting in draw.sample(SPACE.settings, 60):
        study.tell(setting, FAILED if setting[threads] > 4 else truth(setting))  # type: ignore[operator]
    proposed = [study.propose(SPACE.settings) for _ in range(40)]
    failing = sum(setting[threads] > 4 for setting in proposed)  # type: ignore[operator]
    assert failing < 5, "a third of all settings fail"


def test_what_it_was_told_before_counts_as_if_it_had_been_searched() -> None:
    told = SettingStudy(SPACE, seed=3)
    known = random.Random(0).sample(SPACE.settings, 40)
    for setting in known:
        told.tell(setting, truth(setting))
    left = [setting for setting in SPACE.settings if setting not in known]
    proposed = [told.propose(left) for _ in range(20)]
    fresh = SettingStudy(SPACE, seed=3)
    drawn = [fresh.propose(left) for _ in range(20)]
    assert sum(map(truth, proposed)) < sum(map(truth, drawn))


@pytest.mark.parametrize("score", [FAILED, 1e308, -1e308])
def test_any_score_can_be_told(score: float) -> None:
    study = SettingStudy(SPACE, seed=0)
    for setting in SPACE.settings[:12]:
        study.tell(setting, score)
    assert study.propose(SPACE.settings) in SPACE.settings
