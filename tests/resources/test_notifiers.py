"""Notices against a real receiver on this machine: what arrives, what is tried again, and what is never shown."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from resources.notifiers import (
    LONGEST_LINE,
    TRIES,
    FailureNotice,
    LogNotifier,
    NotDelivered,
    Notifier,
    WebhookNotifier,
    shown_address,
    tell,
)

SECRET = "T0K3N-of-the-team"
NOTICE = FailureNotice(
    config_id="68ce4c631fd38fb7",
    name="local-fastapi-logistic-1cpu",
    configuration="http-fastapi sklearn/logistic-regression-digits local.1cpu",
    run_id="68ce4c631fd38fb7-g3",
    stage="deploy",
    category="oom",
    line="MemoryError: Cannot allocate memory",
    sentence="deploy failed (oom): MemoryError: Cannot allocate memory",
    expected=False,
    round="ci@20261122T060000Z",
    tier="ci",
    dagster_run_id="5417e2a1-09dd-4062-9bf9-cb0efd9f5e37",
    url=None,
    failed_at="2026-11-22T06:10:00.000000Z",
)


@dataclass
class Receiver:
    """A web server that answers as it is told and keeps what it got."""

    answers: list[int] = field(default_factory=list)
    got: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    meanwhile: Callable[[BaseHTTPRequestHandler], None] = lambda handler: None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/{SECRET}?key={SECRET}"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.got.append((self.path, dict(self.headers), json.loads(body)))
            made.meanwhile(self)
            self.send_response(made.answers.pop(0) if made.answers else 200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        server.shutdown()
        thread.join()


def hook(receiver: Receiver, seconds: float = 5.0) -> WebhookNotifier:
    return WebhookNotifier(receiver.url, seconds=seconds, first_wait_seconds=0.01)


def test_a_notice_arrives_once_as_json_with_everything_that_is_known(receiver: Receiver) -> None:
    hook(receiver).notify(NOTICE)
    ((path, headers, body),) = receiver.got
    assert path == f"/services/{SECRET}?key={SECRET}"
    assert headers["Content-Type"] == "application/json"
    assert headers["Idempotency-Key"] == NOTICE.dagster_run_id
    assert body == {
        "schema_version": "1",
        "event": "run_failed",
        "text": "local-fastapi-logistic-1cpu failed at deploy (oom): MemoryError: Cannot allocate memory",
        "config_id": NOTICE.config_id,
        "name": NOTICE.name,
        "configuration": NOTICE.configuration,
        "run_id": NOTICE.run_id,
        "stage": "deploy",
        "category": "oom",
        "line": NOTICE.line,
        "sentence": NOTICE.sentence,
        "expected": False,
        "round": NOTICE.round,
        "tier": "ci",
        "dagster_run_id": NOTICE.dagster_run_id,
        "url": None,
        "failed_at": NOTICE.failed_at,
    }


@pytest.mark.parametrize(
    ("answers", "tries", "delivered"),
    [
        pytest.param([200], 1, True, id="taken"),
        pytest.param([204], 1, True, id="taken without a word"),
        pytest.param([503, 200], 2, True, id="busy for a moment"),
        pytest.param([429, 500, 202], 3, True, id="busy for a while"),
        pytest.param([503] * 9, TRIES, False, id="busy for ever: given up"),
        pytest.param([404], 1, False, id="nobody there: asking again would not help"),
        pytest.param([403], 1, False, id="not allowed"),
        pytest.param([302], 1, False, id="sent elsewhere: a notice goes where it was addressed to, or nowhere"),
    ],
)
def test_a_receiver_that_is_busy_is_tried_again_and_one_that_refuses_is_not(
    receiver: Receiver, answers: list[int], tries: int, delivered: bool
) -> None:
    receiver.answers = list(answers)
    problems = tell([hook(receiver)], NOTICE)
    assert len(receiver.got) == tries
    assert (problems == ()) is delivered
    for problem in problems:
        assert str(answers[-1]) in problem
        assert SECRET not in problem


def test_a_receiver_that_never_answers_costs_a_bounded_time(receiver: Receiver) -> None:
    over = threading.Event()
    receiver.meanwhile = lambda handler: over.wait(30) and None
    began = time.monotonic()
    (problem,) = tell([hook(receiver, seconds=0.2)], NOTICE)
    taken = time.monotonic() - began
    over.set()
    assert problem == f"http://127.0.0.1:{receiver.port}/...: no answer within 0.2 s (3 tries)"
    assert taken < 20, "and not the thirty seconds that the receiver took"


def test_a_receiver_that_drips_its_answer_costs_no_more_than_one_that_is_silent(receiver: Receiver) -> None:
    """Each piece comes in time; the whole would never be over."""
    over = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not over.wait(0.05):
            handler.wfile.write(b"X: y\r\n")
            handler.wfile.flush()

    receiver.meanwhile = drip
    (problem,) = tell([hook(receiver, seconds=0.3)], NOTICE)
    over.set()
    assert "no answer within 0.3 s" in problem


def test_an_endless_body_is_not_read(receiver: Receiver) -> None:
    over = threading.Event()

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not over.wait(0.01):
            handler.wfile.write(b"x" * 1000)

    receiver.meanwhile = endless
    assert tell([hook(receiver)], NOTICE) == ()
    over.set()
    assert len(receiver.got) == 1


def test_nobody_at_the_address_is_a_sentence(receiver: Receiver) -> None:
    gone = WebhookNotifier("http://user:pass@127.0.0.1:1/services/" + SECRET, seconds=2, first_wait_seconds=0.01)
    (problem,) = tell([gone], NOTICE)
    assert problem == "http://127.0.0.1:1/...: it cannot be reached (ConnectError) (3 tries)"


@pytest.mark.parametrize("answers", [[], [503, 503, 503], [404]], ids=["taken", "busy", "refused"])
def test_the_address_is_in_no_log_and_in_no_text(
    receiver: Receiver, answers: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = answers
    notifier = hook(receiver)
    with caplog.at_level(logging.DEBUG):
        problems = tell([LogNotifier(), notifier], NOTICE)
    shown = [record.getMessage() for record in caplog.records] + [*problems, repr(notifier)]
    assert any("failed at deploy" in text for text in shown), "the notice itself is logged"
    assert not [text for text in shown if SECRET in text]


def test_one_that_breaks_does_not_cost_the_others_their_notice(receiver: Receiver) -> None:
    class Broken:
        def notify(self, notice: FailureNotice) -> None:
            raise RuntimeError(SECRET)

        def __repr__(self) -> str:
            return "a broken one"

    class Refusing:
        def notify(self, notice: FailureNotice) -> None:
            raise NotDelivered("the pager: nobody is on call")

    notifiers: list[Notifier] = [Broken(), Refusing(), hook(receiver)]
    assert tell(notifiers, NOTICE) == ("a broken one: RuntimeError", "the pager: nobody is on call")
    assert len(receiver.got) == 1


@pytest.mark.parametrize(("expected", "level"), [(False, logging.WARNING), (True, logging.INFO)])
def test_the_log_gets_one_line_and_what_was_expected_is_no_warning(
    expected: bool, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        LogNotifier().notify(replace(NOTICE, expected=expected, url="http://127.0.0.1:3000/runs/5417e2a1"))
    (record,) = caplog.records
    assert record.levelno == level
    as_expected = ", as its entry expects" if expected else ""
    assert record.getMessage() == (
        f"local-fastapi-logistic-1cpu failed at deploy (oom){as_expected}: MemoryError: Cannot allocate memory "
        "http://127.0.0.1:3000/runs/5417e2a1 (run 68ce4c631fd38fb7-g3, Dagster run 5417e2a1-09dd-4062-9bf9-cb0efd9f5e37)"
    )


def test_a_long_line_is_cut_and_what_is_not_known_is_null() -> None:
    bare = replace(NOTICE, run_id=None, stage=None, category=None, line=None, sentence="x" * 5000)
    document = bare.to_json()
    assert document["sentence"] == "x" * LONGEST_LINE + "..."
    assert [document[name] for name in ("run_id", "stage", "category", "line")] == [None] * 4
    assert document["text"].startswith("local-fastapi-logistic-1cpu failed: xxx")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.com/services/T0/B0/x", "https://hooks.example.com/..."),
        ("https://user:secret@example.com:8443/x?key=secret#secret", "https://example.com:8443/..."),
        ("http://[::1]:9000/x", "http://[::1]:9000/..."),
    ],
)
def test_of_an_address_only_the_host_is_shown(url: str, shown: str) -> None:
    assert shown_address(url) == shown
