"""Every request leaves one whole record: successes with a latency, failures with a reason, never an invented metric."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlcc_dagster.core.exceptions import StageFailed
from mlcc_dagster.core.request_records import parse_record
from resources.load_client import Answer, JsonExchange, LevelSummary, RequestFailed, measure_level

ROOT = Path(__file__).parents[2]


@dataclass
class Server:
    """A real HTTP server; `statuses` are answered in turn, the last for ever; `seconds` is how long each takes."""

    statuses: list[int] = field(default_factory=lambda: [200])
    seconds: float = 0.0
    in_flight: int = 0
    most_in_flight: int = 0
    connections: set[Any] = field(default_factory=set)
    bodies: list[Any] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with told.lock:
                told.connections.add(self.client_address)
                told.bodies.append(json.loads(body))
                told.in_flight += 1
                told.most_in_flight = max(told.most_in_flight, told.in_flight)
                status = told.statuses.pop(0) if len(told.statuses) > 1 else told.statuses[0]
            time.sleep(told.seconds)
            with told.lock:
                told.in_flight -= 1
            if status == 0:
                self.close_connection = True
                return
            text = b'{"predictions": [1]}' if status == 200 else b"no luck"
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that goes away in the middle is what some tests want."""

    http_server = Quiet(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{http_server.server_port}"
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield told
    http_server.shutdown()
    thread.join()
    http_server.server_close()


DOCUMENTS = JsonExchange("/invocations", ({"instances": [[0]]}, {"instances": [[1]]}))


def measure(server: Server, path: Path, **changes: Any) -> LevelSummary:
    arguments: dict[str, Any] = {
        "concurrency": 2,
        "requests": 10,
        "path": path,
        "request_seconds": 10.0,
        "remaining": lambda: 30.0,
    }
    exchange = changes.pop("exchange", DOCUMENTS)
    return measure_level(server.url, exchange, **arguments | changes)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_record_is_read_back_by_the_reader_of_exports(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "profile_export.jsonl"
    before = time.time_ns()
    summary = measure(server, path)
    read = [parse_record(line) for line in path.read_text().splitlines()]
    assert (summary.requests, summary.errors, summary.warmups, len(read)) == (10, 0, 2, 10)
    for record in read:
        assert record.phase == "profiling" and not record.cancelled and record.error is None
        assert before <= record.start_ns <= record.end_ns <= time.time_ns()
        assert dict(record.metrics) == {"request_latency": pytest.approx((record.end_ns - record.start_ns) / 1e6)}


def test_a_predictor_has_no_token_metrics_at_all(server: Server, tmp_path: Path) -> None:
    measure(server, tmp_path / "raw.jsonl")
    assert {tuple(record["metrics"]) for record in records(tmp_path / "raw.jsonl")} == {("request_latency",)}


@pytest.mark.parametrize("concurrency", [1, 3])
def test_exactly_so_many_requests_are_in_flight(server: Server, tmp_path: Path, concurrency: int) -> None:
    server.seconds = 0.03
    measure(server, tmp_path / "raw.jsonl", concurrency=concurrency, requests=9)
    assert server.most_in_flight == concurrency


def test_connections_are_kept_open_one_for_each_request_in_flight(server: Server, tmp_path: Path) -> None:
    server.seconds = 0.01
    measure(server, tmp_path / "raw.jsonl", concurrency=3, requests=12)
    assert len(server.connections) == 3


def test_warm_ups_are_sent_and_not_recorded(server: Server, tmp_path: Path) -> None:
    measure(server, tmp_path / "raw.jsonl", concurrency=2, requests=6)
    assert len(server.bodies) == 8
    assert sorted(record["metadata"]["session_num"] for record in records(tmp_path / "raw.jsonl")) == list(range(6))


@pytest.mark.parametrize(
    ("statuses", "errors", "kind", "code"),
    [
        pytest.param([200, 200, 500, 200, 503, 200], 2, "HTTPStatus", {500, 503}, id="answers that are no success"),
        pytest.param([200, 200, 0, 200], 1, "RemoteProtocolError", {None}, id="the server hangs up"),
    ],
)
def test_failures_are_records_with_a_reason_and_without_metrics(
    server: Server, tmp_path: Path, statuses: list[int], errors: int, kind: str, code: set[int | None]
) -> None:
    server.statuses = statuses
    summary = measure(server, tmp_path / "raw.jsonl")
    failed = [record for record in records(tmp_path / "raw.jsonl") if record["error"]]
    assert summary.errors == len(failed) == errors
    assert {record["error"]["code"] for record in failed} == code
    assert all(record["error"]["type"] == kind and record["metrics"] == {} for record in failed)
    assert summary.first_error is not None and summary.first_error.startswith(kind)
    assert len(records(tmp_path / "raw.jsonl")) == 10


def test_nobody_listening_makes_every_request_an_error(tmp_path: Path) -> None:
    summary = measure(Server(url="http://127.0.0.1:9"), tmp_path / "raw.jsonl", requests=3)
    assert summary.errors == 3
    assert {record["error"]["type"] for record in records(tmp_path / "raw.jsonl")} == {"ConnectError"}


def test_an_answer_that_takes_too_long_is_an_error(server: Server, tmp_path: Path) -> None:
    server.seconds = 0.5
    summary = measure(server, tmp_path / "raw.jsonl", concurrency=1, requests=2, request_seconds=0.1)
    assert summary.errors == 2
    assert records(tmp_path / "raw.jsonl")[0]["error"] == {
        "code": None,
        "type": "RequestTimeout",
        "message": "no whole answer within 0.1 s",
    }


def test_when_the_time_is_over_what_is_in_flight_is_recorded_as_cancelled(server: Server, tmp_path: Path) -> None:
    server.seconds = 0.05
    until = time.monotonic() + 1.0

    def remaining() -> float:
        left = until - time.monotonic()
        if left <= 0:
            raise StageFailed("stage benchmark passed its own time limit", category="timeout")
        return left

    with pytest.raises(StageFailed, match="time limit"):
        measure(server, tmp_path / "raw.jsonl", requests=100_000, remaining=remaining)
    kept = records(tmp_path / "raw.jsonl")
    cancelled = [record for record in kept if record["metadata"]["was_cancelled"]]
    assert 1 <= len(cancelled) <= 2 < len(kept)
    assert {record["error"]["type"] for record in cancelled} == {"RequestCancellationError"}


def test_an_exchange_adds_its_own_metrics(server: Server, tmp_path: Path) -> None:
    class Streams:
        async def send(self, client: httpx.AsyncClient, index: int) -> Answer:
            await DOCUMENTS.send(client, index)
            if index == 1:
                raise RequestFailed("the stream broke off", code=200, kind="StreamError")
            return Answer({"time_to_first_token": (12.5, "ms"), "output_token_count": (24, "tokens")})

    summary = measure(server, tmp_path / "raw.jsonl", concurrency=1, requests=2, exchange=Streams())
    first, second = records(tmp_path / "raw.jsonl")
    assert first["metrics"]["time_to_first_token"] == {"value": 12.5, "unit": "ms"}
    assert first["metrics"]["output_token_count"] == {"value": 24, "unit": "tokens"}
    assert second["error"] == {"code": 200, "type": "StreamError", "message": "the stream broke off"}
    assert summary.errors == 1


def test_a_bug_in_an_exchange_is_no_record_but_an_exception(server: Server, tmp_path: Path) -> None:
    class Broken:
        async def send(self, client: httpx.AsyncClient, index: int) -> Answer:
            raise KeyError("usage")

    with pytest.raises(KeyError, match="usage"):
        measure(server, tmp_path / "raw.jsonl", exchange=Broken())


def test_a_second_measurement_does_not_add_to_the_first(server: Server, tmp_path: Path) -> None:
    measure(server, tmp_path / "raw.jsonl")
    measure(server, tmp_path / "raw.jsonl", requests=3)
    assert len(records(tmp_path / "raw.jsonl")) == 3


def test_a_killed_run_leaves_whole_lines(server: Server, tmp_path: Path) -> None:
    server.seconds = 0.005
    path = tmp_path / "raw.jsonl"
    program = (
        "import sys; from pathlib import Path; from resources.load_client import JsonExchange, measure_level;"
        "measure_level(sys.argv[1], JsonExchange('/invocations', ({'instances': [[0]]},)), concurrency=2,"
        " requests=100_000, path=Path(sys.argv[2]), request_seconds=10, remaining=lambda: 60.0)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, server.url, str(path)], cwd=ROOT)
    deadline = time.monotonic() + 30
    while not path.exists() or path.stat().st_size < 4000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    text = path.read_text()
    assert text.endswith("\n")
    assert all(parse_record(line).error is None for line in text.splitlines())
