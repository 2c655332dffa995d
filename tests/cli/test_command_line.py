"""The command line as a whole: help, exit codes, what is imported, and errors as one sentence."""

import errno
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from command_calls import MLCC, Call

from mlcc_dagster import cli
from mlcc_dagster.cli import app

GROUP = typer.main.get_command(app)


def commands(group=GROUP, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield every command and group of the command line with the words that call it."""
    yield words, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*words, name))


ALL = dict(commands())


def examples_of(page: str) -> list[str]:
    return [line.strip() for line in page.partition("Examples:")[2].splitlines() if line.strip()]


# ---- help


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_help_page_is_plain_text_with_examples_that_the_command_line_accepts(words: tuple[str, ...], mlcc: Call):
    answer = mlcc(*words, "--help")
    assert answer.code == 0
    assert answer.err == ""
    assert answer.out.isascii(), "boxes and colours are not plain text"
    examples = examples_of(answer.out)
    assert examples
    for example in examples:
        called = [word for word in shlex.split(example) if not word.startswith("MLCC_HOME=")]
        assert called[0] == "mlcc"
        depth = max(n for n in range(len(called)) if tuple(called[1 : n + 1]) in ALL)
        assert called[1 : depth + 1][: len(words)] == list(words), "an example of another command"
        command = ALL[tuple(called[1 : depth + 1])]
        command.make_context(called[depth], called[depth + 1 :])  # type: ignore[attr-defined]


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_option_and_command_says_what_it_does(words: tuple[str, ...]):
    command = ALL[words]
    assert command.help  # type: ignore[attr-defined]
    unsaid = [p.name for p in command.params if not p.help]  # type: ignore[attr-defined]
    assert unsaid == []


def test_the_list_of_commands_cuts_no_sentence_short(mlcc: Call):
    for words in (("--help",), ("catalog", "--help")):
        assert "..." not in mlcc(*words).out.partition("Commands:")[2].partition("Examples:")[0]


@pytest.mark.parametrize("words", [(), ("catalog",)], ids=["mlcc", "mlcc catalog"])
def test_a_group_without_a_command_shows_its_help(words: tuple[str, ...], mlcc: Call):
    assert mlcc(*words).out == mlcc(*words, "--help").out


def test_the_version_is_that_of_the_installed_distribution(mlcc: Call):
    from importlib.metadata import version

    assert mlcc("--version").out == f"mlcc-dagster {version('mlcc-dagster')}\n"


# ---- what a command line that cannot be read says


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nope"], "no such command 'nope'; see `mlcc --help`"),
        (["catalog", "nope"], "no such command 'nope'; see `mlcc catalog --help`"),
        (["gap"], "no such command 'gap', did you mean 'gaps'; see `mlcc --help`"),
        (["gaps", "--nope"], "no such option: --nope; see `mlcc gaps --help`"),
        (["gaps", "extra"], "got unexpected extra argument(s) (extra); see `mlcc gaps --help`"),
        (["run", "--tier"], "option '--tier' requires an argument; see `mlcc run --help`"),
        (["sql"], "give one of a SELECT, --named NAME and --list; see `mlcc sql ask --help`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_unreadable_command_line_is_one_sentence_naming_the_page(words, sentence, mlcc: Call, tmp_path: Path):
    answer = mlcc(*words)
    assert (answer.code, answer.out, answer.err) == (2, "", f"mlcc: {sentence}\n")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("words", [["gaps", "--limit", "x"], ["ui", "--port", "x"], ["ledger", "--history", "x"]])
def test_a_word_where_a_number_belongs_is_one_sentence_naming_the_option(words, mlcc: Call):
    answer = mlcc(*words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"mlcc: invalid value for '{words[1]}'")
    assert answer.err.endswith(f"see `mlcc {words[0]} --help`\n")
    assert answer.err.count("\n") == 1


# ---- errors that are nobody's mistake, and those that are ours


def test_a_refusal_of_the_machine_is_a_sentence_and_exit_1(monkeypatch, mlcc: Call):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/some/place")

    monkeypatch.setattr(cli, "app", lambda *_, **__: refuse())
    answer = mlcc("gaps")
    assert answer.code == 1
    assert answer.err == (
        "mlcc: No space left on device: /some/place; make room or permission there, or set MLCC_HOME elsewhere\n"
    )


@pytest.mark.parametrize("defect", [RuntimeError("ours"), OSError(errno.EBADF, "ours", "file")])
def test_a_defect_of_ours_keeps_its_traceback(monkeypatch, defect, home: Path):
    def fail(*_: object, **__: object) -> None:
        raise defect

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(type(defect), match="ours"):
        cli.main(["gaps"])


def test_a_reader_that_goes_away_is_no_traceback(proven_home: Path):
    """The pipe's other end is closed before anything is written: what `head` does, without its timing."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([MLCC, "gaps"], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


# ---- what is imported: every module costs time before the first line is shown

IMPORTS = """
import json, sys
from mlcc_dagster.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    heavy = sorted({name.partition(".")[0] for name in sys.modules} & {"dagster", "pyarrow", "duckdb", "pandas"})
    print(json.dumps([ended.code, heavy]), file=sys.stderr)
"""
SELECT = "SELECT count(*) AS n FROM mlcc_ci.benchmark_results"


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (["--help"], set()),
        (["run", "--help"], set()),
        (["catalog", "validate"], set()),
        (["catalog", "list"], set()),
        (["ledger"], set()),
        (["gaps"], {"pyarrow"}),
        (["coverage"], {"pyarrow"}),
        (["sql", SELECT], {"pyarrow", "duckdb", "pandas"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_that_runs_nothing_never_imports_dagster_nor_more_than_it_needs(words, allowed, proven_home: Path):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *words], capture_output=True, text=True, timeout=120, check=False
    )
    code, heavy = json.loads(done.stderr.splitlines()[-1])
    assert code == 0
    assert set(heavy) <= allowed


def test_the_installed_command_is_this_command_line(mlcc_process: Call, mlcc: Call):
    assert mlcc_process("gaps", "--help").out == mlcc("gaps", "--help").out
