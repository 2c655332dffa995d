"""A closed-loop load client that keeps one raw record per request, in AIPerf's form.

Belongs here: sending requests at a concurrency level, timing them, writing records. Not here: what a request of a kind of
server looks like (an `Exchange` says), metrics over records (`core.metrics`), which levels are run (executors).

Each level keeps one pool of open connections, at most as many as requests are in flight: a request never waits for a
connection, and connecting is no part of the latency but for the first request of a slot, which is a warm-up. A pooled
connection that the server closed between two requests is an error record like any other; nothing is sent again. Measured
against uvicorn and gunicorn on loopback: no pooled request failed, and opening a connection for each changed the
median latency by less than a millisecond.
"""

import asyncio
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import httpx

PROFILING = "profiling"
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Answer:
    """What an exchange learned beside how long it took: metrics by AIPerf's names, each (value, unit), a list where there
    is a value per chunk. What a server has no notion of is absent, never 0."""

    metrics: Mapping[str, tuple[float | list[float], str]] = field(default_factory=lambda: MappingProxyType({}))


class RequestFailed(Exception):
    """An answer that is no success. `code` is the HTTP status, none where there was no answer."""

    def __init__(self, message: str, *, code: int | None = None, kind: str = "RequestFailed") -> None:
        super().__init__(message)
        self.code = code
        self.kind = kind


class Exchange(Protocol):
    """One request and its answer, for one kind of server."""

    async def send(self, client: httpx.AsyncClient, index: int) -> Answer:
        """Send the request number `index` and read the answer to its end.

        Raises `RequestFailed` for an answer that is no success; `httpx` errors pass through and are recorded as such.
        """
        ...


@dataclass(frozen=True)
class JsonExchange:
    """POST a JSON document, in turn one of `documents`, and take any 200 for a success."""

    path: str
    documents: Sequence[Mapping[str, Any]]

    async def send(self, client: httpx.AsyncClient, index: int) -> Answer:
        """See `Exchange.send`."""
        answer = await client.post(self.path, json=self.documents[index % len(self.documents)])
        if answer.status_code != 200:
            raise RequestFailed(answer.text[:300] or "no text", code=answer.status_code, kind="HTTPStatus")
        return Answer()


def event_data(line: str) -> str | None:
    """Return the data of a line of a server-sent event stream, none for any other line (comments, field names, the empty
    line between events). Source: the event stream format of the HTML standard; one line of data per event."""
    return line.removeprefix("data:").strip() if line.startswith("data:") else None


@dataclass(frozen=True)
class CompletionExchange:
    """POST a completion document of OpenAI's form, in turn one of `documents`, and count its tokens as the server does.

    A document with `stream` true is answered in chunks and timed chunk by chunk; any other has no times but that of the
    whole. Success is a 200 whose token counts came: a stream that broke off or carries an error is none.
    """

    path: str
    documents: Sequence[Mapping[str, Any]]

    async def send(self, client: httpx.AsyncClient, index: int) -> Answer:
        """See `Exchange.send`."""
        document = self.documents[index % len(self.documents)]
        began = time.perf_counter_ns()
        if not document.get("stream"):
            answer = await client.post(self.path, json=document)
            if answer.status_code != 200:
                raise RequestFailed(answer.text[:300] or "no text", code=answer.status_code, kind="HTTPStatus")
            return Answer(_token_metrics(_event(answer.text).get("usage")))
        async with client.stream("POST", self.path, json=document) as answer:
            if answer.status_code != 200:
                await answer.aread()
                raise RequestFailed(answer.text[:300] or "no text", code=answer.status_code, kind="HTTPStatus")
            chunk_times: list[int] = []
            usage = None
            async for line in answer.aiter_lines():
                data = event_data(line)
                if data is None or data == "[DONE]":
                    continue
                event = _event(data)
                if "error" in event:
                    raise RequestFailed(str(event["error"])[:300], code=_error_code(event["error"]), kind="StreamError")
                if any(_text_of(choice) for choice in event.get("choices", [])):
                    chunk_times.append(time.perf_counter_ns() - began)
                usage = event.get("usage") or usage
        taken = time.perf_counter_ns() - began
        counts = _token_metrics(usage)
        return Answer(counts | _chunk_metrics(chunk_times, taken, {name: value for name, (value, _) in counts.items()}))


