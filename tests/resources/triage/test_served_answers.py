"""Whether answers stay the same: found out by asking a real server, here one whose answers are known."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from triage_runs import plan, recipe

from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.triage.built_in import ENVIRONMENTS
from resources.triage.served_answers import _asked_together
from resources.triage.serving import Served
from resources.triage.workloads import Report, Trial


@contextmanager
def server(*, batch_matters: bool) -> Iterator[str]:
    """Answers with the question, and, where the batch matters, with how many are being answered at that moment."""
    lock = threading.Lock()
    running = 0

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal running
            document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                running += 1
            time.sleep(0.05)
            with lock:
                beside = running if batch_matters else 1
                running -= 1
            text = f"{document['messages'][0]['content']} {beside}"
            content = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}"
    finally:
        listening.shutdown()
        listening.server_close()


def asked(endpoint: str, folder: Path, **config: int) -> Report:
    trial = Trial("c", 0, 8, ENVIRONMENTS[0], {}, config, folder, time.monotonic() + 60)
    with (folder / "log").open("w") as log:
        return _asked_together(cast(Served, SimpleNamespace(outputs={"endpoint": endpoint}, log=log)), trial)


def test_a_server_that_answers_otherwise_among_others_fails_the_trial(tmp_path: Path):
    with server(batch_matters=True) as endpoint:
        report = asked(endpoint, tmp_path)
    assert not report.passed
    assert report.label == "answers differ"
    assert len(report.step_times_ms) == 8
    assert "instead of" in (tmp_path / "log").read_text()


def test_the_same_server_passes_when_nothing_runs_beside(tmp_path: Path):
    with server(batch_matters=True) as endpoint:
        assert asked(endpoint, tmp_path, concurrency=1).passed


def test_a_server_whose_answers_never_change_passes(tmp_path: Path):
    with server(batch_matters=False) as endpoint:
        assert asked(endpoint, tmp_path).passed


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (
            {"workload_config": {"concurrency": 0}},
            "cells[0].workload_config.concurrency: must be a whole number from 1 to 64",
        ),
        (
            {"workload_config": {"question": 2}},
            "cells[0].workload_config.question: unknown key; known are concurrency, ",
        ),
        ({"extra_env": {"LLAMA_ARG_THREADS": "many"}}, "cells[0].mitigations: LLAMA_ARG_THREADS must be from 1 to "),
        ({"extra_env": {"LLAMA_ARG_N_PARALLEL": "99"}}, "workload: it cannot be served here: serving parameter slots "),
    ],
)
def test_settings_that_the_server_cannot_have_are_refused_before_anything_runs(cell, told):
    with pytest.raises(InvalidInput) as refused:
        plan(recipe(cell, workload="llamacpp-answers"))
    assert refused.value.problems[0].startswith(told)
