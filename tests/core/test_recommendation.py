"""Like is compared with like, other models tell only where nothing nearer does, and intervals keep their word."""

import json
import math

import numpy as np
import pytest
from scipy.stats import binom

from mlcc_dagster.core.compared_metrics import metric_named
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.recommendation import LEVEL, Advice, Basis, Confidence
from mlcc_dagster.core.recommendation_rows import Subject, samples_of
from mlcc_dagster.core.recommendation_strategies import strategy_named

THROUGHPUT, TTFT = "output_token_throughput_tps", "ttft_p90_ms"
SUBJECT = Subject.of(Configuration("transformers-vllm", "Q/q", "q", "ml.g5.xlarge", "us-west-2", max_model_len=4096))


def rows(values: list[float], *, metric: str = THROUGHPUT, **changed: object) -> list[dict[str, object]]:
    made = {
        "model_name": "Q/q",
        "model_family": "q",
        "instance_type": "ml.g5.xlarge",
        "deployment_config": "transformers-vllm",
        "deployment_target": "realtime-inference",
        "executor": "local",
        "workload": "chat",
        "concurrency": 1,
        "status": "completed",
        "quantization": "none",
        "tensor_parallel_degree": 1,
        "max_model_len": 4096,
        "serving_config": json.dumps({"kv_cache_dtype": "auto"}),
    }
    mark = "-".join(str(value) for value in changed.values())
    return [made | {metric: value, "run_id": f"{mark}-{n}"} | changed for n, value in enumerate(values)]


def advice(given: list[dict[str, object]], metric: str = "throughput", subject: Subject = SUBJECT) -> Advice:
    return strategy_named("matched")(subject, samples_of(given), metric_named(metric))


NOW = rows([100.0, 102.0])


@pytest.mark.parametrize(
    ("dimension", "changed", "key"),
    [
        ("quantization", {"quantization": "fp8"}, "IC_ENV_VLLM_QUANTIZATION"),
        ("tensor_parallel_degree", {"tensor_parallel_degree": 4}, "IC_ENV_VLLM_TENSOR_PARALLEL_SIZE"),
        ("max_model_len", {"max_model_len": 2048}, "IC_ENV_VLLM_MAX_MODEL_LEN"),
        ("kv_cache_dtype", {"kv_cache_dtype": "fp8"}, "IC_ENV_VLLM_KV_CACHE_DTYPE"),
    ],
)
def test_a_better_value_of_each_dimension_is_recommended(dimension: str, changed: dict[str, object], key: str) -> None:
    (found,) = advice([*NOW, *rows([150.0, 152.0], **changed)]).recommendations
    assert (found.dimension, found.config_key) == (dimension, key)
    assert found.recommended_value == next(iter(changed.values()))
    assert found.improvement_pct == pytest.approx((151 / 101 - 1) * 100)
    assert (found.num_runs, found.confidence, found.basis) == (2, Confidence.MEDIUM, Basis.EXACT)


@pytest.mark.parametrize(
    "changed",
    [
        {"workload": "rag"},
        {"concurrency": 8},
        {"deployment_target": "batch-transform"},
        {"deployment_config": "transformers-sglang"},
        {"executor": "replay"},
        {"adapter_name": "tutor"},
        {"tensor_parallel_degree": 4},
        {"max_model_len": 2048},
        {"serving_config": json.dumps({"kv_cache_dtype": "fp8"})},
        {"serving_config": json.dumps({"kv_cache_dtype": "auto", "max_num_seqs": "8"})},
        {"model_family": "other", "model_name": "O/o"},
        {"instance_type": "ml.p5.48xlarge"},
        {"status": "failed"},
    ],
    ids=str,
)
def test_a_value_that_was_measured_otherwise_says_nothing(changed: dict[str, object]) -> None:
    assert advice([*NOW, *rows([900.0] * 5, quantization="fp8", **changed)]).recommendations == ()


def test_what_is_worse_or_the_same_is_no_change() -> None:
    found = advice([*NOW, *rows([101.0, 101.0], quantization="fp8")])
    assert (found.recommendations, found.no_change) == ((), ("quantization",))
    assert set(found.not_compared) == {"tensor_parallel_degree", "max_model_len", "kv_cache_dtype"}


def test_of_a_latency_lower_is_better() -> None:
    given = [*rows([50.0], metric=TTFT), *rows([40.0], metric=TTFT, quantization="fp8")]
    (found,) = advice(given, "ttft").recommendations
    assert found.improvement_pct == pytest.approx(20.0)


def test_loads_are_put_together_as_the_geometric_mean_of_their_ratios() -> None:
    given = [
        *rows([100.0]),
        *rows([10.0], concurrency=8),
        *rows([200.0], quantization="fp8"),
        *rows([5.0], quantization="fp8", concurrency=8),
        *rows([900.0], quantization="fp8", concurrency=64),
    ]
    found = advice(given)
    assert (found.recommendations, found.no_change) == ((), ("quantization",)), "twice as good here, half as good there"
    (better,) = advice([*given, *rows([800.0], concurrency=64)]).recommendations
    assert better.improvement_pct == pytest.approx((math.prod([2, 0.5, 900 / 800]) ** (1 / 3) - 1) * 100)
    assert [pair.where.concurrency for pair in better.pairs] == [1, 8, 64]