def _event(text: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        document = None
    if not isinstance(document, Mapping):
        raise RequestFailed(f"the answer is no JSON object: {text[:200]}", code=200, kind="BadAnswer")
    return document


def _text_of(choice: Mapping[str, Any]) -> str | None:
    """Return what a choice of a chunk adds: a chat's delta (its reasoning too) or a completion's text."""
    delta = choice.get("delta") or {}
    return delta.get("content") or delta.get("reasoning_content") or choice.get("text")


def _error_code(error: object) -> int | None:
    code = error.get("code") if isinstance(error, Mapping) else None
    return code if isinstance(code, int) else None


def _token_metrics(usage: Mapping[str, Any] | None) -> dict[str, tuple[float, str]]:
    """Return the server's token counts. Raises `RequestFailed` without them: the answer broke off before its end, or
    nothing could be said of it."""
    inputs, outputs = (usage or {}).get("prompt_tokens"), (usage or {}).get("completion_tokens")
    if inputs is None or outputs is None:
        raise RequestFailed("the answer ended without token counts", code=200, kind="NoUsage")
    return {"input_sequence_length": (inputs, "tokens"), "output_token_count": (outputs, "tokens")}


def _chunk_metrics(
    times_ns: Sequence[int], taken_ns: int, counts: Mapping[str, float]
) -> dict[str, tuple[float | list[float], str]]:
    """Return what the times of the chunks with text say, each since the request began, in ns.

    Source: AIPerf's definitions. The second token is timed from the first; the latency between tokens is what follows the
    first chunk, shared by the tokens after the first; without a chunk or a second one there is no such value.
    """
    if not times_ns:
        return {}
    first = times_ns[0] / 1e6
    metrics: dict[str, tuple[float | list[float], str]] = {"time_to_first_token": (first, "ms")}
    if first > 0:
        metrics["prefill_throughput_per_user"] = (counts["input_sequence_length"] / first * 1e3, "tokens/sec/user")
    gaps = [(later - earlier) / 1e6 for earlier, later in pairwise(times_ns)]
    if gaps:
        metrics["time_to_second_token"] = (gaps[0], "ms")
        metrics["inter_chunk_latency"] = (gaps, "ms")
    tokens = counts["output_token_count"]
    between = (taken_ns - times_ns[0]) / 1e6 / (tokens - 1) if tokens > 1 else 0.0
    if between > 0:
        metrics["inter_token_latency"] = (between, "ms")
        metrics["output_token_throughput_per_user"] = (1e3 / between, "tokens/sec/user")
    return metrics


@dataclass(frozen=True)
class LevelSummary:
    """What was measured at one level: counts, the wall seconds of the profiled requests, and the first error's text."""

    concurrency: int
    requests: int
    errors: int
    warmups: int
    seconds: float
    first_error: str | None


def measure_level(
    base_url: str,
    exchange: Exchange,
    *,
    concurrency: int,
    requests: int,
    path: Path,
    request_seconds: float,
    remaining: Callable[[], float],
) -> LevelSummary:
    """Send `requests` requests, `concurrency` at a time, and write their records to `path` (made anew) as JSON lines.

    A line is written as its request ends, in one write: a killed run leaves whole lines. Before them each slot sends one
    warm-up request, which is not recorded. `request_seconds` limits a single request; `remaining` gives the seconds left
    for everything and raises when there are none or the run must stop: what is in flight then is cancelled and
    recorded as cancelled. Raises what `remaining` raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    level = _Level(base_url, exchange, concurrency, requests, request_seconds, remaining)
    with _line_writer(path) as write:
        return asyncio.run(level.run(write))


@dataclass
class _Level:
    base_url: str
    exchange: Exchange
    concurrency: int
    requests: int
    request_seconds: float
    remaining: Callable[[], float]
    _next: int = 0
    _errors: int = 0
    _first_error: str | None = None

    async def run(self, write: Callable[[Mapping[str, Any]], None]) -> LevelSummary:
        limits = httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        # No environment: a proxy setting must not come between client and loopback. No time limits of httpx: they are
        # per read and would let an answer that trickles go on for ever; `_exchange` limits the whole of it.
        async with httpx.AsyncClient(base_url=self.base_url, limits=limits, timeout=None, trust_env=False) as client:
            await self._watched([self._warm_up(client, slot) for slot in range(self.concurrency)])
            began = time.perf_counter()
            await self._watched([self._slot(client, slot, write) for slot in range(self.concurrency)])
            seconds = time.perf_counter() - began
        return LevelSummary(self.concurrency, self.requests, self._errors, self.concurrency, seconds, self._first_error)

    async def _watched(self, work: list[Any]) -> None:
        """Wait for all of it, and ask every moment whether there is time left; if not, cancel it and raise."""
        tasks = [asyncio.ensure_future(part) for part in work]
        try:
            while True:
                left = self.remaining()
                done, waiting = await asyncio.wait(
                    tasks, timeout=min(left, _POLL_SECONDS), return_when=asyncio.FIRST_EXCEPTION
                )
                for task in done:
                    task.result()
                if not waiting:
                    return
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _warm_up(self, client: httpx.AsyncClient, slot: int) -> None:
        try:
            await self._exchange(client, slot)
        except (RequestFailed, httpx.HTTPError):
            # the profiled requests will meet it too and count it
            return

    async def _exchange(self, client: httpx.AsyncClient, index: int) -> Answer:
        try:
            async with asyncio.timeout(self.request_seconds):
                return await self.exchange.send(client, index)
        except TimeoutError:
            text = f"no whole answer within {self.request_seconds:g} s"
            raise RequestFailed(text, kind="RequestTimeout") from None

    async def _slot(self, client: httpx.AsyncClient, slot: int, write: Callable[[Mapping[str, Any]], None]) -> None:
        while self._next < self.requests:
            index, self._next = self._next, self._next + 1
            write(await self._one(client, slot, index, write))

    async def _one(
        self, client: httpx.AsyncClient, slot: int, index: int, write: Callable[[Mapping[str, Any]], None]
    ) -> Mapping[str, Any]:
        # the wall clock once, durations by the steady one: a clock that is set meanwhile changes no latency
        wall, steady = time.time_ns(), time.perf_counter_ns()
        answer, error = Answer(), None
        cancelled = False
        try:
            answer = await self._exchange(client, index)
        except RequestFailed as failed:
            error = {"code": failed.code, "type": failed.kind, "message": str(failed)}
        except httpx.HTTPError as failed:
            error = {"code": None, "type": type(failed).__name__, "message": str(failed) or type(failed).__name__}
        except asyncio.CancelledError:
            cancelled = True
            error = {"code": 499, "type": "RequestCancellationError", "message": "the run ended before the answer"}
        taken = time.perf_counter_ns() - steady
        if error is not None:
            self._errors += 1
            self._first_error = self._first_error or f"{error['type']}: {error['message']}"
        record = {
            "metadata": {
                "session_num": index,
                "x_request_id": str(uuid.uuid4()),
                "worker_id": f"slot_{slot}",
                "request_start_ns": wall,
                "request_end_ns": wall + taken,
                "benchmark_phase": PROFILING,
                "concurrency": self.concurrency,
                "was_cancelled": cancelled,
            },
            "metrics": _metrics(answer, taken) if error is None else {},
            "error": error,
        }
        if cancelled:
            write(record)
            raise asyncio.CancelledError
        return record


def _metrics(answer: Answer, taken_ns: int) -> dict[str, dict[str, Any]]:
    own = {name: {"value": value, "unit": unit} for name, (value, unit) in answer.metrics.items()}
    return {"request_latency": {"value": taken_ns / 1e6, "unit": "ms"}} | own


@contextmanager
def _line_writer(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Give a function that appends one record as one line by one system call."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    try:

        def write(record: Mapping[str, Any]) -> None:
            line = json.dumps(record, separators=(",", ":")).encode("utf-8") + b"\n"
            while line:
                line = line[os.write(descriptor, line) :]

        yield write
    finally:
        os.close(descriptor)
