"""How commands speak: plain lines off a terminal, tables that fit on one, JSON that any reader takes."""

import json
import re
from datetime import date
from decimal import Decimal

import pytest

from mlcc_dagster.cli import console

COLUMNS = ["name", "count", "what"]
ROWS = [["a", 1, "short"], ["longer-name", None, "a sentence\nof two lines"]]


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")


def test_off_a_terminal_a_table_is_plain_aligned_lines_one_per_row(capsys: pytest.CaptureFixture[str]):
    console.print_table("two rows", COLUMNS, ROWS, right=["count"], below=["the end"])
    assert capsys.readouterr().out.splitlines() == [
        "two rows",
        "name         count  what",
        "-----------  -----  ----",
        "a                1  short",
        "longer-name      -  a sentence of two lines",
        "",
        "the end",
    ]


def test_a_table_without_rows_is_its_title_and_the_lines_below(capsys: pytest.CaptureFixture[str]):
    console.print_table("no rows", COLUMNS, [], below=["the end"])
    assert capsys.readouterr().out == "no rows\nthe end\n"


def test_a_wide_row_is_one_line_off_a_terminal(capsys: pytest.CaptureFixture[str]):
    console.print_table("wide", ["a", "b"], [["x" * 300, "y" * 300]])
    assert f"{'x' * 300}  {'y' * 300}" in capsys.readouterr().out.splitlines()


def test_on_a_terminal_a_table_keeps_to_its_width(monkeypatch, capsys: pytest.CaptureFixture[str]):
    on_terminal(monkeypatch, 60)
    console.print_table("one row", COLUMNS, [["n", 1, "word " * 30]])
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 60
    assert sum("word" in line for line in lines) > 2, "the long cell is folded, not cut"


def test_where_not_even_the_names_fit_each_row_is_a_block(monkeypatch, capsys: pytest.CaptureFixture[str]):
    on_terminal(monkeypatch, 30)
    console.print_table("one row", ["deployment_config", "deployment_target"], [["http-flask", None]])
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["one row", "", "deployment_config  http-flask", "deployment_target  -", ""]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "true"),
        (0, "0"),
        ("", ""),
        (1.25, "1.25"),
    ],
)
def test_a_cell_is_one_line_and_absent_is_a_dash_never_zero_or_empty(value, text):
    assert console.cell_text(value) == text


def test_markup_in_a_value_is_text(monkeypatch, capsys: pytest.CaptureFixture[str]):
    on_terminal(monkeypatch, 80)
    console.print_table("t [bold]", ["[red]"], [["[/nope]"]])
    written = capsys.readouterr().out
    assert "t [bold]" in written
    assert "[/nope]" in written


def test_json_is_valid_for_any_reader_whatever_the_numbers_are(capsys: pytest.CaptureFixture[str]):
    console.print_json({"a": [float("nan"), float("inf"), float("-inf"), None], "b": Decimal("1.50"), "c": b"\xff"})

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    document = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert document == {"a": ["NaN", "Infinity", "-Infinity", None], "b": "1.50", "c": "ff"}


def test_csv_leaves_absent_values_empty_and_quotes_commas(capsys: pytest.CaptureFixture[str]):
    console.print_csv(["a", "a"], [[None, "x,y"], [True, date(2026, 1, 2)]])
    assert capsys.readouterr().out == 'a,a\n,"x,y"\ntrue,2026-01-02\n'


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        pytest.param("a\x1b[31mb", "a\\x1b[31mb", id="a colour"),
        pytest.param("a\x00\x7f\x9b\r", "a\\x00\\x7f\\x9b\\x0d", id="NUL, delete, a sequence in one byte, return"),
        pytest.param("a\tb\nc", "a\tb\nc", id="tabs and lines are what texts are made of"),
        pytest.param("ä 語 \ud800", "ä 語 \\ud800", id="letters stay, half of one does not"),
    ],
)
def test_nothing_that_is_said_commands_a_terminal(capsys: pytest.CaptureFixture[str], text: str, printed: str):
    console.say(text)
    console.warn(text)
    assert capsys.readouterr() == (f"{printed}\n", f"warning: {printed}\n")
    console.print_json({text.replace("\ud800", ""): 1})
    out = capsys.readouterr().out
    assert json.loads(out) == {text.replace("\ud800", ""): 1}
    assert not {"\x1b", "\x00", "\x7f", "\x9b"} & set(out)


@pytest.mark.parametrize(("number", "text"), [(0, "no gaps"), (1, "1 gap"), (2, "2 gaps")])
def test_a_count_agrees_with_its_noun(number, text):
    assert console.counted(number, "gap") == text
