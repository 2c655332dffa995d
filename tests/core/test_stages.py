"""When the tune and adapter stages are asked for."""

from typing import Any

import pytest

from mlcc_dagster.core.stages import asks_for_tuning


@pytest.mark.parametrize(
    ("request_", "asked", "reason"),
    [
        (None, False, "no request"),
        ({"include_tuning": True}, True, "said so"),
        ({"include_tuning": "true"}, False, "a text is no yes"),
        ({"enable_lora": 1}, False, "nor is a number"),
        ({"enable_lora": True, "tune_technique": "none"}, True, "LoRA alone asks for it"),
        ({"include_tuning": False, "tune_technique": "dpo"}, True, "a technique alone asks for it"),
        ({"tune_technique": ""}, False, "an empty technique is none"),
        ({"tune_technique": True}, False, "a technique has a name"),
    ],
)
def test_tuning_is_asked_for_by_any_one_of_three(request_: dict[str, Any] | None, asked: bool, reason: str):
    assert asks_for_tuning(request_) is asked, reason
