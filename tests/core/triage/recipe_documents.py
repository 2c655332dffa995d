"""Any sound recipe document, for the tests of everything that must hold for all of them."""

from typing import Any

from hypothesis import strategies as st

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,12}", fullmatch=True).filter(
    lambda name: name not in ("matrix.md", "matrix.json")
)
lines = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=20).filter(
    lambda text: text.isprintable() and text.strip() and not text.startswith("_inline_")
)
images = st.from_regex(r"[a-z0-9./:@\-]{1,30}", fullmatch=True)
variables = st.dictionaries(
    st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True),
    st.one_of(
        st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20),
        st.builds(lambda name: {"from_environment": name}, st.from_regex(r"[A-Z]{1,6}", fullmatch=True)),
    ),
    max_size=3,
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | lines.filter(lambda text: "secret" not in text),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def recipe_documents(draw: st.DrawFn) -> dict[str, Any]:
    """Any sound recipe document."""
    chosen = draw(st.lists(names, min_size=1, max_size=4, unique_by=str.casefold))
    made = [
        {
            "name": name,
            "mitigations": draw(st.lists(lines, min_size=1, max_size=3, unique=True)),
            "environment": draw(st.one_of(lines, images.map(lambda image: {"docker": image}))),
            **({"trials": draw(st.integers(1, 50))} if draw(st.booleans()) else {}),
            **({"extra_env": draw(variables)} if draw(st.booleans()) else {}),
            "workload_config": draw(st.dictionaries(st.sampled_from("xyz"), values, max_size=2)),
        }
        for name in chosen
    ]
    return {
        "schema_version": 1,
        **({"ticket": draw(lines)} if draw(st.booleans()) else {}),
        "workload": draw(lines),
        "trials": draw(st.integers(1, 1_000_000)),
        "steps": draw(st.integers(1, 10**9)),
        "confound": {
            "threshold": draw(st.floats(1e-6, 1e6)),
            "baseline_cell": draw(st.sampled_from(chosen)),
        },
        "save_logs": draw(st.booleans()),
        **({"stop_after": {"events": 2, "max_trials": draw(st.integers(2, 99))}} if draw(st.booleans()) else {}),
        "cells": made,
    }
