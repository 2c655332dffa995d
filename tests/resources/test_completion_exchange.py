"""A completion is timed chunk by chunk and counted as its server counts; what did not end well is no success."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.request_records import parse_record
from resources.load_client import Answer, CompletionExchange, RequestFailed, event_data, measure_level

USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
STREAM, WHOLE = {"stream": True}, {"stream": False}
PAUSE_SECONDS = 0.05


def said(text: str | None) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}}]})}\n\n"


def counted(usage: dict[str, int] | None = None) -> str:
    return f"data: {json.dumps({'choices': [], 'usage': usage or USAGE})}\n\n"


FIRST = f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'role': 'assistant', 'content': None}}]})}\n\n"
DONE = "data: [DONE]\n\n"


class Server:
    """A real HTTP server that answers parts of a body, in chunks, with a pause where a part is none; it breaks off
    where the last one is `...`."""

    def __init__(self) -> None:
        self.status = 200
        self.parts: Sequence[str | None] = ()
        self.url = ""


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(told.status)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in told.parts:
                if part is None:
                    time.sleep(PAUSE_SECONDS)
                elif part == "...":
                    self.close_connection = True
                    return
                else:
                    data = part.encode()
                    self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                    self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{http_server.server_port}"
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield told
    http_server.shutdown()
    thread.join()
    http_server.server_close()


def send(server: Server, document: dict[str, Any], *parts: str | None) -> Answer:
    server.parts = parts

    async def once() -> Answer:
        async with httpx.AsyncClient(base_url=server.url, timeout=10, trust_env=False) as client:
            return await CompletionExchange("/invocations", (document,)).send(client, 0)

    return asyncio.run(once())


def values(answer: Answer) -> dict[str, Any]:
    return {name: value for name, (value, _) in answer.metrics.items()}


def test_a_stream_is_timed_from_its_first_text_and_counted_by_the_server(server: Server) -> None:
    began = time.perf_counter()
    answer = send(
        server, STREAM, FIRST, None, said("The"), None, None, said(" cat"), said(" sat"), None, counted(), DONE
    )
    whole = (time.perf_counter() - began) * 1e3
    got, pause = values(answer), PAUSE_SECONDS * 1e3
    assert (got["input_sequence_length"], got["output_token_count"]) == (10, 4)
    assert pause <= got["time_to_first_token"] < whole - 3 * pause, "a role is no token"
    assert 2 * pause * 0.9 <= got["time_to_second_token"] < whole
    assert got["inter_chunk_latency"][0] == got["time_to_second_token"] and len(got["inter_chunk_latency"]) == 2
    assert 3 * pause * 0.9 / 3 <= got["inter_token_latency"] <= (whole - got["time_to_first_token"]) / 3
    assert got["output_token_throughput_per_user"] == pytest.approx(1e3 / got["inter_token_latency"])
    assert got["prefill_throughput_per_user"] == pytest.approx(10 / got["time_to_first_token"] * 1e3)


@pytest.mark.parametrize(
    ("parts", "present"),
    [
        pytest.param(
            [said("one"), counted({"prompt_tokens": 3, "completion_tokens": 1})], {"time_to_first_token"}, id="one"
        ),
        pytest.param(
            [said("one two"), counted()], {"time_to_first_token", "inter_token_latency"}, id="many in one chunk"
        ),
        pytest.param([FIRST, counted()], set(), id="tokens without text"),
        pytest.param(
            [said("one"), said(""), said("two"), counted()],
            {"time_to_first_token", "inter_token_latency", "time_to_second_token"},
            id="an empty chunk is none",
        ),
        pytest.param(
            [": still here\n\n", "event: x\nid: 7\n", said("one"), said("two"), counted()],
            {"time_to_first_token", "inter_token_latency", "time_to_second_token"},
            id="comments and other fields",
        ),
    ],
)
def test_what_a_stream_cannot_say_is_absent(server: Server, parts: list[str], present: set[str]) -> None:
    names = {"time_to_first_token", "time_to_second_token", "inter_token_latency"}
    assert set(values(send(server, STREAM, *parts, DONE))) & names == present


def test_an_answer_that_was_not_streamed_has_counts_and_no_times_of_tokens(server: Server) -> None:
    answer = send(server, WHOLE, json.dumps({"choices": [{"message": {"content": "hello"}}], "usage": USAGE}))
    assert values(answer) == {"input_sequence_length": 10, "output_token_count": 4}


@pytest.mark.parametrize(
    ("document", "status", "parts", "kind", "code", "words"),
    [
        pytest.param(STREAM, 503, ["no slot"], "HTTPStatus", 503, "no slot", id="a stream refused"),
        pytest.param(WHOLE, 400, ["too long"], "HTTPStatus", 400, "too long", id="refused"),
        pytest.param(STREAM, 200, [said("a"), DONE], "NoUsage", 200, "token counts", id="a stream without counts"),
        pytest.param(STREAM, 200, [said("a")], "NoUsage", 200, "token counts", id="ended early"),
        pytest.param(STREAM, 200, [], "NoUsage", 200, "token counts", id="nothing"),
        pytest.param(WHOLE, 200, ['{"choices": []}'], "NoUsage", 200, "token counts", id="no counts"),
        pytest.param(WHOLE, 200, ["oops"], "BadAnswer", 200, "no JSON object: oops", id="no JSON"),
        pytest.param(WHOLE, 200, ["[1]"], "BadAnswer", 200, "no JSON object", id="no object"),
        pytest.param(STREAM, 200, ["data: {oops\n\n"], "BadAnswer", 200, "{oops", id="a broken event"),
        pytest.param(
            STREAM,
            200,
            [said("a"), 'data: {"error": {"code": 500, "message": "slot lost"}}\n\n', counted(), DONE],
            "StreamError",
            500,
            "slot lost",
            id="an error in the middle",
        ),
        pytest.param(
            STREAM, 200, ['data: {"error": "gone"}\n\n'], "StreamError", None, "gone", id="an error that is a text"
        ),
    ],
)
def test_what_did_not_end_well_is_no_success(
    server: Server, document: dict[str, Any], status: int, parts: list[str], kind: str, code: int | None, words: str
) -> None:
    server.status = status
    with pytest.raises(RequestFailed) as caught:
        send(server, document, *parts)
    assert (caught.value.kind, caught.value.code) == (kind, code) and words in str(caught.value)


def test_a_stream_that_breaks_off_is_an_error_record(server: Server, tmp_path: Path) -> None:
    server.parts = (said("a"), said("b"), "...")
    path = tmp_path / "records.jsonl"
    summary = measure_level(
        server.url,
        CompletionExchange("/invocations", (STREAM,)),
        concurrency=1,
        requests=2,
        path=path,
        request_seconds=10,
        remaining=lambda: 30.0,
    )
    assert (summary.errors, summary.requests) == (2, 2)
    records = [parse_record(line) for line in path.read_text().splitlines()]
    assert all(record.error is not None and record.metrics == {} for record in records)


def test_documents_are_sent_in_turn(server: Server) -> None:
    documents = ({"messages": ["a"]}, {"messages": ["b"]})
    seen = []

    class Noting(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(json.loads(request.content)["messages"][0])
            return httpx.Response(200, json={"usage": USAGE})

    async def three() -> None:
        async with httpx.AsyncClient(base_url="http://server", transport=Noting()) as client:
            for index in range(3):
                await CompletionExchange("/invocations", documents).send(client, index)

    asyncio.run(three())
    assert seen == ["a", "b", "a"]


@given(st.text(alphabet=st.characters(exclude_characters="\r\n")))
def test_only_lines_of_data_are_data(text: str) -> None:
    assert event_data(f"data: {text}") == text.strip()
    assert event_data(f"data:{text}") == text.strip()
    assert event_data(f": {text}") is None
