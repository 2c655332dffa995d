"""The chain finds whatever was done to a line, and says what it cannot find."""

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.registry_chain import (
    NO_LINE,
    Chain,
    RegistryRefused,
    appended,
    binding_of,
    canonical,
    plain,
    read_chain,
)

DIGESTS = [sha256(text.encode()).hexdigest() for text in "abcdef"]


def grown(bodies: list[dict[str, Any]]) -> bytes:
    """Return the file that holds a line per body."""
    content = b""
    for number, body in enumerate(bodies):
        line = appended(
            read_chain(content),
            kind="pending",
            env="dev",
            at=f"2026-11-22T10:00:0{number}.000000Z",
            identity={"kind": "person", "name": "ada@here", "proven": False},
            digest=DIGESTS[number],
            body=body,
        )
        content += line.to_bytes()
    return content


LINES = grown(
    [{"source": "a folder"}, {"source": "ünïcode \n\x1b[31m"}, {"n": 1, "x": 0.1}, {"list": [True, None]}, {"e": 1e-9}]
)
ROWS = LINES.splitlines(keepends=True)
HEAD = read_chain(LINES).head


def found(content: bytes) -> bool:
    """Whether a file is known not to be the one that was written, by its head if need be."""
    chain = read_chain(content)
    return bool(chain.faults) or chain.misses(HEAD) is not None


def test_what_was_written_is_read_back_without_a_fault():
    chain = read_chain(LINES)
    assert chain.faults == ()
    assert [line.sequence for line in chain.lines] == [1, 2, 3, 4, 5]
    assert b"".join(line.to_bytes() for line in chain.lines) == LINES
    assert chain.misses(HEAD) is None
    assert chain.misses(chain.lines[1].hash) is None
    assert read_chain(b"") == Chain()
    assert Chain().head == NO_LINE


@given(st.integers(0, len(LINES) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found_without_any_help(place: int, flip: int):
    changed = bytearray(LINES)
    changed[place] ^= flip
    assert read_chain(bytes(changed)).faults


@given(st.integers(0, len(ROWS) - 2))
def test_any_dropped_line_but_the_last_is_found_without_any_help(number: int):
    assert read_chain(b"".join(ROWS[:number] + ROWS[number + 1 :])).faults


@given(st.permutations(ROWS).filter(lambda rows: rows != ROWS))
def test_any_other_order_is_found(rows: list[bytes]):
    assert read_chain(b"".join(rows)).faults


@given(st.integers(0, len(LINES)), st.binary(min_size=1, max_size=80))
def test_anything_put_in_between_is_found(place: int, what: bytes):
    assert read_chain(LINES[:place] + what + LINES[place:]).faults


@given(st.integers(0, len(LINES) - 1))
def test_a_file_that_was_cut_off_is_found_by_the_head_that_was_kept(length: int):
    cut = LINES[:length]
    assert found(cut)
    at_the_end_of_a_line = cut == b"".join(ROWS[: cut.count(b"\n")])
    # Without a head there is nothing that could tell: this is what the pages say, too.
    assert bool(read_chain(cut).faults) != at_the_end_of_a_line


def test_a_chain_that_was_written_anew_is_found_by_the_head_alone():
    forged = grown([{"source": "a folder"}, {"source": "mine"}])
    assert read_chain(forged).faults == ()
    fault = read_chain(forged).misses(HEAD)
    assert fault is not None
    assert "written anew" in str(fault)


@given(st.binary(max_size=300))
def test_reading_never_raises_whatever_the_bytes_are(content: bytes):
    chain = read_chain(content)
    assert bool(chain.faults) == bool(content)


def changed(number: int = 2, **values: Any) -> bytes:
    """Return the lines with one rewritten, its own hash made good again."""
    document = json.loads(ROWS[number]) | values
    document = {name: value for name, value in document.items() if value is not ...}
    if "hash" not in values:
        document["hash"] = sha256(canonical({k: v for k, v in document.items() if k != "hash"})).hexdigest()
    return b"".join([*ROWS[:number], canonical(document) + b"\n", *ROWS[number + 1 :]])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (changed(digest=DIGESTS[5]), "the next line names the hash that it had"),
        (changed(sequence=7), "says that it is line 7"),
        (changed(sequence=True), "wrong type: sequence"),
        (changed(kind="wish"), "unknown kind 'wish'"),
        (changed(env="Prod!"), "no environment that could be one"),
        (changed(digest="../../etc"), "no digest"),
        (changed(schema_version="2"), "update mlcc"),
        (changed(more=1), "exactly the fields"),
        (changed(at=...), "exactly the fields"),
        (changed(number=4, at="2027-01-01T00:00:00.000000Z", hash="0" * 64), "its hash is not that of what it says"),
        (LINES.replace(b'"env":"dev"', b'"env": "dev"', 1), "not written as the registry writes"),
        (LINES.replace(b'"env":"dev"', b'"env":"dev","env":"dev"', 1), "not written as the registry writes"),
        (LINES.replace(b'"n":1', b'"n":' + b"1" * 5000), "not readable as JSON"),
        (LINES.replace(b'"n":1', b'"n":NaN'), "not written as the registry writes"),
        (LINES.replace(b'"n":1', b'"n":' + b"[" * 100_000), "not readable as JSON"),
        (LINES + b"\n", "line 6: is not readable as JSON"),
        (LINES[:-1], "does not end with a newline"),
        (b"\xff\xfe" + LINES, "not readable as JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_was_done_is_said(content: bytes, why: str):
    said = "; ".join(str(fault) for fault in read_chain(content).faults)
    expected = "does not follow the line before it" if "next line" in why else why
    assert expected in said


def test_nothing_is_built_on_a_chain_with_a_fault():
    with pytest.raises(RegistryRefused, match=r"cannot be relied on .line 3: .*mlcc registry verify"):
        appended(read_chain(changed(kind="wish")), kind="pending", env="dev", at="", identity={}, digest="", body={})


def test_a_signature_is_for_what_a_line_says_and_for_nothing_else():
    said = {"kind": "promotion", "env": "prod", "digest": DIGESTS[0], "body": {"version": "v1.0.0"}}
    others = [{"kind": "gate"}, {"env": "dev"}, {"digest": DIGESTS[1]}, {"body": {"version": "v1.0.1"}}]
    bindings = [binding_of(**(said | other)) for other in ({}, *others)]
    assert len(set(bindings)) == len(bindings)
    assert binding_of(**said) == bindings[0]


def test_numbers_that_are_not_finite_stand_as_texts_and_other_things_not_at_all():
    assert plain({"a": float("nan"), "b": (float("inf"), float("-inf"))}) == {
        "a": "NaN",
        "b": ["Infinity", "-Infinity"],
    }
    with pytest.raises(TypeError, match="bytes cannot stand"):
        plain({"a": b""})
