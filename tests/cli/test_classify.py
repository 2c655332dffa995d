"""`mlcc classify`: files and standard input, both forms of output, and logs that cannot be read."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from command_calls import MLCC, Call

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
DEPLOY = f"== stage: deploy ==\nloading\n{OOM}\nbye\n== stage: clean ==\nNo space left on device\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "deploy.log"
    path.write_text(DEPLOY, "utf-8")
    return path


def test_one_log_is_one_object_of_the_documented_shape(mlcc: Call, log: Path):
    answer = mlcc("classify", str(log), "--json")
    assert (answer.code, answer.err) == (0, "")
    assert list(answer.document.items()) == [
        ("stage", "deploy"),
        ("category", "oom"),
        ("retryable", False),
        ("line", OOM),
        ("rule", "v1/gpu-out-of-memory@2"),
    ]


def test_several_logs_are_a_list_in_their_order(mlcc: Call, log: Path, tmp_path: Path):
    other = tmp_path / "build.log"
    other.write_text("OSError: [Errno 28] No space left on device", "utf-8")
    document = mlcc("classify", str(other), str(log), "--json").document
    assert [reading["category"] for reading in document] == ["infrastructure", "oom"]


def test_as_text_each_log_is_a_block_that_ends_with_what_to_do(mlcc: Call, log: Path, tmp_path: Path):
    empty = tmp_path / "empty.log"
    empty.touch()
    first, second = mlcc("classify", str(log), str(empty)).out.split("\n\n")
    assert first.splitlines() == [
        str(log),
        "  stage      deploy",
        "  category   oom",
        "  retryable  no",
        f"  line       {OOM}",
        "  rule       v1/gpu-out-of-memory@2",
        "  next       Use an instance with more memory, a smaller context length or a stronger quantization.",
    ]
    assert second.splitlines()[:5] == [
        str(empty),
        "  stage      unknown",
        "  category   unknown",
        "  retryable  yes",
        "  line       -",
    ]


@pytest.mark.parametrize(
    ("options", "expected", "reason"),
    [
        ([], ("deploy", "oom"), "markers tell the stage"),
        (["--stage", "clean"], ("clean", "infrastructure"), "a named stage is read in its own part"),
        (["--stage", "teardown"], ("clean", "infrastructure"), "another spelling of it"),
        (["--ruleset", "compat"], ("deploy", "oom"), "the compatible rules detect it by words"),
        (["--ruleset", "compat", "--stage", "push"], ("push", "oom"), "and read the whole log"),
    ],
)
def test_stage_and_ruleset_can_be_named(options, expected, reason: str, mlcc: Call, log: Path):
    document = mlcc("classify", str(log), *options, "--json").document
    assert (document["stage"], document["category"]) == expected, reason


@pytest.mark.parametrize(
    ("content", "category", "reason"),
    [
        (b"", "unknown", "an empty log"),
        (b"\xff\xfe\x00 loading \xc3\nMemoryError: \xff\n", "oom", "bytes that are no text are replaced"),
        (b"hello\n", "unknown", "nothing known"),
        (b"timeout=30\nthe room zoomed\n", "unknown", "words inside of others and settings"),
    ],
)
def test_any_bytes_are_read(content: bytes, category: str, reason: str, mlcc: Call, tmp_path: Path):
    path = tmp_path / "any.log"
    path.write_bytes(content)
    answer = mlcc("classify", str(path), "--json")
    assert (answer.code, answer.document["category"]) == (0, category), reason


def test_a_dash_is_standard_input(mlcc: Call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"MemoryError \xff\n")))
    answer = mlcc("classify", "-")
    assert answer.code == 0
    assert answer.out.splitlines()[0] == "standard input"
    assert "oom" in answer.out


def test_the_installed_command_reads_a_pipe(home: Path):
    done = subprocess.run(
        [MLCC, "classify", "-", "--json"], input=DEPLOY.encode(), capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b'"category": "oom"' in done.stdout
    assert not home.exists(), "reading a log needs no home"


@pytest.mark.parametrize(
    ("words", "said", "next_step", "reason"),
    [
        (["no/such.log"], "cannot read no/such.log: No such file or directory", "name a log file", "missing"),
        (["."], ". is a folder", "name the log files in it", "a folder"),
        (["-", "-"], "standard input can be read once", "name - once", "one input, two readers"),
        (["{log}", "--stage", "nope"], "unknown stage 'nope'", "use one of stage, generate", "unknown stage"),
        (["{log}", "--stage="], "unknown stage ''", "use one of stage, generate", "empty is not the default"),
        (["{log}", "--stage", "submit"], "'submit' stands for build and push", "name the one", "two stages"),
        (["{log}", "--ruleset", "v9"], "unknown ruleset 'v9'", "use one of compat, v1", "unknown ruleset"),
        ([], "missing argument 'FILE'", "see `mlcc classify --help`", "no file"),
    ],
)
def test_wrong_use_is_one_sentence_that_says_what_to_do(words, said, next_step, reason: str, mlcc: Call, log: Path):
    answer = mlcc("classify", *(word.replace("{log}", str(log)) for word in words))
    assert (answer.code, answer.out) == (2, ""), reason
    assert answer.err.startswith(f"mlcc: {said}")
    assert next_step in answer.err
    assert answer.err.count("\n") == 1


def test_every_file_that_cannot_be_read_is_named_at_once(mlcc: Call, log: Path):
    answer = mlcc("classify", "no/such.log", str(log), ".", "--json")
    assert (answer.code, answer.out) == (2, "")
    assert "no/such.log" in answer.err
    assert ". is a folder" in answer.err
