"""The logs of runs: in the order of the stages, piece by piece, and never out of the home."""

import tracemalloc
from pathlib import Path

import pytest

from resources.home import Home
from resources.stage_logs import LONGEST_LINE, stage_logs

RUN = f"{'a' * 16}-g1"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "logs" / RUN).mkdir(parents=True)
    return Home(tmp_path)


def write(home: Home, stage: str, content: bytes) -> Path:
    path = home.logs / RUN / f"{stage}.log"
    path.write_bytes(content)
    return path


def test_logs_come_in_the_order_of_the_stages_and_unknown_ones_last(home: Home) -> None:
    for stage in ("clean", "other", "build", "generate"):
        write(home, stage, b"x")
    assert [log.stage for log in stage_logs(home, RUN)] == ["generate", "build", "clean", "other"]


def test_a_run_without_logs_has_none(home: Home) -> None:
    assert stage_logs(home, f"{'b' * 16}-g7") == ()


@pytest.mark.parametrize("text", ["../../etc", "a-g1", f"{'a' * 16}-g0", f"{'A' * 16}-g1", f"../{RUN}", f"{RUN}\n", ""])
def test_only_a_run_id_names_a_folder(text: str, home: Home) -> None:
    with pytest.raises(ValueError, match="is no run id"):
        stage_logs(home, text)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\r\ntwo", ["one", "two"]),
        (b"10%\r20%\rdone\n", ["10%\r20%\rdone"]),
        (b"\xff\xfe broken\n", ["\\xff\\xfe broken"]),
        ("grün\n".encode(), ["grün"]),
        (b"\n\n", ["", ""]),
    ],
    ids=["empty", "lines", "foreign ends", "progress bar", "no text", "UTF-8", "empty lines"],
)
def test_lines_are_read_whatever_they_hold(content: bytes, lines: list[str], home: Home) -> None:
    write(home, "build", content)
    (log,) = stage_logs(home, RUN)
    assert (list(log.lines()), log.size) == (lines, len(content))


def test_a_long_log_never_lies_in_memory_even_without_an_end_of_line(home: Home) -> None:
    path = write(home, "build", b"")
    with path.open("wb") as file:
        for _ in range(40):
            file.write(b"x" * LONGEST_LINE)
    (log,) = stage_logs(home, RUN)
    tracemalloc.start()
    try:
        assert sum(len(line) for line in log.lines()) == 40 * LONGEST_LINE
        assert tracemalloc.get_traced_memory()[1] < 10 * LONGEST_LINE
    finally:
        tracemalloc.stop()