@pytest.mark.parametrize(
    ("changed", "basis"),
    [
        ({"model_name": "Q/other"}, Basis.FAMILY),
        ({"model_name": "Q/other", "tensor_parallel_degree": 2}, Basis.FAMILY),
        ({"instance_type": "ml.g5.4xlarge"}, Basis.INSTANCE_FAMILY),
        ({"model_name": "Q/other", "instance_type": "ml.g5.4xlarge"}, Basis.INSTANCE_FAMILY),
    ],
    ids=str,
)
def test_others_tell_where_nothing_nearer_does_and_with_low_confidence(
    changed: dict[str, object], basis: Basis
) -> None:
    other = [*rows([10.0] * 6, **changed), *rows([20.0] * 6, quantization="fp8", **changed)]
    (found,) = advice([*NOW, *other]).recommendations
    assert (found.basis, found.confidence, found.improvement_pct) == (basis, Confidence.LOW, pytest.approx(100.0))
    (near,) = advice([*NOW, *other, *rows([130.0, 131.0], quantization="awq")]).recommendations
    assert (near.basis, near.recommended_value) == (Basis.EXACT, "awq")


@pytest.mark.parametrize(
    ("values", "confidence"),
    [
        ([150.0], Confidence.LOW),
        ([150.0, 151.0], Confidence.MEDIUM),
        ([150.0] * 4, Confidence.MEDIUM),
        ([150.0, 151.0, 149.0, 150.0, 152.0], Confidence.HIGH),
        ([100.0, 300.0, 150.0, 90.0, 200.0], Confidence.MEDIUM),
    ],
)
def test_confidence_follows_runs_and_their_variation(values: list[float], confidence: Confidence) -> None:
    (found,) = advice([*NOW, *rows(values, quantization="fp8")]).recommendations
    assert found.confidence is confidence


FP8 = rows([150.0, 150.4, 149.7, 150.1, 150.2], quantization="fp8")
AWQ = rows([178.0, 179.0], quantization="awq")
GPTQ = rows([300.0], quantization="gptq")


@pytest.mark.parametrize(
    ("others", "order", "why"),
    [
        ([GPTQ, AWQ, FP8], ["fp8", "awq", "gptq"], "many runs that agree lead, whatever few runs promise"),
        ([GPTQ, AWQ], ["awq", "gptq"], "two runs before one"),
        ([GPTQ], ["gptq"], "one run is better than nothing"),
        (
            [FP8, rows([160.0, 160.2, 159.9, 160.1, 160.3], quantization="int8")],
            ["int8", "fp8"],
            "of equals the larger",
        ),
        (
            [rows([60.0, 150.0, 101.0, 140.0, 95.0], quantization="int8"), AWQ],
            ["awq", "int8"],
            "one that may be worse last",
        ),
        ([GPTQ, rows([50.0] * 6, quantization="int8")], ["gptq"], "what is worse is no alternative"),
    ],
)
def test_the_best_supported_value_leads_and_the_others_stand_beside_it(
    others: list[list[dict[str, object]]], order: list[str], why: str
) -> None:
    given = [*rows([100.0, 100.5, 99.6, 100.2, 100.1, 99.8]), *(each for other in others for each in other)]
    (found,) = advice(given).to_json()["recommendations"]
    values = [found["recommended_value"], *(each["recommended_value"] for each in found["alternatives"])]
    assert values == order, why
    assert all(each.keys() == found.keys() - {"alternatives"} for each in found["alternatives"])


def test_a_side_with_one_run_has_no_interval() -> None:
    assert advice([*NOW, *rows([150.0], quantization="fp8")]).recommendations[0].interval_pct is None
    assert advice([*rows([100.0]), *rows([150.0] * 3, quantization="fp8")]).recommendations[0].interval_pct is None


def test_runs_that_agree_to_the_last_digit_have_an_interval_of_no_width() -> None:
    (found,) = advice([*rows([100.0] * 2), *rows([150.0] * 2, quantization="fp8")]).recommendations
    assert found.interval_pct == pytest.approx((50.0, 50.0))


@pytest.mark.parametrize("metric", ["throughput", "ttft"])
@pytest.mark.parametrize("runs", [3, 6])
def test_intervals_hold_the_true_improvement_in_their_share_of_cases(metric: str, runs: int) -> None:
    """500 draws of runs that vary by 8 %; the bound is what 500 draws of that share fall below once in 1,000 times."""
    generator = np.random.default_rng(20261122)
    column = metric_named(metric).column
    factor = 1.5 if metric == "throughput" else 1 / 1.5
    truth = 50.0 if metric == "throughput" else 100 * (1 - factor)
    held = 0
    for _ in range(500):
        one, other = (list(level * (1 + 0.08 * generator.normal(size=runs))) for level in (100.0, 100.0 * factor))
        given = [*rows(one, metric=column), *rows(other, metric=column, quantization="fp8")]
        (found,) = advice(given, metric).recommendations
        assert found.interval_pct is not None
        held += found.interval_pct[0] <= truth <= found.interval_pct[1]
    assert held >= binom.ppf(0.001, 500, LEVEL)


def test_what_the_present_configuration_does_not_say_is_not_compared() -> None:
    unknown = Subject.of(Configuration("transformers-vllm", "Q/q", "q", "ml.g5.xlarge", "us-west-2"))
    found = advice(rows([1.0], max_model_len=None), subject=unknown)
    assert found.not_compared["max_model_len"] == "what the present configuration has is not known"


def test_another_server_has_no_variable_that_is_known() -> None:
    server = {"deployment_config": "transformers-sglang"}
    subject = Subject.of(
        Configuration("transformers-sglang", "Q/q", "q", "ml.g5.xlarge", "us-west-2", max_model_len=4096)
    )
    (found,) = advice(
        [*rows([1.0], **server), *rows([2.0], quantization="fp8", **server)], subject=subject
    ).recommendations
    assert found.config_key is None


def test_an_unknown_strategy_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="matched, marginal"):
        strategy_named("best")
